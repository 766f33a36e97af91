"""The metrics server over a Prometheus HTTP API, spoken by a small real server."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.tool_servers.making import a_world, ask, data, refusal, text_of
from tool_servers.errors import BadInput
from tool_servers.live.prometheus import Prometheus

pytestmark = pytest.mark.anyio

NOW = time.time()


class Api(BaseHTTPRequestHandler):
    asked: list[dict[str, str]]

    def do_GET(self) -> None:
        asked = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        self.server.asked.append(asked)  # type: ignore[attr-defined]
        if asked.get("query") == "((":
            return self.answer(400, {"status": "error", "error": "parse error"})
        if self.path.startswith("/api/v1/series"):
            return self.answer(200, {"status": "success", "data": [{"__name__": "up", "job": "shop"}]})
        if self.path.startswith("/api/v1/query?"):
            counted = [{"metric": {}, "value": [NOW, str(self.server.series)]}]  # type: ignore[attr-defined]
            return self.answer(
                200, {"status": "success", "data": {"resultType": "vector", "result": counted}}
            )
        values = [[NOW - 60, "1"], [NOW - 30, "NaN"], [NOW, "0.5"]]
        row = {"metric": {"__name__": "up", "job": "shop", "pod": "a"}, "values": values}
        return self.answer(200, {"status": "success", "data": {"resultType": "matrix", "result": [row]}})

    def answer(self, status: int, body: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def api():
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def live(api, tmp_path):
    url = f"http://127.0.0.1:{api.server_address[1]}/"
    return a_world(tmp_path / "state", prometheus=url, service_label="job")


async def test_names_come_from_the_label_that_names_services(live, api):
    assert (await data(live, "metrics", "list_metrics", service="shop"))["metrics"][0]["metric"] == "up"
    assert api.asked[0]["match[]"] == '{job="shop"}'


async def test_a_range_is_asked_for_each_metric_and_service(live, api):
    found = await data(live, "metrics", "query_range", metrics=["up"], services=["shop", 'a"b.c'])
    assert api.asked[0]["query"] == 'up{job=~"shop|a\\\\\\"b\\\\.c"}'
    series = found["series"][0]
    assert (series["service"], series["metric"], series["labels"]) == ("shop", "up", {"pod": "a"})
    assert [value for _, value in series["points"]] == [1.0, 0.5]


async def test_an_expression_is_evaluated_over_time(live, api):
    result = await ask(live, "metrics", "query", promql="rate(x[5m])", start="-10m", step_seconds=30)
    assert text_of(result).startswith("1 series")
    asked = api.asked[0]
    assert (asked["query"], asked["step"]) == ("rate(x[5m])", "30")
    assert float(asked["end"]) - float(asked["start"]) == pytest.approx(600, abs=0.01)


async def test_what_prometheus_refuses_is_passed_on(live):
    text = await refusal(live, "metrics", "query", promql="((")
    assert text == "Prometheus refused: parse error; correct the query"


async def test_without_names_all_series_are_read_unless_there_are_too_many(live, api):
    api.series = 1
    assert (await data(live, "metrics", "query_range"))["series"][0]["metric"] == "up"
    assert api.asked[-1]["query"] == '{job=~".+"}'
    api.series = 5000
    assert "5000 series: see list_metrics" in await refusal(live, "metrics", "query_range")


async def test_a_server_that_does_not_answer_is_said(tmp_path):
    world = a_world(tmp_path / "state", prometheus="http://127.0.0.1:1")
    text = await refusal(world, "metrics", "query", promql="up")
    assert text.startswith("Prometheus at http://127.0.0.1:1 does not answer")


async def test_a_recording_offers_no_free_expressions(world):
    assert "unknown tool 'query'" in await refusal(world, "metrics", "query", promql="up")


def test_an_address_that_is_none_is_refused():
    with pytest.raises(BadInput, match="--prometheus"):
        Prometheus("localhost:9090", "job")
