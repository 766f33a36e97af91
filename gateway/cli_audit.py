"""The commands for the ledger: read, search, replay, verify, export, prune."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import typer

from gateway.cli_governance import AsJson, Command, Config, _app, _desk, _print, seconds

audit_app = _app("Read, verify and export the ledger.")


@audit_app.command("tail")
def tail(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=1000)] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as records come")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Print the latest records."""
    asyncio.run(_tail(_desk(config), lines, follow, as_json))


async def _tail(desk: Any, lines: int, follow: bool, as_json: bool) -> None:
    from gateway import printing

    show = printing.as_line if as_json else _record
    async with desk.ledger() as ledger:
        found = (await ledger.search(newest=True, limit=lines))["records"]
        while True:
            for record in found:
                typer.echo(show(record))
            if not follow:
                return
            after = found[-1]["seq"] if found else 0
            found = await _newer(ledger, after)


async def _newer(ledger: Any, after: int) -> list[dict[str, Any]]:
    while True:
        found = (await ledger.search(after=after))["records"]
        if found:
            return found
        await asyncio.sleep(0.5)  # another process writes them; there is nothing to wait on but time


@audit_app.command("search")
def search(
    case: str = "",
    subject: str = "",
    tool: str = "",
    kind: Annotated[str, typer.Option(help="intent, outcome, refusal, approval, grant, step, token …")] = "",
    verdict: Annotated[str, typer.Option(help="the decision: call, request or deny")] = "",
    code: Annotated[str, typer.Option(help="a refusal's code, such as denied")] = "",
    status: Annotated[str, typer.Option(help="how a call ended: ok, error, unknown, cancelled")] = "",
    control: Annotated[str, typer.Option(help="enforced, delegated, observed or refused")] = "",
    since: Annotated[str, typer.Option(help="a time (2026-11-26T15:00) or how long ago (2h)")] = "",
    until: Annotated[str, typer.Option(help="likewise; what is later is left out")] = "",
    after: Annotated[int, typer.Option(help="records after this number")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Find records by what they are about, who did it, how it was decided, and when."""
    wanted = {"case": case, "subject": subject, "tool": tool, "kind": kind, "verdict": verdict}
    wanted |= {"code": code, "status": status, "control": control}
    wanted |= {"since": moment(since, "--since"), "until": moment(until, "--until")}
    answer = asyncio.run(_search(_desk(config), {**wanted, "after": after, "limit": limit}))
    more = [f"more: --after {answer['next']}"] if answer["next"] else []
    _print(answer, as_json, lambda: "\n".join([*map(_record, answer["records"]), *more]) or "no such record")


def moment(text: str, option: str) -> str:
    """A time as the ledger writes it, from a date, a time or how long ago it was; empty for empty."""
    from datetime import UTC, datetime, timedelta

    from gateway.errors import UsageError

    if not text:
        return ""
    try:
        if text[-1] in "smhdw":
            told = datetime.now(UTC) - timedelta(seconds=seconds(text) or 0)
        else:
            told = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (ValueError, UsageError):
        raise UsageError(
            f"{option} {text!r} is no time: write for example 2026-11-26T15:00 (UTC), or 2h for two hours ago"
        ) from None
    told = told if told.tzinfo else told.replace(tzinfo=UTC)
    return told.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


async def _search(desk: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    async with desk.ledger() as ledger:
        return await ledger.search(**wanted)


@audit_app.command("show")
def show_call(
    call: Annotated[str, typer.Argument(help="the call's id")], as_json: AsJson = False, config: Config = None
) -> None:
    """Show one call: its records, its arguments, and the result that was released."""
    found = asyncio.run(_show(_desk(config), call))
    _print(found, as_json, lambda: _shown(found))


async def _show(desk: Any, call: str) -> dict[str, Any]:
    from gateway.errors import UsageError

    async with desk.ledger() as ledger:
        found = await ledger.show(call)
    if found is None:
        raise UsageError(f"no call {call!r} in this ledger: see `pointsman audit search` for the ids")
    return found


def _shown(found: dict[str, Any]) -> str:
    from gateway import printing

    lines = [_record(record) for record in found["records"]]
    lines.append(f"arguments: {printing.as_line(found['arguments'])}")
    text = found["text"] or (
        printing.as_json(found["result"]) if found["result"] is not None else "no result"
    )
    return "\n".join([*lines, "result:", printing.safe(text, lines=True)])


@audit_app.command("verify")
def verify(as_json: AsJson = False, config: Config = None) -> None:
    """Check every record against the chain and the signed checkpoints; exit 1 if one was changed."""
    started = time.monotonic()
    answer = asyncio.run(_verify(_desk(config)))
    answer["seconds"] = round(time.monotonic() - started, 3)
    _print(answer, as_json, lambda: _verified(answer))
    raise typer.Exit(0 if answer["ok"] else 1)


async def _verify(desk: Any) -> dict[str, Any]:
    async with desk.ledger() as ledger:
        return await ledger.verify()


def _verified(answer: dict[str, Any]) -> str:
    from gateway.printing import safe

    if answer["ok"]:
        lines = [f"{answer['records']} records are as they were written; head {answer['head'] or 'none'}"]
    else:
        count = len(answer["problems"]) + answer["more_problems"]
        lines = [f"{count} problem{'s' if count != 1 else ''} in {answer['records']} records:"]
        lines += [f"  {problem['kind']}: {problem['message']}" for problem in answer["problems"]]
    return "\n".join(safe(line) for line in [*lines, *(f"note: {note}" for note in answer["notes"])])


@audit_app.command("export")
def export(
    jsonl: Annotated[bool, typer.Option("--jsonl", help="one JSON record a line (the default)")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="comma-separated values with a head line")] = False,
    otlp: Annotated[bool, typer.Option("--otlp", help="OTLP logs as JSON, one request a line")] = False,
    bodies: Annotated[bool, typer.Option("--bodies", help="with arguments and results (JSONL)")] = False,
    case: Annotated[str, typer.Option(help="of this case only")] = "",
    after: Annotated[int, typer.Option(help="records after this number")] = 0,
    config: Config = None,
) -> None:
    """Write every record to standard output."""
    from gateway.errors import UsageError

    if jsonl + csv + otlp > 1:
        raise UsageError("choose one of --jsonl, --csv and --otlp")
    if bodies and (csv or otlp):
        raise UsageError("--bodies goes with --jsonl only: the other forms have no place for them")
    form = "csv" if csv else "otlp" if otlp else "jsonl"
    asyncio.run(_export(_desk(config), form, {"after": after, "case": case}, bodies))


async def _export(desk: Any, form: str, wanted: dict[str, Any], bodies: bool) -> None:
    from gateway.exporting import lines

    async with desk.ledger() as ledger:
        records = ledger.export(**wanted, bodies=("arguments", "result") if bodies else ())
        async for line in lines(records, form):
            typer.echo(line)


@audit_app.command("replay")
def replay(
    case: Annotated[str, typer.Argument(help="the case's id")], as_json: AsJson = False, config: Config = None
) -> None:
    """Show a case as it happened: every step, call, decision, consent and result, in order."""
    found = asyncio.run(_replay(_desk(config), case))
    _print({"case": case, "records": found}, as_json, lambda: _replayed(found))


async def _replay(desk: Any, case: str) -> list[dict[str, Any]]:
    from gateway.errors import UsageError

    async with desk.ledger() as ledger:
        found = [record async for record in ledger.export(case=case, bodies=("arguments", "result"))]
    if not found:
        raise UsageError(f"no case {case!r} in this ledger: see `pointsman audit search --kind step`")
    return found


def _replayed(found: list[dict[str, Any]]) -> str:
    from gateway.exporting import story

    return story(found)


@audit_app.command("prune")
def prune(
    older_than: Annotated[str, typer.Option("--older-than", help="how old, such as 90d")],
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Remove arguments and results of old calls; the records, their hashes and the proof stay."""
    from gateway.errors import UsageError

    age = seconds(older_than)
    if age is None:
        raise UsageError("--older-than never removes nothing: write for example 90d")
    told = asyncio.run(_desk(config).prune(age))
    _print(told, as_json, lambda: f"bodies up to record {told['through']} are gone; the chain stays whole")


def _record(record: dict[str, Any]) -> str:
    from gateway.printing import safe

    what = record.get("tool") or record.get("step") or record.get("server") or record.get("approval") or ""
    said = record.get("code") or record.get("status") or record.get("verdict") or ""
    parts = [
        f"{record['seq']:>6}",
        record["time"][:23] + "Z",
        f"{record['kind']:<12}",
        record.get("subject", "-"),
        what,
        said,
    ]
    parts += [f"[{', '.join(record['rules'])}]"] if record.get("rules") else []
    parts += [f"{record['ms']:g} ms"] if record.get("ms") else []
    parts += [record["call"]] if record.get("call") else []
    return safe(" ".join(part for part in parts if part))


commands: list[Command] = [Command("audit", audit_app)]
