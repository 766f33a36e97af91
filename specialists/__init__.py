"""Specialists: one verb, investigate; findings whose every claim cites a gateway call."""
