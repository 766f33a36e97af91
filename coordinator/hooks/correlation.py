"""Which case an alert belongs to: the same trouble, the same service, a neighbour, or one storm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from coordinator.hooks.types import Alert

JOINS = timedelta(minutes=30)  # after its last alert a case takes no further one but its own
NEAR = timedelta(minutes=10)  # for a neighbour in the call graph
STORM = timedelta(seconds=60)  # so many services in so short a time have one cause, known or not
STORM_SERVICES = 4
USUAL = 5  # cases a day from which on an alert is noise that proves no connection


@dataclass
class Open:
    """A case that may still take alerts."""

    case: str
    started: datetime
    last: datetime
    firing: dict[str, Alert] = field(default_factory=dict)
    resolved: set[str] = field(default_factory=set)
    services: dict[str, datetime] = field(default_factory=dict)  # its alerts are about, and since when last

    def add(self, alert: Alert, now: datetime) -> None:
        """Take an alert in, or note that it is over."""
        self.last = now
        if alert.status == "resolved":
            self.firing.pop(alert.fingerprint, None)
            self.resolved.add(alert.fingerprint)
            return
        if alert.service and alert.fingerprint not in self.firing:
            self.services[alert.service] = now
        self.firing[alert.fingerprint] = alert
        self.resolved.discard(alert.fingerprint)

    def knows(self, fingerprint: str) -> bool:
        """Whether this alert has been part of it."""
        return fingerprint in self.firing or fingerprint in self.resolved


class Correlator:
    """Puts alerts together. `usual` says in how many cases of the last day an alert has been."""

    def __init__(self, usual: Callable[[str], int] = lambda fingerprint: 0) -> None:
        self._usual = usual
        self.cases: dict[str, Open] = {}
        self.neighbours: dict[str, set[str]] = {}  # by service; empty where no call graph is known

    def place(self, alert: Alert, now: datetime) -> tuple[str, str]:
        """The case an alert belongs to and why, in words; an empty case: it needs one of its own."""
        self._forget(now)
        latest = sorted(self.cases.values(), key=lambda one: one.last, reverse=True)
        for one in latest:
            if one.knows(alert.fingerprint):
                return one.case, "the same alert"
        if alert.status == "resolved":
            return "", "nothing of it is open"
        if alert.service and (found := next((one for one in latest if alert.service in one.services), None)):
            return found.case, f"another alert is about {alert.service}"
        if self._usual(alert.fingerprint) >= USUAL:
            return "", "it fires so often that it proves no connection"
        return (
            self._neighbour(alert, latest, now)
            or self._storm(alert, latest, now)
            or ("", "the first of its kind")
        )

    def _neighbour(self, alert: Alert, latest: Iterable[Open], now: datetime) -> tuple[str, str] | None:
        near = self.neighbours.get(alert.service, set())
        for one in latest:
            if now - one.last <= NEAR and (shared := near & one.services.keys()):
                return one.case, f"{alert.service} and {min(shared)} call each other"
        return None

    def _storm(self, alert: Alert, latest: Iterable[Open], now: datetime) -> tuple[str, str] | None:
        """The case most of a storm went to; a storm is told by how many services fire in a short time."""
        recent = {
            one.case: {name for name, at in one.services.items() if now - at <= STORM} for one in latest
        }
        hit = {alert.service}.union(*recent.values())
        if not recent or len(hit) < STORM_SERVICES:
            return None
        most = max(recent, key=lambda case: len(recent[case]))
        return most, f"{len(hit)} services fired within {STORM.total_seconds():g} s"

    def holding(self, fingerprint: str) -> str:
        """The case in which this alert still fires, as far as this remembers; empty when there is none."""
        found = [one for one in self.cases.values() if fingerprint in one.firing]
        return max(found, key=lambda one: one.last).case if found else ""

    def join(self, case: str, alert: Alert, now: datetime) -> Open:
        """Put an alert into a case, which is opened when it is not there."""
        one = self.cases.setdefault(case, Open(case, now, now))
        one.add(alert, now)
        return one

    def _forget(self, now: datetime) -> None:
        for one in [one for one in self.cases.values() if now - one.last > JOINS]:
            del self.cases[one.case]


def neighbours_of(edges: Iterable[dict[str, object]]) -> dict[str, set[str]]:
    """Who stands next to whom, from the edges of `traces__dependencies`."""
    near: dict[str, set[str]] = {}
    for edge in edges:
        one, other = str(edge.get("caller") or ""), str(edge.get("callee") or "")
        if one and other and one != other:
            near.setdefault(one, set()).add(other)
            near.setdefault(other, set()).add(one)
    return near


def utc_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)
