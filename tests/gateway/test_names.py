"""Public names: ASCII, short, never two tools under one, and those that look alike refused on both sides."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.caller import Caller
from gateway.errors import UsageError
from gateway.names import collisions, public_name
from gateway.servers_file import check_name
from tests.gateway.world import LOGS, app_with, call, code, fake_server, words

pytestmark = pytest.mark.anyio
FITS = re.compile(r"[A-Za-z0-9_.-]{1,64}")
ODD = ["", "_", "__", "-", ".", "a", "A", "b", "0", "ß", "é", "日", " ", "/", "x" * 30, "x" * 31, "y" * 64]


def names(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Pairs of a server's name and a tool's, made of pieces that are likely to meet."""
    rolls = random.Random(seed)
    while count:
        server = "".join(rolls.choices(ODD[:9], k=rolls.randint(1, 4)))
        try:
            check_name(server)
        except UsageError:
            continue
        count -= 1
        yield server, "".join(rolls.choices(ODD, k=rolls.randint(0, 6)))


@pytest.mark.parametrize("seed", range(5))
def test_no_two_tools_ever_have_one_public_name(seed: int) -> None:
    pairs = set(names(seed, 20_000))
    public = {pair: public_name(*pair) for pair in pairs}
    assert len(set(public.values())) == len(pairs)
    assert all(FITS.fullmatch(name) for name in public.values())
    assert all(name.startswith(f"{server}__") for (server, _), name in public.items())


@pytest.mark.parametrize("tool", ["größe", "x" * 80, "a b", "", "plain_0123456789ab"])
def test_no_tool_can_be_called_what_another_has_become(tool: str) -> None:
    become = public_name("s", tool)
    own = become.partition("__")[2]
    assert own != tool and public_name("s", own) != become


async def test_two_that_look_alike_are_both_refused_with_words_and_served_apart(tmp_path: Path) -> None:
    with fake_server(tmp_path / "fake") as fake:
        read = fake.tools()[0]
        fake.offer([{**read, "name": "List"}, {**read, "name": "list"}, read])
        async with app_with(tmp_path, {"s": fake.entry(pin="trust"), "S": fake.entry(pin="trust")}) as app:
            for name in ("s__List", "s__list", "S__read", "s__read"):
                refused = await call(app, LOGS, name)
                assert code(refused) == "quarantined" and "both are blocked on /mcp" in words(refused)
            assert not fake.calls
            served = await app.gateway.call(
                Caller(LOGS, endpoint="S"), "tools/call", {"name": "List", "arguments": {"text": "x"}}
            )
            assert words(served) == "List: x" and fake.calls == [["List", {"text": "x"}]]


def test_names_of_every_odd_kind() -> None:
    pairs = [
        ("a", "b"),
        ("a", "_b"),
        ("a-b", "c"),
        ("a", "b" * 80),
        ("a", "b" * 81),
        ("a", "größe"),
        ("a", "gr__e"),
        ("a", "x y"),
        ("a", "x_y"),
        ("a", ""),
    ]
    names = [public_name(*pair) for pair in pairs]
    assert len(set(names)) == len(pairs)
    assert all(name.isascii() and len(name) <= 64 for name in names)
    for bad in ("a__b", "a_", "gateway", "", "ä", "x" * 33, "-a", "a/b"):
        with pytest.raises(UsageError):
            check_name(bad)
    assert collisions(["a__read", "a__Read", "b__x"]) == {"a__read", "a__Read"}
