"""Puts actions.cedar beside the shipped policy: its cases pass, and a real gateway decides by it."""

import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from walk import walk  # noqa: E402  (examples/walk.py)

RECORDING = str(HERE.parent / "incident_triage" / "recording")
SETTINGS = f"""
[gateway]
environment = "staging"
policy = "policy"
servers = "mcp.json"
recording = {json.dumps(RECORDING)}
"""
BUNDLED = ["-m", "tool_servers", "--only", "actions", "--recording", "${recording}"]
SERVERS = {
    "mcpServers": {"actions": {"url": "${child:bundled}/actions/mcp", "pointsman": {"pin": "trust"}}},
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
    here.pointsman("init", ".")  # pointsman.toml, mcp.json, policy/ with the shipped policy and its cases
    (here.directory / "pointsman.toml").write_text(SETTINGS)
    (here.directory / "mcp.json").write_text(json.dumps(SERVERS))  # the actions server is enough here
    shutil.copy(HERE / "actions.cedar", here.directory / "policy")
    shutil.copy(HERE / "actions.yaml", here.directory / "policy" / "tests")

    tested = here.json("policy", "test")
    ours = [case["name"] for case in tested["cases"] if case["where"].startswith("tests/actions.yaml")]
    assert tested["ok"] and len(ours) == 6, tested

    with here.gateway():
        remediation = here.pointsman("tokens", "issue", "agent:remediation", "--role", "specialist").strip()

        restarted = here.call(remediation, "actions__restart", {"service": "orders"})
        assert not restarted.is_error, restarted.content[0].text

        refused = here.call(remediation, "actions__scale", {"service": "orders", "replicas": 0})
        refusal = refused.meta["pointsman/refusal"]
        assert refusal["code"] == "denied" and refusal["rules"][0]["id"] == "scale-within-reason", refusal
        assert "Choose 1 to 10 replicas" in refused.content[0].text

        waiting = here.call(remediation, "actions__scale", {"service": "orders", "replicas": 4})
        assert waiting.meta["pointsman/refusal"]["code"] == "approval_pending"

        told = here.json("policy", "explain", "actions__restart", "--as", "agent:logs")
        assert told["verdict"] == "deny"
        assert "restart-in-staging" in [rule["id"] for rule in told["would_permit"]]

    # What the shipped policy alone would have said to the same calls.
    (here.directory / "policy" / "actions.cedar").rename(here.directory / "actions.cedar")
    changed = here.json("policy", "simulate", "policy")["changed"]
    assert [(c["tool"], c["before"], c["after"]) for c in changed] == [
        ("actions__restart", "call", "request"),
        ("actions__scale", "deny", "request"),
    ], changed
print("checked, tested, decided by: " + "; ".join(ours))
