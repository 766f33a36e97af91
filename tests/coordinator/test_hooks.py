"""What sources send is read as alerts, and alerts are put together by what connects them."""

import asyncio
import json
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from coordinator.case_index import CaseIndex
from coordinator.errors import GatewayRefused, TriggerUnreadable
from coordinator.hooks import reception, sources
from coordinator.hooks.commands import EXAMPLES, example
from coordinator.hooks.correlation import Correlator, neighbours_of
from coordinator.hooks.inbox import Inbox
from coordinator.hooks.reception import HookRefused, Reception, trigger_of
from coordinator.hooks.types import Alert, Delivery

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def read(kind: str, body: dict, mapping: dict | None = None, **headers: str):
    raw = json.dumps(body).encode()
    return sources.read(kind, kind, {k.replace("_", "-"): v for k, v in headers.items()}, raw, mapping or {})


def alert(service: str, name: str = "rule", status: str = "firing") -> Alert:
    return Alert(fingerprint=f"{name}/{service}", status=status, title=name, service=service, body={})


@pytest.mark.parametrize("kind", sorted(sources.READERS))
def test_the_example_of_every_kind_is_an_alert_about_checkout_that_opens_a_case(kind):
    headers = {"x_github_event": "deployment_status"} if kind == "github" else {}
    [found] = read(kind, json.loads(example(kind)), **headers).alerts
    assert (found.service, found.status) == ("checkout", "firing")
    opened = trigger_of([found])
    assert opened.scope.services == ("checkout",)
    assert opened.scope.onset == datetime(2026, 1, 31, 9, 12, tzinfo=UTC)
    assert found.title in opened.question


def test_there_is_an_example_of_every_kind_and_no_other():
    assert {path.stem for path in EXAMPLES.glob("*.json")} == set(sources.READERS) == set(sources.PROOFS)


@pytest.mark.parametrize("kind", sorted(sources.READERS))
def test_a_signature_holds_for_its_body_and_secret_only(kind):
    proof, body = sources.PROOFS[kind], b'{"a":1}'
    headers = {k.lower(): v for k, v in sources.sign(kind, body, "right secret").items()}
    assert proof(headers, body, "right secret")
    assert not proof(headers, body, "other secret") and not proof({}, body, "right secret")
    if kind in ("pagerduty", "github"):
        assert not proof(headers, body + b" ", "right secret")


def test_pagerduty_accepts_either_signature_while_a_secret_is_changed():
    body = b"{}"
    new = sources.sign("pagerduty", body, "new secret")["X-PagerDuty-Signature"]
    assert sources.pagerduty_signature({"x-pagerduty-signature": f"v1={'0' * 64}, {new}"}, body, "new secret")


def test_a_resolved_incident_has_the_name_of_the_one_that_fired():
    body = json.loads(example("pagerduty"))
    [fired] = read("pagerduty", body).alerts
    body["event"] |= {"event_type": "incident.resolved", "id": "another"}
    [resolved] = read("pagerduty", body).alerts
    assert (resolved.status, resolved.fingerprint) == ("resolved", fired.fingerprint)
    body["event"]["event_type"] = "incident.acknowledged"
    assert read("pagerduty", body).alerts == ()


def test_github_tells_failed_and_mended_runs_of_one_workflow_as_one_alert():
    run = {"workflow_id": 7, "head_branch": "main", "name": "deploy", "conclusion": "failure"}
    body = {"action": "completed", "repository": {"full_name": "a/shop"}, "workflow_run": run}
    [failed] = read("github", body, x_github_event="workflow_run").alerts
    run["conclusion"] = "success"
    [mended] = read("github", body, x_github_event="workflow_run").alerts
    assert (failed.status, mended.status) == ("firing", "resolved")
    assert failed.fingerprint == mended.fingerprint
    assert read("github", {"zen": "x"}, x_github_event="ping").alerts == ()


def test_a_cloudevent_reads_the_same_in_binary_and_structured_form():
    whole = json.loads(example("cloudevents"))
    about = {f"ce_{k}": v for k, v in whole.items() if k not in ("data", "datacontenttype")}
    structured, binary = read("cloudevents", whole), read("cloudevents", whole["data"], **about)
    assert structured.key == binary.key
    assert structured.alerts[0].fingerprint == binary.alerts[0].fingerprint
    over = read("cloudevents", whole | {"id": "b", "type": "com.example.alert.resolved"})
    assert over.alerts[0].status == "resolved"
    assert over.alerts[0].fingerprint == structured.alerts[0].fingerprint


def test_a_mapping_says_where_the_fields_of_any_body_are():
    body = {"event": {"what": "disk full", "on": [{"svc": "db"}]}, "state": "OK"}
    mapping = {"title": "event.what", "service": "event.on.0.svc", "status": "state"}
    [found] = read("generic", body, mapping).alerts
    assert (found.title, found.service, found.status) == ("disk full", "db", "resolved")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("alertmanager", {}),
        ("alertmanager", {"alerts": ["x"]}),
        ("alertmanager", {"alerts": [{"startsAt": "yesterday"}]}),
        ("pagerduty", {"event": 3}),
        ("pagerduty", {"event": {"data": None}}),
        ("cloudevents", {"specversion": "0.3", "id": "1", "source": "s", "type": "t"}),
        ("cloudevents", {"specversion": "1.0", "id": "1"}),
        ("generic", {"labels": {}}),
        ("generic", {"title": "half a \ud83d"}),
    ],
)
def test_a_body_of_another_shape_is_refused_with_words(kind, body):
    with pytest.raises(TriggerUnreadable, match=r"."):
        read(kind, body)


def test_alerts_are_put_together_by_name_by_service_and_by_who_calls_whom():
    sorting = Correlator()
    sorting.neighbours = neighbours_of([{"caller": "shop", "callee": "cart"}])
    sorting.join("A", alert("cart"), NOON)
    assert sorting.place(alert("cart"), NOON) == ("A", "the same alert")
    assert sorting.place(alert("cart", "other"), NOON)[0] == "A"
    assert sorting.place(alert("shop"), NOON) == ("A", "shop and cart call each other")
    assert sorting.place(alert("mail"), NOON)[0] == ""


def test_what_comes_late_is_another_case_and_a_neighbour_sooner():
    sorting = Correlator()
    sorting.neighbours = neighbours_of([{"caller": "shop", "callee": "cart"}])
    sorting.join("A", alert("cart"), NOON)
    assert sorting.place(alert("shop"), NOON + timedelta(minutes=11))[0] == ""
    assert sorting.place(alert("cart", "other"), NOON + timedelta(minutes=29))[0] == "A"
    assert sorting.place(alert("cart", "other"), NOON + timedelta(minutes=31))[0] == ""


def test_many_services_in_a_short_time_are_one_storm_and_few_are_not():
    sorting = Correlator()
    for n, case in enumerate("ABC"):
        assert sorting.place(alert(f"s{n}"), NOON)[0] == ""
        sorting.join(case, alert(f"s{n}"), NOON)
    assert sorting.place(alert("s3"), NOON + timedelta(minutes=2))[0] == ""
    case, why = sorting.place(alert("s3"), NOON + timedelta(seconds=30))
    assert case == "A" and why == "4 services fired within 60 s"


def test_an_alert_that_always_fires_joins_nothing_by_mere_coincidence():
    sorting = Correlator(lambda fingerprint: 9 if fingerprint.startswith("noise") else 0)
    sorting.neighbours = neighbours_of([{"caller": "shop", "callee": "cart"}])
    sorting.join("A", alert("cart"), NOON)
    assert sorting.place(alert("shop", "noise"), NOON)[0] == ""
    assert sorting.place(alert("cart", "noise"), NOON)[0] == "A"


def test_deliveries_that_come_together_are_kept_whole_and_one_that_cannot_be_kept_harms_no_other(tmp_path):
    async def scene() -> None:
        inbox = Inbox(tmp_path)
        first, second = Delivery(source="a", key="1"), Delivery(source="a", key="2")
        taken = asyncio.create_task(inbox.take(first, b"{}", [("A", alert("cart"), "the first")]))
        await asyncio.sleep(0)
        assert await inbox.again(first) == ["A"]  # while it is still being written
        assert await taken == ["A"] and await inbox.again(second) is None
        wrong = inbox.take(first, b"{}", [("B", alert("mail"), "")])
        right = inbox.take(second, b"{}", [("B", alert("shop"), "")])
        told = await asyncio.gather(wrong, right, return_exceptions=True)
        assert isinstance(told[0], sqlite3.IntegrityError) and told[1] == ["B"]
        await inbox.aclose()
        after = Inbox(tmp_path)
        assert await after.again(first) == ["A"] and len(after.untold(10)) == 2
        await after.aclose()

    asyncio.run(scene())
    with sqlite3.connect(tmp_path / "inbox.db") as db:
        assert db.execute("SELECT key, times FROM deliveries").fetchall() == [("1", 3), ("2", 1)]
    db.close()


def test_no_refused_delivery_is_forgotten_when_the_ledger_is_away(tmp_path, monkeypatch):
    monkeypatch.setattr(reception, "TELL_SECONDS", 0)
    told, three = [], asyncio.Event()

    async def record(case, kind, body):
        told.append(body["source"])
        if body["source"] == "three":
            three.set()
        if len(told) == 2:  # the ledger is away once, after it was told of the first
            raise GatewayRefused("the ledger cannot be written")

    async def play():
        inbox = Inbox(tmp_path)
        hooks = Reception({}, inbox, CaseIndex(tmp_path), lambda _: None)
        for source in ("one", "two", "three"):
            hooks.refused(source, HookRefused("no hook of that name", 404))
        telling = asyncio.create_task(hooks.tell(record))
        await asyncio.wait_for(three.wait(), 30)
        telling.cancel()
        await asyncio.wait({telling})
        await inbox.aclose()

    asyncio.run(play())
    assert told == ["one", "two", "two", "three"]
