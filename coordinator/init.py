"""`pointsman init`: writes a working configuration that explains itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from coordinator.errors import UsageError

SETTINGS = """\
# Pointsman's settings. Every line is optional; what is commented out shows the default.
# The environment wins over this file: POINTSMAN_COORDINATOR__CONFIDENCE=0.6

[gateway]
# port = 8420                # where `pointsman gateway` listens
servers = "mcp.json"         # the tool servers (a superset of the usual mcpServers file)
policy = "policy"            # who may do what, as Cedar text

[coordinator]
# gateway_url = ""           # a gateway elsewhere; its token comes from POINTSMAN_TOKEN
# recording = ""             # a recorded incident to open; empty = the bundled one
# login = ""                 # who you are in the ledger; empty = your login name
# specialist_seconds = 60    # deadline of one specialist
# confidence = 0.5           # gate: the best cause is at least this sure
# margin = 0.05              # gate: and this much ahead of a rival elsewhere
# freshness_minutes = 15     # gate: the newest data is at most this old

# Where a specialist runs is one line. `local` needs no key; `cloud` lets a hosted model reason, with the
# same tools, the same policy and the same rules of evidence. The key comes from the environment only.
# [specialists.logs]
# mode = "cloud"
# base_url = "http://127.0.0.1:11434/v1"   # any OpenAI-compatible endpoint
# model = "name-of-the-model"
# api_key_env = "OPENAI_API_KEY"

[tool_servers]
"""


def write_files(directory: str, force: bool = False) -> list[str]:
    """Write pointsman.toml, mcp.json and policy/ into a directory; the paths written."""
    root = Path(directory)
    files = {root / "pointsman.toml": SETTINGS} | _defaults(root)
    if (taken := [str(path) for path in files if path.exists()]) and not force:
        raise UsageError(
            f"nothing was written: {', '.join(taken)} already there; "
            "choose another directory, or overwrite with --force"
        )
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [str(path) for path in files]


def _defaults(root: Path) -> dict[Path, str]:
    """The files that the gateway uses when nothing is configured: read as files, its code is not imported."""
    found = importlib.util.find_spec("gateway")
    places = [Path(p) / "defaults" for p in (found.submodule_search_locations or [])] if found else []
    defaults = next((p for p in places if (p / "mcp.json").is_file()), None)
    if defaults is None:
        raise UsageError(
            "the gateway's default files are not installed: its package is missing or incomplete; "
            "install pointsman again"
        )
    policies = sorted((defaults / "policy").rglob("*"))
    copied = [defaults / "mcp.json", *(p for p in policies if p.is_file() and p.suffix != ".pyc")]
    return {root / p.relative_to(defaults): p.read_text(encoding="utf-8") for p in copied}
