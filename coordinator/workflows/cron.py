"""What can be wrong with a schedule: its cron expression, its time zone."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from coordinator.errors import UsageError


def zone(name: str) -> ZoneInfo:
    """The time zone of this name; UsageError if there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"{name!r} is no time zone: write one such as Europe/Berlin or UTC") from None


def checked(cron: str) -> str:
    """The expression, if it is one; UsageError says how one is written."""
    from croniter import croniter

    if len(cron.split()) in (5, 6) and croniter.is_valid(cron, second_at_beginning=True):
        return cron
    raise UsageError(
        f"{cron!r} is no cron expression: write minute, hour, day, month and day of the week, such as "
        '"0 7 * * 1-5"'
    )
