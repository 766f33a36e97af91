"""The metrics server over a recording."""

import pytest

from tests.tool_servers.making import ask, at, data, refusal, text_of

pytestmark = pytest.mark.anyio


async def test_metrics_are_listed_with_the_samples_known_by_now(world):
    found = await data(world, "metrics", "list_metrics")
    assert found["metrics"] == [
        {"service": "orders", "metric": "latency_p95", "unit": "ms", "samples": 51},
        {"service": "shop", "metric": "requests", "unit": "1/s", "samples": 51},
    ]


async def test_nothing_after_the_clock_is_shown(world):
    found = await data(world, "metrics", "query_range", services=["orders"], end=at(70))
    assert found["series"][0]["points"][-1] == [at(50), 450.0]


async def test_a_window_bounds_the_points(world):
    found = await data(world, "metrics", "query_range", metrics=["latency_p95"], start=at(39), end=at(41))
    assert found["series"][0]["points"] == [[at(39), 20.0], [at(40), 440.0], [at(41), 441.0]]


async def test_an_age_counts_back_from_the_clock(world):
    found = await data(world, "metrics", "query_range", services=["shop"], start="-2m")
    assert [stamp for stamp, _ in found["series"][0]["points"]] == [at(48), at(49), at(50)]


async def test_the_figures_stand_on_one_line_that_can_be_quoted(world):
    text = text_of(await ask(world, "metrics", "query_range", services=["orders"], start=at(38)))
    assert (
        f"orders latency_p95 ms n=13 first=20 at {at(38)} last=450 at {at(50)} "
        f"min=20 at {at(38)} max=450 at {at(50)} mean=379.615" in text.splitlines()
    )
    assert "  points: 10:38:00=20 10:39:00=20 10:40:00=440" in text


async def test_a_step_averages(world):
    found = await data(
        world, "metrics", "query_range", services=["orders"], start=at(40), end=at(49), step_seconds=300
    )
    assert found["series"][0]["points"] == [[at(40), 442.0], [at(45), 447.0]]


async def test_pages_follow_each_other_without_gap_or_repeat(world):
    first = await data(world, "metrics", "query_range", limit=1)
    second = await data(world, "metrics", "query_range", limit=1, cursor=first["next_cursor"])
    assert [first["series"][0]["service"], second["series"][0]["service"]] == ["orders", "shop"]
    assert second["next_cursor"] == ""


async def test_a_cursor_of_another_query_is_refused(world):
    first = await data(world, "metrics", "query_range", limit=1)
    text = await refusal(world, "metrics", "query_range", start=at(1), limit=1, cursor=first["next_cursor"])
    assert text.startswith("invalid argument 'cursor'")


async def test_an_unknown_service_is_named_with_the_nearest_one(world):
    text = await refusal(world, "metrics", "query_range", services=["order"])
    assert "no service 'order'" in text and "did you mean 'orders'?" in text


async def test_a_known_service_without_metrics_has_none(world):
    assert (await data(world, "metrics", "query_range", services=["db"]))["series"] == []


async def test_a_long_series_is_thinned_to_fit(world, recording):
    rows = "".join(f"{at(second / 60)},db,load,1,{second}\n" for second in range(20_000))
    (recording / "metrics.csv.gz").unlink()
    (recording / "metrics.csv").write_text("timestamp,service,metric,unit,value\n" + rows)
    (recording / "recording.json").write_text(
        (recording / "recording.json").read_text().replace(at(50), at(400))
    )
    result = await ask(world, "metrics", "query_range")
    points = result.structured_content["series"][0]["points"]
    assert 4_000 < len(points) <= 7_500 and len(text_of(result)) < 200_000
