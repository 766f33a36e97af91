"""The logs server over a recording and over files."""

import gzip
import json

import pytest

from tests.tool_servers.making import a_world, ask, at, data, refusal, text_of
from tool_servers.templates import mask, mine

pytestmark = pytest.mark.anyio


async def test_lines_are_found_by_words_in_any_case(world):
    found = await data(world, "logs", "search", text="POOL EXHAUSTED after 71", service="orders")
    assert found["total"] == 1
    assert found["lines"][0] == {
        "timestamp": at(41),
        "service": "orders",
        "severity": "ERROR",
        "message": "pool exhausted after 71 s for 'customer 41'",
        "trace_id": "t41",
        "pool": "main",
    }


async def test_a_severity_includes_those_above_it(world):
    found = await data(world, "logs", "search", severity="warning", limit=100)
    assert {line["severity"] for line in found["lines"]} == {"WARN", "ERROR"}


async def test_a_trace_leads_to_its_lines(world):
    found = await data(world, "logs", "search", text="trace_id=t45")
    assert [line["service"] for line in found["lines"]] == ["shop", "orders"]


async def test_nothing_after_the_clock_is_found(world):
    found = await data(world, "logs", "search", service="shop", limit=500)
    assert found["total"] == 51 and found["lines"][-1]["timestamp"] == at(50)


async def test_every_line_of_the_text_is_one_line_of_log(world):
    text = text_of(await ask(world, "logs", "search", text="pool", limit=2)).splitlines()
    assert text[0] == f"11 lines match, until {at(50)}"
    assert text[1] == (
        f"{at(40)} ERROR orders pool exhausted after 70 s for 'customer 40' trace_id=t40 pool=main"
    )
    assert text[3].startswith("More follow: next_cursor=")


async def test_pages_of_lines_follow_each_other(world):
    seen, cursor = [], ""
    while True:
        part = await data(world, "logs", "search", text="pool", limit=4, cursor=cursor)
        seen += [line["timestamp"] for line in part["lines"]]
        cursor = part["next_cursor"]
        if not cursor:
            break
    assert seen == [at(minute) for minute in range(40, 51)]


async def test_a_new_pattern_comes_first_with_its_counts(world):
    found = await data(world, "logs", "patterns", start=at(40))
    first = found["patterns"][0]
    assert first["template"] == "pool exhausted after <n> s for '<text>'"
    assert (first["count"], first["baseline_count"]) == (11, 0)
    assert (first["first_seen"], first["last_seen"]) == (at(40), at(50))
    assert first["example"] == "pool exhausted after 70 s for 'customer 40'"
    steady = next(row for row in found["patterns"] if row["service"] == "shop")
    assert (steady["count"], steady["baseline_count"]) == (11, 40)


async def test_a_baseline_can_be_named(world):
    found = await data(world, "logs", "patterns", start=at(45), baseline_start=at(41), baseline_end=at(45))
    rows = {row["service"]: (row["count"], row["baseline_count"]) for row in found["patterns"]}
    assert rows["orders"] == (6, 4)


async def test_an_unknown_severity_is_refused_with_those_allowed(world):
    text = await refusal(world, "logs", "search", severity="loud")
    assert text == (
        "invalid argument 'severity': got 'loud'; allowed: TRACE, DEBUG, INFO, WARN, ERROR, FATAL"
    )


async def test_huge_messages_are_cut_and_pages_stay_small(world, recording):
    (recording / "logs.ndjson.gz").unlink()
    lines = [
        json.dumps({"timestamp": at(1), "service": "db", "severity": "INFO", "message": "x" * 9_000})
        for _ in range(300)
    ]
    (recording / "logs.ndjson").write_text("\n".join(lines))
    result = await ask(world, "logs", "search", limit=500)
    assert len(text_of(result)) < 200_000
    assert result.structured_content["total"] == 300 and result.structured_content["next_cursor"]
    assert result.structured_content["lines"][0]["message"].endswith("[5000 more characters]")


@pytest.mark.parametrize(
    ("message", "template"),
    [
        ("took 12.5ms at 10:22", "took <n>ms at <n>:<n>"),
        ("user 0b5e1c1e-9d3f-4d7e-8a51-0a2b3c4d5e6f gone", "user <uuid> gone"),
        ("dial 10.0.3.17:5432 refused", "dial <ip> refused"),
        ("at 2026-03-01T10:00:00.123Z stopped", "at <time> stopped"),
        ("pointer 0xdeadbeef freed", "pointer <hex> freed"),
        ("commit 1a2b3c4d5e built", "commit <hex> built"),
        ('key "cart-77" missing', 'key "<text>" missing'),
        ('relation "orders" does not exist', 'relation "orders" does not exist'),
        ("mail to ana@example.org bounced", "mail to <email> bounced"),
        ("GET /items/42/price 200", "GET /items/<n>/price <n>"),
        ("http2 stream reset by user31234", "http2 stream reset by user<n>"),
        ("drift of -3.1234567e-05 at p95", "drift of <n> at p95"),
        ("shop-7d9f4b6c8-x2x7k restarted", "shop-<hex>-<id> restarted"),
    ],
)
def test_variable_parts_are_masked(message, template):
    assert mask(message) == template


def test_a_word_that_takes_many_values_is_a_variable():
    names = ["ada", "bob", "cyd", "dan", "eve", "fay", "gus", "hal", "ida"]
    assert set(mine([f"login of {name} failed" for name in names])) == {"login of <*> failed"}


def test_a_word_that_takes_few_values_stays():
    assert mine(["disk full", "queue full"]) == ["disk full", "queue full"]


async def test_files_of_a_directory_are_read_live(tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    (files / "orders.log").write_text(
        "2026-03-01 10:00:01,250 [ERROR] pool exhausted\n  at line 3\n2026-03-01T10:00:02Z INFO fine\n"
    )
    with gzip.open(files / "shop.ndjson.gz", "wt") as file:
        file.write(
            json.dumps({"ts": "2026-03-01T10:00:00Z", "level": "warn", "msg": "slow", "user": 7}) + "\n"
        )
    world = a_world(tmp_path / "state", logs=str(files))
    found = await data(world, "logs", "search")
    assert found["lines"] == [
        {
            "timestamp": "2026-03-01T10:00:00Z",
            "service": "shop",
            "severity": "WARN",
            "message": "slow",
            "trace_id": "",
            "user": 7,
        },
        {
            "timestamp": "2026-03-01T10:00:01.250Z",
            "service": "orders",
            "severity": "ERROR",
            "message": "pool exhausted\n  at line 3",
            "trace_id": "",
        },
        {
            "timestamp": "2026-03-01T10:00:02Z",
            "service": "orders",
            "severity": "INFO",
            "message": "fine",
            "trace_id": "",
        },
    ]


async def test_a_line_that_is_appended_is_seen_by_the_next_call(tmp_path):
    file = tmp_path / "files" / "orders.log"
    file.parent.mkdir()
    file.write_text("2026-03-01T10:00:00Z INFO one\n")
    world = a_world(tmp_path / "state", logs=str(file.parent))
    assert (await data(world, "logs", "search"))["total"] == 1
    with file.open("a") as end:
        end.write("2026-03-01T10:00:01Z INFO two\n")
    assert (await data(world, "logs", "search"))["total"] == 2
    found = await data(world, "logs", "patterns")
    assert {row["template"] for row in found["patterns"]} == {"one", "two"}
