"""Runs deadlocks.py in a case on a small recording: it must name the cause, by evidence that resolves."""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from walk import walk  # noqa: E402  (examples/walk.py)

SETTINGS = """
[specialists.deadlocks]
class = "deadlocks:DeadlocksSpecialist"
"""
BUNDLED = ["-m", "tool_servers", "--only", "logs", "--recording", "${recording}"]
SERVERS = {
    "mcpServers": {"logs": {"url": "${child:bundled}/logs/mcp", "pointsman": {"pin": "trust"}}},
    "pointsman": {
        "children": {
            "bundled": {
                "command": "${python}",
                "args": [*BUNDLED, "--state", "${home}/tools", "--ready-fd", "{fd}"],
            }
        }
    },
}

with walk() as here:
    (here.directory / "pointsman.toml").write_text(SETTINGS)
    (here.directory / "mcp.json").write_text(json.dumps(SERVERS))  # the logs server is enough here
    (here.directory / "deadlocks.py").write_text((HERE / "deadlocks.py").read_text())

    listed = {row["name"]: row for row in here.json("specialists", "list")}
    assert listed["deadlocks"] == {
        "name": "deadlocks",
        "mode": "local",
        "where": "deadlocks:DeadlocksSpecialist",
        "tools": ["logs__search"],
        "state": "ready",
    }

    result = here.json("triage", str(HERE / "recording"))
    best = result["report"]["hypotheses"][0]
    assert (best["label"], best["object"]) == ("deadlocks", "service/ledger"), best
    assert "deadlocks" in best["by"]

    # What it cites is a call of its own, under its own name, and the words stand in the result.
    cited = next(c for c in result["report"]["citations"] if c["n"] == best["cites"][0])
    shown = here.json("audit", "show", cited["call"])
    assert shown["records"][0]["subject"] == "agent:deadlocks"
    assert shown["records"][0]["rules"] == ["specialists-read"]
    assert cited["quote"] in shown["text"]
    assert here.json("audit", "verify")["ok"]
print(f"deadlocks: {best['statement']} “{cited['quote']}”")
