"""Specialists that fail or lie, each in its own way; what the contract says of them holds in every place."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

from specialists.types import Action, Card, Cause, Claim, Evidence, Finding, Progress, Task

SEARCH = {"text": "error"}


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
        long = finding.claims[0].model_copy(update={"text": "x" * 200_000})
        return finding.model_copy(update={"summary": "y" * 200_000, "claims": (long,) * 300})


class Breaker(_Liar):
    name = "breaker"

    async def lie(self, finding, toolbox):
        raise RuntimeError("it fell over")


class Mute(_Liar):
    name = "mute"

    async def lie(self, finding, toolbox):
        return Progress(specialist=self.name, kind="note", text="that is all")


LIARS = {cls.name: cls for cls in (Impostor, Stranger, Forger, SelfApprover, Babbler, Breaker, Mute)}
TABLES = {name: {"class": f"{cls.__module__}:{cls.__name__}"} for name, cls in LIARS.items()}
