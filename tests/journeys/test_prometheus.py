"""A real Prometheus and Alertmanager: from a metric to a closed ticket, and nobody touches anything."""

import json
import os
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager

import pytest

from coordinator.case_index import CaseIndex
from tests.fakes.exporter import service
from tests.journeys.conftest import POINTSMAN

PROMETHEUS = shutil.which("prometheus")
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
SECRET = "a secret between the two"
PATIENCE = 120.0

needs_both = pytest.mark.skipif(
    not (PROMETHEUS and ALERTMANAGER),
    reason="prometheus and prometheus-alertmanager are not installed: "
    "apt-get install prometheus prometheus-alertmanager",
)


def free_port():
    """A port nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def until(what, condition):
    """Wait for something that other processes do; what it comes to."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.1)
    return found


@contextmanager
def running(log, *command, **options):
    """A program that runs as long as the block, and writes into a log."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stderr=out, stdout=options.pop("stdout", out), **options)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


def answers(url):
    """Whether it is ready."""
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


def configure(folder, target, alertmanager, hook):
    """The two configurations, with intervals for a test; both take YAML, and so JSON."""
    rule = {
        "alert": "BasketFails",
        "expr": 'sum by (service) (rate(http_requests_total{code="500"}[3s])) '
        "/ sum by (service) (rate(http_requests_total[3s])) > 0.5",
        "for": "1s",
        "labels": {"severity": "critical"},
        "annotations": {"summary": "{{ $labels.service }} answers more than half with errors"},
    }
    files = {
        "rules.yml": {"groups": [{"name": "basket", "interval": "500ms", "rules": [rule]}]},
        "prometheus.yml": {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(folder / "rules.yml")],
            "scrape_configs": [{"job_name": "shop", "static_configs": [{"targets": [target]}]}],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        },
        "alertmanager.yml": {
            "route": {
                "receiver": "pointsman",
                "group_by": ["alertname"],
                "group_wait": "200ms",
                "group_interval": "1s",
                "repeat_interval": "1h",
            },
            "receivers": [
                {
                    "name": "pointsman",
                    "webhook_configs": [
                        {
                            "url": hook,
                            "send_resolved": True,
                            "http_config": {"authorization": {"credentials": SECRET}},
                        }
                    ],
                }
            ],
        },
    }
    for name, told in files.items():
        (folder / name).write_text(json.dumps(told))


def tickets(state):
    """The tickets as the tool server keeps them."""
    path = state / "tickets.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as db:
        try:
            return db.execute("SELECT number, status, body FROM ticket").fetchall()
        except sqlite3.OperationalError:  # being made
            return []


@needs_both
def test_a_metric_becomes_an_alert_a_case_a_ticket_and_is_closed_by_itself(person):
    folder, home = person.directory, person.directory.parent / "home"
    ports = {name: free_port() for name in ("prometheus", "alertmanager", "up")}
    prometheus, alertmanager = (f"127.0.0.1:{ports[name]}" for name in ("prometheus", "alertmanager"))
    hook = f"http://127.0.0.1:{ports['up']}/hooks/alertmanager"
    (folder / "pointsman.toml").write_text(
        f'[tool_servers]\nprometheus = "http://{prometheus}"\n'
        f'[coordinator]\nport = {ports["up"]}\ngather_seconds = 0.5\ndeliver_to = ["tickets"]\n'
        '[coordinator.hooks.alertmanager]\nsecret_env = "ALERTMANAGER_SECRET"\n'
    )
    environment = person.environment | {"ALERTMANAGER_SECRET": SECRET}
    with service() as shop:
        configure(folder, shop.url, alertmanager, hook)
        with (
            running(
                folder / "prometheus.log",
                *(PROMETHEUS, f"--config.file={folder / 'prometheus.yml'}"),
                *(f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address={prometheus}"),
            ),
            running(
                folder / "alertmanager.log",
                *(ALERTMANAGER, f"--config.file={folder / 'alertmanager.yml'}", "--cluster.listen-address="),
                *(f"--storage.path={folder / 'am'}", f"--web.listen-address={alertmanager}"),
            ),
            running(
                folder / "up.log",
                *(POINTSMAN, "up", "--json"),
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
            ) as up,
        ):
            ready, _, _ = select.select([up.stdout], [], [], PATIENCE)
            line = up.stdout.readline() if ready else b""
            assert line, (folder / "up.log").read_text()
            until("prometheus", lambda: answers(f"http://{prometheus}/-/ready"))
            until("alertmanager", lambda: answers(f"http://{alertmanager}/-/ready"))

            shop.failing = True
            index = CaseIndex(home)
            [case] = until("a case", index.list)
            until("a report", lambda: index.get(case.id).status == "delivered")
            [(number, status, body)] = until("a ticket", lambda: tickets(home / "tools"))
            assert status == "open" and "basket answers more than half with errors" in body

            shop.failing = False
            until("the case is closed", lambda: index.get(case.id).status == "closed")
            assert [status for _, status, _ in tickets(home / "tools")] == ["closed"]
            assert len(index.list()) == 1
    report = index.report(case.id)
    answered = {used.tool: used.answered for used in report.provenance.data}
    assert answered["metrics__query_range"] >= 1, report.work  # it looked at that Prometheus
    records = person.records(kind="intent", case=case.id)
    assert "tickets__create" in {record["tool"] for record in records}
    assert os.environ.get("ALERTMANAGER_SECRET") is None and number == 1
