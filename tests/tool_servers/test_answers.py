"""Recorded answers of any tool: found by its arguments, near in time, never for a tool that writes."""

import json
from pathlib import Path

import pytest

from tests.tool_servers.making import ask, at, data, refusal, text_of

pytestmark = pytest.mark.anyio


def record(recording: Path, server: str, *lines: dict) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (recording / "answers" / f"{server}.ndjson").write_text(text)


def deploys(version: str, **arguments: str) -> dict:
    found = {"deploys": [], "next_cursor": "", "note": version}
    return {"tool": "deploys", "arguments": arguments, "text": f"deploys as of {version}", "data": found}


async def test_a_recorded_answer_comes_back_with_its_data(world, recording):
    record(recording, "changes", deploys("then", start=at(0), end=at(50)))
    answer = await ask(world, "changes", "deploys", start=at(0), end=at(50))
    assert text_of(answer) == "deploys as of then"
    assert answer.structured_content["note"] == "then"


async def test_a_call_from_another_now_finds_the_answer_nearest_in_time(world, recording):
    record(
        recording,
        "changes",
        deploys("early", start=at(0), end=at(40)),
        deploys("late", start=at(0), end=at(50)),
    )
    assert text_of(await ask(world, "changes", "deploys", start=at(0), end=at(47))) == "deploys as of late"
    assert text_of(await ask(world, "changes", "deploys", start=at(1), end=at(41))) == "deploys as of early"


async def test_a_call_about_another_time_or_thing_is_not_answered_from_the_record(world, recording):
    record(recording, "changes", deploys("then", start=at(0), end=at(50), service="orders"))
    real = await data(world, "changes", "deploys", start=at(0), end=at(10), service="orders")
    assert "note" not in real
    assert "note" not in await data(world, "changes", "deploys", start=at(0), end=at(50))


async def test_a_recorded_error_is_an_error_again(world, recording):
    record(recording, "kubernetes", {"tool": "cluster", "text": "forbidden: not you", "error": True})
    assert await refusal(world, "kubernetes", "cluster") == "forbidden: not you"


async def test_an_answer_of_after_the_clock_is_not_shown(world, recording):
    after = {"tool": "alerts", "text": "all is well", "at": at(60)}
    record(recording, "kubernetes", {"tool": "alerts", "text": "orders is slow", "at": at(40)}, after)
    assert text_of(await ask(world, "kubernetes", "alerts")) == "orders is slow"


async def test_a_tool_that_writes_is_never_answered_from_the_record(world, recording):
    said = {"tool": "create", "arguments": {"title": "Slow", "body": "It is."}, "text": "recorded"}
    record(recording, "tickets", said)
    assert text_of(await ask(world, "tickets", "create", title="Slow", body="It is.")) != "recorded"
