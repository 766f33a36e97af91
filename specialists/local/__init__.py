"""Specialists that run in this process, deterministic, without key, network or download."""
