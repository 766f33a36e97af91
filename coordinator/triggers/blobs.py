"""Documents that came in (HOME/documents): each under the SHA-256 of its content."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

ENDING = re.compile(r"\.[A-Za-z0-9]{1,8}$")


class Blobs:
    """A folder of documents by content; the same content is kept once."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "documents"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def keep(self, content: bytes, name: str) -> dict[str, object]:
        """Keep a document; what an event says of it: `name`, `file` (here), `path`, `digest`, `bytes`."""
        digest = hashlib.sha256(content).hexdigest()
        found = ENDING.search(name)
        path = self.folder / f"{digest}{found[0].lower() if found else ''}"
        if not path.exists():
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".", delete=False) as draft:
                draft.write(content)
                draft.flush()
                os.fsync(draft.fileno())
            os.replace(draft.name, path)
        return {
            "name": name, "file": path.name, "path": str(path), "digest": digest, "bytes": len(content),
        }  # fmt: skip
