"""What every tool says of itself: truthful hints, closed schemas, words for each argument."""

import pytest
from mcp import Client

from tests.tool_servers.making import a_world, refusal
from tool_servers import serving

pytestmark = pytest.mark.anyio

CHANGING = {
    ("runbooks", "ingest"): (False, True),  # (destructive, idempotent)
    ("tickets", "create"): (False, False),
    ("tickets", "comment"): (False, False),
    ("tickets", "set_status"): (False, True),
    ("delivery", "write_report"): (False, True),
    ("delivery", "send_email"): (False, True),
    ("delivery", "send_webhook"): (False, True),
    ("delivery", "post_message"): (False, True),
    ("actions", "rollback"): (True, False),
    ("actions", "restart"): (True, False),
    ("actions", "scale"): (True, True),
    ("actions", "silence"): (True, False),
}
PLAIN_TEXT = {"kubernetes"}


async def tools(world):
    for name in serving.NAMES:
        async with Client(serving.build(name, world)) as client:
            for tool in (await client.list_tools()).tools:
                yield name, tool


async def test_hints_tell_what_a_tool_does(world):
    seen = set()
    async for server, tool in tools(world):
        hints = tool.annotations
        destructive, idempotent = CHANGING.get((server, tool.name), (False, True))
        assert hints.read_only_hint is ((server, tool.name) not in CHANGING), (server, tool.name)
        assert (hints.destructive_hint, hints.idempotent_hint) == (destructive, idempotent), tool.name
        assert hints.open_world_hint is (server == "delivery" and not hints.read_only_hint)
        seen.add((server, tool.name))
    assert seen >= CHANGING.keys()


async def test_tools_that_are_read_only_leave_the_state_directory_alone(world):
    assert await refusal(world, "tickets", "get", id="T-1")
    async for server, tool in tools(world):
        if server in ("actions", "changes", "logs", "metrics", "traces") and tool.annotations.read_only_hint:
            async with Client(serving.build(server, world)) as client:
                await client.call_tool(tool.name, {})
    assert {path.name for path in world.state_directory.iterdir()} == {"tickets.db"}


async def test_every_tool_and_argument_is_described_and_no_other_argument_is_taken(world):
    async for server, tool in tools(world):
        assert tool.description and tool.description.endswith("."), (server, tool.name)
        assert tool.input_schema["additionalProperties"] is False
        for name, schema in tool.input_schema["properties"].items():
            assert schema.get("description") or schema["type"] == "boolean", (server, tool.name, name)


async def test_every_tool_but_those_of_a_cluster_declares_its_output(world):
    async for server, tool in tools(world):
        assert (tool.output_schema is None) is (server in PLAIN_TEXT), (server, tool.name)


@pytest.mark.parametrize(
    ("server", "tool", "arguments", "message"),
    [
        (
            "logs",
            "search",
            {"limit": 0},
            "invalid argument 'limit': got 0; allowed: greater than or equal to 1",
        ),
        (
            "logs",
            "search",
            {"limit": "many"},
            "invalid argument 'limit': got 'many'; allowed: a valid integer",
        ),
        (
            "logs",
            "search",
            {"start": "noon"},
            "invalid argument 'start': got 'noon'; allowed: an RFC 3339 time",
        ),
        (
            "logs",
            "search",
            {"start": "-1m", "end": "-2m"},
            "invalid argument 'start': got '-1m'; allowed: a time",
        ),
        ("logs", "search", {"txet": "x"}, "unknown argument 'txet' for search; allowed: cursor, end, limit"),
        (
            "logs",
            "search",
            {"cursor": "???"},
            "invalid argument 'cursor': got '???'; allowed: the next_cursor",
        ),
        ("traces", "trace", {}, "missing argument 'trace_id'"),
        ("metrics", "query_range", {"services": "shop"}, "invalid argument 'services': got 'shop'"),
        (
            "changes",
            "commit",
            {"sha": "zz"},
            "invalid argument 'sha': got 'zz'; allowed: 4 to 64 hexadecimal",
        ),
        ("logs", "serach", {}, "unknown tool 'serach'; known: search, patterns"),
    ],
)
async def test_bad_input_names_the_field_the_given_and_the_allowed(world, server, tool, arguments, message):
    assert (await refusal(world, server, tool, **arguments)).startswith(message)


@pytest.mark.parametrize("server", ["metrics", "logs", "traces", "changes", "kubernetes"])
async def test_without_data_a_server_says_what_to_do(tmp_path, server):
    call = {"kubernetes": ("alerts", {}), "changes": ("deploys", {}), "metrics": ("list_metrics", {})}
    tool, arguments = call.get(server, ("search" if server == "logs" else "dependencies", {}))
    text = await refusal(a_world(tmp_path / "state"), server, tool, **arguments)
    assert text.startswith("no recording is served") and "--recording DIR" in text


async def test_a_part_that_was_not_recorded_is_said_and_a_broken_one_named(world, recording):
    (recording / "traces.json.gz").unlink()
    text = await refusal(world, "traces", "dependencies")
    assert (
        text == "not recorded: the recording 'tiny' has no traces; only what the recording holds can be asked"
    )
    (recording / "traces.json").write_text('{"half')
    assert "traces.json: cannot be read" in await refusal(world, "traces", "dependencies")


async def test_a_recording_that_changes_on_disk_is_read_again(world, recording):
    assert "no service 'new'" in await refusal(world, "logs", "search", service="new")
    about = (recording / "recording.json").read_text()
    (recording / "recording.json").write_text(about.replace('"db"]', '"db", "new"]'))
    async with Client(serving.build("logs", world)) as client:
        assert not (await client.call_tool("search", {"service": "new"})).is_error
