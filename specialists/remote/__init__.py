"""Remote mode: a specialist on another machine, asked over A2A 1.0 (see docs/modes.md)."""
