"""The words of MCP on the wire, in both eras: versions, header agreement, answers, server-sent events."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

import orjson

from gateway.errors import HeaderMismatch, InvalidParams, InvalidRequest, RpcError

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
DEFAULT_LEGACY = "2025-03-26"  # what a request without a version header speaks
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
CLIENT_KEY = "io.modelcontextprotocol/clientInfo"
SERVER_KEY = "io.modelcontextprotocol/serverInfo"
SUBSCRIPTION_KEY = "io.modelcontextprotocol/subscriptionId"
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
UNSUPPORTED_VERSION = -32022
STATUS = {-32700: 400, -32600: 400, -32602: 400, -32020: 400, -32021: 400, -32022: 400, -32601: 404}
SSE_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
PARAM_PREFIX = "mcp-param-"
PER_PIECE = (
    64  # what every piece of a stream counts beside its bytes, so that many tiny ones are no way round
)
LONGEST_ID = 1_000
_SENTINEL = re.compile(r"=\?base64\?([A-Za-z0-9+/=]*)\?=")
_PLAIN = re.compile(r"[\x20-\x7e]*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DECIMAL = re.compile(r"-?[0-9]+(\.0+)?")
_KEYWORDS_ONE = frozenset(
    (
        *("items", "contains", "unevaluatedItems", "additionalProperties", "propertyNames"),
        *("unevaluatedProperties", "not", "if", "then", "else", "contentSchema"),
    )
)
_KEYWORDS_LIST = frozenset(["allOf", "anyOf", "oneOf", "prefixItems"])
_KEYWORDS_MAP = frozenset(["patternProperties", "dependentSchemas", "$defs", "definitions"])


def encode_header(value: str) -> str:
    """The value as an HTTP header carries it: plain where possible, else in the base64 form."""
    if _PLAIN.fullmatch(value) and value == value.strip() and not _SENTINEL.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def decode_header(value: str | None) -> str | None:
    """The inverse of `encode_header`; None for a header that is absent or malformed."""
    if value is None or not value.startswith("=?base64?"):
        return value
    match = _SENTINEL.fullmatch(value)
    if match is None:
        return None if value.endswith("?=") else value
    try:
        plain = base64.b64decode(match[1], validate=True)
        return plain.decode() if base64.b64encode(plain).decode() == match[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def checked_message(message: Any) -> Any:
    """The id of a message that is one JSON-RPC object."""
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise InvalidRequest("the body must be one JSON-RPC 2.0 object; batches are not taken")
    number = message.get("id")
    if "id" in message and (isinstance(number, bool) or not isinstance(number, str | int)):
        raise InvalidRequest("id must be a string or an integer")
    if "method" in message:
        if not isinstance(message["method"], str):
            raise InvalidRequest("method must be a string")
    elif "id" not in message or not ("result" in message or "error" in message):
        raise InvalidRequest("the message is neither a request, a notification nor an answer")
    return number


def ttl_of(result: dict[str, Any]) -> int | None:
    """How many milliseconds a result may be kept, if its server says so; those of the old era never do."""
    told = result.get("ttlMs")
    return told if isinstance(told, int) and not isinstance(told, bool) and told >= 0 else None


def lowest(*ttls: int | None) -> int | None:
    """The lowest of those that are told."""
    return min((ttl for ttl in ttls if ttl is not None), default=None)


def check_modern(message: dict[str, Any], headers: dict[bytes, bytes]) -> dict[str, Any]:
    """Check that headers and body of a 2026-07-28 request agree; its `_meta`."""
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    if (
        not isinstance(params, dict)
        or not isinstance(meta, dict)
        or VERSION_KEY not in meta
        or CAPABILITIES_KEY not in meta
    ):
        raise InvalidParams(
            f"params._meta must carry {VERSION_KEY!r} and {CAPABILITIES_KEY!r} in every request"
        )
    if headers.get(b"mcp-protocol-version", b"").strip().decode("latin-1") != meta[VERSION_KEY]:
        raise HeaderMismatch("the MCP-Protocol-Version header does not match the version in params._meta")
    if headers.get(b"mcp-method", b"").strip().decode("latin-1") != message["method"]:
        raise HeaderMismatch("the Mcp-Method header does not match the method in the body")
    field = NAMED.get(message["method"])
    if field and (named := params.get(field)) is not None:
        raw = headers.get(b"mcp-name")
        if decode_header(raw.strip().decode("latin-1") if raw is not None else None) != named:
            raise HeaderMismatch(f"the Mcp-Name header does not match params.{field} in the body")
    if meta[VERSION_KEY] != MODERN:
        raise RpcError(
            "Unsupported protocol version",
            number=UNSUPPORTED_VERSION,
            data={"supported": [MODERN], "requested": meta[VERSION_KEY]},
        )
    return meta


def param_headers(schema: dict[str, Any]) -> list[tuple[tuple[str, ...], str, dict[str, Any]]]:
    """Where a tool's schema asks for an argument to be repeated in a header: (path, token, schema)."""
    found: list[tuple[tuple[str, ...], str, dict[str, Any]]] = []
    tokens: set[str] = set()
    for path, node in _positions(schema):
        if "x-mcp-header" not in node:
            continue
        token = node["x-mcp-header"]
        fits = path and isinstance(token, str) and _TOKEN.fullmatch(token) and token.lower() not in tokens
        if not fits or node.get("type") not in ("string", "integer", "boolean"):
            return []  # a schema with one bad annotation asks for none
        tokens.add(token.lower())
        found.append((path or (), token, node))
    return found


def _positions(root: Any) -> Iterator[tuple[tuple[str, ...] | None, dict[str, Any]]]:
    waiting: list[tuple[tuple[str, ...] | None, Any]] = [((), root)]
    while waiting:
        path, node = waiting.pop()
        if not isinstance(node, dict):
            continue
        yield path, node
        for word, value in node.items():
            if word == "properties" and isinstance(value, dict):
                waiting.extend(((*path, k) if path is not None else None, v) for k, v in value.items())
            elif word in _KEYWORDS_ONE:
                waiting.append((None, value))
            elif word in _KEYWORDS_LIST and isinstance(value, list):
                waiting.extend((None, v) for v in value)
            elif word in _KEYWORDS_MAP and isinstance(value, dict):
                waiting.extend((None, v) for v in value.values())


def _at(arguments: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        arguments = arguments.get(key) if isinstance(arguments, dict) else None
    return arguments


def _shown(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def check_param_headers(
    wanted: list[tuple[tuple[str, ...], str, dict[str, Any]]],
    arguments: dict[str, Any],
    given: dict[str, str],
) -> None:
    """Check that every `Mcp-Param-*` header a tool's schema asks for agrees with its argument."""
    for path, token, schema in wanted:
        header = given.get(PARAM_PREFIX + token.lower())
        shown = _shown(_at(arguments, path))
        if header is None and shown is None:
            continue
        if header is None or shown is None or not _agree(decode_header(header), shown, schema):
            raise HeaderMismatch(
                f"the Mcp-Param-{token} header does not match the argument {'.'.join(path)!r} in the body"
            )


def _agree(header: str | None, shown: str, schema: dict[str, Any]) -> bool:
    if header is None or header == shown:
        return header is not None
    if schema.get("type") != "integer" or not _DECIMAL.fullmatch(header) or not _DECIMAL.fullmatch(shown):
        return False
    return int(header.partition(".")[0]) == int(shown.partition(".")[0])


def make_param_headers(
    wanted: list[tuple[tuple[str, ...], str, dict[str, Any]]], arguments: dict[str, Any]
) -> dict[str, str]:
    """The `Mcp-Param-*` headers for these arguments."""
    shown = {token: _shown(_at(arguments, path)) for path, token, _ in wanted}
    return {f"Mcp-Param-{token}": encode_header(value) for token, value in shown.items() if value is not None}


def event(message: dict[str, Any], number: str = "") -> bytes:
    """One server-sent event that carries the message."""
    head = f"id: {number}\r\n".encode() if number else b""
    return head + b"event: message\r\ndata: " + orjson.dumps(message) + b"\r\n\r\n"


class EventReader:
    """Cuts a byte stream of server-sent events into (data, id, retry); holds at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest: list[bytes] = []  # of a line whose end has not come yet
        self._held = 0
        self._data: list[bytes] = []
        self._size = 0
        self._id = ""
        self._retry: int | None = None

    def feed(self, chunk: bytes) -> Iterator[tuple[bytes, str, int | None]]:
        """The events that are complete with this chunk; raises ValueError past the limit."""
        lines = chunk.split(b"\n")
        self._rest.append(lines[0])
        self._held += len(lines[0]) + PER_PIECE
        if len(lines) > 1:
            lines[0] = b"".join(self._rest)
            self._rest = [lines.pop()]
            self._held = len(self._rest[0])
            for line in lines:
                if (event := self._take(line.removesuffix(b"\r"))) is not None:
                    yield event
        if self._held + self._size > self._limit:
            raise ValueError(f"an event is larger than the {self._limit} bytes allowed")

    def _take(self, line: bytes) -> tuple[bytes, str, int | None] | None:
        if not line:
            told = self._data or self._id or self._retry is not None
            event = (b"\n".join(self._data), self._id, self._retry) if told else None
            self._data, self._size, self._id, self._retry = [], 0, "", None
            return event
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            self._size += len(line) + PER_PIECE
        elif line.startswith(b"id:"):
            self._id = line[3:].strip().decode("latin-1")[:LONGEST_ID]
        elif line.startswith(b"retry:") and line[6:].strip().isdigit():
            self._retry = int(line[6:].strip()[:9])
        return None
