"""Moves a specialist out of this process by its mode line; what a reader sees stays the same.

    python examples/local_to_cloud/run.py [BASE_URL MODEL]

With the address of an OpenAI-compatible endpoint and a model there, it goes to the cloud as well.
"""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
OWN = HERE.parent / "own_specialist"
sys.path.insert(0, str(HERE.parent))

from walk import POINTSMAN, SECONDS, Walk, walk  # noqa: E402  (examples/walk.py)

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


@contextmanager
def served(here: Walk, name: str) -> Iterator[str]:
    """`pointsman specialists serve NAME`, as on another machine; gives its URL."""
    reading, writing = os.pipe()
    command = [POINTSMAN, "specialists", "serve", name, "--port", "0", "--ready-fd", str(writing)]
    with (here.directory / "agent.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=here.directory, env=here.environment, stderr=log, pass_fds=[writing]
        )
        os.close(writing)
        try:
            with os.fdopen(reading) as ready:
                yield json.loads(ready.readline())["url"]
        finally:
            process.terminate()
            process.wait(SECONDS)


def triaged(here: Walk) -> tuple[str, float, str]:
    """The best hypothesis, how sure, and the words it cites."""
    report = here.json("triage", str(OWN / "recording"))["report"]
    best = report["hypotheses"][0]
    cited = next(c for c in report["citations"] if c["n"] == best["cites"][0])
    assert "deadlocks" in best["by"], best
    shown = here.json("audit", "show", cited["call"])
    assert shown["records"][0]["subject"] == "agent:deadlocks" and cited["quote"] in shown["text"]
    return best["statement"], best["confidence"], cited["quote"]


def changed(before: str, after: str) -> set[str]:
    """The keys whose lines differ between two settings files."""
    assert "# the line that moves it" in after  # comments stay
    return {line.split()[0] for line in set(before.splitlines()) ^ set(after.splitlines())}


base_url, model = sys.argv[1:] or ("", "")
with walk() as here:
    settings = here.directory / "pointsman.toml"
    settings.write_text((HERE / "pointsman.toml").read_text())
    (here.directory / "mcp.json").write_text(json.dumps(SERVERS))  # the logs server is enough here
    (here.directory / "deadlocks.py").write_text((OWN / "deadlocks.py").read_text())
    here.environment["POINTSMAN_SPECIALIST_TOKEN"] = secrets.token_hex(32)

    with here.gateway("--recording", str(OWN / "recording")):  # one gateway for all of them; triage joins it
        local = triaged(here)
        before = settings.read_text()
        with served(here, "deadlocks") as url:
            here.pointsman("specialists", "set", "deadlocks", "--mode", "remote", "--url", url)
            remote = triaged(here)
        assert changed(before, settings.read_text()) == {"mode", "url"}
        assert local == remote, (local, remote)
        print(f"local and remote agree: {local[0]} “{local[2]}”")
        if base_url:
            before, cloud = settings.read_text(), ("--base-url", base_url, "--model", model)
            here.pointsman("specialists", "set", "deadlocks", "--mode", "cloud", *cloud)
            assert changed(before, settings.read_text()) == {"mode", "base_url", "model"}
            said = triaged(here)
            print(f"and {model} says: {said[0]} “{said[2]}”")
        assert here.json("audit", "verify")["ok"]
