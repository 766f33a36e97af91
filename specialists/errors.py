"""What can go wrong in a specialist.

SpecialistsError                 base; `code` is stable, `exit_code` is what the command line exits with
├── SettingsError                2  a table of the settings cannot be used
├── UnknownSpecialist            2  nobody of that name is on the roster
├── SpecialistUnavailable        1  its class cannot be loaded
├── QuoteError                   1  the words do not stand in the result that should carry them
├── ToolFailed                   1  a tool answered an error, for callers that asked for an exception
├── Refused                      3  the gateway refused a call, for callers that asked for an exception
├── ApprovalPending              4  a call waits for a person
├── AgentFailed                  1  a remote agent refused its task, or answered no finding
│   └── AgentTokenRefused        3  it does not take our token
├── AgentLost                    5  a remote agent cannot be reached, or stopped answering
├── KeptAtHome                   3  policy does not let this case go to a hosted model
├── ModelError                   5  the model endpoint is down, refuses, or answers nonsense
│   ├── BudgetSpent              5  the case has spent the tokens its specialist may use
│   └── ThreadGone               5  the provider no longer has the thread to go on with
└── GatewayLost                  5  the gateway cannot be reached, or stopped answering
    └── TokenRefused             5  it does not know this token

Every message reads "what: why; what to do now".
"""

from __future__ import annotations

from typing import Any


class SpecialistsError(Exception):
    """Something a specialist, its settings or its way to the gateway could not do."""

    code = "specialists_error"
    exit_code = 1


class SettingsError(SpecialistsError):
    """The settings cannot be used; the message names file and key."""

    code = "settings_invalid"
    exit_code = 2


class UnknownSpecialist(SpecialistsError):
    """Nobody of that name is on the roster."""

    code = "unknown_specialist"
    exit_code = 2


class SpecialistUnavailable(SpecialistsError):
    """The class named for a specialist cannot be loaded."""

    code = "specialist_unavailable"


class QuoteError(SpecialistsError):
    """The words are not a literal part of the result they were quoted from."""

    code = "quote_not_found"


class ToolFailed(SpecialistsError):
    """A tool ran and answered an error."""

    code = "tool_failed"


class Refused(SpecialistsError):
    """The gateway refused a call; `refusal` holds its code and rules."""

    code = "refused"
    exit_code = 3

    def __init__(self, message: str, refusal: Any) -> None:
        super().__init__(message)
        self.refusal = refusal


class ApprovalPending(SpecialistsError):
    """A call waits for a person's grant; the same call may be made again afterwards."""

    code = "approval_pending"
    exit_code = 4

    def __init__(self, approval_id: str, tool: str, arguments: dict[str, Any], call: str = "") -> None:
        super().__init__(
            f"{tool}: waits for approval {approval_id or '(no id given)'}; "
            f"grant it with `pointsman approvals grant {approval_id} --reason WHY` and resume"
        )
        self.approval_id = approval_id
        self.tool = tool
        self.arguments = arguments
        self.call = call


class AgentFailed(SpecialistsError):
    """A remote agent refused its task, or answered what is no finding."""

    code = "agent_failed"


class AgentTokenRefused(AgentFailed):
    """A remote agent does not take our token."""

    code = "agent_token_refused"
    exit_code = 3


class AgentLost(SpecialistsError):
    """A remote agent cannot be reached, or stopped answering."""

    code = "agent_lost"
    exit_code = 5


class ModelError(SpecialistsError):
    """The model endpoint did not give a usable answer."""

    code = "model_failed"
    exit_code = 5


class BudgetSpent(ModelError):
    """The case has spent the tokens that this specialist may use."""

    code = "budget_spent"


class ThreadGone(ModelError):
    """The provider no longer has the answer that this task would go on from."""

    code = "thread_gone"


class KeptAtHome(SpecialistsError):
    """Policy does not let what this case has seen go to a hosted model."""

    code = "kept_at_home"
    exit_code = 3


class GatewayLost(SpecialistsError):
    """The gateway cannot be reached, or stopped answering."""

    code = "gateway_lost"
    exit_code = 5


class TokenRefused(GatewayLost):
    """The gateway does not accept this token."""

    code = "token_refused"
    exit_code = 3
