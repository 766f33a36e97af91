"""The commands for tokens, policy, approvals and the ledger."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import typer

from gateway.errors import UsageError

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
    under = f" and {len(gone['with'])} issued under it" if gone.get("with") else ""
    _print(gone, as_json, lambda: f"revoked {gone['id']}{under}")


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
    policy = Policy.load(place, tools.values(), "none", desk.labels())
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
    lines += [f"  needs {need}" for need in answer.get("needs", ())]
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


def _token() -> str:
    """Whose word it is, where it is not the operator's."""
    return os.environ.get("POINTSMAN_TOKEN", "")


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
        (a["id"], a["status"], a["subject"], _asked(a), a["case"], a["expires"][:19] + "Z") for a in found
    ]
    head = ("id", "status", "subject", "what", "case", "expires")
    _print({"approvals": found}, as_json, lambda: table(head, rows, none="nothing waits"))


def _asked(approval: dict[str, Any]) -> str:
    """The question of a checkpoint; else the tool that would be called."""
    from gateway.approvals import CHECKPOINT

    if approval["tool"] == CHECKPOINT:
        return str(approval["arguments"].get("question") or "")[:80]
    return approval["tool"]


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
    edit: Annotated[
        list[str] | None,
        typer.Option(
            help="at a checkpoint: a field and its new value, such as amount=4100.50; may be repeated"
        ),
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Agree to exactly one call; whoever asked makes it again.

    Example: pointsman approvals grant a_ae8fb8194fef --reason "the deploy is the cause"
    """
    found = asyncio.run(_desk(config).settle(approval, "grant", reason, _edits(edit or []), _token()))
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
    found = asyncio.run(_desk(config).settle(approval, "deny", reason, token=_token()))
    _print(found, as_json, lambda: _approval(found))


def _edits(told: list[str]) -> dict[str, Any]:
    """Fields and values: a value that is JSON is that, anything else is text."""
    edits: dict[str, Any] = {}
    for each in told:
        name, sign, value = each.partition("=")
        if not sign or not name:
            raise UsageError(f"--edit {each!r}: write FIELD=VALUE, such as amount=4100.50")
        try:
            edits[name] = json.loads(value)
        except ValueError:
            edits[name] = value
    return edits


def _approval(found: dict[str, Any]) -> str:
    from gateway import printing

    lines = [f"{found['id']} {found['status']}"]
    lines += [f"{name + ':':<11}{value}" for name, value in _approval_lines(found)]
    return "\n".join(printing.safe(line) for line in lines)


def _approval_lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from gateway import printing
    from gateway.approvals import CHECKPOINT

    yield "asks", " → ".join([*found.get("chain", ()), found["subject"]])
    yield "tool", found["tool"] + (f", which {RISKS[found['risk']]}" if found.get("risk") else "")
    if found.get("case"):
        yield "case", found["case"]
    yield from (
        _checkpoint_lines(found["arguments"])
        if found["tool"] == CHECKPOINT
        else [("arguments", printing.as_line(found["arguments"]))]
    )
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
        may = f", who may by {', '.join(grant['rules'])}" if grant.get("rules") else ""
        yield "granted", f"by {grant['by']}{may}, at {grant['time']}: {grant['reason']}"
    if found["status"] == "denied":
        yield "denied", f"by {found['decided_by']}: {found['reason']}"
    if found.get("call"):
        yield "used", f"by call {found['call']}"


def _checkpoint_lines(asked: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is at stake at a checkpoint, and who decides."""
    from gateway import printing

    yield "asked", str(asked.get("question"))
    for name, value in (asked.get("shows") or {}).items():
        changes = f" (--edit {name}=VALUE changes it)" if name in asked.get("edit", {}) else ""
        yield "shows", f"{name}: {printing.as_line(value)}{changes}"
    by, further = asked.get("by"), asked.get("escalate")
    later = f"; after {asked['escalate_seconds'] / 3600:g} h {further} too" if further else ""
    yield "decides", (f"somebody with the role {by}" if by else "whoever may approve") + later


RISKS = {"reads": "only reads", "writes": "changes something", "destructive": "may destroy something"}


def _claim_lines(claim: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("reason", "risk", "undo"):
        if claim.get(name):
            yield name, claim[name]
    for piece in claim.get("evidence", ()):
        found = {True: "stands there", False: "is NOT what that call released"}.get(piece.get("stands"), "")
        yield "evidence", f"{piece['quote']!r} in call {piece['call']}" + (f", and {found}" if found else "")


commands: list[Command] = [
    Command("tokens", tokens_app),
    Command("policy", policy_app),
    Command("approvals", approvals_app),
]
