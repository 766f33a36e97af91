"""Policy: Cedar decides every call; silence is a denial, a forbid wins, and an error refuses."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import cedarpy

from gateway.canonical import canonical
from gateway.cedar_schema import OTHER, Schemas
from gateway.cedar_text import Statement, locate, read_files, read_text
from gateway.cedar_values import UNTYPED, Unreadable, decimal, encode
from gateway.errors import PolicyError
from gateway.scopes import (
    Scopes,
    Selection,
    about_tools,
    concerns,
    labels_named,
    looks_at_arguments,
    mentions,
    named_tools,
    spoken_of,
    without_tools,
)
from gateway.types import Decision, Rule, Subject, Tool, Verb

CACHED = 4_096
LABELS = frozenset(
    ("private", "untrusted", "outward", "prod", "restricted")
)  # known although nothing may carry them
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
HOUR = timedelta(hours=1)
_PLACE = re.compile(r" (?:in context for|on entity type) \S+")
SHIPPED = Path(__file__).parent / "defaults" / "policy"


def directory(configured: str = "") -> Path:
    """The directory of policies in force: the configured one, ./policy, or the shipped one."""
    if configured and not Path(configured).is_dir():
        raise PolicyError(f"{configured}: there is no such directory; correct gateway.policy or make it")
    return Path(configured) if configured else Path("policy") if Path("policy").is_dir() else SHIPPED


# Which unknown tools a rule may name: none at all, those of servers with no tool approved yet, or any.
Unknown = Literal["none", "registered", "any"]


class Policy:
    """A set of policies that fits the tools it was loaded for; never changed, only replaced."""

    def __init__(
        self,
        statements: list[Statement],
        tools: Iterable[Tool],
        unknown: Unknown = "registered",
        before: Policy | None = None,
        labels: Iterable[str] = (),
    ) -> None:
        self.tools = tuple(tools)
        self.labels = frozenset(labels) | LABELS | {label for tool in self.tools for label in tool.labels}
        self.statements = statements
        self.waiting: list[str] = []  # rules that name tools nobody has approved yet; they match nothing
        self._schemas = Schemas(self.tools, before._schemas if before is not None else None)
        self._mentioned = before._mentioned if before is not None else _named_by(statements)
        self._forms = self._schemas.forms(self._mentioned)
        if before is None or before._forms != self._forms:
            self._check([s for s in statements if before is None or about_tools(s.parsed)], unknown)
        else:
            self.waiting = before.waiting
        self._rules = {f"p{n}": statement.rule for n, statement in enumerate(statements)}
        words = "\0".join(f"{s.rule.where}\0{s.text}" for s in statements)
        self.digest = hashlib.sha256(words.encode()).hexdigest()[:32]
        self._scopes = Scopes(statements, self._schemas)
        self._decided: OrderedDict[tuple[Any, ...], Decision] = OrderedDict()

    # -- loading -----------------------------------------------------------------------------------

    @classmethod
    def load(
        cls,
        source: str | Path | Iterable[str | Path],
        tools: Iterable[Tool] = (),
        unknown: Unknown = "registered",
        labels: Iterable[str] = (),
    ) -> Policy:
        """The policies of a directory (its *.cedar files) or of these files, checked against these tools.

        A rule may name a tool of a server that has none approved yet: it waits until the tool appears.
        """
        if isinstance(source, str | Path):
            place = Path(source)
            if place.is_dir():
                files, base = sorted(place.glob("*.cedar")), place
            else:
                files, base = [place], place.parent
            if not files:
                raise PolicyError(
                    f"{place}: holds no *.cedar file; put one there, or copy the shipped default.cedar"
                )
            return cls(read_files(files, base), tools, unknown, labels=labels)
        return cls(read_files([Path(file) for file in source]), tools, unknown, labels=labels)

    @classmethod
    def parse(cls, text: str, tools: Iterable[Tool] = (), file: str = "policy.cedar") -> Policy:
        """The policies of a text."""
        return cls(read_text(text, file), tools)

    def for_tools(self, tools: Iterable[Tool]) -> Policy:
        """The same policies for another set of tools; raises PolicyError when they do not fit it."""
        return Policy(self.statements, tools, "any", self)

    def _check(self, statements: list[Statement], unknown: Unknown) -> None:
        problems: dict[str, None] = {}  # one message a place and attribute, in order
        for statement in statements:
            for problem in self._errors(statement, self._known_part(statement, unknown)):
                message = problem.error.replace(f"for policy `{problem.policy_id}`, ", "")
                line, column = locate(statement, message)
                message = _PLACE.sub("", message)  # it comes once for every action and type checked
                name = "" if statement.rule.id == statement.rule.where else f"{statement.rule.id}: "
                problems.setdefault(f"{statement.file}:{line}:{column}: {name}{message}{_hint(message)}")
            if unknown != "any":
                problems |= dict.fromkeys(self._unknown_labels(statement))
        if problems:
            raise PolicyError("\n".join(problems))

    def _unknown_labels(self, statement: Statement) -> Iterator[str]:
        """What is wrong with a rule that looks for labels which nothing carries: it would never match."""
        for label in sorted(labels_named(statement.parsed) - self.labels):
            line, column = locate(statement, f'"{label}"')
            yield (
                f"{statement.file}:{line}:{column}: {statement.rule.id}: no server or tool carries the label "
                f"{label!r}; known are {', '.join(sorted(self.labels))}"
            )

    def _errors(self, statement: Statement, text: str) -> list[Any]:
        """What Cedar finds wrong with the statement, for the first tools it does not fit."""
        schemas: Iterable[Any] = (self._schemas.general,)
        if about_tools(statement.parsed):
            named, _ = mentions(statement.parsed)
            schemas = self._schemas.about(named, arguments=looks_at_arguments(statement.parsed))
        for schema in schemas:
            if errors := cedarpy.validate_policies(text, schema, release_gil=True).errors:
                return errors
        return []

    def _known_part(self, statement: Statement, unknown: Unknown) -> str:
        """The policy's text, without the tools it may name although they are not there yet."""
        servers = {tool.server for tool in self.tools} if unknown == "registered" else set()
        absent = [
            name
            for name in named_tools(statement.parsed)
            if name not in self._schemas.shapes and name.partition("__")[0] not in servers
        ]
        if unknown == "none" or not absent:
            return statement.text
        rule = statement.rule
        self.waiting += [
            f"{rule.where}: rule {rule.id} waits for {name}: no such tool yet" for name in absent
        ]
        return without_tools(statement.parsed, absent)

    def reloaded(
        self, source: str | Path, tools: Iterable[Tool] | None = None, labels: Iterable[str] = ()
    ) -> tuple[Policy, PolicyError | None]:
        """The policies as they stand on disk now; this very set, and why, when those do not fit."""
        try:
            return Policy.load(source, self.tools if tools is None else tools, labels=labels), None
        except PolicyError as error:
            return self, error

    def permits(self, tool: Tool) -> list[Rule]:
        """The rules that let somebody call or request this tool, under circumstances of their own."""
        permits = [s for s in self.statements if s.parsed["effect"] == "permit" and concerns(s.parsed, tool)]
        return [s.rule for s in permits if self._could(s, tool)]

    def forbidding(self, decision: Decision) -> list[Rule]:
        """Those of a decision's rules that forbid."""
        named = {s.rule.id for s in self.statements if s.parsed["effect"] == "forbid"}
        return [rule for rule in decision.rules if rule.id in named]

    def _could(self, statement: Statement, tool: Tool) -> bool:
        """Whether somebody this rule speaks of could be let through, in some context."""
        alone = Scopes([statement], self._schemas)
        return any(
            not alone.select(somebody, group, tool).never
            for somebody in spoken_of(statement.parsed)
            for group in ("call", "request")
        )

    # -- deciding ----------------------------------------------------------------------------------

    def decide(
        self,
        subject: Subject,
        verb: Verb,
        tool: Tool,
        arguments: Mapping[str, Any],
        context: Mapping[str, Any] | None = None,
    ) -> Decision:
        """May this subject do this: call (go), request (go once a person agrees), or deny."""
        if verb != "call":
            return self._ask(
                subject, "read" if verb in ("read", "list") else "prompt", tool, arguments, context
            )
        call = self._ask(subject, "call", tool, arguments, context)
        if call.verdict == "call" or call.errors:
            return call
        request = self._ask(subject, "request", tool, arguments, context)
        if request.verdict == "call":
            return Decision("request", (*request.rules, *call.rules), policy=self.digest)
        wait = self._opens(subject, tool, arguments, context or {})
        return Decision("deny", _both(call.rules, request.rules), request.errors, self.digest, wait)

    def _opens(
        self,
        subject: Subject,
        tool: Tool,
        arguments: Mapping[str, Any],
        context: Mapping[str, Any],
    ) -> float | None:
        """Seconds until an hour of the next week in which it is not denied, by rules that read the clock."""
        reading = [g for g in ("call", "request") if "clock" in self._scopes.select(subject, g, tool).reads]
        moment = _time(context.get("now"))
        hour = moment.replace(minute=0, second=0, microsecond=0)
        for ahead in range(1, 7 * 24 + 1) if reading else ():
            then = {**context, "now": hour + ahead * HOUR}
            if any(self._ask(subject, g, tool, arguments, then).verdict == "call" for g in reading):
                return (hour + ahead * HOUR - moment).total_seconds()
        return None

    def may_approve(
        self,
        approver: Subject,
        tool: Tool,
        arguments: Mapping[str, Any],
        requester: Subject,
        context: Mapping[str, Any] | None = None,
    ) -> Decision:
        """May this person agree to what the requester asks: call (yes) or deny."""
        if approver.id == requester.id:
            return self._no(
                "not-your-own", "Nobody approves their own request.", "Ask somebody else to grant it."
            )
        if approver.kind != "user" or any(link.startswith("agent:") for link in approver.chain):
            return self._no(
                "people-only", "Only a person may approve.", "Grant it under a person's own token."
            )
        return self._ask(approver, "approve", tool, arguments, context, requester)

    def hidden(self, subject: Subject, tool: Tool) -> bool:
        """Whether the subject can neither call nor request it, whatever arguments and context are."""
        return all(self._scopes.never(subject, verb, tool) for verb in ("call", "request"))

    def reads_arguments(self, subject: Subject, group: str, tool: Tool) -> bool:
        """Whether the rules about this subject, action and tool look at the call's arguments."""
        reads = self._scopes.select(subject, group, tool).reads
        return any(name.partition(".")[0] == "args" for name in reads)

    def _no(self, rule: str, description: str, advice: str) -> Decision:
        return Decision("deny", (Rule(rule, description, advice, "gateway"),), policy=self.digest)

    def _ask(
        self,
        subject: Subject,
        group: str,
        tool: Tool,
        arguments: Mapping[str, Any],
        context: Mapping[str, Any] | None,
        requester: Subject | None = None,
    ) -> Decision:
        try:
            selection = self._scopes.select(subject, group, tool)
            if selection.error:
                raise Unreadable(selection.error)
            facts = self._facts(selection, subject, group, tool, arguments, context or {}, requester)
            key = (selection.key, canonical(selection.alike(facts)))
            decided = self._decided.get(key)
            if decided is None:
                decided = self._evaluate(selection, canonical(facts))
                if "now" not in selection.reads:
                    _remember(self._decided, key, decided)
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            message = str(error) or type(error).__name__
            return Decision("deny", errors=(f"not decidable: {message}",), policy=self.digest)
        return decided

    def _evaluate(self, selection: Selection, context: bytes) -> Decision:
        if selection.policies is None:
            return Decision("deny", policy=self.digest)
        request = {**selection.request, "context": context.decode()}
        answer = cedarpy.is_authorized(
            request, selection.policies, selection.entities, schema=selection.schema
        )
        found = answer.diagnostics
        rules = tuple(self._rules[name] for name in sorted(found.reasons, key=lambda n: int(n[1:])))
        if found.errors or answer.decision is cedarpy.Decision.NoDecision:
            errors = tuple(self._named(error) for error in found.errors) or (
                "the policy engine gave no decision",
            )
            return Decision("deny", rules, errors, self.digest)
        return Decision("call" if answer.allowed else "deny", rules, policy=self.digest)

    def _named(self, error: str) -> str:
        for name in sorted(self._rules, key=len, reverse=True):
            if f"`{name}`" in error:
                rule = self._rules[name]
                return error.replace(f"`{name}`", f"{rule.id} ({rule.where})")
        return error

    def _facts(
        self,
        selection: Selection,
        subject: Subject,
        group: str,
        tool: Tool,
        arguments: Mapping[str, Any],
        context: Mapping[str, Any],
        requester: Subject | None,
    ) -> dict[str, Any]:
        """What the decision can depend on; arguments are looked through even where no policy reads them."""
        shape = UNTYPED if group in OTHER else self._schemas.shapes.get(tool.public, UNTYPED)
        facts = selection.relevant_arguments(encode(arguments, shape))
        for name in selection.reads & MAKERS.keys():
            facts[name] = MAKERS[name](subject, context)
        if "case" in selection.reads and (case := _case(subject, context.get("case"))):
            facts["case"] = case
        if "requester" in selection.reads and requester is not None:
            chain, roles = list(requester.chain), list(requester.roles)
            facts["requester"] = {"id": requester.id, "chain": chain, "roles": roles}
        return facts


def _named_by(statements: list[Statement]) -> frozenset[str]:
    return frozenset(name for statement in statements for name in mentions(statement.parsed)[0])


def _case(subject: Subject, told: Any) -> dict[str, Any] | None:
    told = told if isinstance(told, Mapping) else {}
    if not (subject.case or subject.run or told):
        return None
    case: dict[str, Any] = {"id": subject.case, "run": subject.run, "task": subject.task}
    case |= {name: str(told[name]) for name in ("workflow", "severity") if told.get(name) is not None}
    if told.get("confidence") is not None:
        case["confidence"] = decimal(float(told["confidence"]))
    if told.get("freshness") is not None:
        case["freshness"] = int(told["freshness"])
    return case


def _time(told: Any) -> datetime:
    return told.astimezone() if isinstance(told, datetime) else datetime.now().astimezone()


def _clock(moment: datetime) -> dict[str, Any]:
    """The time as people say it where the gateway stands."""
    return {"hour": moment.hour, "weekday": WEEKDAYS[moment.weekday()]}


def _moment(moment: datetime) -> dict[str, Any]:
    return {
        "__extn": {"fn": "datetime", "arg": moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + "000Z"}
    }


MAKERS: dict[str, Callable[[Subject, Mapping[str, Any]], Any]] = {
    "environment": lambda subject, context: str(context.get("environment") or ""),
    "now": lambda subject, context: _moment(_time(context.get("now"))),
    "clock": lambda subject, context: _clock(_time(context.get("now"))),
    "chain": lambda subject, context: list(subject.chain),
    "roles": lambda subject, context: list(subject.roles),
    "waited": lambda subject, context: int(context.get("waited") or 0),
    "labels": lambda subject, context: sorted(context.get("labels") or ()),
}


def _both(first: tuple[Rule, ...], second: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return (*first, *(rule for rule in second if rule not in first))


def _remember(cache: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    cache[key] = value
    if len(cache) > CACHED:
        cache.popitem(last=False)


def _hint(message: str) -> str:
    if "unrecognized action" in message:
        return '; no such tool is registered: add its server first, or write `resource in Server::"NAME"`'
    if "attribute" in message:
        return "; check the spelling, and test what may be absent with `has` first"
    return ""
