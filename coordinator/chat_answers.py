"""Answers follow-up questions from the evidence of a case, or by new calls; says what it cannot answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from coordinator.case_index import CaseIndex
from coordinator.chat_intents import Intent, read, words_of
from coordinator.chat_looks import Looks, Said
from coordinator.chat_words import TOPICS
from coordinator.hypotheses import is_change
from coordinator.overview import overview, to_do
from coordinator.planning import findings_of, scope_of
from coordinator.report import clock, one_line, percent, why_not
from coordinator.types import CaseState, Citation, Hypothesis, Report, Sentence
from specialists.toolbox import ToolResult
from specialists.types import Cause, Claim, Finding, Value

ABILITIES = (
    "what is wrong and since when · how bad it is · the cause and its evidence · how sure I am · what else I "
    "considered (“why not the database?”) · what changed and who did it · logs, metrics and traces of a "
    "component · what to do · whether it is over"
)


class Answer(Value):
    """An answer in sentences, each with the citations it stands on."""

    kind: str
    sentences: tuple[Sentence, ...]
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class CaseView:
    """A case as the chat knows it."""

    case: str
    state: CaseState
    report: Report
    findings: tuple[Finding, ...]
    hypotheses: tuple[Hypothesis, ...]
    components: tuple[str, ...]
    words: frozenset[str]

    @classmethod
    def of(cls, case: str, state: CaseState, report: Report) -> CaseView:
        """The view of a case whose report was delivered."""
        findings = findings_of(state)
        hypotheses = tuple(
            Hypothesis.model_validate(h) for h in state.get("verdict", {}).get("hypotheses", [])
        )
        claims = [c for f in findings for c in f.claims]
        names = {c.component for c in claims if c.component} | {
            h.component for h in hypotheses if h.component
        }
        names |= set(scope_of(state).services)
        texts = [report.title, report.question, *(c.text for c in claims), *(h.statement for h in hypotheses)]
        return cls(
            case, state, report, findings, hypotheses, tuple(sorted(names)), frozenset(words_of(texts))
        )

    def intent(self, message: str) -> Intent:
        """What a message about this case asks for."""
        return read(message, self.components, self.words)

    @property
    def best(self) -> Hypothesis | None:
        """The leading explanation."""
        return self.hypotheses[0] if self.hypotheses else None

    def claims(self, *kinds: str) -> list[Claim]:
        """The claims of some kinds, the surest first."""
        found = [c for f in self.findings for c in f.claims if c.kind in kinds]
        return sorted(found, key=lambda c: -c.confidence)


class Answerer:
    """Answers messages about one case."""

    def __init__(self, view: CaseView, looks: Looks, index: CaseIndex) -> None:
        self.view, self.looks, self.index = view, looks, index
        self._answers: dict[str, Callable[[Intent], Awaitable[list[Said | Sentence]]]] = {
            "summary": self._summary,
            "cause": self._cause,
            "about": self._about,
            "who": self._who,
            "changes": self._changes,
            "logs": self._logs,
            "metrics": self._metrics,
            "traces": self._traces,
            "sure": self._sure,
            "todo": self._todo,
            "since": self._since,
            "hit": self._hit,
            "bad": self._bad,
            "over": self._over,
            "considered": self._considered,
            "evidence": self._evidence,
            "timeline": self._timeline,
            "guidance": self._guidance,
            "help": self._help,
            "thanks": self._thanks,
            "hello": self._help,
            "unknown": self._unknown,
        }

    async def answer(self, message: str) -> Answer:
        """The answer to a message; new evidence gets the case's next numbers."""
        intent = self.view.intent(message)
        if intent.unknown and intent.kind in ("logs", "metrics", "traces", "about") and not intent.about:
            intent = Intent("unknown", unknown=intent.unknown)
        return self._numbered(intent.kind, await self._answers[intent.kind](intent))

    def overview(self) -> Answer:
        """The first answer: what is wrong, since when, how bad, why, what else, what to do."""
        return self._numbered("summary", list(overview(self.view.report)))

    def _numbered(self, kind: str, said: Iterable[Said | Sentence]) -> Answer:
        sentences: list[Sentence] = []
        for one in said:
            if isinstance(one, Sentence):
                sentences.append(one)
                continue
            new = [
                Citation(n=0, call=e.call, tool=e.tool, arguments=e.arguments, quote=e.quote)
                for e in one.evidence
            ]
            numbered = self.index.add_citations(self.view.case, new) if new else []
            sentences.append(Sentence(text=one.text, cites=tuple(dict.fromkeys(c.n for c in numbered))))
        used = sorted({n for s in sentences for n in s.cites})
        found = (self.index.citation(self.view.case, n) for n in used)
        return Answer(kind=kind, sentences=tuple(sentences), citations=tuple(c for c in found if c))

    async def _summary(self, _: Intent) -> list[Said | Sentence]:
        return list(overview(self.view.report))

    async def _cause(self, _: Intent) -> list[Said | Sentence]:
        best = self.view.best
        if best is None:
            return [Said("I found no cause that evidence supports.")]
        said: list[Said | Sentence] = [
            Said(f"{one_line(best.statement)} I am {percent(best.confidence)} sure.", best.evidence[:4])
        ]
        backing = [c for c in self.view.claims("cause", "symptom", "change") if c.component == best.component]
        said += [Said(one_line(c.text), c.evidence[:2]) for c in backing[:3] if c.text != best.statement]
        if best.weighed:
            said.append(Said(f"How it was weighed: {'; '.join(best.weighed)}."))
        return said

    async def _considered(self, _: Intent) -> list[Said | Sentence]:
        considered = list(self.view.report.considered)
        return [*considered] or [Said("Nothing else was suspected: no other explanation had evidence.")]

    async def _sure(self, _: Intent) -> list[Said | Sentence]:
        best = self.view.best
        if best is None:
            return [Said("Not at all: no explanation is supported by evidence.")]
        said: list[Said | Sentence] = [
            Said(f"{percent(best.confidence)} sure that {_inside(best.statement)}.", best.evidence[:3])
        ]
        if best.by:
            said.append(Said(f"It was named by {', '.join(best.by)}."))
        said += [Said(f"{w[:1].upper()}{w[1:]}.") for w in best.weighed]
        if best.against:
            said.append(Said("There is evidence against it.", best.against[:3]))
        rival = next((h for h in self.view.hypotheses[1:] if h.component != best.component), None)
        if rival:
            said.append(
                Said(
                    f"The next best, at {percent(rival.confidence)}: {one_line(rival.statement)}",
                    rival.evidence[:2],
                )
            )
        said += [Said(f"Doubt: {one_line(d.text)}") for d in self.view.report.gates]
        return said

    async def _since(self, _: Intent) -> list[Said | Sentence]:
        return list(self.view.report.since) or [Said("When it began cannot be seen from what was found.")]

    async def _bad(self, _: Intent) -> list[Said | Sentence]:
        report = self.view.report
        said: list[Said | Sentence] = [*report.impact]
        if report.blast_radius:
            said.append(Said(f"Affected: {', '.join(report.blast_radius)}."))
        if report.severity:
            said.append(Said(f"The alert's severity is {report.severity}."))
        return said or [Said("How bad it is cannot be seen from what was found.")]

    async def _hit(self, intent: Intent) -> list[Said | Sentence]:
        """Whether the components that the message names show symptoms, and what they show."""
        said: list[Said | Sentence] = []
        for name in intent.about[:2]:
            hurt = [c for c in (name, *self._alike(name)) if c in self.view.report.blast_radius]
            verdict = (
                f"Yes, {hurt[0]} shows symptoms." if hurt else f"Nothing found says that {name} is affected."
            )
            said += [Said(verdict), *(self._known_about(name) or await self._fresh_about(name))]
        return said

    async def _timeline(self, _: Intent) -> list[Said | Sentence]:
        moments = self.view.report.timeline
        said = [Sentence(text=f"{clock(m.at)}  {m.text}", cites=m.cites) for m in moments]
        return [*said] or [Said("Nothing that was found has a time.")]

    async def _todo(self, _: Intent) -> list[Said | Sentence]:
        return list(to_do(self.view.report))

    async def _guidance(self, _: Intent) -> list[Said | Sentence]:
        passages = self.view.report.guidance
        if not passages:
            return [Said("No runbook passage fits this case.")]
        return [Said(f"{g.title} ({g.where}): {' '.join(g.passage.split())[:500]}") for g in passages]

    async def _evidence(self, _: Intent) -> list[Said | Sentence]:
        best = self.view.best
        if best is None:
            return [Said("There is no explanation, so no evidence for one.")]
        said: list[Said | Sentence] = [Said(f"For “{best.statement.rstrip('.')}”:")]
        said += [Said(f"{e.tool} says “{_clip(e.quote)}”", (e,)) for e in best.evidence[:6]]
        said += [Said(f"Against it, {e.tool} says “{_clip(e.quote)}”", (e,)) for e in best.against[:3]]
        return [*said, Said("/show N opens a reference: the call, its arguments, its result, its record.")]

    async def _logs(self, intent: Intent) -> list[Said | Sentence]:
        return [*await self.looks.logs(self._component(intent))]

    async def _metrics(self, intent: Intent) -> list[Said | Sentence]:
        return [*await self.looks.metrics(self._component(intent))]

    async def _traces(self, intent: Intent) -> list[Said | Sentence]:
        return [*await self.looks.traces(self._component(intent))]

    def _component(self, intent: Intent) -> str:
        """The component a message names, else the one the case is about."""
        named = next((n for n in intent.about if n in self.view.components), "")
        alike = named or next((c for n in intent.about for c in self._alike(n)), "")
        best = self.view.best
        services = scope_of(self.view.state).services
        return alike or (best.component if best else "") or next(iter(services), "")

    def _alike(self, topic: str) -> list[str]:
        """Components whose names say what a topic means."""
        return [c for c in self.view.components if any(w in c.lower() for w in TOPICS.get(topic, ()))]

    async def _over(self, _: Intent) -> list[Said | Sentence]:
        recovery = self.view.report.recovery
        if recovery:
            return list(recovery)
        best = self.view.best
        radius = self.view.report.blast_radius
        component = (best.component if best else "") or next(iter(radius), "")
        moved = [m for m in await self.looks.movements(component) if m.size >= 0.5] if component else []
        if not moved:
            return [Said("I cannot see whether it is over: no metric of what was affected can be compared.")]
        still = [m for m in moved if not m.recovered]
        if not still:
            return [Said(f"It looks over for {component}."), *(m.said for m in moved[:3])]
        return [Said(f"No, it is not over for {component}."), *(m.said for m in still[:3])]

    async def _who(self, _: Intent) -> list[Said | Sentence]:
        best = self.view.best
        suspect = next((h for h in self.view.hypotheses if _is_change(h)), None)
        component = (suspect or best).component if (suspect or best) else ""  # type: ignore[union-attr]
        results = {r.tool: r for r in await self.looks.changes()}
        deploy = _deploy_of(suspect, component, results.get("changes__deploys"))
        said: list[Said | Sentence] = []
        sha = suspect.object.partition("/")[2] if suspect and suspect.object.startswith("commit/") else ""
        if deploy:
            row, evidence = deploy
            sha = sha or str(row.get("commit") or "")
            actor = row.get("actor") or "somebody who is not recorded"
            version = f" {row['version']}" if row.get("version") else ""
            said.append(
                Said(f"{actor} deployed {row['service']}{version} at {clock_of(row['timestamp'])}.", evidence)
            )
        if commit := _commit_of(sha, results.get("changes__commits")):
            row, evidence = commit
            subject = str(row.get("message", "")).partition("\n")[0]
            said.append(Said(f"{row.get('author')} wrote commit {row['sha'][:12]}: “{subject}”.", evidence))
        if suspect is None:
            said.insert(
                0, Said("No change explains this; the nearest one before it began was:" if said else "")
            )
        said = [s for s in said if s.text]
        return said or [Said("No deploy or commit before it began is known, so nobody can be named.")]

    async def _changes(self, intent: Intent) -> list[Said | Sentence]:
        component = next((n for n in intent.about if n in self.view.components), "")
        results = await self.looks.changes(component)
        lines = [(line, r) for r in results for line in r.text.splitlines()[1:] if line[:4].isdigit()]
        lines.sort(key=lambda pair: pair[0], reverse=True)
        said: list[Said | Sentence] = []
        suspect = next((h for h in self.view.hypotheses if _is_change(h)), None)
        if suspect:
            said.append(Said(f"The change that matters: {one_line(suspect.statement)}", suspect.evidence[:3]))
        where = f" of {component}" if component else ""
        if not lines:
            return said or [Said(f"No deploy, commit or flag change{where} is known from the day before.")]
        said.append(Said(f"Everything{where} from the day before, the latest first:"))
        return [*said, *(Said(_clip(line, 240), (r.quote(line[:400]),)) for line, r in lines[:8])]

    async def _about(self, intent: Intent) -> list[Said | Sentence]:
        said: list[Said | Sentence] = []
        for name in intent.about[:2]:
            known = self._known_about(name)
            said += known or await self._fresh_about(name)
        return said

    def _known_about(self, name: str) -> list[Said | Sentence]:
        """What the case already holds about a component or a topic."""
        said: list[Said | Sentence] = []
        for hypothesis in self.view.hypotheses:
            if not self._concerns(name, hypothesis.component, hypothesis.statement):
                continue
            if hypothesis.rank == 1:
                lead = f"It is part of the leading explanation ({percent(hypothesis.confidence)} sure)"
                said.append(Said(f"{lead}: {one_line(hypothesis.statement)}", hypothesis.evidence[:3]))
            else:
                said.append(
                    Said(f"{one_line(hypothesis.statement)} {why_not(hypothesis)}", hypothesis.evidence[:2])
                )
        own = {name, *self._alike(name)}
        for kinds, most in ((("ruled_out",), 3), (("symptom", "cause", "change", "impact"), 2)):
            claims = self.view.claims(*kinds)
            about = [c for c in claims if c.component in own] or [
                c for c in claims if self._concerns(name, "", c.text.partition(":")[0])
            ]
            said += [Said(one_line(c.text), c.evidence[:2]) for c in about[:most]]
        return said[:5]

    async def _fresh_about(self, name: str) -> list[Said | Sentence]:
        """A new look at a component that nobody had to say anything about."""
        components = [name] if name in self.view.components else self._alike(name)
        if not components:
            known = ", ".join(self.view.components) or "none"
            return [
                Said(f"Nothing that was found points to the {name}. The components of this case: {known}.")
            ]
        component = components[0]
        moved = [m for m in await self.looks.movements(component) if m.size >= 0.5]
        if moved:
            return [Said(f"{component} changed too, and nobody blamed it:"), *(m.said for m in moved[:2])]
        lines = await self.looks.logs(component)
        return [Said(f"No metric of {component} moved noticeably since it began."), *lines[:3]]

    def _concerns(self, name: str, component: str, text: str) -> bool:
        if name in self.view.components:
            return component == name or name in text
        words = TOPICS.get(name, (name,))
        hay = f" {component} {text} ".lower()
        return any(f" {w}" in hay or f"{w} " in hay or f"-{w}" in hay or f"{w}-" in hay for w in words)

    async def _help(self, _: Intent) -> list[Said | Sentence]:
        return [Said(f"You can ask me: {ABILITIES}. Commands: /help lists them.")]

    async def _thanks(self, _: Intent) -> list[Said | Sentence]:
        return [Said(f"You are welcome. The report is under /report, the case is {self.view.case}.")]

    async def _unknown(self, intent: Intent) -> list[Said | Sentence]:
        what = f": nothing called {_listed(intent.unknown)} is in this case" if intent.unknown else ""
        known = f" It is about {', '.join(self.view.components)}." if self.view.components and what else ""
        return [Said(f"I cannot answer that from this case{what}.{known} You can ask me: {ABILITIES}.")]


def clock_of(text: str) -> str:
    """A recorded time in words."""
    from coordinator.trigger import when

    moment = when(text)
    return clock(moment) if moment else text


def _is_change(hypothesis: Hypothesis) -> bool:
    return is_change(
        Cause(
            category=hypothesis.category,
            object=hypothesis.object,
            label="",
            statement="",
            confidence=0,
            evidence=(),
        )
    )


Row = tuple[dict[str, Any], tuple[Any, ...]]


def _deploy_of(suspect: Hypothesis | None, component: str, result: ToolResult | None) -> Row | None:
    """The deploy that brought a change, else the last one of a component; with the line that says so."""
    rows = [] if result is None or not isinstance(result.data, dict) else result.data.get("deploys") or []
    sha = suspect.object.partition("/")[2] if suspect else ""
    ours = [r for r in rows if sha and str(r.get("commit") or "").startswith(sha[:12])]
    ours = ours or [r for r in rows if r.get("service") == component]
    if not ours or result is None:
        return None
    row = max(ours, key=lambda r: str(r["timestamp"]))
    if suspect and suspect.at:
        row = min(ours, key=lambda r: abs((_time(r["timestamp"]) - suspect.at).total_seconds()))
    line = result.cite(str(row["timestamp"]), str(row["service"]))
    return (row, (line,) if line else ())


def _commit_of(sha: str, result: ToolResult | None) -> Row | None:
    rows = [] if result is None or not isinstance(result.data, dict) else result.data.get("commits") or []
    row = next((r for r in rows if sha and (r["sha"].startswith(sha) or sha.startswith(r["sha"]))), None)
    if row is None or result is None:
        return None
    line = result.cite(str(row["sha"])[:12], str(row["timestamp"]))
    return (row, (line,) if line else ())


def _time(text: str) -> Any:
    from coordinator.trigger import when

    return when(text)


def _inside(text: str) -> str:
    text = text.rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _clip(text: str, limit: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"“{w}”" for w in words[:3])
