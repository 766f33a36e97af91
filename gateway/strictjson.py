"""The one strict JSON reader: what it returns is the only thing policy, ledger and upstream see."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import orjson

from gateway.errors import InvalidRequest, ParseError

MAX_DEPTH = 64
BLANKS = b" \t\r\n"
SMALLEST, LARGEST = -(2**63), 2**64 - 1


def read(raw: bytes, *, limit: int) -> Any:
    """The one JSON value in `raw`; refuses duplicate keys, NaN, big integers, depth and trailing bytes."""
    if len(raw) > limit:
        raise InvalidRequest(
            f"message refused: {len(raw)} bytes are more than the {limit} allowed; send less"
        )
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ParseError(f"message refused: not JSON ({error}); send one JSON object in UTF-8") from None
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _too_deep(value):
        raise InvalidRequest(f"message refused: nested more than {MAX_DEPTH} levels deep; flatten it")
    # orjson keeps the last of two equal keys and rounds big integers. When writing the value again gives the
    # same tokens, neither can have happened; otherwise (escapes, number forms) the careful reader decides.
    written = orjson.dumps(value)
    if raw != written and raw.translate(None, BLANKS) != written.translate(None, BLANKS):
        _read_carefully(raw)
    return value


def _read_carefully(raw: bytes) -> None:
    try:
        json.loads(raw, object_pairs_hook=_unique, parse_int=_bounded)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"message refused: not JSON ({error})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise InvalidRequest(
            f"message refused: the key {twice[:80]!r} appears twice in one object; send it once"
        )
    return value


def _bounded(digits: str) -> int:
    if len(digits) > 20 or not SMALLEST <= int(digits) <= LARGEST:
        raise InvalidRequest("message refused: an integer does not fit 64 bits; send it as a string")
    return int(digits)


def _too_deep(value: Any) -> bool:
    waiting = deque([(value, 1)])
    while waiting:
        node, depth = waiting.popleft()
        if isinstance(node, dict):
            inner = node.values()
        elif isinstance(node, list):
            inner = node
        else:
            continue
        if depth > MAX_DEPTH:
            return True
        waiting.extend((child, depth + 1) for child in inner if isinstance(child, dict | list))
    return False
