"""Times: read them, write them for people, and say how far apart they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def parse(text: object) -> datetime | None:
    """The moment a timestamp names, in UTC, or None when it names none."""
    if isinstance(text, datetime):
        return text if text.tzinfo else text.replace(tzinfo=UTC)
    if isinstance(text, int | float):
        return datetime.fromtimestamp(text / 1000 if text > 1e11 else text, UTC)
    try:
        moment = datetime.fromisoformat(str(text).strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    if moment.year < 1970:  # Alertmanager writes 0001-01-01 for "not ended"
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def iso(moment: datetime) -> str:
    """RFC 3339 in UTC, as the tools want it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def at(epoch: float) -> datetime:
    """The moment of a Unix time."""
    return datetime.fromtimestamp(float(epoch), UTC)


def clock(moment: datetime | None) -> str:
    """The time of day as a person reads it."""
    return moment.astimezone(UTC).strftime("%H:%M:%S UTC") if moment else "an unknown time"


def distance(span: timedelta | float) -> str:
    """A duration in words: "40 s", "7 min", "2 h 10 min"."""
    seconds = abs(span.total_seconds() if isinstance(span, timedelta) else span)
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest and hours < 24 else f"{hours} h"
