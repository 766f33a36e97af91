"""What a model is asked to fill in, and how that becomes a Finding in which every citation resolves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from specialists.toolbox import SHORTEST_QUOTE, ToolResult
from specialists.types import Action, Cause, Claim, Evidence, Finding, Guidance, Task

Confidence = Annotated[float, Field(ge=0.0, le=1.0)]
Made = TypeVar("Made", bound=BaseModel)


class Cited(BaseModel):
    """Words copied literally from one tool result."""

    call: str = Field(description="the id shown as [call ID] before the result")
    quote: str = Field(description="words copied character by character from that result, one line at most")


class AnswerClaim(BaseModel):
    """One statement and what it stands on."""

    kind: Literal["symptom", "cause", "ruled_out", "change", "impact", "context", "recovery"]
    text: str = Field(description="one plain sentence")
    confidence: Confidence
    evidence: list[Cited]
    component: str = Field(default="", description="the service, node or object it is about")
    at: str = Field(default="", description="when it happened, RFC 3339")


class AnswerCause(BaseModel):
    """One hypothesis about the root cause."""

    category: str = Field(description="e.g. change, saturation, dependency, Scheduling_Fault")
    object: str = Field(
        description="what is broken, e.g. service/orders, commit/1a2b3c, app/cart, node/worker-1"
    )
    label: str = Field(description="short slug of the fault, e.g. bad_deploy, oom_killed, pool_exhausted")
    statement: str = Field(description="one plain sentence")
    confidence: Confidence
    evidence: list[Cited]
    against: list[Cited] = Field(default_factory=list, description="what speaks against it")
    at: str = Field(default="", description="when it began, RFC 3339")
    remedy: str = Field(default="", description="what to do")


class AnswerAction(BaseModel):
    """A change you propose; it is not run."""

    tool: str = Field(description="public name of the tool")
    arguments: dict[str, Any]
    reason: str
    risk: str = ""
    undo: str = ""


class AnswerGuidance(BaseModel):
    """A runbook passage that helps the person."""

    title: str
    where: str = Field(description="document and lines")
    passage: Cited
    score: float = 0.0


class Answer(BaseModel):
    """Your finding. Leave a list empty rather than guess."""

    status: Literal["found", "abstained"]
    summary: str = Field(description="one or two plain sentences, nothing that no claim supports")
    claims: list[AnswerClaim] = Field(default_factory=list)
    causes: list[AnswerCause] = Field(default_factory=list, description="best first")
    actions: list[AnswerAction] = Field(default_factory=list)
    guidance: list[AnswerGuidance] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list, description="what you could not see")


def finding(
    answer: Answer,
    task: Task,
    specialist: str,
    results: dict[str, ToolResult],
    known_as: Mapping[str, str] | None = None,
) -> Finding:
    """The model's answer as a Finding; those whose citations do not resolve are dropped and counted.

    `known_as` maps what a provider calls its own calls, and the pages they found, to the gateway's call ids.
    """
    cited = _Citations(results, task)
    pages = known_as or {}
    claims = [_claim(claim, cited) for claim in answer.claims]
    causes = [_cause(cause, cited) for cause in answer.causes]
    return Finding(
        task=task.id,
        specialist=specialist,
        mode="cloud",
        status=answer.status,
        summary=answer.summary,
        claims=tuple(claim for claim in claims if claim),
        causes=tuple(cause for cause in causes if cause),
        actions=tuple(Action(**action.model_dump()) for action in answer.actions),
        guidance=tuple(filter(None, (_guidance(passage, results, pages) for passage in answer.guidance))),
        missing=tuple(answer.missing),
        dropped=claims.count(None) + causes.count(None),
    )


def literal(quote: str, text: str) -> str:
    """The words as they stand in the text, whatever the white space between them; empty if they do not."""
    if quote in text:
        return quote
    words = [re.escape(word) for word in quote.split()]
    found = re.search(r"\s+".join(words), text) if words else None
    return found.group() if found else ""


class _Citations:
    """Turns what a model cites into evidence, from this task's calls or from what came with the task."""

    def __init__(self, results: dict[str, ToolResult], task: Task) -> None:
        self._results = results
        self._inherited = [e for lead in (*task.leads, *task.claims) for e in lead.evidence]

    def evidence(self, cited: Iterable[Cited]) -> tuple[Evidence, ...]:
        return tuple(filter(None, map(self._one, cited)))

    def _one(self, cited: Cited) -> Evidence | None:
        call = _id(cited.call)
        if result := self._results.get(call):
            words = literal(cited.quote, result.text)
            return (
                result.quote(words) if len(words.strip()) >= SHORTEST_QUOTE and not result.refusal else None
            )
        known = (e for e in self._inherited if e.call == call and literal(cited.quote, e.quote))
        return next(known, None)


def _id(words: str) -> str:
    """The id in what a model wrote as one."""
    return words.strip().removeprefix("[").removesuffix("]").removeprefix("call ").strip()


def _claim(claim: AnswerClaim, cited: _Citations) -> Claim | None:
    return _made(Claim, claim, cited)


def _cause(cause: AnswerCause, cited: _Citations) -> Cause | None:
    return _made(Cause, cause, cited, against=cited.evidence(cause.against))


def _made(kind: type[Made], said: AnswerClaim | AnswerCause, cited: _Citations, **more: Any) -> Made | None:
    evidence = cited.evidence(said.evidence)
    if not evidence:
        return None
    fields = said.model_dump(exclude={"evidence", "against", "at"})
    return kind.model_validate(fields | more | {"evidence": evidence, "at": _time(said.at)})


def _guidance(
    said: AnswerGuidance, results: dict[str, ToolResult], known_as: Mapping[str, str]
) -> Guidance | None:
    call = _id(said.passage.call)
    call = known_as.get(call, call)
    result = results.get(call)
    words = literal(said.passage.quote, result.text) if result else ""
    if not words:
        return None
    return Guidance(title=said.title, passage=words, where=said.where, call=call, score=said.score)


def _time(words: str) -> datetime | None:
    try:
        return datetime.fromisoformat(words)
    except ValueError:
        return None


def parsed(text: str) -> Answer | None:
    """An answer that a model wrote as plain JSON instead of filling in the form."""
    start, end = text.find("{"), text.rfind("}")
    try:
        return Answer.model_validate_json(text[start : end + 1]) if 0 <= start < end else None
    except ValidationError:
        return None
