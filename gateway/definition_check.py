"""Advice on a tool's definition for the operator who approves it; never the only control."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

_ORDERS = re.compile(
    r"ignore (?:all |any )?(?:previous|prior|above|other) instructions"
    r"|do not (?:tell|inform|mention|reveal|notify)(?: this)?(?: to)? the user"
    r"|without (?:telling|informing|asking) the user"
    r"|<(?:important|system|secret|instructions?)>"
    r"|(?:before|instead of) (?:using|calling) (?:this|any other|other) tools?,? (?:always |you must |first )"
    r"|you must (?:always )?(?:first )?(?:read|send|include|call|pass) "
    r"|system prompt",
    re.IGNORECASE,
)
_SECRETS = re.compile(
    r"\.ssh/|id_rsa|\.env\b|/etc/(?:passwd|shadow)|\.aws/credentials|mcp\.json"
    r"|(?:api|private) ?keys? (?:of|from) the user|conversation history|chat history",
    re.IGNORECASE,
)


def flags(definition: dict[str, Any]) -> list[str]:
    """What a person should look at before approving this definition."""
    found: list[str] = []
    for text in _texts(definition):
        hidden = sorted(
            {
                f"U+{ord(c):04X}"
                for c in text
                if unicodedata.category(c) in ("Cf", "Co", "Cn", "Cc") and c not in "\n\r\t"
            }
        )
        if hidden:
            found.append(f"hidden characters {', '.join(hidden[:5])}")
        if match := _ORDERS.search(text):
            found.append(f"speaks to the model: {match[0]!r}")
        if match := _SECRETS.search(text):
            found.append(f"mentions secrets or private files: {match[0]!r}")
    name = str(definition.get("name", ""))
    if not name.isascii():
        found.append("name with letters outside ASCII")
    return sorted(set(found))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
