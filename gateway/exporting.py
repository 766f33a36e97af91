"""The ledger in other forms: JSONL, CSV and OTLP for programs, a story for people."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from gateway.printing import as_line, safe

COLUMNS = (
    *("seq", "time", "kind", "call", "subject", "chain", "roles", "case", "run", "task", "verb", "tool"),
    *("server", "verdict", "rules", "policy", "code", "status", "control", "ms", "approval", "key"),
    *("arguments_digest", "result_digest", "prev", "hash"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run
TOGETHER = 100  # records of one OTLP request
SHOWN = 400  # characters of a result in a story


async def lines(records: AsyncIterator[dict[str, Any]], form: str) -> AsyncIterator[str]:
    """The records as lines of text: `jsonl`, `csv`, or `otlp` (JSON encoding, a request a line)."""
    if form == "csv":
        yield _csv(COLUMNS)
    held: list[dict[str, Any]] = []
    async for record in records:
        if form == "jsonl":
            yield as_line(record)
        elif form == "csv":
            yield _csv([_cell(record.get(name, "")) for name in COLUMNS])
        else:
            held.append(_log(record))
            if len(held) == TOGETHER:
                yield as_line(_request(held))
                held = []
    if held:
        yield as_line(_request(held))


def _csv(cells: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()


def _cell(value: Any) -> str:
    text = safe("; ".join(map(str, value)) if isinstance(value, list) else value)
    return f"'{text}" if text.startswith(FORMULA) else text


# -- OTLP ----------------------------------------------------------------------------------------------


def _request(logs: list[dict[str, Any]]) -> dict[str, Any]:
    resource = {"attributes": [_attribute("service.name", "pointsman-gateway")]}
    scope = {"scope": {"name": "pointsman.ledger"}, "logRecords": logs}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [scope]}]}


def _log(record: dict[str, Any]) -> dict[str, Any]:
    moment = datetime.fromisoformat(record["time"].replace("Z", "+00:00"))
    nanoseconds = int(moment.timestamp()) * 10**9 + moment.microsecond * 1000
    warns = record["kind"] == "refusal" or record.get("status") in ("error", "unknown")
    told = {name: record[name] for name in record if name not in ("time", "kind", "body")}
    return {
        "timeUnixNano": str(nanoseconds),
        "severityNumber": 13 if warns else 9,
        "severityText": "WARN" if warns else "INFO",
        "eventName": f"pointsman.{record['kind']}",
        "body": {"stringValue": as_line(record["body"]) if "body" in record else record["kind"]},
        "attributes": [_attribute(f"pointsman.{name}", value) for name, value in told.items()],
    }


def _attribute(name: str, value: Any) -> dict[str, Any]:
    return {"key": name, "value": _value(value)}


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": value if isinstance(value, str) else as_line(value)}


# -- a story -------------------------------------------------------------------------------------------


def story(records: list[dict[str, Any]]) -> str:
    """A case as it happened, a paragraph a record, with times since its beginning."""
    begun = datetime.fromisoformat(records[0]["time"].replace("Z", "+00:00"))
    first, last = records[0]["seq"], records[-1]["seq"]
    told = [f"case {records[0].get('case', '')}, begun {records[0]['time']}, records {first} to {last}"]
    for record in records:
        after = (datetime.fromisoformat(record["time"].replace("Z", "+00:00")) - begun).total_seconds()
        head = f"{after:9.3f} s  {record['seq']:>6}  {_who(record)}"
        told += [f"{head} {_what(record)}", *(f"{'':22}{line}" for line in _more(record))]
    return "\n".join(safe(line) for line in told)


def _who(record: dict[str, Any]) -> str:
    return " → ".join([*record.get("chain", ()), record.get("subject", "the gateway")])


def _what(record: dict[str, Any]) -> str:
    tool, rules = record.get("tool", ""), ", ".join(record.get("rules", ()))
    by = f" by {rules}" if rules else ""
    match record["kind"]:
        case "intent":
            with_consent = f", with approval {record['approval']}" if record.get("approval") else ""
            return f"calls {tool}: let go{by}{with_consent}"
        case "outcome":
            return f"got from {tool}: {record.get('status', '')} after {record.get('ms', 0):g} ms"
        case "refusal":
            return f"was refused {tool}: {record.get('code', '')}{by}"
        case "approval" | "grant":
            return f"{record.get('status', '')} approval {record.get('approval', '')} for {tool}"
        case "step":
            return f"{record.get('step', '')}"
        case other:
            return f"{other} {record.get('status', '')} {record.get('server', '')}".strip()


def _more(record: dict[str, Any]) -> list[str]:
    if record["kind"] == "outcome":
        return _short(record.get("result"), gone=bool(record.get("result_digest")))
    if record.get("arguments_blob"):
        return _short(record.get("arguments"), gone=True)
    return [as_line(record["body"])[:SHOWN]] if record.get("body") else []


def _short(value: Any, *, gone: bool) -> list[str]:
    if value is None:
        return ["(no longer kept)"] if gone else []
    content = value.get("content") if isinstance(value, dict) else None
    parts = content if isinstance(content, list) else []
    text: str = "\n".join(p["text"] for p in parts if isinstance(p, dict) and isinstance(p.get("text"), str))
    text = text or as_line(value)
    cut: str = text if len(text) <= SHOWN else f"{text[:SHOWN]} … ({len(text):,} characters)"
    return [str(line) for line in cut.splitlines()]
