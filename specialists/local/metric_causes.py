"""Causes that numbers alone can show: demand, expiry, exhaustion, name resolution, providers, fan-out."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from specialists.local import indicators, times
from specialists.local.casework import same_service
from specialists.local.indicators import PAIN
from specialists.local.moved import Moved, ahead
from specialists.local.sampling import Read
from specialists.types import Cause


def explain(trouble: list[Moved], reads: list[Read], first: Moved) -> list[Cause]:
    """Causes that numbers alone can show."""
    found = [surge(trouble, first), expiry(reads, first), exhausted(trouble, first), resolver(trouble, first)]
    found += [provider(trouble, first), multiplied(trouble, first)]
    return [c for c in found if c is not None]


def surge(trouble: list[Moved], first: Moved) -> Cause | None:
    """More demand than usual everywhere, before or with the trouble."""
    slack = timedelta(seconds=3 * first.shift.series.step)
    traffic = [m for m in trouble if m.kind == "requests" and m.shift.up and m.shift.ratio >= 1.4]
    early = [m for m in traffic if m.onset <= first.onset + slack]
    services = {m.service for m in trouble if m.bad}
    if not early or not any(m.service == first.service for m in early):
        return None
    ratios = [m.shift.ratio for m in early]
    everywhere = len({m.service for m in early}) >= max(1, len(services) // 2)
    even = max(ratios) <= 2.5 * min(ratios)
    top = next(m for m in early if m.service == first.service)
    sure = 0.75 if everywhere and even and len(early) >= 2 else 0.5
    strained = [m for m in trouble if m.kind in {"cpu", "queue", "saturation", "connections"} and m.bad]
    names = ", ".join(sorted({m.service for m in early}))
    return Cause(
        category="saturation",
        object=f"service/{first.service}",
        label="traffic_surge",
        statement=(
            f"Demand rose {top.shift.ratio:.1f} times at {times.clock(top.onset)} on {names} "
            f"and is more than {first.service} has capacity for ({top.reading()})."
        ),
        confidence=min(0.9, sure + (0.1 if strained else 0.0)),
        evidence=tuple(m.evidence for m in (early[:2] + strained[:2])),
        at=top.onset,
        remedy=f"Add capacity: scale out {first.service} and what it calls, or shed load until demand falls.",
    )


def expiry(reads: list[Read], first: Moved) -> Cause | None:
    """A countdown that reached zero when the trouble began."""
    for one in reads:
        series = one.series
        if indicators.kind(series.metric, series.unit) != "expiry" or len(series.v) < 3:
            continue
        crossed = np.flatnonzero((series.v[:-1] > 0) & (series.v[1:] <= 0))
        if not len(crossed):
            continue
        when = times.at(float(series.t[crossed[0] + 1]))
        if abs((when - first.onset).total_seconds()) > 600 + 2 * series.step:
            continue
        certificate = any(w in series.metric.lower() for w in ("cert", "tls", "ssl", "x509"))
        what = "certificate" if certificate else "credential or lease"
        return Cause(
            category="expiry",
            object=f"service/{series.service}",
            label="certificate_expired" if certificate else "credential_expired",
            statement=(
                f"The {what} of {series.service} ran out at {times.clock(when)} ({series.metric} reached 0), "
                f"the moment {first.service} began to fail."
            ),
            confidence=0.85,
            evidence=(one.figures, first.evidence),
            at=when,
            remedy=f"Renew the {what} of {series.service} and reload what uses it; no rollback helps.",
        )
    return None


def exhausted(trouble: list[Moved], first: Moved) -> Cause | None:
    """A resource of the first service (or of one below it) that filled up before users felt it."""
    slack = timedelta(seconds=3 * first.shift.series.step)
    names: dict[str, tuple[str, str]] = {
        "disk": ("disk_full", "free space or stop what fills the disk"),
        "memory": ("memory_exhausted", "restart to win time, and look for what holds the memory"),
        "connections": ("pool_exhausted", "look for what holds connections, then raise the limit"),
        "queue": ("queue_backlog", "find the slow consumer or add consumers"),
        "cpu": ("cpu_saturated", "find the expensive work or add capacity"),
        "saturation": ("workers_saturated", "find what holds the workers or add capacity"),
    }
    full = [m for m in trouble if m.kind in names and m.bad and m.onset <= first.onset + slack]
    if not full:
        return None
    best = min(
        full, key=lambda m: (not same_service(m.service, first.service), m.kind != "disk", -m.size, m.onset)
    )
    label, remedy = names[best.kind]
    return Cause(
        category="saturation",
        object=f"service/{best.service}",
        label=label,
        statement=(
            f"{best.service} ran short of {indicators.WORDS[best.kind]}: {best.shift.series.metric} "
            f"{best.reading()} from {times.clock(best.onset)}."
        ),
        confidence=round(0.45 + 0.3 * ahead(best, trouble), 3),
        evidence=best.words if best is first else (*best.words, first.evidence),
        at=best.onset,
        remedy=remedy[0].upper() + remedy[1:] + ".",
    )


def resolver(trouble: list[Moved], first: Moved) -> Cause | None:
    """Name resolution that failed when several services did."""
    dns = [m for m in trouble if m.bad and _named(m, ("dns", "resolver", "servfail", "nxdomain"))]
    if not dns:
        return None
    others = {m.service for m in trouble if m.bad and m.kind in PAIN} - {m.service for m in dns}
    best = max(dns, key=lambda m: m.size)
    return Cause(
        category="infrastructure",
        object=f"service/{best.service}",
        label="dns_failure",
        statement=(
            f"Name resolution failed from {times.clock(best.onset)} ({best.shift.series.metric} of "
            f"{best.service} {best.reading()}) and {len(others)} services that depend on it failed with it."
        ),
        confidence=0.8 if len(others) >= 2 else 0.65,
        evidence=(*(m.evidence for m in dns[:2]), first.evidence),
        at=best.onset,
        remedy="Restore the resolver or point to a second one; escalate to whoever runs DNS.",
    )


def provider(trouble: list[Moved], first: Moved) -> Cause | None:
    """An indicator of a provider outside this system that went bad with the service that calls it."""
    outside = [
        m for m in trouble if m.bad and m.kind in PAIN and _named(m, ("provider", "third_party", "external"))
    ]
    if not outside:
        return None
    best = max(outside, key=lambda m: m.size)
    return Cause(
        category="dependency",
        object=f"service/{best.service}",
        label="provider_outage",
        statement=(
            f"The provider that {best.service} calls went bad at {times.clock(best.onset)} "
            f"({best.shift.series.metric} {best.reading()})."
        ),
        confidence=0.65,
        evidence=(best.evidence,),
        at=best.onset,
        remedy="Fail over to a second provider or degrade gracefully; escalate to the provider.",
    )


def multiplied(trouble: list[Moved], first: Moved) -> Cause | None:
    """Each request makes more queries or calls than it did."""
    slack = timedelta(seconds=3 * first.shift.series.step)
    more = [m for m in trouble if m.kind == "calls" and m.shift.up and m.onset <= first.onset + slack]
    if not more:
        return None
    best = max(more, key=lambda m: (same_service(m.service, first.service), m.shift.ratio))
    return Cause(
        category="code",
        object=f"service/{best.service}",
        label="calls_multiplied",
        statement=(
            f"{best.service} makes more calls for each request: {best.shift.series.metric} {best.reading()} "
            f"from {times.clock(best.onset)}."
        ),
        confidence=0.6,
        evidence=best.words,
        at=best.onset,
        remedy=f"Undo the change that multiplied the calls of {best.service}.",
    )


def _named(m: Moved, words: tuple[str, ...]) -> bool:
    name = f"{m.service} {m.shift.series.metric}".lower()
    return any(w in name for w in words)
