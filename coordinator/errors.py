"""What can go wrong in the coordinator.

CoordinatorError
├── UsageError             the command or its input is wrong
│   ├── TriggerUnreadable  an alert, a recording or a question that cannot be read
│   └── CaseUnknown        no case of that id here
├── GatewayUnreachable     no gateway answers, or a private one did not start
│   └── GatewayNotStarted  a private one did not start, and said why
├── GatewayRefused         the gateway refused something the coordinator needs
├── DatabaseDown           the database of the cases does not answer
├── ReportUnsound          a citation of a report does not resolve; nothing is delivered
└── CaseHeld               another process runs the case

What is wrong with settings is `specialists.errors.SettingsError`.
"""

from __future__ import annotations


class CoordinatorError(Exception):
    """Anything the coordinator reports: what happened, why, and what to do now."""

    code = "failed"
    exit_code = 1


class CaseHeld(CoordinatorError):
    """Another process runs the case."""

    code = "case_held"


class UsageError(CoordinatorError):
    """The command or its input is wrong."""

    code = "usage"
    exit_code = 2


class TriggerUnreadable(UsageError):
    """An alert, a recording or a question that cannot be read."""

    code = "trigger_unreadable"


class CaseUnknown(UsageError):
    """No case of that id is kept in this home."""

    code = "case_unknown"


class GatewayUnreachable(CoordinatorError):
    """No gateway answers, or a private one did not start."""

    code = "gateway_unreachable"
    exit_code = 5


class GatewayNotStarted(GatewayUnreachable):
    """A private gateway did not start; in its own words, with its own exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class GatewayRefused(CoordinatorError):
    """The gateway refused something the coordinator needs for a case."""

    code = "gateway_refused"
    exit_code = 3


class DatabaseDown(CoordinatorError):
    """The database that cases are kept in does not answer."""

    code = "database_down"
    exit_code = 5


class ReportUnsound(CoordinatorError):
    """A citation of a report does not resolve, so the report is not delivered."""

    code = "report_unsound"
