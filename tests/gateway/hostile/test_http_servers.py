"""Sick and hostile servers over HTTP: each costs its own calls and nobody else's."""

import asyncio
import json
import socket
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.gateway.hostile.field import LIMIT, SECONDS, TEMPTING, Field, http_peer, until
from tests.gateway.hostile.modes import CALLS, LATE, STANDING
from tests.gateway.world import fake_server, gateway, pointsman

BOTH = [name for mode in CALLS for name in (mode, f"{mode}-as-event")]


def entry(url: str, *, late: bool = False) -> dict[str, Any]:
    seconds = SECONDS if late else 30  # who is not meant to be late has time, on a busy machine too
    return {"type": "http", "url": url, "pointsman": {"pin": "trust", "timeout": seconds}}


@contextmanager
def field(directory: Path, modes: dict[str, Any]) -> Iterator[Field]:
    """A gateway with these servers and a well one."""
    with fake_server(directory / "well") as well:
        servers = {**modes, "well": well.entry(pin="trust")}
        with gateway(directory, servers, max_result_bytes=LIMIT, connect_seconds=3) as running:
            token = asyncio.run(running.issue("agent:logs", "specialist"))
            yield Field(running, token)


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with http_peer() as flooding, http_peer() as url, ExitStack() as stack:
        known = json.loads(httpx2.get(f"{url}/modes").text)
        modes = {}
        for mode in (mode for mode in BOTH if mode in known):
            late = CALLS[mode.removesuffix("-as-event")].expected == LATE
            modes[mode] = entry(f"{flooding if late else url}/{mode}/mcp", late=late)
        assert set(CALLS) <= set(modes)
        assert {mode.removesuffix("-as-event") for mode in known} <= {*CALLS, *STANDING}
        here = stack.enter_context(field(tmp_path_factory.mktemp("calls"), modes))
        arguments = {m: TEMPTING if m.startswith(("pattern", "schema")) else {} for m in modes}

        async def run() -> None:
            await until(lambda: ready(here, len(modes) + 1))
            await here.try_modes(arguments, "well__read")

        asyncio.run(run())
        here.peer = url  # type: ignore[attr-defined]
        yield here


async def ready(here: Field, many: int) -> bool:
    return sum(s["state"] == "ready" for s in (await here.servers()).values()) == many


@pytest.mark.parametrize("mode", CALLS)
def test_a_server_that_turns_hostile_in_a_call(called: Field, mode: str) -> None:
    for name in (mode, f"{mode}-as-event"):
        if name in called.outcomes:
            got, words = called.outcomes[name]
            assert got == CALLS[mode].expected, (name, words)
            assert "poison" not in words


def test_the_well_server_beside_them_answered_every_call_and_as_quickly(called: Field) -> None:
    assert len(called.beside) > 20
    alone, beside = statistics.median(called.alone), statistics.median(called.beside)
    assert beside < max(10 * alone, 0.25), (alone, beside)


def test_what_hostile_servers_ask_for_is_refused_and_their_cookies_are_not_kept(called: Field) -> None:
    for mode in ("asks-sampling", "asks-elicitation", "asks-roots", "asks-shell"):
        told = json.loads(called.outcomes[mode][1])
        assert told["code"] == -32601 and "not opened" in told["message"]
    seen = json.loads(httpx2.get(f"{called.peer}/seen/cookie").text)  # type: ignore[attr-defined]
    assert len(seen) > 3 and not any("cookie:" in request["head"].lower() for request in seen)


def test_a_redirect_is_not_followed_and_a_reference_not_fetched(called: Field) -> None:
    seen = json.loads(httpx2.get(f"{called.peer}/seen/redirected").text)  # type: ignore[attr-defined]
    assert seen == []


def test_a_storm_of_changes_is_looked_at_once_a_second(called: Field) -> None:
    def lists() -> int:
        seen = json.loads(httpx2.get(f"{called.peer}/seen/storm").text)  # type: ignore[attr-defined]
        return sum(request.get("method") == "tools/list" for request in seen)

    async def two_seconds() -> int:
        before = lists()
        await asyncio.sleep(2)
        return lists() - before

    assert asyncio.run(two_seconds()) <= 3


def test_terminal_commands_of_a_server_are_printed_escaped(called: Field) -> None:
    shown = pointsman(called.running, "audit", "search", "--tool", "error-ansi__go")
    assert shown.returncode == 0 and "\x1b" not in shown.stdout + shown.stderr
    assert "\x1b" not in pointsman(called.running, "servers", "diff", "list-odd-names").stdout


def test_every_call_has_its_outcome_in_the_ledger(called: Field) -> None:
    called.ledger_is_whole()


# -- servers that never get as far ----------------------------------------------------------------------


def standing_urls(url: str, stack: ExitStack) -> dict[str, str]:
    """The address of every mode that is not the program's."""
    full = stack.enter_context(socket.socket())
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    for _ in range(4):  # the queue of connections is full from now on
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(full.getsockname())
    silent = stack.enter_context(socket.socket())
    silent.bind(("127.0.0.1", 0))
    silent.listen(64)
    free = stack.enter_context(socket.socket())
    free.bind(("127.0.0.1", 0))
    own = {
        "refused-port": f"http://127.0.0.1:{free.getsockname()[1]}/mcp",
        "never-accepts": f"http://127.0.0.1:{full.getsockname()[1]}/mcp",
        "tls-hang": f"https://127.0.0.1:{silent.getsockname()[1]}/mcp",
        "tls-plain": url.replace("http://", "https://") + "/call-hang/mcp",
        "no-such-name": "http://no-such-name.invalid/mcp",
        "metadata": "http://169.254.169.254/mcp",
        "metadata-mapped": "http://[::ffff:169.254.169.254]/mcp",
        "metadata-nat64": "http://[64:ff9b::a9fe:a9fe]/mcp",
        "metadata-decimal": "http://2852039166/mcp",
        "metadata-octal": "http://0251.0376.0251.0376/mcp",
        "metadata-short": "http://0xa9.0xfea9fe/mcp",
    }
    return {mode: own.get(mode, f"{url}/{mode}/mcp") for mode in STANDING}


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Field, dict[str, Any]]]:
    with http_peer() as url, ExitStack() as stack:
        modes = {mode: entry(place) for mode, place in standing_urls(url, stack).items()}
        with field(tmp_path_factory.mktemp("standing"), modes) as here:

            async def all_failed() -> Any:
                told = await here.servers()
                return told if all(told[mode]["state"] == "failed" for mode in modes) else None

            async def run() -> Any:
                async with httpx2.AsyncClient(timeout=60) as http:
                    await here.call_well(http, "well__read", here.alone, 5)
                    told = await until(all_failed)
                    await here.call_well(http, "well__read", here.beside, 20)
                    return told

            yield here, asyncio.run(run())


@pytest.mark.parametrize("mode", STANDING)
def test_a_server_that_cannot_be_used_is_named_with_its_stage(
    standing: tuple[Field, dict[str, Any]], mode: str
) -> None:
    told = standing[1][mode]
    assert (told["state"], told["stage"]) == ("failed", STANDING[mode].expected), told["error"]
    assert told["error"]
    if mode.startswith("metadata"):
        assert "no tool server may have" in told["error"]
