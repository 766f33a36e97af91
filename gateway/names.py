"""Public names of tools: `server__tool`, ASCII, at most 64 characters, never two tools under one name."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

LONGEST = 64
MARK = 12  # hex digits
_ODD = re.compile(r"[^A-Za-z0-9_.-]")
_MARKED = re.compile(rf"_[0-9a-f]{{{MARK}}}$")


def public_name(server: str, tool: str) -> str:
    """The name callers use; whatever had to be changed is marked by a hash of the original.

    So is a tool whose own name ends like a mark, or it could be called what another one has become.
    """
    plain = f"{server}__{_ODD.sub('_', tool)}"
    if _ODD.search(tool) or not tool or len(plain) > LONGEST or _MARKED.search(tool):
        mark = hashlib.sha256(f"{server}\0{tool}".encode()).hexdigest()[:MARK]
        plain = f"{plain[: LONGEST - MARK - 1]}_{mark}"
    return plain


def alike(name: str) -> str:
    """What two names share that a person or a model may take for one another."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFKC", name).casefold()


def collisions(names: Iterable[str]) -> set[str]:
    """The names that somebody else could mean: equal but for case or compatibility forms."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(alike(name), []).append(name)
    return {name for group in groups.values() if len(group) > 1 for name in group}
