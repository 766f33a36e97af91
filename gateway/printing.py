"""Prints for people: columns, and no character that could steer their terminal."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

_KEPT = frozenset("\n\t")
_STEERING = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))  # controls, bidi and zero-width, separators


def safe(value: Any, *, lines: bool = False) -> str:
    """The text with every character that could move a cursor or hide a word written as its escape."""
    kept = _KEPT if lines else frozenset()
    return "".join(
        c if c in kept or unicodedata.category(c) not in _STEERING else c.encode("unicode_escape").decode()
        for c in str(value).encode("utf-8", "backslashreplace").decode()
    )


def as_json(value: Any) -> str:
    """JSON in ASCII, indented."""
    return json.dumps(value, indent=2, ensure_ascii=True)


def as_line(value: Any) -> str:
    """JSON in ASCII, on one line."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, none: str = "none") -> str:
    """Aligned columns under a head; `none` when there are no rows."""
    cells = [[safe(cell if cell is not None else "") for cell in row] for row in rows]
    if not cells:
        return none
    wide = [max(len(row[n]) for row in [list(head), *cells]) for n in range(len(head))]
    every = [[name.upper() for name in head], *cells]
    return "\n".join("  ".join(cell.ljust(wide[n]) for n, cell in enumerate(row)).rstrip() for row in every)
