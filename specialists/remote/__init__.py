"""Remote mode: a specialist on another machine, asked over A2A 1.0 (see docs/modes.md)."""

import os

# The A2A SDK opens a span around each of its some hundred small steps of a task, unless told before it loads.
os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")
