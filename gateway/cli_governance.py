"""The commands for tokens, policy, approvals and the ledger."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import typer

Config = Annotated[str | None, typer.Option("--config", help="settings file (default: ./pointsman.toml)")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Reason = Annotated[str, typer.Option("--reason", help="why; it is kept in the ledger, and has to be given")]


class Command(NamedTuple):
    """One entry of a package's `commands`: its name, and a typer app or a function."""

    name: str
    app: typer.Typer | Callable[..., Any]


def _app(text: str) -> typer.Typer:
    return typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False, help=text)


tokens_app = _app("Issue, list and revoke bearer tokens.")
policy_app = _app("Check, test and explain the policy.")
approvals_app = _app("Show what waits for a person, and decide it.")
audit_app = _app("Read, verify and export the ledger.")


def _print(value: Any, as_json: bool, text: Callable[[], str]) -> None:
    from gateway import printing

    typer.echo(printing.as_json(value) if as_json else text())


def _desk(config: str | None) -> Any:
    from gateway.governance import Desk

    return Desk(config)


# -- tokens ------------------------------------------------------------------------------------------


@tokens_app.command("issue")
def issue_token(
    subject: Annotated[str, typer.Argument(help="agent:NAME or user:NAME")],
    role: Annotated[list[str] | None, typer.Option("--role", help="a role; may be given again")] = None,
    expires: Annotated[str, typer.Option(help="how long it is valid: 30m, 8h, 90d, never")] = "90d",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Issue a token; it is printed once and kept nowhere."""
    token = asyncio.run(_desk(config).issue(subject, role or [], seconds(expires)))
    token.pop("hash", None)
    _print(token, as_json, lambda: token["token"])


@tokens_app.command("list")
def list_tokens(as_json: AsJson = False, config: Config = None) -> None:
    """List the tokens that are valid, without the tokens."""
    from gateway.printing import table

    found = asyncio.run(_desk(config).tokens())
    rows = [
        (t["id"], t["subject"], ", ".join(t.get("roles", ())), t.get("case"), t["expires"] or "never")
        for t in found
    ]
    _print({"tokens": found}, as_json, lambda: table(("id", "subject", "roles", "case", "expires"), rows))


@tokens_app.command("revoke")
def revoke_token(
    token: Annotated[str, typer.Argument(help="the token's id")],
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Revoke a token at once."""
    gone = asyncio.run(_desk(config).revoke(token))
    _print(gone, as_json, lambda: f"revoked {gone['id']}")


def seconds(text: str) -> float | None:
    """A duration like 30m, 8h or 90d in seconds; None for never."""
    if text == "never":
        return None
    match = re.fullmatch(r"(\d{1,6})([smhdw]?)", text)
    if match is None or not int(match[1]):
        from gateway.errors import UsageError

        raise UsageError(f"{text!r} is not a duration: write for example 30m, 8h, 90d or never")
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}[match[2]]


# -- policy ------------------------------------------------------------------------------------------


@policy_app.command("check")
def check_policy(
    directory: Annotated[
        str, typer.Argument(help="directory of *.cedar files; default: the one in force")
    ] = "",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Check the policies against the approved tools; every error names file, line and column."""
    from gateway.policy import Policy
    from gateway.policy import directory as in_force

    desk = _desk(config)
    tools = asyncio.run(desk.tools())
    place = in_force(directory or desk.settings.policy)
    policy = Policy.load(place, tools.values(), "none")
    rules = [
        {"id": s.rule.id, "where": s.rule.where, "description": s.rule.description} for s in policy.statements
    ]
    answer = {
        "ok": True,
        "directory": str(place),
        "digest": policy.digest,
        "tools": len(tools),
        "rules": rules,
    }
    _print(answer, as_json, lambda: f"{place}: {len(rules)} policies fit {len(tools)} tools")


@policy_app.command("test")
def test_policy(
    directory: Annotated[
        str, typer.Argument(help="directory with tests/*.yaml; default: the one in force")
    ] = "",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Run the cases in the policy's tests/*.yaml."""
    from gateway.policy import directory as in_force
    from gateway.policy_cases import run_cases
    from gateway.printing import safe

    desk = _desk(config)
    tools = asyncio.run(desk.tools())
    found = run_cases(in_force(directory or desk.settings.policy), tools.values())
    failed = [case for case in found if not case.passed]
    lines = [f"{len(found) - len(failed)} of {len(found)} cases pass"]
    for case in failed:
        rules = ", ".join(rule.id for rule in case.got.rules) or "; ".join(case.got.errors) or "no rule"
        got = f"expected {case.expected}, got {case.got.verdict} ({rules})"
        lines.append(safe(f"{case.where}: {case.name}: {got}"))
    _print({"ok": not failed, "cases": [case.as_dict() for case in found]}, as_json, lambda: "\n".join(lines))
    raise typer.Exit(1 if failed else 0)


@policy_app.command("explain")
def explain_policy(
    tool: Annotated[str, typer.Argument(help="public name, SERVER__TOOL")],
    subject: Annotated[str, typer.Option("--as", help="agent:NAME or user:NAME")],
    role: Annotated[list[str] | None, typer.Option("--role", help="a role; default: the usual one")] = None,
    args: Annotated[str, typer.Option("--args", help="the arguments, as JSON")] = "{}",
    label: Annotated[list[str] | None, typer.Option("--label", help="a label the run has gathered")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Say what policy decides about a call, by which rules, and what would permit it."""
    arguments = _object(args, "--args")
    work = _desk(config).explain(tool, subject, role or [], arguments, {"labels": label or []})
    answer = asyncio.run(work)
    _print(answer, as_json, lambda: _explanation(answer))


@policy_app.command("simulate")
def simulate_policy(
    new: Annotated[str, typer.Argument(help="a *.cedar file, or a directory of them")],
    after: Annotated[int, typer.Option(help="calls after this record")] = 0,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Replay the ledger against a new policy: which past calls would be decided differently."""
    from gateway.printing import table

    answer = asyncio.run(_desk(config).simulate(new, after))
    changed, unclear = answer["changed"], answer["indeterminate"]
    rows = [
        (c["seq"], c["subject"], c["tool"], c["before"], c["after"], ", ".join(c["rules"])) for c in changed
    ]
    head = ("seq", "subject", "tool", "was", "would be", "by rule")
    summary = f"{answer['calls']} calls: {len(changed)} would change, {len(unclear)} cannot be told"
    _print(answer, as_json, lambda: "\n".join([*([table(head, rows)] if rows else []), summary]))


def _explanation(answer: dict[str, Any]) -> str:
    from gateway.printing import safe

    meaning = {"call": "may call", "request": "may call, once a person agrees,", "deny": "may not call"}
    who = answer["subject"] + (f" ({', '.join(answer['roles'])})" if answer["roles"] else "")
    lines = [f"{who} {meaning[answer['verdict']]} {answer['tool']}"]
    lines += [f"  rule {r['id']} ({r['where']}): {r['description']}" for r in answer["rules"]]
    lines += [f"  error: {error}" for error in answer["errors"]]
    if not answer["rules"] and not answer["errors"]:
        lines.append("  no rule permits it")
    if answer["would_permit"]:
        lines.append("what permits this tool to others, or under other circumstances:")
        lines += [f"  rule {r['id']} ({r['where']}): {r['description']}" for r in answer["would_permit"]]
    return "\n".join(safe(line) for line in lines)


def _object(text: str, option: str) -> dict[str, Any]:
    import json

    from gateway.errors import UsageError

    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(
            f'{option} is not JSON: {error}; write for example \'{{"service": "orders"}}\''
        ) from None
    if not isinstance(value, dict):
        raise UsageError(f'{option} is no JSON object: write for example \'{{"service": "orders"}}\'')
    return value


# -- approvals ---------------------------------------------------------------------------------------


@approvals_app.command("list")
def list_approvals(
    status: Annotated[
        str, typer.Option(help="pending, granted, denied, used, expired, withdrawn or all")
    ] = "pending",
    case: Annotated[str, typer.Option(help="of this case only")] = "",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """List what waits for a person."""
    from gateway.errors import UsageError
    from gateway.printing import table

    if status not in ("pending", "granted", "denied", "used", "expired", "withdrawn", "all"):
        raise UsageError(
            f"no status {status!r}: choose pending, granted, denied, used, expired, withdrawn or all"
        )
    found = asyncio.run(_desk(config).approvals("" if status == "all" else status, case))
    rows = [
        (a["id"], a["status"], a["subject"], a["tool"], a["case"], a["expires"][:19] + "Z") for a in found
    ]
    head = ("id", "status", "subject", "tool", "case", "expires")
    _print({"approvals": found}, as_json, lambda: table(head, rows, none="nothing waits"))


@approvals_app.command("show")
def show_approval(
    approval: Annotated[str, typer.Argument(help="the approval's id")],
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Show one approval whole: who asks, for exactly what, by which rule."""
    found = asyncio.run(_desk(config).approval(approval))
    _print(found, as_json, lambda: _approval(found))


@approvals_app.command("grant")
def grant_approval(
    approval: Annotated[str, typer.Argument(help="the approval's id")],
    reason: Reason,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Agree to exactly one call; whoever asked makes it again.

    Example: pointsman approvals grant a_ae8fb8194fef --reason "the deploy is the cause"
    """
    found = asyncio.run(_desk(config).settle(approval, "grant", reason))
    _print(found, as_json, lambda: _approval(found))


@approvals_app.command("deny")
def deny_approval(
    approval: Annotated[str, typer.Argument(help="the approval's id")],
    reason: Reason,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Refuse; the same call stays refused until the denial expires.

    Example: pointsman approvals deny a_ae8fb8194fef --reason "not during the sale"
    """
    found = asyncio.run(_desk(config).settle(approval, "deny", reason))
    _print(found, as_json, lambda: _approval(found))


def _approval(found: dict[str, Any]) -> str:
    from gateway import printing

    lines = [f"{found['id']} {found['status']}"]
    lines += [f"{name + ':':<11}{value}" for name, value in _approval_lines(found)]
    return "\n".join(printing.safe(line) for line in lines)


def _approval_lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from gateway import printing

    yield "asks", " → ".join([*found.get("chain", ()), found["subject"]])
    yield "tool", found["tool"] + (f", which {RISKS[found['risk']]}" if found.get("risk") else "")
    if found.get("case"):
        yield "case", found["case"]
    yield "arguments", printing.as_line(found["arguments"])
    if found.get("redacted"):
        yield "", "a secret was taken out of these; the call is bound to the real ones"
    yield "digest", found["digest"]
    if found.get("undo"):
        yield "undo", found["undo"]
    for rule in found.get("rules", ()):
        yield "rule", f"{rule['id']} ({rule['where']}): {rule['description']}"
    for name, value in _claim_lines(found.get("claim") or {}):
        yield "claim", f"(by the requester, unchecked) {name}: {value}"
    yield "requested", found["requested"]
    yield "expires", found["expires"]
    if found.get("needed", 1) > 1:
        yield "needs", f"{found['needed']} persons, {len(found['grants'])} agreed"
    for grant in found.get("grants", ()):
        yield "granted", f"by {grant['by']} at {grant['time']}: {grant['reason']}"
    if found["status"] == "denied":
        yield "denied", f"by {found['decided_by']}: {found['reason']}"
    if found.get("call"):
        yield "used", f"by call {found['call']}"


RISKS = {"reads": "only reads", "writes": "changes something", "destructive": "may destroy something"}


def _claim_lines(claim: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("reason", "risk", "undo"):
        if claim.get(name):
            yield name, claim[name]
    for piece in claim.get("evidence", ()):
        found = {True: "stands there", False: "is NOT what that call released"}.get(piece.get("stands"), "")
        yield "evidence", f"{piece['quote']!r} in call {piece['call']}" + (f", and {found}" if found else "")


# -- the ledger --------------------------------------------------------------------------------------


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
    verdict: Annotated[str, typer.Option(help="call, request or deny")] = "",
    after: Annotated[int, typer.Option(help="records after this number")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Find records."""
    wanted = {"case": case, "subject": subject, "tool": tool, "kind": kind, "verdict": verdict}
    answer = asyncio.run(_search(_desk(config), {**wanted, "after": after, "limit": limit}))
    more = [f"more: --after {answer['next']}"] if answer["next"] else []
    _print(answer, as_json, lambda: "\n".join([*map(_record, answer["records"]), *more]) or "no such record")


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
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="one JSON record a line (the only form so far)")
    ] = True,
    bodies: Annotated[bool, typer.Option("--bodies", help="with arguments and results")] = False,
    after: Annotated[int, typer.Option(help="records after this number")] = 0,
    config: Config = None,
) -> None:
    """Write every record to standard output, one JSON object a line."""
    asyncio.run(_export(_desk(config), after, bodies))


async def _export(desk: Any, after: int, bodies: bool) -> None:
    from gateway.printing import as_line

    async with desk.ledger() as ledger:
        async for record in ledger.export(after=after, bodies=("arguments", "result") if bodies else ()):
            typer.echo(as_line(record))


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


commands: list[Command] = [
    Command("tokens", tokens_app),
    Command("policy", policy_app),
    Command("approvals", approvals_app),
    Command("audit", audit_app),
]
