"""A tool server of the tests: a gauge that shows what stands in a file. Run as `gauge_server.py FILE`."""

import sys
from pathlib import Path

from bare_server import TEXT, serve

NOTHING = {"type": "object", "properties": {}}
READS = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True}
VALUE = {"type": "object", "properties": {"value": {"type": "number"}}, "required": ["value"]}
CHANGES = {"readOnlyHint": False, "destructiveHint": True}
TOOLS = {
    "value": ("What the gauge shows.", VALUE, READS, lambda: {"value": float(Path(sys.argv[1]).read_text())}),
    "reset": ("Set it to nothing.", TEXT, CHANGES, lambda: "done"),
}


def definition(description, output, hints):
    """What is listed of a tool without arguments."""
    return {
        "description": description,
        "inputSchema": NOTHING,
        "outputSchema": output,
        "annotations": hints,
    }


if __name__ == "__main__":
    serve("gauge", {name: (definition(*told), act) for name, (*told, act) in TOOLS.items()})
