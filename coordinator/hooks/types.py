"""The words of a delivery: what arrived, and the alerts in it."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Literal

from specialists.types import Value


class Alert(Value):
    """One alert, whatever sent it, in the shape of Alertmanager v4 under `body`."""

    fingerprint: str  # equal for two notifications about the same trouble
    status: Literal["firing", "resolved"]
    title: str
    service: str = ""
    severity: str = ""
    at: datetime | None = None  # when it began
    body: dict[str, Any]

    @property
    def name(self) -> str:
        """The rule that fired, as far as the alert tells."""
        return str((self.body.get("labels") or {}).get("alertname") or self.title)


class Delivery(Value):
    """One HTTP request of a source, verified and read."""

    source: str
    key: str  # equal for a delivery that is sent again
    alerts: tuple[Alert, ...] = ()  # none: nothing a case is opened for
    note: str = ""  # why there is none


def fingerprint_of(*parts: Any) -> str:
    """A short name for these parts, the same every time."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()[:16]
