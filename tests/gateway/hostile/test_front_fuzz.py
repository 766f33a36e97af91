"""Malformed requests without number: always a 4xx, never a 5xx, and none reaches a server."""

import asyncio
import base64
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway.hostile.field import META, Field
from tests.gateway.world import FakeServer, fake_server, gateway

ROUNDS = 1_500
WELL = {"name": "well__write", "arguments": {"text": "x"}, "_meta": META}
WHOLE: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": WELL}
NAME = base64.b64encode(b"well__write").decode()


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    with fake_server(tmp_path_factory.mktemp("well")) as running:
        yield running


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, well: FakeServer) -> Iterator[Field]:
    servers = {"well": well.entry(pin="trust", tools={"write": {"readOnly": True}})}
    with gateway(tmp_path_factory.mktemp("fuzz"), servers) as running:
        yield Field(running, asyncio.run(running.issue("agent:logs", "specialist")))


class Wire:
    """One connection after another to the gateway, each for as many requests as it is kept open."""

    def __init__(self, here: Field) -> None:
        self.here = here
        self.host, port = here.running.url.removeprefix("http://").split(":")
        self.port = int(port)
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, raw: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer; 0 when the gateway waits for more of the request."""
        if self.writer is None or self.writer.is_closing():
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        assert self.reader is not None
        self.writer.write(raw)
        try:
            async with asyncio.timeout(20):
                head = await self.reader.readuntil(b"\r\n\r\n")
                size = [ln[15:] for ln in head.lower().split(b"\r\n") if ln.startswith(b"content-length:")]
                body = await self.reader.readexactly(int(size[0])) if size else b""
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            return 400, b""  # closed without a word
        if b"connection: close" in head.lower():
            self.close()
        return int(head.split(b" ")[1]), body

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    async def once(self, raw: bytes) -> tuple[int, bytes]:
        """Ask this only."""
        try:
            return await self.ask(raw)
        finally:
            self.close()

    def head(self, **over: str | None) -> dict[str, str]:
        given = {"host": "127.0.0.1", **self.here.headers("tools/call", "well__write")}
        named = {name.replace("_", "-"): value for name, value in over.items()}
        return {name: value for name, value in {**given, **named}.items() if value is not None}

    def request(self, body: bytes, *more: str, **over: str | None) -> bytes:
        lines = [f"{name}: {value}\r\n" for name, value in self.head(**over).items()]
        first = "POST /mcp HTTP/1.1\r\n" + "".join([*lines, *more])
        return first.encode("latin-1") + b"content-length: %d\r\n\r\n" % len(body) + body


def spoiled(chance: random.Random) -> bytes:
    """The whole message with something wrong in it, or by luck still right."""
    raw = bytearray(json.dumps(WHOLE).encode())
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(raw))
        match chance.randrange(5):
            case 0:
                raw[at] = chance.randrange(256)
            case 1:
                del raw[at : at + chance.randint(1, 30)]
            case 2:
                raw[at:at] = chance.choice([b"\0", b"\xff", b'"', b"{", b"]", b"\\ud800", b"NaN", b"1e999"])
            case 3:
                raw[at:at] = raw[: chance.randint(1, 60)]
            case 4:
                raw = raw[: max(1, at)]
    return bytes(raw)


def test_spoiled_bodies_are_refused_or_mean_what_they_say(here: Field, well: FakeServer) -> None:
    chance = random.Random(7)
    bodies = [spoiled(chance) for _ in range(ROUNDS)]

    async def run() -> list[tuple[int, bytes]]:
        wire = Wire(here)
        try:
            return [await wire.ask(wire.request(body)) for body in bodies]
        finally:
            wire.close()

    before = len(well.calls)
    answers = asyncio.run(run())
    assert all(200 <= status < 500 for status, _ in answers)
    taken = [body for body, (status, told) in zip(bodies, answers, strict=True) if passed(status, told)]
    assert len(well.calls) - before == len(taken)
    for body in taken:  # only what every reader reads in the same way
        message = json.loads(body)
        assert message["method"] == "tools/call" and message["params"]["name"] == "well__write"
    for status, told in answers:
        if status == 400 and told.startswith(b"{"):
            assert json.loads(told)["error"]["code"] in (-32700, -32600, -32601, -32602, -32020, -32022)


def passed(status: int, told: bytes) -> bool:
    result = json.loads(told).get("result", {}) if status == 200 and told else {}
    return bool(result) and "pointsman/refusal" not in result.get("_meta", {})


def twice(text: str) -> str:
    return json.dumps(WHOLE).replace(text, f"{text}, {text}")


TWO_WAYS = {
    "the name twice": twice('"name": "well__write"'),
    "the name twice, escaped": json.dumps(WHOLE).replace(
        '"name": "well__write"', '"n\\u0061me": "well__read", "name": "well__write"'
    ),
    "the method twice": twice('"method": "tools/call"'),
    "NaN": json.dumps(WHOLE).replace('"x"', "NaN"),
    "Infinity": json.dumps(WHOLE).replace('"x"', "-Infinity"),
    "a number beyond a double": json.dumps(WHOLE).replace('"x"', "1e999"),
    "an integer beyond 64 bits": json.dumps(WHOLE).replace('"x"', "1" * 40),
    "half a surrogate": json.dumps(WHOLE).replace('"x"', '"\\udc00"'),
    "a control character": json.dumps(WHOLE).replace('"x"', '"\x01"'),
    "single quotes": json.dumps(WHOLE).replace('"', "'"),
    "a comment": json.dumps(WHOLE) + "// end",
    "a comma too many": json.dumps(WHOLE)[:-1] + ",}",
    "a second message": json.dumps(WHOLE) * 2,
    "a batch": f"[{json.dumps(WHOLE)}]",
    "65 levels": json.dumps(WHOLE).replace('"x"', "[" * 65 + "]" * 65),
    "a million levels": "[" * 900_000,
    "nothing": "",
    "null": "null",
    "id null": json.dumps({**WHOLE, "id": None}),
    "id true": json.dumps({**WHOLE, "id": True}),
    "id a list": json.dumps({**WHOLE, "id": [1]}),
    "id a float": json.dumps({**WHOLE, "id": 1.5}),
    "another version of JSON-RPC": json.dumps({**WHOLE, "jsonrpc": "1.0"}),
    "method a list": json.dumps({**WHOLE, "method": ["tools/call"]}),
    "params a list": json.dumps({**WHOLE, "params": [WELL]}),
    "name a list": json.dumps({**WHOLE, "params": {**WELL, "name": ["well__write"]}}),
    "arguments a list": json.dumps({**WHOLE, "params": {**WELL, "arguments": ["x"]}}),
    "_meta a list": json.dumps({**WHOLE, "params": {**WELL, "_meta": [META]}}),
}


@pytest.mark.parametrize("body", TWO_WAYS.values(), ids=TWO_WAYS)
def test_a_body_that_could_be_read_in_two_ways_is_refused(here: Field, well: FakeServer, body: str) -> None:
    before = len(well.calls)

    async def run() -> tuple[int, bytes]:
        wire = Wire(here)
        return await wire.once(wire.request(body.encode()))

    status, told = asyncio.run(run())
    assert status == 400 and json.loads(told)["error"]["code"] in (-32700, -32600, -32602, -32020), told
    assert len(well.calls) == before


def test_other_encodings_of_json_are_refused(here: Field) -> None:
    async def run() -> list[int]:
        wire = Wire(here)
        text = json.dumps(WHOLE)
        raws = [text.encode("utf-16"), text.encode("utf-32"), b"\xef\xbb\xbf" + text.encode()]
        return [(await wire.once(wire.request(raw)))[0] for raw in raws]

    assert asyncio.run(run()) == [400, 400, 400]


DISAGREE: dict[str, tuple[list[str], dict[str, str | None]]] = {
    "another name": ([], {"mcp_name": "well__read"}),
    "no name": ([], {"mcp_name": None}),
    "another name in base64": ([], {"mcp_name": f"=?base64?{base64.b64encode(b'well__read').decode()}?="}),
    "base64 that is none": ([], {"mcp_name": "=?base64?!!!?="}),
    "base64 without padding": ([], {"mcp_name": f"=?base64?{NAME.rstrip('=')}?="}),
    "base64 with spare bits": ([], {"mcp_name": "=?base64?d2VsbF9fd3JpdGV=?="}),
    "base64 of base64": ([], {"mcp_name": f"=?base64?{base64.b64encode(NAME.encode()).decode()}?="}),
    "the name twice": (["mcp-name: well__write\r\n"], {}),
    "the name twice in another case": (["MCP-NAME: well__read\r\n"], {}),
    "the method twice": (["mcp-method: tools/list\r\n"], {}),
    "another method": ([], {"mcp_method": "tools/list"}),
    "no method": ([], {"mcp_method": None}),
    "the version twice": (["mcp-protocol-version: 2025-11-25\r\n"], {}),
    "a version that is none": ([], {"mcp_protocol_version": "2099-01-01"}),
    "two parameters of one name": (["mcp-param-a: 1\r\n", "mcp-param-a: 2\r\n"], {}),
}


@pytest.mark.parametrize("how", DISAGREE)
def test_headers_that_do_not_agree_with_the_body_are_refused(here: Field, well: FakeServer, how: str) -> None:
    before = len(well.calls)
    more, over = DISAGREE[how]

    async def run() -> tuple[int, bytes]:
        wire = Wire(here)
        return await wire.once(wire.request(json.dumps(WHOLE).encode(), *more, **over))

    status, told = asyncio.run(run())
    assert (status, json.loads(told)["error"]["code"]) == (400, -32020), told
    assert len(well.calls) == before


def test_a_name_in_base64_that_agrees_is_taken(here: Field) -> None:
    async def run() -> tuple[int, bytes]:
        wire = Wire(here)
        return await wire.once(wire.request(json.dumps(WHOLE).encode(), mcp_name=f"=?base64?{NAME}?="))

    assert passed(*asyncio.run(run()))


POST = b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\n"
BROKEN_HTTP = {
    "two lengths": POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "length and chunks": POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks not last": POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a length in hexadecimal": POST + b"content-length: 0x5\r\n\r\nhello",
    "a length with a sign": POST + b"content-length: +5\r\n\r\nhello",
    "a space before the colon": POST + b"content-length : 5\r\n\r\nhello",
    "a folded header": POST + b"x: a\r\n b\r\n\r\n",
    "a NUL in a header": POST + b"x: a\0b\r\n\r\n",
    "a carriage return in a header": POST + b"x: a\rb\r\n\r\n",
    "a bare line feed": POST.replace(b"\r\n", b"\n") + b"\n",
    "no such verb": b"BREW /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    "no such version": b"POST /mcp HTTP/9.9\r\nhost: 127.0.0.1\r\n\r\n",
    "the new HTTP": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + b"x" * 160,
    "no host": b"POST /mcp HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
    "two hosts": POST + b"host: evil.example\r\ncontent-length: 0\r\n\r\n",
    "another host": b"POST /mcp HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 0\r\n\r\n",
    "another site": b"GET http://evil.example/mcp HTTP/1.1\r\nhost: evil.example\r\n\r\n",
    "a tunnel": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    "a path with a NUL": b"GET /mcp\0 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    "a path beyond ASCII": b"GET /m\xc3\xa9p HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    "a path of broken escapes": b"GET /%ff%zz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    "a way up": b"GET /servers/../mcp HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    "a long path": b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    "the star": b"OPTIONS * HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    "bytes": bytes(range(256)) * 4 + b"\r\n\r\n",
}


@pytest.mark.parametrize("raw", BROKEN_HTTP.values(), ids=BROKEN_HTTP)
def test_a_broken_request_is_refused(here: Field, well: FakeServer, raw: bytes) -> None:
    before = len(well.calls)
    status, _ = asyncio.run(Wire(here).once(raw))
    assert 400 <= status < 500
    assert len(well.calls) == before


def test_a_broken_body_is_refused_although_its_token_is_good(here: Field, well: FakeServer) -> None:
    before = len(well.calls)

    async def run() -> list[int]:
        found = []
        for chunks in (
            b"zz\r\nhello\r\n",
            b"5\r\nhello!\r\n0\r\n\r\n",
            b"ffffffffffffffffff\r\nx",
            b"-1\r\nx\r\n",
        ):
            wire = Wire(here)
            lines = "".join(f"{name}: {value}\r\n" for name, value in wire.head().items())
            head = f"POST /mcp HTTP/1.1\r\n{lines}transfer-encoding: chunked\r\n\r\n"
            found.append((await wire.once(head.encode() + chunks))[0])
        return found

    assert all(400 <= status < 500 for status in asyncio.run(run()))
    assert len(well.calls) == before
