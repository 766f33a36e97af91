"""The strict reader: what it takes reads the same for everybody, and everything else is refused."""

import json
import random
from typing import Any

import orjson
import pytest

from gateway import strictjson
from gateway.errors import InvalidRequest, ParseError, RpcError

LIMIT = 1_000_000


def read(raw: bytes) -> Any:
    return strictjson.read(raw, limit=LIMIT)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2}',
        b'{"a": 1, "a": 2}',
        b'{"x":[{"a":1,"b":{"c":1,"c":1}}]}',
        rb'{"a":1,"\u0061":2}',
        b'{" ":1," ":2}',
        b'{"name":"echo","name":"danger"}',
        '{"é":1,"\\u00e9":2}'.encode(),
        b'{"a":1e2,"b":1,"b":22}',
    ],
)
def test_a_key_that_appears_twice_is_refused_however_it_is_spelled(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        read(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"NaN",
        b'{"a":Infinity}',
        b"-Infinity",
        b'{"a":1} {"b":2}',
        b'{"a":1}x',
        b'{"a":1e400}',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        rb'"\ud800"',
        rb'"\udc00\ud800"',
        b"\xef\xbb\xbf{}",
        b"{'a':1}",
        b'{"a":01}',
        b"[1,]",
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_what_is_not_json_is_a_parse_error(raw: bytes) -> None:
    with pytest.raises(ParseError):
        read(raw)


def test_integers_beyond_64_bits_are_refused_and_those_within_are_kept() -> None:
    for number in (2**64, -(2**63) - 1, 10**30, 10**5000):
        with pytest.raises(RpcError):
            read(b'{"n":' + (str(number) if number < 10**100 else "9" * 5001).encode() + b"}")
    for number in (2**64 - 1, -(2**63), 0, -1):
        assert read(json.dumps({"n": number}).encode()) == {"n": number}


def test_depth_and_size_have_an_end() -> None:
    assert read(b"[" * 64 + b"]" * 64)
    for depth in (65, 500, 5_000, 100_000):
        with pytest.raises(RpcError):
            read(b"[" * depth + b"]" * depth)
        with pytest.raises(RpcError):
            read(b'{"a":' * depth + b"1" + b"}" * depth)
    assert read(json.dumps([{}] * 1000).encode()) == [{}] * 1000
    with pytest.raises(InvalidRequest, match="bytes"):
        strictjson.read(b'"' + b"x" * 100 + b'"', limit=100)


def test_what_passes_reads_as_every_other_reader_reads_it() -> None:
    chance = random.Random(7)
    alphabet = ["a", "é", "\u2028", '"', "\\", " ", "\n", "\U0001f600", "{", ":", ","]

    def value(depth: int) -> Any:
        kind = chance.randrange(7 if depth < 4 else 5)
        if kind == 0:
            return chance.choice([None, True, False])
        if kind == 1:
            return chance.randrange(-(2**63), 2**63)
        if kind == 2:
            return chance.uniform(-1e9, 1e9)
        if kind in (3, 4):
            return "".join(chance.choices(alphabet, k=chance.randrange(6)))
        if kind == 5:
            return [value(depth + 1) for _ in range(chance.randrange(4))]
        return {"".join(chance.choices(alphabet, k=3)): value(depth + 1) for _ in range(chance.randrange(4))}

    for _ in range(2_000):
        wanted = value(0)
        for raw in (json.dumps(wanted), json.dumps(wanted, ensure_ascii=False, indent=2)):
            assert read(raw.encode()) == json.loads(raw) == orjson.loads(raw)


def test_a_long_message_is_held_to_the_same_rules() -> None:
    text = 'line \\"quoted\\" and \\u0022\\n' * 20_000
    whole = f'{{"a":{{"text":"{text}","n":1}},"b":"x"}}'.encode()
    assert read(whole)["b"] == "x"
    for raw in (
        f'{{"a":"{text}","a":"x"}}',
        f'{{"a":{{"text":"{text}","n":1,"n":2}}}}',
        f'{{"a":{{"text":"{text}"}},"a":{{"text":"{text}"}}}}',
        f'{{"a":"{text}\\\\","a":"x"}}',
        f'{{"a":"{text}","n":99999999999999999999999}}',
    ):
        with pytest.raises(RpcError, match=r"twice|64 bits"):
            strictjson.read(raw.encode(), limit=10_000_000)
