"""What the governance commands do: through the running gateway, or on its store when none runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway import servers_file
from gateway.approvals import ALLOWED, Approvals, as_dict, is_redacted, requester
from gateway.catalogue import OPERATOR
from gateway.checkpoints import Checkpoints
from gateway.errors import ApprovalError, LedgerUnavailable, UsageError
from gateway.ledger import Ledger
from gateway.names import public_name
from gateway.pins import Pins
from gateway.policy import Policy, directory
from gateway.postgres import is_url
from gateway.redaction import Redactor
from gateway.refusals import why_not
from gateway.remote import call_admin
from gateway.server import make_tool
from gateway.settings import Settings, home, load
from gateway.store import Store
from gateway.tokens import Tokens
from gateway.types import Approval, Decision, Subject, Tool

ROLES = {"agent:coordinator": ("coordinator",), "user:operator": ("operator",)}
BY_KIND = {"agent": ("specialist",), "user": ("oncall",)}


def database(settings: Settings, home: Path) -> str | Path:
    """Where this gateway's records lie: the PostgreSQL URL that is set, or a file of the home."""
    if not settings.database:
        return home / "ledger.db"
    url = servers_file.References(home).resolve(settings.database)
    if not is_url(url):
        raise UsageError(
            "setting gateway.database is no PostgreSQL URL: write postgres://USER@HOST:PORT/NAME, "
            "or leave it empty for a file in POINTSMAN_HOME"
        )
    return url


def checkpoints(settings: Settings, home: Path) -> Checkpoints:
    """Where the heads of this gateway's ledger are noted, and what signs them."""
    pem = servers_file.References(home).resolve(settings.checkpoint_key)
    if pem and pem == settings.checkpoint_key:
        raise UsageError(
            "setting gateway.checkpoint_key holds a key: name where it is kept, ${file:PATH} or ${env:NAME}"
        )
    also = settings.checkpoints_also
    return Checkpoints.beside(database(settings, home), settings.checkpoints, pem, also)


@dataclass
class Records:
    """The parts of a gateway that are on disk."""

    store: Store
    ledger: Ledger
    approvals: Approvals
    tokens: Tokens
    pins: Pins


class Desk:
    """Where an operator works on the records of one gateway."""

    def __init__(self, config: str | None = None) -> None:
        self.settings: Settings = load(config)
        self.home: Path = home()
        self.database = database(self.settings, self.home)

    @property
    def begun(self) -> bool:
        """Whether there are records to look at."""
        return is_url(self.database) or Path(self.database).is_file()

    async def ask(self, tool: str, arguments: dict[str, Any], token: str = "") -> dict[str, Any] | None:
        """The answer of the running gateway's admin tool; None when no gateway runs."""
        given = {k: v for k, v in arguments.items() if v not in ("", None, [], ())}
        return await call_admin(self.home, tool, given, token)

    @asynccontextmanager
    async def records(self) -> AsyncIterator[Records]:
        """The store of this home, opened for this command."""
        async with Store(self.database, durability=self.settings.durability) as store:
            notes = checkpoints(self.settings.model_copy(update={"checkpoints_also": ""}), self.home)
            ledger = await Ledger(store, Redactor(), notes).prepare()
            approvals = Approvals(store, ledger, expiry_seconds=self.settings.approval_seconds)
            yield Records(
                store,
                ledger,
                await approvals.prepare(),
                await Tokens(store).prepare(),
                await Pins(store).prepare(),
            )

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[Ledger]:
        """The ledger of this home, for reading; it may be written at the same time."""
        if not self.begun:
            raise LedgerUnavailable(
                f"no ledger at {self.database}: set POINTSMAN_HOME to the home of the gateway you mean"
            )
        async with Store(self.database, readonly=True) as store:
            yield Ledger(store, Redactor(), checkpoints(self.settings, self.home))

    async def prune(self, seconds: float) -> dict[str, Any]:
        """Remove the bodies of what is older than this."""
        if (answer := await self.ask("prune_ledger", {"older_than_seconds": seconds})) is not None:
            return answer
        async with self.records() as records:
            return await records.ledger.prune(seconds, OPERATOR)

    # -- tokens ------------------------------------------------------------------------------------

    async def issue(self, subject: str, roles: list[str], expires: float | None) -> dict[str, Any]:
        """A new token, shown this once."""
        told = {"subject": subject, "roles": roles, "expires_seconds": expires}
        if (answer := await self.ask("issue_token", told)) is not None:
            return answer
        async with self.records() as records:
            token = await records.tokens.issue(subject, roles, expires, chain=[OPERATOR.id])
            facts = {"id": token["id"], "hash": token["hash"], "for": subject, "roles_given": roles}
            await records.ledger.append(
                "token", OPERATOR, status="issued", body={**facts, "expires": token["expires"]}
            )
        return token

    async def revoke(self, token: str) -> dict[str, Any]:
        """End a token at once."""
        if (answer := await self.ask("revoke_token", {"id": token})) is not None:
            return answer
        async with self.records() as records:
            gone = await records.tokens.revoke(token)
            body = {"id": token, "for": gone["subject"], "with": gone["with"]}
            await records.ledger.append("token", OPERATOR, status="revoked", body=body)
        return gone

    async def tokens(self) -> list[dict[str, Any]]:
        """The valid tokens, without the tokens."""
        if (answer := await self.ask("list_tokens", {})) is not None:
            return answer.get("tokens", [])
        async with self.records() as records:
            return await records.tokens.list()

    # -- approvals ---------------------------------------------------------------------------------

    async def approvals(self, status: str, case: str) -> list[dict[str, Any]]:
        """Approvals, newest first."""
        if (answer := await self.ask("list_approvals", {"status": status, "case": case})) is not None:
            return answer.get("approvals", [])
        async with self.records() as records:
            return [as_dict(approval) for approval in await records.approvals.list(status, case)]

    async def approval(self, approval: str) -> dict[str, Any]:
        """One approval, whole."""
        if (answer := await self.ask("show_approval", {"id": approval})) is not None:
            return answer
        async with self.records() as records:
            asked = await records.approvals.show(approval)
            return await shown(asked, (await self._tools(records)).get(asked.tool), records.ledger)

    async def settle(
        self, approval: str, verb: str, reason: str, edit: dict[str, Any] | None = None, token: str = ""
    ) -> dict[str, Any]:
        """Grant or deny an approval as the holder of a token, else as the operator of this machine."""
        told = {"id": approval, "reason": reason, **({"edit": edit} if edit else {})}
        if (answer := await self.ask(f"{verb}_approval", told, token)) is not None:
            return answer
        async with self.records() as records:
            by = records.tokens.verify(token) if token else OPERATOR
            if by is None:
                raise UsageError(
                    "POINTSMAN_TOKEN holds no token of this home, or an expired one: unset it to "
                    "decide as the operator, or take one of `pointsman tokens issue user:NAME`"
                )
            asked = await records.approvals.show(approval)
            tools = await self._tools(records)
            policy = Policy.load(directory(self.settings.policy), tools.values(), labels=self.labels())
            environment = self.settings.environment
            allowed = check_approver(policy, by, verb, asked, tools.get(asked.tool), environment)
            if verb == "deny":
                return as_dict(await records.approvals.deny(approval, by, reason, allowed))
            return as_dict(await records.approvals.grant(approval, by, reason, edit, allowed))

    # -- policy ------------------------------------------------------------------------------------

    async def tools(self) -> dict[str, Tool]:
        """Every approved tool of this home, and the gateway's own."""
        if not self.begun:
            return _builtin()
        async with self.records() as records:
            return await self._tools(records)

    def labels(self) -> set[str]:
        """Every label of the servers file."""
        return {label for entry in self._entries().values() for label in entry.all_labels()}

    def _entries(self) -> dict[str, servers_file.ServerEntry]:
        return servers_file.load(servers_file.locate(self.settings.servers, self.home)).servers

    async def _tools(self, records: Records) -> dict[str, Tool]:
        entries = self._entries()
        tools = _builtin()
        for pin in await records.pins.all():
            if entry := entries.get(pin.server):
                public = public_name(pin.server, pin.tool)
                tools[public] = make_tool(entry, pin.tool, public, pin.definition, pin.digest)
        return tools

    async def explain(
        self, tool: str, subject: str, roles: list[str], arguments: dict[str, Any], context: dict[str, Any]
    ) -> dict[str, Any]:
        """What policy says about a call, why, and which rules would let somebody make it."""
        if not context.get("labels"):
            told = {"tool": tool, "subject": subject, "roles": roles, "arguments": arguments}
            if (answer := await self.ask("explain_policy", told)) is not None:
                return {"roles": roles, **answer}
        who = Subject(
            subject, tuple(roles) or ROLES.get(subject) or BY_KIND.get(subject.partition(":")[0], ())
        )
        tools = await self.tools()
        if tool not in tools:
            near = ", ".join(name for name in tools if not name.startswith("gateway__")) or "none yet"
            raise UsageError(f"no approved tool {tool!r}: approved are {near}")
        policy = Policy.load(directory(self.settings.policy), tools.values(), labels=self.labels())
        context = {"environment": self.settings.environment, **context}
        return {
            "subject": who.id,
            "roles": list(who.roles),
            "tool": tool,
            **explained(policy, who, tools[tool], arguments, context),
        }

    async def simulate(self, new: str, after: int) -> dict[str, Any]:
        """What a new policy would have said to the recorded calls."""
        from gateway.simulation import simulate

        policy = Policy.load(new, (await self.tools()).values(), "any")
        async with self.ledger() as ledger:
            return (await simulate(ledger, policy, self.settings.environment, after)).as_dict()


def explained(
    policy: Policy, subject: Subject, tool: Tool, arguments: dict[str, Any], context: dict[str, Any]
) -> dict[str, Any]:
    """The decision with its rules, what it needs, and the rules that permit the tool to others."""
    decision = policy.decide(subject, "call", tool, arguments, context)
    rules = [_rule(rule) for rule in decision.rules]
    would = [] if decision.verdict == "call" else [_rule(rule) for rule in policy.permits(tool)]
    return {
        "verdict": decision.verdict,
        "rules": rules,
        "errors": list(decision.errors),
        "needs": list(_needs(policy, decision, tool)),
        "would_permit": would,
    }


def _needs(policy: Policy, decision: Decision, tool: Tool) -> Iterator[str]:
    """What would have to be otherwise for the call to go, in words."""
    if decision.verdict == "call":
        return
    if decision.verdict == "request":
        yield (
            f"the approval of {decision.approvals} different persons"
            if decision.approvals > 1
            else ("the approval of another person")
        )
    if decision.errors:
        yield "arguments and context that the policy can be evaluated with"
    for rule in policy.forbidding(decision):
        words = rule.advice or rule.description
        yield f"that forbid {rule.id} ({rule.where}) does not apply" + (f": {words}" if words else "")
    if decision.verdict == "deny":
        permits = policy.permits(tool)
        names = ", ".join(f"{rule.id} ({rule.where})" for rule in permits)
        yield (
            f"that one of these applies: {names}"
            if names
            else (f"a rule: no rule permits {tool.public} to anybody")
        )
    if decision.retry_after is not None:
        yield f"another hour: in {decision.retry_after:.0f} s the clock alone makes it another decision"


def check_approver(
    policy: Policy, by: Subject, verb: str, asked: Approval, tool: Tool | None, environment: str
) -> Decision:
    """By which rules somebody may grant or deny a call; ApprovalError for whoever policy does not name."""
    if tool is None:
        if verb == "deny":
            return ALLOWED
        raise ApprovalError(
            f"{asked.tool} is no approved tool any more: approval {asked.id} can only be denied"
        )
    if verb == "grant" and is_redacted(asked) and policy.reads_arguments(by, "approve", tool):
        raise ApprovalError(
            f"approval {asked.id} can only be denied: the rules on who may approve {tool.public} look at its "
            "arguments, and a secret was taken out of them; have the call made without the secret"
        )
    waited = datetime.now(UTC) - datetime.fromisoformat(asked.requested)
    context = {"environment": environment, "waited": int(waited.total_seconds())}
    decision = policy.may_approve(by, tool, asked.arguments, requester(asked), context)
    if decision.verdict != "call":
        raise ApprovalError(f"{by.id} may not approve {tool.public}: {why_not(decision)}")
    return decision


async def shown(asked: Approval, tool: Tool | None, ledger: Ledger) -> dict[str, Any]:
    """The approval as an approver sees it: with what the tool does, what undoes it, and what was claimed.

    Of each claimed piece of evidence it says whether its words stand in what the call it names released.
    """
    told = as_dict(asked)
    if tool is not None:
        told["risk"] = "reads" if tool.read_only else "destructive" if tool.destructive else "writes"
        told["undo"] = tool.undo
    if evidence := told["claim"].get("evidence"):
        for piece in evidence:
            piece["stands"] = await _stands(piece["call"], piece["quote"], asked, ledger)
    return told


async def _stands(call: str, quote: str, asked: Approval, ledger: Ledger) -> bool:
    found = await ledger.show(call)
    return found is not None and found["records"][0].get("case", "") == asked.case and quote in found["text"]


def _rule(rule: Any) -> dict[str, str]:
    return {"id": rule.id, "description": rule.description, "advice": rule.advice, "where": rule.where}


def _builtin() -> dict[str, Tool]:
    from gateway.admin import builtin_tools

    return {tool.public: tool for tool in builtin_tools()}
