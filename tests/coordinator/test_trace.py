"""One case gives one trace: coordinator, specialists, their calls, the gateway."""

import json
import os
import re

from tests.fakes.otlp_receiver import collector


def test_a_case_is_one_trace_through_both_processes(workspace, monkeypatch):
    with collector() as taken:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taken.url)
        done = workspace.run("triage", "alert.json", "--json")
        assert done.returncode == 0, done.stderr
    case = json.loads(done.stdout)["case"]
    [whole] = taken.named("invoke_agent coordinator")
    [probe] = taken.named("invoke_agent probe")
    assert whole.parent == "" and whole.service == "pointsman-coordinator"
    assert (probe.trace, probe.parent) == (whole.trace, whole.id)
    assert probe.attributes["pointsman.specialist.mode"] == "local"
    looks = taken.named("tools/call things__look")
    assert len(looks) == 4
    for look in looks:
        assert (look.service, look.trace) == ("pointsman-gateway", whole.trace)
        assert taken.above(look) == [
            "MCP send tools/call things__look",
            "invoke_agent probe",
            "invoke_agent coordinator",
        ]
        told = look.attributes
        assert told["pointsman.decision"] == "call" and told["pointsman.status"] == "ok"
        assert (
            told["pointsman.rules"] and told["pointsman.case"] == whole.attributes["pointsman.case"] == case
        )
        assert told["pointsman.subject"] == "agent:probe"
        shown = workspace.run("audit", "show", told["pointsman.call"], "--json").stdout
        assert f'"seq": {told["pointsman.ledger.seq"]}' in shown
    assert not any(re.search("arguments|result", name) for span in taken.spans for name in span.attributes)


def test_without_an_endpoint_no_span_is_made():
    from specialists import tracing

    tracing.begin("test")
    with tracing.agent("probe") as span:
        assert span is None


def test_a_specialist_in_another_process_joins_the_trace(workspace, monkeypatch):
    with collector() as taken:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taken.url)
        reading, writing = os.pipe()
        where = ("--port", "0", "--no-token", "--ready-fd", str(writing))
        served = workspace.start("specialists", "serve", "probe", *where, pass_fds=[writing])
        os.close(writing)
        with os.fdopen(reading) as ready:
            url = json.loads(ready.readline())["url"]
        settings = workspace.folder / "pointsman.toml"
        settings.write_text(settings.read_text() + f'mode = "remote"\nurl = "{url}"\n')
        done = workspace.run("triage", "alert.json", "--json")
        assert done.returncode == 0, done.stderr
        served.terminate()
        served.wait(60)  # sends what it has not sent
    [whole] = taken.named("invoke_agent coordinator")
    remote = [span for span in taken.named("invoke_agent probe") if span.service == "pointsman-specialists"]
    assert len(remote) == 1 and remote[0].trace == whole.trace
    assert taken.above(remote[0]) == ["invoke_agent probe", "invoke_agent coordinator"]
    looks = taken.named("tools/call things__look")  # also those that look up what was quoted
    assert {(look.service, look.trace) for look in looks} == {("pointsman-gateway", whole.trace)}
    above = ["MCP send tools/call things__look", *["invoke_agent probe"] * 2, "invoke_agent coordinator"]
    assert [taken.above(look) for look in looks].count(above) == 4
