"""A directory to triage invoices in: settings, tool servers, policy and workflow beside the mailbox."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
POINTSMAN = str(Path(sys.executable).with_name("pointsman"))
SETTINGS = """[gateway]
servers = "mcp.json"
policy = "policy"
port = 0

[specialists.invoice-reader]
class = "reader:InvoiceReader"
mode = "local"                 # or "cloud", with base_url, model and provider: docs/modes.md
"""


def servers(directory: Path) -> dict[str, Any]:
    """mcp.json: what the documents say is untrusted, what the books say is private."""
    inbox, books = directory.resolve() / "inbox", directory.resolve() / "erp.db"
    return {
        "mcpServers": {
            "documents": {
                "command": "${python}",
                "args": [str(HERE / "documents_server.py"), "--inbox", str(inbox)],
                "pointsman": {"pin": "trust", "labels": ["untrusted"]},
            },
            "erp": {
                "command": "${python}",
                "args": [str(HERE / "erp_server.py"), "--books", str(books)],
                "pointsman": {"pin": "trust", "labels": ["private"]},
            },
        }
    }


def lay_out(directory: Path) -> None:
    """Make a directory ready: the shipped policy and ours, the workflow, the two tool servers."""
    subprocess.run([POINTSMAN, "init", str(directory)], check=True, capture_output=True, timeout=60)
    (directory / "pointsman.toml").write_text(SETTINGS)
    (directory / "mcp.json").write_text(json.dumps(servers(directory), indent=2) + "\n")
    shutil.copy(HERE / "reader.py", directory)
    shutil.copytree(HERE / "policy", directory / "policy", dirs_exist_ok=True)
    shutil.copytree(HERE / "workflows", directory / "workflows", dirs_exist_ok=True)
