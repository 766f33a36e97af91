"""`pointsman up`: alerts arrive over HTTP, cases run by themselves, survive kill -9 and wait for people."""

import json
import select
import signal
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection

import httpx2
import pytest

from coordinator.case_index import CaseIndex
from coordinator.hooks.sources import sign
from coordinator.settings import Hook
from specialists.errors import SettingsError
from tests.coordinator.conftest import Workspace

SECRET = "a secret of the tests only"


@dataclass
class Up:
    """A running `pointsman up`."""

    workspace: Workspace
    url: str
    process: object

    def post(self, hook: str, body: dict | bytes, **headers: str) -> httpx2.Response:
        """Deliver a body, signed with the right secret unless headers say otherwise."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        signed = headers or sign(hook, raw, SECRET)
        told = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in signed.items()}}
        return httpx2.post(f"{self.url}/hooks/{hook}", content=raw, headers=told, timeout=30, trust_env=False)

    def opened(self, hook: str, body: dict) -> list[str]:
        """The cases of a delivery that is taken."""
        answer = self.post(hook, body)
        assert answer.status_code == 202, answer.text
        return [one["case"] for one in answer.json()["cases"]]

    def flood(self, hook: str, bodies: list[bytes]) -> list[str]:
        """The case of each of many deliveries, sent over four connections at once."""
        with ThreadPoolExecutor(4) as senders:
            parts = list(senders.map(lambda n: self._send(hook, bodies[n::4]), range(4)))
        return [parts[n % 4][n // 4] for n in range(len(bodies))]

    def _send(self, hook: str, bodies: list[bytes]) -> list[str]:
        cases = []
        with closing(HTTPConnection(self.url.removeprefix("http://"), timeout=30)) as door:
            for raw in bodies:
                door.request("POST", f"/hooks/{hook}", raw, sign(hook, raw, SECRET))
                answer = door.getresponse()
                told = answer.read()
                assert answer.status == 202, told
                cases += [one["case"] for one in json.loads(told)["cases"]]
        return cases

    def status(self, case: str) -> str:
        """Where a case stands, as this home keeps it."""
        return CaseIndex(self.workspace.home).get(case).status

    def cases(self) -> list[str]:
        """Every case of this home."""
        return [row.id for row in CaseIndex(self.workspace.home).list()]

    def told(self) -> int:
        """How many alerts stand in the ledger as they are."""
        with closing(sqlite3.connect(self.workspace.home / "inbox.db")) as db:
            [(told, untold)] = db.execute("SELECT SUM(told), SUM(NOT told) FROM alerts").fetchall()
        return 0 if untold else told or 0

    def deliveries(self) -> tuple[int, int]:
        """How many deliveries are kept, and how often they came."""
        with closing(sqlite3.connect(self.workspace.home / "inbox.db")) as db:
            [row] = db.execute("SELECT COUNT(*), SUM(times) FROM deliveries").fetchall()
        return row

    def records(self, kind: str) -> list[dict]:
        """The steps of a kind in the ledger."""
        with closing(sqlite3.connect(self.workspace.home / "ledger.db")) as db:
            rows = db.execute("SELECT record FROM records WHERE kind = 'step' ORDER BY seq").fetchall()
        return [step for step in (json.loads(record) for (record,) in rows) if step.get("step") == kind]


@pytest.fixture
def hooked(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with hooks of two kinds."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    settings = workspace.folder / "pointsman.toml"
    hooks = "".join(
        f'[coordinator.hooks.{name}]\nsecret_env = "HOOK_SECRET"\n' for name in ("alertmanager", "pagerduty")
    )
    settings.write_text(f"[coordinator]\nport = 0\ngather_seconds = 0.2\n{hooks}\n{settings.read_text()}")
    return workspace


def start(workspace: Workspace) -> Up:
    """Start `pointsman up` and wait until it says where it listens."""
    process = workspace.start("up", "--json")
    ready, _, _ = select.select([process.stdout], [], [], 60)
    line = process.stdout.readline() if ready else ""
    assert line, process.communicate(timeout=10)[1] if process.poll() is not None else "no line within 60 s"
    return Up(workspace, json.loads(line)["url"], process)


def stop(up: Up) -> None:
    """End it as a service manager does."""
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(30) == 0, up.process.stderr.read()


def notification(*services: str, status: str = "firing", name: str = "ErrorsHigh") -> dict:
    """What Alertmanager sends about these services."""
    alerts = [
        {
            "status": status,
            "labels": {"alertname": name, "service": service, "severity": "critical"},
            "annotations": {"summary": f"{service} answers with errors"},
            "startsAt": "2026-01-31T09:12:00Z",
            "fingerprint": f"{name}-{service}",
        }
        for service in services
    ]
    return {"version": "4", "status": status, "groupKey": f"{name}:{services}", "alerts": alerts}


def test_an_alert_opens_a_case_that_runs_by_itself_and_closes_when_the_alert_is_resolved(hooked):
    up = start(hooked)
    [case] = up.opened("alertmanager", notification("thing"))
    assert up.opened("alertmanager", notification("thing")) == [case]  # sent again: the same case
    hooked.until(lambda: up.status(case) == "delivered")
    report = json.loads(hooked.run("cases", "report", case, "--json").stdout)
    assert report["hypotheses"][0]["object"] == "service/thing"
    assert hooked.looks() == [1, 2, 3, 4]
    hooked.until(lambda: up.told() == 1)
    look_at_the_page(up, case)

    assert up.opened("alertmanager", notification("thing", status="resolved")) == [case]
    hooked.until(lambda: up.status(case) == "closed")
    hooked.until(lambda: up.told() == 1)
    stop(up)
    told = [alert["status"] for r in up.records("alert") for alert in r["body"]["alerts"]]
    assert told[0] == "firing" and told[-1] == "resolved"
    [again] = up.records("hook")
    assert (again["case"], again["body"]["source"], again["body"]["repeated"]) == (case, "alertmanager", 1)
    assert len(up.cases()) == 1
    assert hooked.run("audit", "verify").returncode == 0


def look_at_the_page(up: Up, case: str) -> None:
    """The page of a case shows itself to holders of a token of the gateway only."""
    page = f"{up.url}/cases/{case}"
    assert httpx2.get(page, trust_env=False).status_code == 401
    assert httpx2.get(page, headers={"Authorization": "Bearer pm_wrong"}, trust_env=False).status_code == 401
    issued = up.workspace.run("tokens", "issue", "user:ana", "--role", "oncall", "--json")
    token = json.loads(issued.stdout)["token"]
    told = httpx2.get(page, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False).json()
    assert (told["status"], told["report"]["case"], len(told["alerts"])) == ("delivered", case, 1)


def test_what_is_not_proven_not_readable_or_too_large_is_refused_and_recorded(hooked):
    up = start(hooked)
    body = notification("thing")
    raw = json.dumps(body).encode()
    told = [
        up.post("alertmanager", body, Authorization="Bearer wrong").status_code,
        up.post("alertmanager", body, X_Nothing="1").status_code,
        up.post("pagerduty", raw, X_PagerDuty_Signature="v1=" + "0" * 64).status_code,
        up.post("pagerduty", raw + b" ", **sign("pagerduty", raw, SECRET)).status_code,
        up.post("nobody", body).status_code,
        up.post("alertmanager", b"{").status_code,
        up.post("alertmanager", {"alerts": "none"}).status_code,
        up.post("alertmanager", b"[" + b"1," * 600_000 + b"1]").status_code,
        up.post("alertmanager", body, Authorization=f"Bearer {SECRET}", Origin="http://evil").status_code,
    ]
    assert told == [401, 401, 401, 401, 404, 400, 400, 413, 403]
    assert up.cases() == []
    hooked.until(lambda: sum(r["body"]["times"] for r in up.records("hook")) >= 8)
    refused = [(r["body"]["source"], r["body"]["times"]) for r in up.records("hook")]
    assert {source for source, _ in refused} == {"alertmanager", "pagerduty", "nobody"}
    assert sum(times for _, times in refused) == 8  # a page in a browser is sent away before that
    assert SECRET not in "".join(p.read_text("latin-1") for p in hooked.home.rglob("*") if p.is_file())


def test_a_storm_of_1000_alerts_becomes_few_cases_and_1000_times_the_same_becomes_one(hooked):
    up = start(hooked)
    hooked.close_door("1")  # no case ends meanwhile
    services = [f"service-{n}" for n in range(50)]
    storm = [json.dumps(notification(services[n % 50], name=f"Rule{n // 50}")).encode() for n in range(1000)]
    began = time.monotonic()
    cases = up.flood("alertmanager", storm)
    assert time.monotonic() - began < 30
    assert set(up.flood("alertmanager", storm[-1:] * 1000)) == {cases[-1]}
    assert set(up.cases()) == set(cases) and len(set(cases)) <= 3
    hooked.until(lambda: up.told() == 1000)
    why = Counter(a["joined"] for r in up.records("alert") for a in r["body"]["alerts"])
    assert sum(why.values()) == 1000 and any("services fired within" in words for words in why)
    hooked.until(lambda: up.deliveries() == (1000, 2000))


def test_cases_go_on_after_kill_9_and_repeat_no_finished_call(hooked):
    hooked.close_door("3")
    up = start(hooked)
    [case] = up.opened("alertmanager", notification("thing"))
    hooked.until(lambda: 3 in hooked.looks())
    up.process.send_signal(signal.SIGKILL)
    up.process.wait()
    hooked.open_door("3")
    again = start(hooked)
    hooked.until(lambda: again.status(case) == "delivered")
    assert again.opened("alertmanager", notification("thing")) == [case]
    stop(again)
    made = Counter(hooked.looks())
    assert (made[1], made[2], made[4]) == (1, 1, 1)


def test_a_case_that_waits_goes_on_by_itself_once_a_person_agrees(hooked):
    hooked.serve("things", "actions")
    settings = hooked.folder / "pointsman.toml"
    settings.write_text(settings.read_text() + '\n[specialists.remediation]\nclass = "probe:Mender"\n')
    up = start(hooked)
    [case] = up.opened("alertmanager", notification("thing"))
    hooked.until(lambda: up.status(case) == "waiting")
    [asked] = json.loads(hooked.run("approvals", "list", "--json").stdout)["approvals"]
    granted = hooked.run("approvals", "grant", asked["id"], "--reason", "mend it")
    assert granted.returncode == 0, granted.stderr
    hooked.until(lambda: up.status(case) == "delivered")
    stop(up)
    assert hooked.mends() == [1]


def test_a_hook_without_a_secret_or_with_a_short_one_stops_the_start(hooked, monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", "short")
    done = hooked.run("up")
    assert done.returncode == 2 and "fewer than 16" in done.stderr and "HOOK_SECRET" in done.stderr
    monkeypatch.delenv("HOOK_SECRET")
    with pytest.raises(SettingsError, match="HOOK_SECRET, the secret of a hook, is not set"):
        Hook(secret_env="HOOK_SECRET").secret()


def test_a_case_is_cancelled_while_it_runs_and_tried_again_from_a_step_with_its_calls_made_anew(hooked):
    hooked.close_door("2")
    up = start(hooked)
    [case] = up.opened("alertmanager", notification("thing"))
    hooked.until(lambda: 2 in hooked.looks())
    done = hooked.run("cases", "cancel", case, "--reason", "known", "--json")
    assert json.loads(done.stdout) == {"case": case, "status": "cancelled", "engine": True}, done.stderr
    assert hooked.run("cases", "cancel", case).returncode == 2
    hooked.open_door("2")
    assert hooked.run("cases", "pause", case).returncode == 2
    assert hooked.run("cases", "retry", case, "--from", "others").returncode == 0
    watched = hooked.run("cases", "watch", case)
    assert watched.returncode == 0 and "delivered" in watched.stdout, watched.stdout
    assert Counter(hooked.looks())[1] == 2
    stop(up)
    assert [(r["body"]["wish"], r["body"]["reason"]) for r in up.records("wish")] == [
        ("cancel", "known"),
        ("retry", ""),
    ]
    wrong = hooked.run("cases", "retry", case, "--from", "nowhere", "--json")
    assert wrong.returncode == 2 and "it has " in wrong.stdout, wrong
    queued = hooked.run("cases", "retry", case, "--from", "others", "--json")
    assert queued.returncode == 5 and "no_worker" in queued.stdout
