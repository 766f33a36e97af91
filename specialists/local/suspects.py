"""Suspects: changes weighed by when they went live, where they act, what they do, and what the errors say."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from specialists.local import diffs, times
from specialists.local.casework import same_service, short
from specialists.local.diffs import Effect, FileDiff
from specialists.local.facts import OUTSIDE, Facts, tokens

if TYPE_CHECKING:
    from specialists.toolbox import ToolResult

AFTER = timedelta(seconds=20)  # a change this much later than the first bad sample came after it
LONG_AFTER = timedelta(seconds=120)
SHARED = re.compile(r"(^|/)(pkg|lib|libs|internal|common|shared|core|platform|packages|util|utils)/", re.I)
ENOUGH = 1.9  # points from which a change is named as the cause


@dataclass
class Suspect:
    """One change: a deployed commit, a commit alone, a deploy alone, or a flag."""

    key: str  # commit id, "flag/NAME" or "deploy/SERVICE@VERSION"
    message: str = ""
    author: str = ""
    made: datetime | None = None
    files: tuple[str, ...] = ()
    deploy: dict[str, Any] | None = None  # the deploy that carries it
    direct: bool = False  # whether the deploy names this very commit
    flag: dict[str, Any] | None = None
    listed: ToolResult | None = None  # the answer that lists the commit or flag
    shown: ToolResult | None = None  # the answer with the diff
    diff: list[FileDiff] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    points: float = 0.0
    pros: list[str] = field(default_factory=list)
    cons: list[str] = field(default_factory=list)
    struck: str = ""  # why it cannot be the cause, if so
    match: float = 0.0  # how far its words are the errors' words
    needle: str = ""  # what of it stands in the errors

    @property
    def live(self) -> datetime | None:
        """When it took effect."""
        return times.parse(self.deploy["timestamp"]) if self.deploy else self.made

    @property
    def first(self) -> bool:
        """Whether it is the first deploy known of a service, of which nobody knows what it changed."""
        return self.key.startswith("deploy/") and not (self.deploy or {}).get("previous")

    @property
    def service(self) -> str:
        """Where it took effect."""
        return (self.deploy or self.flag or {}).get("service", "")

    @property
    def name(self) -> str:
        """What people call it."""
        if self.flag:
            return f"flag {self.flag['flag']} ({self.flag['change']})"
        if self.key.startswith("deploy/"):
            return f"the deploy of {self.service} {(self.deploy or {}).get('version', '')}".strip()
        return f"commit {self.key[:8]} (“{self.message.splitlines()[0][:70] if self.message else ''}”)"


def collect(
    commits: list[dict[str, Any]], deploys: list[dict[str, Any]], flags: list[dict[str, Any]]
) -> list[Suspect]:
    """All changes, each with the deploy that made it live."""
    known = {c["sha"]: c for c in commits}
    found = [_commit(c) for c in commits]
    by_sha = {s.key: s for s in found}
    ordered = sorted(deploys, key=lambda d: d["timestamp"])
    for deploy in ordered:
        sha = _match(deploy.get("commit") or "", known)
        suspect = by_sha.get(sha) if sha else None
        if suspect is None:
            key = f"deploy/{deploy['service']}@{deploy.get('version', '')}"
            found.append(Suspect(key=key, deploy=deploy, direct=True, made=times.parse(deploy["timestamp"])))
        elif suspect.deploy is None:
            suspect.deploy, suspect.direct = deploy, True
    if any(d.get("commit") for d in deploys):
        _carried(found, ordered, known)
    for flag in flags:
        found.append(
            Suspect(key=f"flag/{flag['flag']}", flag=flag, made=times.parse(flag["timestamp"]), direct=True)
        )
    return found


def _commit(c: dict[str, Any]) -> Suspect:
    return Suspect(
        key=c["sha"],
        message=c.get("message", ""),
        author=c.get("author", ""),
        made=times.parse(c.get("timestamp")),
        files=tuple(c.get("files") or ()),
    )


def _match(sha: str, known: dict[str, Any]) -> str:
    if sha in known:
        return sha
    return next((k for k in known if sha and len(sha) >= 6 and (k.startswith(sha) or sha.startswith(k))), "")


def _carried(found: list[Suspect], deploys: list[dict[str, Any]], known: dict[str, Any]) -> None:
    """A later deploy of the same service also carries the commits made before its own."""
    for suspect in found:
        if suspect.deploy or not suspect.made or suspect.key not in known:
            continue
        for deploy in deploys:
            head = known.get(_match(deploy.get("commit") or "", known))
            made = times.parse(head["timestamp"]) if head else times.parse(deploy["timestamp"])
            own = any(_owns(deploy["service"], path) for path in suspect.files)
            shared = any(SHARED.search(path) for path in suspect.files)
            if made and suspect.made <= made and (own or shared):
                suspect.deploy = deploy
                break


def _owns(service: str, path: str) -> bool:
    return any(
        same_service(service, part) or short(service) == part.lower() for part in re.split(r"[/.]", path)
    )


def worth_reading(suspects: list[Suspect], facts: Facts, limit: int) -> list[Suspect]:
    """The commits whose diffs are worth a call: near in time, on the path, and not only tests or text."""
    real = [
        s
        for s in suspects
        if not s.flag
        and not s.key.startswith("deploy/")
        and not s.struck
        and not (s.files and all(diffs.file_kind(f) in diffs.HARMLESS for f in s.files))
    ]
    ranked = sorted(real, key=lambda s: -(s.points + s.match))
    near = [s for s in ranked if s.points + s.match >= ranked[0].points + ranked[0].match - 2.5]
    return near[:limit]


def weigh(suspects: list[Suspect], facts: Facts) -> None:
    """Give every suspect its points and the reasons for and against it."""
    rarity = _rarity(suspects)
    undeployable = not any(s.deploy for s in suspects)
    for s in suspects:
        s.points, s.pros, s.cons, s.struck = 0.0, [], [], ""
        _time(s, facts)
        _place(s, facts, undeployable)
        _deeds(s)
        _words(s, facts, rarity)


def _time(s: Suspect, facts: Facts) -> None:
    live = s.live
    if live is None or facts.onset is None:
        return
    gap = facts.onset - live
    if gap < -LONG_AFTER or (facts.measured and gap < -AFTER):
        s.struck = f"it came {times.distance(gap)} after the trouble began"
        return
    minutes = max(0.0, gap.total_seconds() / 60)
    s.points += 1.0 - 0.55 * math.log2(1 + minutes / 15)
    if minutes <= 20:
        s.pros.append(f"it went live {times.distance(gap)} before the trouble began")
    elif minutes > 45:
        s.cons.append(f"it ran {times.distance(gap)} without trouble")


def _place(s: Suspect, facts: Facts, undeployable: bool) -> None:
    if s.first:
        s.points -= 1.2
        s.cons.append("no change of that service is known with it")
    if not s.deploy and not s.flag and not undeployable:
        s.points -= 2.5
        s.cons.append("no deploy carries it")
    elif s.deploy and not s.direct:
        s.points -= 0.7
    places = [s.service] if s.service else [short(p) for f in s.files for p in f.split("/")[:-1]]
    weight = max((facts.weight(p) for p in places), default=0.0)
    shared = any(SHARED.search(f) for f in s.files)
    if weight >= 0.5:
        s.points += 0.9 * weight
        s.pros.append(f"it acts on {s.service or 'the failing part'}, where the trouble shows")
    elif weight > 0 or shared:
        s.points += 0.2
    elif s.service:
        s.points -= 0.8
        s.cons.append(f"it acts on {s.service}, which is not on the path of the trouble")
    elif undeployable and facts.focus:
        s.points -= 1.0
        s.cons.append("no deploy is known, and its files name no part of the system that is in trouble")


def _deeds(s: Suspect) -> None:
    if s.flag:
        s.points -= 0.5
        return
    if s.files and all(diffs.file_kind(f) in diffs.HARMLESS for f in s.files):
        s.points -= 2.5
        s.cons.append("it touches only tests, text or looks")
        return
    if s.shown is None:
        s.points -= 0.3
        return
    s.effects = sorted((e for f in s.diff for e in diffs.effects(f)), key=lambda e: -e.weight)
    if not s.effects:
        s.points -= 1.6
        s.cons.append("its diff changes no behaviour" if s.diff else "no diff of it is known")
        return
    top = s.effects[0]
    s.points += 1.2 * top.weight - 0.6 + 0.1 * min(2, len(s.effects) - 1)
    if top.kind == "dependency":
        s.cons.append(f"it only {top.text}")
    elif top.weight <= 0.5 and diffs.SAME_WORK.search(s.message):
        s.points -= 0.5
        s.cons.append("its diff does the same work in other words")


def _rarity(suspects: list[Suspect]) -> dict[str, float]:
    seen: Counter[str] = Counter()
    for s in suspects:
        seen.update(set(_own_tokens(s)))
    return {w: math.log(1 + max(10, len(suspects)) / n) for w, n in seen.items()}


def _own_tokens(s: Suspect) -> list[str]:
    if s.flag:
        return tokens(s.flag["flag"])
    changed = [line for f in s.diff for line in (*f.removed, *f.added)]
    heads = [line for f in s.diff for line in f.context if line.startswith("@@")]
    return tokens(" ".join([s.message, *s.files, *changed, *heads]))


def _words(s: Suspect, facts: Facts, rarity: dict[str, float]) -> None:
    """How far the errors speak of what this change touches."""
    services = {t for name in facts.focus for t in tokens(name)}
    common = (set(_own_tokens(s)) & set(facts.words)) - services
    s.match = min(1.0, sum(rarity.get(w, 0.0) for w in common) / 9.0)
    s.points += 0.8 * s.match
    if s.flag:
        s.points += 0.8 * len(common) / max(1, len(set(_own_tokens(s)) - services))
    for path in s.files:
        if re.search(rf"(?<![\w/]){re.escape(path)}(?::\d+)?", facts.text):
            s.points += 1.5
            s.needle = path
            s.pros.append(f"the errors point into {path}")
            break
    literal = _literal(s, facts)
    if literal:
        s.points += 1.2
        s.needle = s.needle or literal
        s.pros.append(f"the errors name “{literal}”, which it changes")
    elif named := _named_thing(s, facts):
        s.points += 0.8
        s.needle = s.needle or named
        s.pros.append(f"the errors name “{named}”, which it touches")
    function = _function(s, facts)
    if function:
        s.points += 0.7
        s.needle = s.needle or function
        s.pros.append(f"it changes {function}, which the errors name")
    lines = "\n".join(e.line for e in s.effects if e.weight >= 0.35) + "\n" + "\n".join(s.files)
    if s.effects and any(m.touches.search(lines) for m in facts.mechanisms if m.touches.pattern != "."):
        s.points += 0.35
    if facts.slow and any(e.kind == "loop" for e in s.effects):
        s.points += 0.8
        s.pros.append("requests wait or make more calls than before, which such a loop does")


def _literal(s: Suspect, facts: Facts) -> str:
    """A name that the change removes and the errors ask for."""
    for effect in s.effects:
        if effect.kind != "literal":
            continue
        both = re.search(r'changes "([^"]{3,80})" to "([^"]{3,80})"', effect.text)
        for word in both.groups() if both else ():
            if re.search(rf"[\[\"'`(<=/ ]{re.escape(word)}[\]\"'`)>.,:/ ]", facts.text):
                return word
    return ""


def _named_thing(s: Suspect, facts: Facts) -> str:
    """A field, key or setting that the errors name in quotes or brackets and that a changed line contains."""
    changed = "\n".join(line for f in s.diff for line in (*f.removed, *f.added))
    return next((n for n in facts.named if re.search(rf"(?<!\w){re.escape(n)}(?!\w)", changed)), "")


def _function(s: Suspect, facts: Facts) -> str:
    """A function in a header of the diff that a stack trace or an operation names."""
    names = {
        n
        for f in s.diff
        for line in f.context
        if line.startswith("@@")
        for n in re.findall(r"([A-Za-z_]\w{5,})\s*\(", line)
        if re.search(r"[a-z][A-Z]|_[a-z]", n)
    }
    return next((n for n in sorted(names) if re.search(rf"[.\s:#]{re.escape(n)}\b", facts.text)), "")


def behind(s: Suspect, label: str, said_by_provider: bool = False) -> bool:
    """Whether a change could be what made a cause from outside come about."""
    pattern = OUTSIDE.get(label)
    if pattern is None or s.struck or s.points < ENOUGH * 0.6:
        return False
    strong = [e for e in s.effects if e.weight >= 0.6]
    if label == "provider_outage" and said_by_provider:
        strong = [e for e in strong if not re.search(r"timeout|retry|attempt|backoff", e.line, re.I)]
    if s.flag:
        return bool(pattern.search(s.flag["flag"]))
    return any(pattern.search(e.line) or pattern.search(e.text) for e in strong)
