"""The actions server: it acts on the recording's state and says so."""

import json
import os

import pytest

from tests.tool_servers.making import (
    CLOCK,
    ENDED,
    a_world,
    ask,
    at,
    data,
    make_recording,
    refusal,
    text_of,
)

pytestmark = pytest.mark.anyio


async def test_the_action_that_really_helped_moves_the_clock_to_the_end(world):
    done = await data(world, "actions", "rollback", service="orders")
    assert (done["before"], done["after"], done["clock"]) == ("version 1.1", "version 1.0", at(ENDED))
    assert done["acted_on"] == "the state of the recording"
    series = (await data(world, "metrics", "query_range", services=["orders"]))["series"][0]
    assert series["points"][-1] == [at(ENDED), 20.0]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("restart", {"service": "orders"}),
        ("scale", {"service": "orders", "replicas": 9}),
        ("rollback", {"service": "shop"}),
        ("rollback", {"service": "orders", "to_version": "0.9"}),
        ("silence", {"alert": "OrdersSlow", "minutes": 30}),
    ],
)
async def test_any_other_action_says_that_nothing_later_was_recorded(world, tool, arguments):
    result = await ask(world, "actions", tool, **arguments)
    assert result.structured_content["clock"] == at(CLOCK)
    assert f"The recording holds nothing after {at(CLOCK)}" in text_of(result)
    assert "no real system was touched" in text_of(result)


async def test_status_shows_what_was_done_and_changes_nothing(world):
    await data(world, "actions", "scale", service="orders", replicas=9)
    await data(world, "actions", "silence", alert="OrdersSlow", minutes=30)
    stored = (world.state_directory / "state.json").read_bytes()
    status = await data(world, "actions", "status", service="orders")
    assert status["services"] == [
        {"service": "orders", "version": "1.1", "previous": ["1.0", "0.9"], "replicas": 9, "restarts": 0}
    ]
    assert status["silences"] == [{"alert": "OrdersSlow", "until": at(CLOCK + 30)}]
    assert [one["action"] for one in status["actions"]] == ["scale", "silence"]
    assert (world.state_directory / "state.json").read_bytes() == stored


async def test_a_rollback_can_be_rolled_back(world):
    await data(world, "actions", "rollback", service="orders", to_version="0.9")
    done = await data(world, "actions", "rollback", service="orders")
    assert (done["before"], done["after"]) == ("version 0.9", "version 1.1")


async def test_what_cannot_be_done_is_refused_by_field(world):
    assert "did you mean 'orders'?" in await refusal(world, "actions", "restart", service="order")
    text = await refusal(world, "actions", "rollback", service="orders", to_version="3")
    assert text == "invalid argument 'to_version': got '3'; allowed: one of 1.0, 0.9"
    assert "another version before" in await refusal(world, "actions", "rollback", service="db")
    assert "'replicas'" in await refusal(world, "actions", "scale", service="db", replicas=-1)
    assert not (world.state_directory / "state.json").exists()


async def test_state_belongs_to_a_recording(tmp_path):
    first, second = (make_recording(tmp_path / name, id=name) for name in ("first", "second"))
    link = tmp_path / "current"
    link.symlink_to(first)
    world = a_world(tmp_path / "state", recording=str(link))
    await data(world, "actions", "rollback", service="orders")
    aside = tmp_path / "aside"
    aside.symlink_to(second)
    os.replace(aside, link)
    status = await data(world, "actions", "status")
    assert status["clock"] == at(CLOCK) and status["actions"] == []


async def test_state_survives_a_restart_and_is_readable(world, recording):
    await data(world, "actions", "restart", service="db")
    stored = json.loads((world.state_directory / "state.json").read_text())
    assert stored["services"]["db"]["restarts"] == 1
    again = a_world(world.state_directory, recording=str(recording))
    assert len((await data(again, "actions", "status"))["actions"]) == 1


async def test_without_a_recording_actions_say_what_is_missing(tmp_path):
    text = await refusal(a_world(tmp_path / "state"), "actions", "restart", service="orders")
    assert "no recording is served" in text and "--recording DIR" in text
