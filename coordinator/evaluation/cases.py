"""The words of an evaluation: a data set, its cases, the answers a case allows, and the row it comes to."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.errors import TriggerUnreadable

if TYPE_CHECKING:
    from coordinator.evaluation.bench import Bench
    from coordinator.types import CaseResult

Answer = tuple[str, ...]  # the parts of an answer, such as (taxonomy, object, root cause)
NOTHING: Answer = ()  # the right answer where nothing is wrong, or nothing is to be found


@dataclass(frozen=True)
class BenchCase:
    """One case: its name, its files, and (for the scorer alone) what is true."""

    name: str
    directory: Path
    truth: tuple[Answer, ...]  # every answer that counts as right; one for most data
    fault: str  # the row of the table it belongs to
    question: str = ""  # all that the person or the alert says
    namespace: str = ""
    wrong: frozenset[Answer] = frozenset()  # decoys: answers that are worse than none


@dataclass
class Row:
    """What one case came to."""

    case: str
    truth: tuple[Answer, ...]
    fault: str = ""
    guesses: list[Answer] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    calls: int = 0  # tool calls in the ledger, the gateway's own tools aside
    seconds: float = 0.0
    claims: int = 0
    sound: int = 0  # claims all of whose quotes stand in the result the ledger holds
    decoy: bool = False  # the first guess is a decoy
    outcome: str = ""
    said: str = ""
    error: str = ""

    @property
    def rank(self) -> int:
        """The place of the truth among the guesses, 0 if it is not among them."""
        if NOTHING in self.truth and not self.guesses and not self.error:
            return 1
        return next((n for n, guess in enumerate(self.guesses, start=1) if guess in self.truth), 0)

    @property
    def sure(self) -> float:
        """How sure the first guess is; 0 where nothing was named."""
        return self.confidences[0] if self.confidences else 0.0

    def as_data(self, words: Sequence[str]) -> dict[str, Any]:
        """The row as JSON values, the parts of answers under their names."""
        named = [dict(zip(words, truth, strict=False)) for truth in self.truth]
        return {
            "case": self.case,
            "fault": self.fault,
            "truth": named[0] if len(named) == 1 else named,
            "guesses": [
                {**dict(zip(words, guess, strict=True)), "confidence": confidence}
                for guess, confidence in zip(self.guesses, self.confidences, strict=True)
            ],
            "rank": self.rank,
            "calls": self.calls,
            "seconds": round(self.seconds, 3),
            "claims": self.claims,
            "sound_claims": self.sound,
            "decoy": self.decoy,
            "outcome": self.outcome,
            "said": self.said,
            "error": self.error,
        }


@dataclass(frozen=True)
class DataSet:
    """One kind of recorded cases: how they become recordings, and what of a result is the answer."""

    name: str
    words: tuple[str, ...]  # the parts of an answer
    asked: tuple[str, ...]  # the specialists that are asked
    depths: tuple[int, ...]  # A@k is told for these k
    write: Callable[[BenchCase, Path], Path]  # the case as a recording; the truth stays behind
    answers: Callable[[CaseResult], list[tuple[Answer, float]]]  # best first
    together: bool = False  # all cases look at one recording, that of the first
    ask: Callable[[Bench, BenchCase, Row], Awaitable[None]] | None = None  # instead of a whole case
    ready: Callable[[Bench], Awaitable[None]] | None = None  # waits until the first case may come


def chosen(cases: list[BenchCase], names: list[str], limit: int) -> list[BenchCase]:
    """The named cases, or so many spread evenly over all of them."""
    if names:
        known = {case.name: case for case in cases}
        if lost := [name for name in names if name not in known]:
            raise TriggerUnreadable(
                f"no case {lost[0]!r}: cases are named like {cases[0].name!r}; look into the directory"
            )
        return [known[name] for name in names]
    if not limit or limit >= len(cases):
        return cases
    return [cases[i * len(cases) // limit] for i in range(limit)]


def in_order(cases: list[BenchCase]) -> list[BenchCase]:
    """Cases by name, numbers in their own order."""
    return sorted(
        cases, key=lambda case: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", case.name)]
    )


def nothing_there(directory: Path, expected: str) -> TriggerUnreadable:
    """The error for a directory that holds no cases."""
    return TriggerUnreadable(
        f"no cases in {str(directory)!r}: expected {expected}; unpack the data and name its directory"
    )


def distinct(answers: list[tuple[Answer, float]]) -> list[tuple[Answer, float]]:
    """Each answer once, where it stands first."""
    first: dict[Answer, float] = {}
    for answer, confidence in answers:
        first.setdefault(answer, confidence)
    return list(first.items())


def services_named(result: CaseResult) -> list[tuple[Answer, float]]:
    """The components that the hypotheses name, best first."""
    return distinct([((h["component"],), h["confidence"]) for h in hypotheses(result) if h["component"]])


def hypotheses(result: CaseResult) -> list[dict[str, Any]]:
    """All ranked hypotheses of a case, as validation left them."""
    return list(((result.state or {}).get("verdict") or {}).get("hypotheses") or [])


def iso(seconds: float) -> str:
    """Unix seconds as RFC 3339 text."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds").replace(
        "+00:00", "Z"
    )
