"""What can send alerts: how each source proves who it is, and how its body reads.

Shapes: Alertmanager webhook v4 (Grafana sends a superset), PagerDuty webhooks v3, GitHub webhooks,
CloudEvents 1.0 over HTTP (binary and structured), and any JSON object with a mapping.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from coordinator.errors import TriggerUnreadable
from coordinator.hooks.types import Alert, Delivery, fingerprint_of
from coordinator.trigger import SERVICE_LABELS, when

Headers = Mapping[str, str]  # by lower-case name
Body = dict[str, Any]


def bearer(headers: Headers, body: bytes, secret: str) -> bool:
    """`Authorization: Bearer SECRET`."""
    scheme, _, told = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and _same(told, secret)


def pagerduty_signature(headers: Headers, body: bytes, secret: str) -> bool:
    """`X-PagerDuty-Signature`: `v1=` and the HMAC-SHA256 of the body; several while a secret is changed."""
    wanted = f"v1={_hmac(secret, body)}"
    return any(_same(each.strip(), wanted) for each in headers.get("x-pagerduty-signature", "").split(","))


def github_signature(headers: Headers, body: bytes, secret: str) -> bool:
    """`X-Hub-Signature-256`: `sha256=` and the HMAC-SHA256 of the body."""
    return _same(headers.get("x-hub-signature-256", ""), f"sha256={_hmac(secret, body)}")


def sign(kind: str, body: bytes, secret: str) -> dict[str, str]:
    """The headers that prove a body of this kind, as the source itself would send them."""
    if kind == "pagerduty":
        return {"X-PagerDuty-Signature": f"v1={_hmac(secret, body)}"}
    if kind == "github":
        return {"X-Hub-Signature-256": f"sha256={_hmac(secret, body)}"}
    return {"Authorization": f"Bearer {secret}"}


def _hmac(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _same(told: str, wanted: str) -> bool:
    return hmac.compare_digest(told.encode(), wanted.encode())


# -- reading ---------------------------------------------------------------------------------------


def read(kind: str, source: str, headers: Headers, raw: bytes, mapping: Mapping[str, str]) -> Delivery:
    """A delivery of this kind; TriggerUnreadable says what is wrong with it."""
    key, alerts, note = READERS[kind](headers, _object(raw), raw, mapping)
    return Delivery(source=source, key=key, alerts=alerts, note=note)


Read = tuple[str, tuple[Alert, ...], str]


def _alertmanager(headers: Headers, body: Body, raw: bytes, mapping: Mapping[str, str]) -> Read:
    told = body.get("alerts")
    if not isinstance(told, list) or not all(isinstance(each, dict) for each in told):
        raise TriggerUnreadable('the body has no list "alerts": it is no Alertmanager v4 notification')
    common = _texts(body.get("commonLabels"))
    notes = _texts(body.get("commonAnnotations"))
    alerts = tuple(_alert(each, common, notes, str(body.get("title", ""))) for each in told)
    return hashlib.sha256(raw).hexdigest(), alerts, "" if alerts else "no alert in it"


def _alert(one: Body, common: dict[str, str], notes: dict[str, str], title: str) -> Alert:
    labels = {**common, **_texts(one.get("labels"))}
    notes = {**notes, **_texts(one.get("annotations"))}
    return Alert(
        fingerprint=str(one.get("fingerprint") or fingerprint_of(sorted(labels.items()))),
        status="resolved" if one.get("status") == "resolved" else "firing",
        title=notes.get("summary") or title or labels.get("alertname") or "Alert",
        service=next((labels[name] for name in SERVICE_LABELS if labels.get(name)), ""),
        severity=labels.get("severity", ""),
        at=when(one.get("startsAt")),
        body={**one, "labels": labels, "annotations": notes},
    )


def _pagerduty(headers: Headers, body: Body, raw: bytes, mapping: Mapping[str, str]) -> Read:
    event = _inner(body, "event", "a PagerDuty v3 webhook")
    data = _inner(event, "data", "a PagerDuty v3 webhook")
    key = str(event.get("id") or hashlib.sha256(raw).hexdigest())
    kind = str(event.get("event_type", ""))
    if data.get("type") != "incident" or kind not in PAGERDUTY:
        return key, (), f"event {kind or 'without a type'} opens no case"
    service = _inner(data, "service", "an incident").get("summary", "") if data.get("service") else ""
    alert = _made(
        status=PAGERDUTY[kind],
        title=str(data.get("title") or "PagerDuty incident"),
        fingerprint=fingerprint_of("pagerduty", data.get("id")),
        service=str(service),
        severity=str(data.get("urgency") or ""),
        began=data.get("created_at") or event.get("occurred_at"),
        url=str(data.get("html_url") or ""),
    )
    return key, (alert,), ""


PAGERDUTY = {
    "incident.triggered": "firing",
    "incident.reopened": "firing",
    "incident.resolved": "resolved",
}


def _github(headers: Headers, body: Body, raw: bytes, mapping: Mapping[str, str]) -> Read:
    key = headers.get("x-github-delivery") or hashlib.sha256(raw).hexdigest()
    event = headers.get("x-github-event", "")
    repository = str((body.get("repository") or {}).get("full_name", "a repository"))
    service = repository.rpartition("/")[2]
    made = None
    if event == "deployment_status":
        made = _deployment(body, repository, service)
    elif event == "workflow_run" and body.get("action") == "completed":
        run = _inner(body, "workflow_run", "a workflow_run event")
        ended = {"failure": "firing", "timed_out": "firing", "success": "resolved"}.get(
            str(run.get("conclusion"))
        )
        made = ended and _made(
            status=ended,
            title=f"Workflow {run.get('name')} of {repository} failed on {run.get('head_branch')}",
            fingerprint=fingerprint_of("github", repository, run.get("workflow_id"), run.get("head_branch")),
            service=service,
            began=run.get("run_started_at") or run.get("created_at"),
            url=str(run.get("html_url") or ""),
        )
    elif event == "issues" and body.get("action") in ("opened", "closed"):
        issue = _inner(body, "issue", "an issues event")
        made = _made(
            status="firing" if body["action"] == "opened" else "resolved",
            title=str(issue.get("title") or "Issue"),
            fingerprint=fingerprint_of("github", repository, "issue", issue.get("number")),
            service=service,
            began=issue.get("created_at"),
            url=str(issue.get("html_url") or ""),
        )
    return key, (made,) if made else (), "" if made else f"event {event or 'without a name'} opens no case"


def _deployment(body: Body, repository: str, service: str) -> Alert | None:
    status = _inner(body, "deployment_status", "a deployment_status event")
    state = str(status.get("state"))
    if state not in ("failure", "error", "success"):
        return None
    place = status.get("environment") or (body.get("deployment") or {}).get("environment") or "somewhere"
    return _made(
        status="resolved" if state == "success" else "firing",
        title=f"Deployment of {repository} to {place} failed",
        fingerprint=fingerprint_of("github", repository, "deployment", place),
        service=service,
        began=status.get("created_at"),
        url=str(status.get("log_url") or status.get("target_url") or ""),
    )


def _cloudevents(headers: Headers, body: Body, raw: bytes, mapping: Mapping[str, str]) -> Read:
    binary = "ce-specversion" in headers
    about = {name[3:]: text for name, text in headers.items() if name.startswith("ce-")} if binary else body
    if str(about.get("specversion")) != "1.0":
        raise TriggerUnreadable("it is no CloudEvent of version 1.0: send ce-specversion or specversion 1.0")
    if not (about.get("id") and about.get("source") and about.get("type")):
        raise TriggerUnreadable("a CloudEvent needs id, source and type")
    data = body if binary else about.get("data")
    key = fingerprint_of(about["source"], about["id"])
    kind = str(about["type"])
    fields: Body = {"title": f"{kind} from {about['source']}", "started": about.get("time")}
    fields |= {"dedup_key": fingerprint_of(about["source"], kind.rpartition(".")[0], about.get("subject"))}
    if kind.rpartition(".")[2] in ("resolved", "closed", "recovered"):
        fields["status"] = "resolved"
    fields |= data if isinstance(data, dict) else {}
    if isinstance(fields.get("alerts"), list):
        return key, _alertmanager(headers, fields, raw, mapping)[1], ""
    return key, (_generic_alert(fields, mapping),), ""


def _generic(headers: Headers, body: Body, raw: bytes, mapping: Mapping[str, str]) -> Read:
    return hashlib.sha256(raw).hexdigest(), (_generic_alert(body, mapping),), ""


def _generic_alert(body: Body, mapping: Mapping[str, str]) -> Alert:
    """An alert out of any object: fields by their usual names, or where the mapping says they are."""

    def field(*names: str) -> str:
        places = [mapping[names[0]]] if names[0] in mapping else list(names)
        found = (_at(body, place) for place in places)
        return next((str(value) for value in found if value not in (None, "", [], {})), "")

    title = field("title", "summary", "name") or field("description", "message")
    if not title:
        raise TriggerUnreadable(
            "the body has neither title nor description: add one, or say where it is in the hook's mapping"
        )
    labels = _texts(body.get("labels"))
    service = field("service") or next((labels[n] for n in SERVICE_LABELS if labels.get(n)), "")
    return _made(
        status="resolved" if field("status").lower() in RESOLVED else "firing",
        title=title,
        fingerprint=fingerprint_of("generic", field("dedup_key", "fingerprint") or (title, service)),
        service=service,
        severity=field("severity") or labels.get("severity", ""),
        began=field("started", "startsAt", "fired_at", "time") or None,
        description=field("description", "message"),
        url=field("url"),
        labels=labels,
    )


RESOLVED = ("resolved", "ok", "closed", "recovered")


def _made(
    *,
    status: Any,
    title: str,
    fingerprint: str,
    service: str = "",
    severity: str = "",
    began: Any = None,
    description: str = "",
    url: str = "",
    labels: dict[str, str] | None = None,
) -> Alert:
    told = {**(labels or {}), "service": service, "severity": severity}
    notes = {"summary": title, "description": description}
    at = when(began)
    body = {
        "status": status,
        "labels": {name: text for name, text in told.items() if text},
        "annotations": {name: text for name, text in notes.items() if text},
        "startsAt": at.isoformat() if at else "",
        "generatorURL": url,
        "fingerprint": fingerprint,
    }
    return Alert(
        fingerprint=fingerprint,
        status=status,
        title=title,
        service=service,
        severity=severity,
        at=at,
        body=body,
    )


READERS: dict[str, Callable[[Headers, Body, bytes, Mapping[str, str]], Read]] = {
    "alertmanager": _alertmanager,
    "grafana": _alertmanager,
    "pagerduty": _pagerduty,
    "github": _github,
    "cloudevents": _cloudevents,
    "generic": _generic,
}
PROOFS: dict[str, Callable[[Headers, bytes, str], bool]] = {
    **dict.fromkeys(READERS, bearer),
    "pagerduty": pagerduty_signature,
    "github": github_signature,
}


def _object(raw: bytes) -> Body:
    try:
        value = json.loads(raw)
        if b"\\ud" in raw or b"\\uD" in raw:  # half a character that no text can hold
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise TriggerUnreadable(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise TriggerUnreadable(f"the body is a JSON {type(value).__name__}, not an object")
    return value


def _inner(body: Body, name: str, what: str) -> Body:
    inner = body.get(name)
    if not isinstance(inner, dict):
        raise TriggerUnreadable(f'the body has no object "{name}": it is not {what}')
    return inner


def _at(body: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(body, list) and part.isdecimal() and int(part) < len(body):
            body = body[int(part)]
        else:
            body = body.get(part) if isinstance(body, dict) else None
    return body


def _texts(value: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}
