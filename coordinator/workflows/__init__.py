"""Workflow files: what a case does, step by step, in YAML that people can read and change."""
