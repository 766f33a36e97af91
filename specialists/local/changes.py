"""Changes: what was deployed, committed or switched before it began, and whether that explains it."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from specialists.local import diffs, times
from specialists.local.casework import Casebook, backed, quote, quote_start
from specialists.local.facts import Facts
from specialists.local.suspects import ENOUGH, Suspect, behind, collect, weigh, worth_reading
from specialists.types import Card, Cause, Claim, Event, Evidence, Progress, Task

if TYPE_CHECKING:
    from specialists.toolbox import Toolbox, ToolResult

BACK = timedelta(hours=6)  # how far back changes are read
MOST_DIFFS = 5
MOST_DECOYS = 5
SURE_OF_OUTSIDE = 0.6
UNMEASURED = 0.8  # where only the alert says when it began


class ChangesSpecialist:
    """Weighs every change before the onset against what the others found; the answer may be "none"."""

    card = Card(
        name="changes",
        description="Deploys, commits and flags before the onset, weighed against the symptoms.",
        tools=("changes__*",),
    )

    async def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
        """List the changes, read the diffs worth reading, and name the cause or say that no change is it."""
        book = Casebook(self.card.name, task, toolbox)
        facts = Facts.of(task, book)
        answers = await self._list(book, facts)
        suspects = collect(*(_items(answers[n], n) for n in ("commits", "deploys", "flags")))
        if not suspects:
            yield book.finding("No deploy, commit or flag change is known from before the trouble began.")
            return
        weigh(suspects, facts)
        chosen = worth_reading(suspects, facts, MOST_DIFFS)
        yield Progress(
            specialist=self.card.name,
            kind="note",
            text=f"{len(suspects)} changes before {times.clock(facts.onset)}; reading {len(chosen)} diffs",
        )
        await self._read(book, chosen)
        weigh(suspects, facts)
        ranked = sorted(suspects, key=lambda s: (bool(s.struck), -s.points))
        yield _conclude(book, facts, ranked, answers)

    async def _list(self, book: Casebook, facts: Facts) -> dict[str, ToolResult | None]:
        edge = facts.onset or book.window.now
        span = {"start": times.iso(edge - BACK), "end": times.iso(book.window.now)}
        names = ("commits", "deploys", "flags")
        found = await asyncio.gather(*(book.ask(f"changes__{n}", **span, limit=200) for n in names))
        return dict(zip(names, found, strict=True))

    async def _read(self, book: Casebook, chosen: list[Suspect]) -> None:
        shown = await asyncio.gather(*(book.ask("changes__commit", sha=s.key) for s in chosen))
        for suspect, result in zip(chosen, shown, strict=True):
            if result is not None:
                suspect.shown = result
                suspect.files = tuple(result.data.get("files") or suspect.files)
                suspect.diff = diffs.parse(result.data.get("diff") or "", suspect.files)


def _items(result: ToolResult | None, name: str) -> list[dict[str, Any]]:
    return list(result.data.get(name, ())) if result else []


def _conclude(
    book: Casebook, facts: Facts, ranked: list[Suspect], answers: dict[str, ToolResult | None]
) -> Any:
    best = ranked[0]
    if not facts.measured:
        book.missing.append(
            "No symptom with a time was found; the time of the alert stands in for the onset."
        )
    outside = facts.outside[0] if facts.outside and facts.outside[0].confidence >= SURE_OF_OUTSIDE else None
    explained = outside is not None and not _ours(outside, ranked)
    named = [s for s in ranked if not s.struck and s.points >= ENOUGH][:3]
    named = named[:1] + [s for s in named[1:] if not s.cons and s.points >= best.points - 1.2]
    claims: list[Claim | None] = []
    causes: list[Cause] = []
    if outside and explained:
        causes.append(_not_a_change(outside, ranked, answers))
        claims.append(_none_claim(outside, ranked, answers))
        named = []
    elif not named:
        claims.append(_none_claim(None, ranked, answers))
    for position, suspect in enumerate(named):
        sure = round(_confidence(suspect, ranked, position) * (1.0 if facts.measured else UNMEASURED), 2)
        cause = _cause(suspect, facts, answers, sure)
        if cause:
            causes.append(cause)
            claims.append(_change_claim(suspect, answers, sure))
    guilty = {s.key for s in named}
    claims += [_decoy(s, answers, outside if explained else None) for s in _decoys(ranked, guilty)]
    causes.sort(key=lambda c: -c.confidence)
    text = _summary(best, named, outside if explained else None, causes)
    return book.finding(text, claims=backed(claims), causes=tuple(c for c in causes if c.evidence))


def _ours(outside: Cause, ranked: list[Suspect]) -> bool:
    """Whether a change of ours is behind what looks like a cause from outside."""
    said = re.search(r"\b50[0234]\b|unavailable|outage", outside.statement) is not None
    best = ranked[0]
    clear = bool(best.needle) and not best.struck and best.points >= 3.2 and outside.confidence < 0.8
    return clear or any(behind(s, outside.label, said) for s in ranked[:3])


def _confidence(s: Suspect, ranked: list[Suspect], position: int) -> float:
    others = [o.points for o in ranked if o is not s and not o.struck]
    margin = s.points - max(others, default=0.0)
    sure = 1 / (1 + math.exp(-(s.points - 1.9) * 1.3))
    return round(min(0.95, max(0.05, sure * (1.0 if margin > 0.5 else 0.85 if margin > 0 else 0.5))), 2)


def _evidence(s: Suspect, answers: dict[str, ToolResult | None]) -> tuple[Evidence, ...]:
    """The lines that show the change: its deploy, its commit or flag, and the telling line of its diff."""
    found: list[Evidence | None] = []
    deploys, commits, flags = answers["deploys"], answers["commits"], answers["flags"]
    if s.deploy and deploys:
        found.append(quote_start(deploys, f"{s.deploy['timestamp']} {s.deploy['service']}"))
    if s.flag and flags:
        found.append(quote_start(flags, f"{s.flag['timestamp']} {s.flag['flag']}"))
    if s.shown and s.effects and s.effects[0].line.strip():
        line = s.effects[0].line.strip()
        found.append(quote(s.shown, line[:160], width=200))
    if not s.flag and commits and not s.key.startswith("deploy/"):
        found.append(quote(commits, s.key[:12]))
    return tuple(e for e in found if e is not None)


def _cause(s: Suspect, facts: Facts, answers: dict[str, ToolResult | None], sure: float) -> Cause | None:
    evidence = _evidence(s, answers)
    if not evidence:
        return None
    live = s.live
    since = f", {times.distance(facts.onset - live)} before the trouble began" if facts.onset and live else ""
    where = f" live on {s.service} since {times.clock(live)}" if s.deploy else f" at {times.clock(live)}"
    deed = f" {s.effects[0].text}" if s.effects else " is the change nearest to the onset"
    told = next((p for p in s.pros if p.startswith(("the errors", "it changes"))), "")
    name = s.name[0].upper() + s.name[1:]
    by = f" by {s.author}" if s.author else ""
    if s.flag:
        label, category, subject = "flag_change", "change", f"flag/{s.flag['flag']}"
    else:
        config = s.files and all(diffs.file_kind(f) == "config" for f in s.files)
        label, category = "bad_config" if config else "bad_deploy", "change"
        subject = f"commit/{s.key}" if not s.key.startswith("deploy/") else f"service/{s.service}"
    return Cause(
        category=category,
        object=subject,
        label=label,
        statement=f"{name}{by},{where}{since},{deed}{'; ' + told if told else ''}.",
        confidence=sure,
        evidence=evidence,
        at=live,
        remedy=_remedy(s),
    )


def _remedy(s: Suspect) -> str:
    if s.flag:
        return f"Set the flag {s.flag['flag']} back."
    if s.deploy:
        previous = s.deploy.get("previous")
        return f"Roll {s.service} back{f' to {previous}' if previous else ' to the version before'}."
    return f"Revert {s.key[:8]}."


def _change_claim(s: Suspect, answers: dict[str, ToolResult | None], sure: float) -> Claim:
    went = f"went live on {s.service}" if s.deploy else "was made"
    deed = f" It {s.effects[0].text}." if s.effects else ""
    return Claim(
        kind="change",
        text=f"{s.name[0].upper() + s.name[1:]} {went} at {times.clock(s.live)}.{deed}",
        confidence=max(sure, 0.6),
        evidence=_evidence(s, answers),
        component=s.service,
        at=s.live,
    )


def _not_a_change(outside: Cause, ranked: list[Suspect], answers: dict[str, ToolResult | None]) -> Cause:
    """The cause from outside, confirmed by the absence of a change that could be behind it."""
    return outside.model_copy(
        update={
            "confidence": round(min(0.95, outside.confidence + 0.1), 2),
            "statement": f"{outside.statement.rstrip('.')}; no change explains it.",
        }
    )


def _none_claim(
    outside: Cause | None, ranked: list[Suspect], answers: dict[str, ToolResult | None]
) -> Claim | None:
    evidence = [e for s in ranked[:2] for e in _evidence(s, answers)[:1]]
    if not evidence:
        return None
    reason = (
        f" {outside.label.replace('_', ' ')} explains it better"
        if outside
        else " none fits time, place and errors"
    )
    return Claim(
        kind="ruled_out",
        text=f"No change caused this: of {len(ranked)} deploys, commits and flags{reason}.",
        confidence=0.75 if outside else 0.5,
        evidence=tuple(evidence),
    )


def _decoys(ranked: list[Suspect], guilty: set[str]) -> list[Suspect]:
    """Changes that a hurried person might blame: live near the onset, or on the failing service."""
    near = [s for s in ranked if s.key not in guilty and (s.direct or _tempting(s)) and not s.first]
    return sorted(near, key=lambda s: -s.points)[:MOST_DECOYS]


def _weaker(s: Suspect, outside: Cause | None) -> str:
    """Why a change without a fault of its own is not it."""
    if outside:
        return f"it cannot bring about {outside.label.replace('_', ' ')}"
    if s.effects and not s.needle:
        return f"it {s.effects[0].text}, which nothing in the errors speaks of"
    return "another change fits time, place and errors better"


def _tempting(s: Suspect) -> bool:
    """Whether a commit that did not go live by itself still sounds like the errors."""
    harmless = bool(s.files) and all(diffs.file_kind(f) in diffs.HARMLESS for f in s.files)
    return not harmless and not s.flag and (s.match > 0.3 or any("failing part" in p for p in s.pros))


def _decoy(s: Suspect, answers: dict[str, ToolResult | None], outside: Cause | None) -> Claim | None:
    reason = s.struck or (s.cons[0] if s.cons else _weaker(s, outside))
    also = f" and {s.cons[1]}" if not s.struck and len(s.cons) > 1 else ""
    return Claim(
        kind="ruled_out",
        text=f"{s.name[0].upper() + s.name[1:]} is not the cause: {reason}{also}.",
        confidence=0.85 if s.struck else 0.7,
        evidence=_evidence(s, answers)[:2],
        component=s.service,
        at=s.live,
    )


def _summary(best: Suspect, named: list[Suspect], outside: Cause | None, causes: list[Cause]) -> str:
    if outside:
        return f"No change caused this. {causes[0].statement}"
    if named and causes:
        return causes[0].statement
    why = best.struck or (best.cons[0] if best.cons else "nothing ties it to the errors")
    return f"No change explains this; the nearest is {best.name}, but {why}."
