"""The one strict JSON reader: what it returns is the only thing policy, ledger and upstream see."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import orjson

from gateway.errors import InvalidRequest, ParseError

MAX_DEPTH = 64
LONG = 262_144  # from so many bytes on, a copy is worth avoiding
MOST_MARKS = 20_000
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
    if not (len(raw) > LONG and _plainly_unique(raw, value)) and not _reads_back(raw, value):
        _read_carefully(raw)
    return value


def _reads_back(raw: bytes, value: Any) -> bool:
    """Whether the value, written again, gives the same tokens.

    orjson keeps the last of two equal keys and rounds big integers: neither can have happened then. Otherwise
    (escapes, number forms) the careful reader decides.
    """
    written = orjson.dumps(value)
    return raw == written or raw.translate(None, BLANKS) == written.translate(None, BLANKS)


def _plainly_unique(raw: bytes, value: Any) -> bool:
    """Whether a message of a few long strings lost no key: told by its quotation marks, without a copy.

    Every string token has two; a dropped key would leave some that no string of the value accounts for.
    """
    marks = raw.count(b'"')
    if (
        marks > MOST_MARKS or b"\\\\" in raw
    ):  # after an escaped backslash a mark is hard to tell from its escape
        return False
    strings, pending = 0, [value]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            strings += len(node)
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, str):
            strings += 1
        elif isinstance(node, float):
            return False  # perhaps an integer that was rounded
    return marks - raw.count(b'\\"') == 2 * strings


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
