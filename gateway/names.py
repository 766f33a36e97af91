"""Public names of tools: `server__tool`, ASCII, at most 64 characters, never two tools under one name."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

LONGEST = 64
_ODD = re.compile(r"[^A-Za-z0-9_.-]")


def public_name(server: str, tool: str) -> str:
    """The name callers use; whatever had to be changed is marked by a hash of the original."""
    plain = f"{server}__{_ODD.sub('_', tool)}"
    if _ODD.search(tool) or not tool or len(plain) > LONGEST:
        mark = hashlib.sha256(f"{server}\0{tool}".encode()).hexdigest()[:8]
        plain = f"{plain[: LONGEST - 9]}_{mark}"
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
