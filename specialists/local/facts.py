"""Facts: what the findings of others say, brought into the form that weighing changes needs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

from specialists.local.casework import Casebook, onset, same_service
from specialists.local.mechanisms import Mechanism, mechanism
from specialists.types import Cause, Task

# Causes that come about without a change of ours, and what a change must touch to be behind them after all.
OUTSIDE: dict[str, re.Pattern[str]] = {
    label: re.compile(pattern, re.I)
    for label, pattern in {
        "traffic_surge": r"retr(y|ies)|attempt|poll|interval|cron|schedul|broadcast|prefetch|replica"
        "|scal|cache|ttl",
        "certificate_expired": r"cert|\.pem|\.crt|not_?after|validity|secret_?name|ca_?bundle"
        "|insecureskipverify",
        "credential_expired": r"token|secret|credential|lease|api_?key|expir",
        "dns_failure": r"dns|resolv|nameserver|ndots|hostname|hosts?\s*[:=]|\.svc|\.local\b|https?://",
        "provider_outage": r"https?://|base_?url|endpoint|api_?key|api_?version|credential|proxy|egress"
        "|\btimeout",
        "database_failover": r"primary|replica|dsn|database_?url|failover|read_?only|connection_?string",
        "clock_drift": r"leeway|skew|toleran|ntp|clock|time_?zone",
        "quota_exhausted": r"quota|limit|plan|tier|batch|retr(y|ies)|loop|interval",
        "node_failure": r"affinity|toleration|taint|node|zone|network_?policy|security_?group|route",
    }.items()
}

STOP = frozenset(
    re.findall(
        r"\w+",
        """
        the and for with from that this was were not has have had are its into while new error errors failed
        fail failure line lines since before after service services http https log logs logged info warn
        count call calls called utc post get put request requests response returned return status code
        upstream above below value first more than rose fell last min max mean critical serious slight times
        frequent normal because api func string err nil null none true false int var let const def class
        self import package type struct context ctx handler chore refactor feat fix docs test style perf
        helper add update remove change use move
        """,
    )
)


@dataclass(frozen=True)
class Facts:
    """When it began, where it shows, how it fails, in the words of errors and of the alert."""

    onset: datetime | None
    measured: bool  # whether the onset was seen in data, or is only when the alert fired
    focus: dict[str, float]  # services, the likeliest place of the cause at 1.0
    text: str  # error texts, as they were quoted
    words: Counter[str]
    mechanisms: tuple[Mechanism, ...]
    outside: tuple[Cause, ...]  # leads that need no change of ours, surest first
    named: tuple[str, ...]  # fields, keys and settings that errors name in quotes or brackets
    slow: bool  # whether waiting or multiplied calls are part of it

    @classmethod
    def of(cls, task: Task, book: Casebook) -> Facts:
        """From the leads and claims of a task; with neither, from the alert alone."""
        began = onset(task)
        told = [c for c in task.claims if c.kind in {"symptom", "context"}]
        quoted = [
            e.quote
            for c in told
            if c.evidence and not c.evidence[0].tool.startswith("metrics")
            for e in c.evidence
        ]
        text = "\n".join(
            [book.alert.text, *quoted, *(c.text for c in told), *(c.statement for c in task.leads)]
        )
        found = [m for c in told if (m := mechanism(_quoted(c.text)))]
        alerted = mechanism(book.alert.text)
        return cls(
            onset=began or book.alert.fired or task.scope.now,
            measured=began is not None,
            focus=_focus(task, book),
            text=text,
            words=Counter(tokens(text)),
            mechanisms=tuple(dict.fromkeys([*found, *([alerted] if alerted else [])])),
            named=_named_things("\n".join([book.alert.text, *quoted])),
            slow=any(c.label in SLOW for c in task.leads) or any(m.label in SLOW for m in found),
            outside=tuple(sorted((c for c in task.leads if c.label in OUTSIDE), key=lambda c: -c.confidence)),
        )

    def weight(self, service: str) -> float:
        """How likely the cause sits in a service, 0 when nothing points there."""
        return max((w for s, w in self.focus.items() if same_service(s, service)), default=0.0)


SLOW = frozenset(
    {"calls_multiplied", "slow_operation", "timeouts", "pool_exhausted", "connections_exhausted"}
)


def _named_things(text: str) -> tuple[str, ...]:
    quoted = re.findall(r"[\[\"'`“]([A-Za-z_][\w.-]{2,40})[\]\"'`”]", text)
    kinds = r"(?:field|column|key|attribute|variable|table|index|setting|property|relation|topic|parameter)"
    told = re.findall(rf"\b{kinds}[ :=]+[\[\"'`]?([A-Za-z_][\w.-]{{2,40}})", text)
    common = {"not", "does", "error", "null", "true", "false", "none", "missing", "found", "value", "exists"}
    return tuple(dict.fromkeys(n.strip(".") for n in [*quoted, *told] if n.lower() not in common))


def _quoted(text: str) -> str:
    match = re.search(r"“([^”]+)”", text)
    return match[1] if match else ""


def _focus(task: Task, book: Casebook) -> dict[str, float]:
    """Services weighed by the leads and symptoms that name them, and by the alert."""
    weights: defaultdict[str, float] = defaultdict(float)
    if book.alert.service:
        weights[book.alert.service] += 0.6
    for lead in task.leads:
        kind, _, name = lead.object.partition("/")
        if kind in {"service", "app", "deployment"} and name:
            weights[name] += lead.confidence
    for claim in task.claims:
        if claim.kind == "symptom" and claim.component:
            weights[claim.component] += 0.25 * claim.confidence
    most = max(weights.values(), default=1.0)
    return {name: weight / most for name, weight in weights.items()}


def tokens(text: str) -> list[str]:
    """Words of a text or of code: camel and snake case taken apart, endings cut, common words left out."""
    parts = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]{2,}", text)
    words = (stem(p.lower()) for p in parts)
    return [w for w in words if len(w) >= 3 and w not in STOP]


def stem(word: str) -> str:
    """A word without its usual English endings."""
    for ending in (
        "ations",
        "ation",
        "ings",
        "ing",
        "ied",
        "ies",
        "ions",
        "ion",
        "ed",
        "es",
        "s",
        "er",
        "y",
        "e",
    ):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
