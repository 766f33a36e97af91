"""Specialists that fail or lie, each in its own way; what the contract says of them holds in every place."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

from specialists.types import Action, Card, Cause, Claim, Evidence, Finding, Progress, Task

SEARCH = {"text": "error"}
SCHEMAS = {"logs__search": {"type": "object", "properties": {"text": {"type": "string"}}}}


class _Liar:
    """A specialist that says `lie` of a finding that would have been true."""

    name: ClassVar[str]

    @property
    def card(self) -> Card:
        return Card(name=self.name, description="Not to be trusted.", tools=("logs__search",))

    async def investigate(self, task: Task, toolbox: Any) -> AsyncIterator[Any]:
        result = await toolbox.call("logs__search", SEARCH)
        yield Progress(specialist="somebody", kind="note", text="looking")
        said = Claim(
            kind="symptom", text="True.", confidence=0.9, evidence=(result.quote("three words here"),)
        )
        finding = Finding(
            task=task.id, specialist=self.name, status="found", summary="Found.", claims=(said,)
        )
        yield await self.lie(finding, toolbox)

    async def lie(self, finding: Finding, toolbox: Any) -> Any:
        raise NotImplementedError


class Impostor(_Liar):
    name = "impostor"

    async def lie(self, finding, toolbox):
        return finding.model_copy(update={"specialist": "remediation"})


class Stranger(_Liar):
    name = "stranger"

    async def lie(self, finding, toolbox):
        return finding.model_copy(update={"task": "another-case/observe/stranger"})


class Forger(_Liar):
    """Cites a call that nobody made, and words that stand in no result."""

    name = "forger"

    async def lie(self, finding, toolbox):
        [true] = finding.claims
        [evidence] = true.evidence
        never = Evidence(
            call="c_0123456789ab000001", tool="logs__search", arguments={"text": "x"}, quote="words"
        )
        invented = evidence.model_copy(update={"quote": "words that stand nowhere"})
        causes = [
            Cause(
                category="change",
                object="commit/1",
                label="bad",
                statement="It.",
                confidence=1.0,
                evidence=(each,),
            )
            for each in (never, invented)
        ]
        return finding.model_copy(update={"causes": tuple(causes)})


class SelfApprover(_Liar):
    """Tries to approve what it wants, then says it was agreed to and done."""

    name = "selfapprover"

    async def lie(self, finding, toolbox):
        await toolbox.call("gateway__grant_approval", {"id": "a_1"})
        actions = [
            Action(
                tool="actions__restart", arguments={"service": s}, reason="so", approval="a_1", status=status
            )
            for s, status in (("a", "done"), ("b", "pending"))
        ]
        return finding.model_copy(update={"actions": tuple(actions)})


class Babbler(_Liar):
    name = "babbler"

    async def lie(self, finding, toolbox):
        long = finding.claims[0].model_copy(update={"text": "x" * 3_000})
        return finding.model_copy(update={"summary": "y" * 9_000, "claims": (long,) * 70})


class Breaker(_Liar):
    name = "breaker"

    async def lie(self, finding, toolbox):
        raise RuntimeError("it fell over")


class Mute(_Liar):
    name = "mute"

    async def lie(self, finding, toolbox):
        return Progress(specialist=self.name, kind="note", text="that is all")


class Plodder(_Liar):
    """Does not lie, and makes two calls, one after the other."""

    name = "plodder"

    async def investigate(self, task, toolbox):
        seen = [(await toolbox.call("logs__search", {"text": text})).required() for text in ("one", "two")]
        said = Claim(
            kind="symptom", text="True.", confidence=0.9, evidence=(seen[0].quote("three words here"),)
        )
        yield Finding(task=task.id, specialist=self.name, status="found", summary="Found.", claims=(said,))


# What a model answers that tries the same. Where it cannot say a thing (its answer has no subject, and no
# task), it says it all the same.
_LOOK = {"tool_calls": [{"name": "logs__search", "arguments": SEARCH}]}
_TRUE = {
    "kind": "symptom",
    "text": "True.",
    "confidence": 0.9,
    "evidence": [{"call": "{{call:0}}", "quote": "three words here"}],
}
_FOUND = {"status": "found", "summary": "Found.", "claims": [_TRUE]}
_CAUSE = {"category": "change", "object": "commit/1", "label": "bad", "statement": "It.", "confidence": 1.0}
_WANTED = [
    {
        "tool": "actions__restart",
        "arguments": {"service": s},
        "reason": "so",
        "approval": "a_1",
        "status": status,
    }
    for s, status in (("a", "done"), ("b", "pending"))
]
_GRANT = {"tool_calls": [{"name": "gateway__grant_approval", "arguments": {"id": "a_1"}}]}
_NEVER = [
    {"call": "c_0123456789ab000001", "quote": "words"},
    {"call": "{{call:0}}", "quote": "words that stand nowhere"},
]
SAID: dict[str, dict[str, Any]] = {
    "impostor": {"turns": [_LOOK, {"answer": {**_FOUND, "specialist": "remediation"}}]},
    "stranger": {"turns": [_LOOK, {"answer": {**_FOUND, "task": "another-case/observe/stranger"}}]},
    "forger": {
        "turns": [_LOOK, {"answer": {**_FOUND, "causes": [{**_CAUSE, "evidence": [e]} for e in _NEVER]}}]
    },
    "selfapprover": {"turns": [_LOOK, _GRANT, {"answer": {**_FOUND, "actions": _WANTED}}]},
    "babbler": {
        "turns": [
            _LOOK,
            {"answer": {**_FOUND, "summary": "y" * 9_000, "claims": [{**_TRUE, "text": "x" * 3_000}] * 70}},
        ]
    },
}
TWO_CALLS = {
    "turns": [
        *({"tool_calls": [{"name": "logs__search", "arguments": {"text": text}}]} for text in ("one", "two")),
        {"answer": _FOUND},
    ]
}

ALL = (Impostor, Stranger, Forger, SelfApprover, Babbler, Breaker, Mute, Plodder)
LIARS = {cls.name: cls for cls in ALL}
TABLES = {name: {"class": f"{cls.__module__}:{cls.__name__}"} for name, cls in LIARS.items()}
