"""Reports arrive where the operator wants them, once, and can be proved later against the ledger."""

import json
import signal
import sqlite3
from contextlib import closing

from coordinator.delivery import case_records
from coordinator.gateway_client import GatewayClient
from coordinator.verifying import verify
from tests.fakes.receivers import receiver
from tool_servers.rendering import as_html, as_pdf


def deliver_to(workspace, *names, tables=""):
    """Settings that send every report to these destinations."""
    settings = workspace.folder / "pointsman.toml"
    told = f"[coordinator]\ndeliver_to = {json.dumps(list(names))}\n{tables}\n"
    settings.write_text(told + settings.read_text())
    bundled = {
        "command": "${python}",
        "args": ["-m", "tool_servers", "--config", "${config}", "--ready-fd", "{fd}"],
    }
    servers = json.loads((workspace.folder / "mcp.json").read_text())
    servers["pointsman"] = {"children": {"bundled": bundled}}
    for name in ("tickets", "delivery"):
        entry = {"type": "http", "url": f"${{child:bundled}}/{name}/mcp", "pointsman": {"pin": "trust"}}
        servers["mcpServers"][name] = entry
    (workspace.folder / "mcp.json").write_text(json.dumps(servers))


async def problems(runner, target):
    """What `cases verify` says is not as it was recorded."""
    async with GatewayClient(runner.access, runner.access.person) as person:
        return (await verify(str(target), runner.index, runner.gateway, person)).problems


FILES = """\
[tool_servers.delivery.out]
kind = "files"
directory = "reports"
formats = ["md", "html", "pdf"]
"""


def test_a_delivered_report_is_proved_and_what_was_altered_is_named(workspace, run):
    deliver_to(workspace, "tickets", "out", "nowhere", tables=FILES)
    reports = workspace.folder / "reports"

    async def act(runner, opened):
        case = (await runner.start(opened)).case
        kept = workspace.home / "cases" / case
        delivered = [reports / f"{case}.{form}" for form in ("md", "html", "pdf")]
        for target in (case, *delivered, kept / "report.json"):
            assert await problems(runner, target) == [], target
        text = (reports / f"{case}.md").read_text()
        head = json.loads((kept / "report.json").read_text())["ledger"]["head"]
        for words in (
            "`things__look`: 4 calls, 4 answered",
            "workflow incident",
            "by specialists-read",
            head,
        ):
            assert words in text, words

        (reports / f"{case}.md").write_text(text.replace("thing 1 is broken", "thing 1 is fine"))
        told = await problems(runner, reports / f"{case}.md")
        assert "was altered" in told[0] and any("did not answer “thing 1 is fine”" in one for one in told)
        assert any(one.startswith("delivered: ") for one in told)
        page = (reports / f"{case}.html").read_text()
        (reports / f"{case}.html").write_text(page.replace("cause found", "all is well"))
        told = await problems(runner, reports / f"{case}.html")
        assert told[1:] == ["delivered: “cause found”, in the file: “all is well”"]
        forged = text.replace("cause found", "all is well")
        (reports / f"{case}.pdf").write_bytes(as_pdf(as_html(case, forged)))
        told = await problems(runner, reports / f"{case}.pdf")
        assert "was altered" in told[0] and any("“all is well”" in one for one in told), told
        report = json.loads((kept / "report.json").read_text())
        report["hypotheses"][0]["confidence"], report["ledger"]["head"] = 0.99, "0" * 64
        (kept / "report.json").write_text(json.dumps(report))
        told = " ".join(await problems(runner, case))
        for words in ("report.json was altered", "service/thing (broken) 0.99", "the head at record"):
            assert words in told, told

        async with runner.gateway(case) as gateway:
            records = await case_records(case, gateway)
        sent = [record["body"] for record in records if record.get("step") == "delivery"]
        assert [(each["to"], each["status"]) for each in sent] == [
            ("tickets", "sent"), ("out", "sent"), ("nowhere", "failed"),
        ]  # fmt: skip
        with closing(sqlite3.connect(workspace.home / "ledger.db")) as db, db:
            altered = "UPDATE records SET record = replace(record, '\"ok\"', '\"no\"') WHERE kind = 'outcome'"
            db.execute(altered)
        assert any(one.startswith("ledger, record ") for one in await problems(runner, case))

    run(act)


def test_a_delivery_is_not_sent_twice_over_kill_9(workspace):
    with receiver() as there:
        there.answers.clear()
        desk = f'kind = "webhook"\nurl = "{there.url}"\nsecret = "${{file:secret}}"'
        table = f"[tool_servers.delivery.desk]\n{desk}\n"
        (workspace.folder / "secret").write_text("s" * 24)
        deliver_to(workspace, "desk", tables=table)
        killed = workspace.start("triage", "alert.json", "--config", "pointsman.toml")
        workspace.until(there.arrived.is_set)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        there.answers.set()
        case = workspace.case()
        workspace.until(lambda: not_running(workspace))
        done = workspace.run("cases", "resume", case, "--json", "--config", "pointsman.toml")
        assert done.returncode == 0, done.stderr
    assert [got.body["case"] for got in there.got] == [case]


def not_running(workspace):
    """Whether the gateway of the killed process has ended."""
    import os

    try:
        os.kill(json.loads((workspace.home / "gateway.json").read_text())["pid"], 0)
    except (FileNotFoundError, ProcessLookupError):
        return True
    return False
