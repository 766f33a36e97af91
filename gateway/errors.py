"""What can go wrong in the gateway.

GatewayError
├── UsageError             an argument or a name that cannot be right
├── PolicyError            a policy that does not read or does not fit the schema
├── LedgerError            the ledger says no
│   ├── LedgerUnavailable  it cannot be written or read just now: nothing runs unrecorded
│   ├── KeyTaken           another call holds this idempotency key
│   ├── BudgetSpent        the case has made its calls, at other gateways too
│   ├── LabelsGained       the run has seen more at another gateway: decide again
│   └── ApprovalSpent      the approval is used, expired, or was given for another call
├── ApprovalError          an approval that is unknown, decided already, or not this person's to decide
├── MintRefused            a token that this one may not issue, whatever policy says
├── NotIdentified          a bearer token that cannot be taken; HTTP says so before the body is read
├── RpcError               a JSON-RPC error, ours or an upstream's: the protocol is broken, or says no itself
│   ├── ParseError         -32700: not JSON as we read it
│   ├── InvalidRequest     -32600: JSON, but not a message we take
│   ├── MethodNotFound     -32601
│   ├── InvalidParams      -32602
│   └── HeaderMismatch     -32020: headers and body disagree
├── Refusal                the road says no, with a stable code (REFUSALS) a model can act on
├── UpstreamFailed         a server could not be reached or did not answer; names the stage
├── ServersFileError       mcp.json does not read; names file and line
├── NotYet                 something a server needs is still starting
├── GatewayRunning         another gateway holds this home, or the port is taken
└── GatewayUnreachable     a gateway runs in this home and does not answer
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.types import Rule

REFUSALS = {
    "denied": "No policy rule lets this subject do this.",
    "approval_pending": "Policy lets this run once a person agrees; the approval waits.",
    "approval_denied": "A person has said no to exactly this call.",
    "unknown_tool": "There is no such tool, prompt or resource here.",
    "quarantined": "The definition is not approved, has changed since, or its name is taken twice.",
    "invalid_arguments": "The arguments do not fit the approved schema.",
    "limit_exceeded": "The subject has too many calls in flight, or has used up its budget.",
    "upstream_unavailable": "The tool server cannot be reached, or broke off.",
    "credential_missing": "The tool server wants a token of the person a call is for, and there is none.",
    "deadline_exceeded": "The tool server did not answer in time.",
    "result_too_large": "The result is larger than may pass.",
    "schema_mismatch": "The result does not fit the approved output schema.",
    "key_conflict": "The idempotency key was used for a different call.",
    "ledger_unavailable": "The ledger cannot be written, so nothing may run.",
}


class GatewayError(Exception):
    """Anything the gateway reports: what happened, why, and what to do now."""

    code = "failed"
    exit_code = 1


class UsageError(GatewayError):
    """An argument or a name that cannot be right."""

    code = "usage"
    exit_code = 2


class PolicyError(GatewayError):
    """A policy that does not read or does not fit the schema; names file, line and column."""

    code = "policy_invalid"
    exit_code = 2


class LedgerError(GatewayError):
    """The ledger says no."""

    code = "ledger"


class LedgerUnavailable(LedgerError):
    """The ledger cannot be written or read just now, so nothing may run."""

    code = "ledger_unavailable"
    exit_code = 5


class KeyTaken(LedgerError):
    """Another call holds this idempotency key; look it up with `find_key`."""

    code = "key_conflict"


class BudgetSpent(LedgerError):
    """The case has made as many calls as it may, counting those at other gateways."""

    code = "limit_exceeded"
    exit_code = 3


class LabelsGained(LedgerError):
    """The run has seen labels at another gateway that the decision did not know of: label → when."""

    code = "labels_gained"

    def __init__(self, message: str, labels: dict[str, float]) -> None:
        super().__init__(message)
        self.labels = labels


class ApprovalSpent(LedgerError):
    """The approval is used, expired, or was given for another call."""

    code = "approval_spent"
    exit_code = 3


class ApprovalError(GatewayError):
    """An approval that is unknown, decided already, or not this person's to decide."""

    code = "approval_refused"
    exit_code = 3


class MintRefused(GatewayError):
    """A token that this one may not issue, whatever policy says."""

    code = "mint_refused"
    exit_code = 3


class NotIdentified(GatewayError):
    """A bearer token that cannot be taken: why, the HTTP status, and the scope that would be needed."""

    code = "not_identified"
    exit_code = 3

    def __init__(
        self, message: str, *, status: int = 401, scope: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = 403 if scope else status
        self.scope = scope
        self.retry_after = retry_after


class RpcError(GatewayError):
    """A JSON-RPC error, ours or an upstream's."""

    code = "protocol"
    number = -32603

    def __init__(self, message: str, *, number: int = 0, data: Any = None) -> None:
        super().__init__(message)
        self.number = number or self.number
        self.data = data

    def body(self) -> dict[str, Any]:
        """The `error` member of the JSON-RPC answer."""
        error: dict[str, Any] = {"code": self.number, "message": str(self)}
        return error if self.data is None else {**error, "data": self.data}


class ParseError(RpcError):
    """Not JSON as the strict reader takes it."""

    number = -32700


class InvalidRequest(RpcError):
    """JSON, but not a message the gateway takes."""

    number = -32600


class MethodNotFound(RpcError):
    """A method that is not served here."""

    number = -32601


class InvalidParams(RpcError):
    """Parameters that do not fit the method."""

    number = -32602


class HeaderMismatch(RpcError):
    """Headers and body disagree."""

    number = -32020


class Refusal(GatewayError):
    """The road says no: a code of REFUSALS, what was refused and why, and what to do."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        rules: tuple[Rule, ...] = (),
        approval: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.rules = rules
        self.approval = approval
        self.retry_after = retry_after
        self.exit_code = {"approval_pending": 4, "upstream_unavailable": 5, "deadline_exceeded": 5}.get(
            code, 3
        )


class UpstreamFailed(GatewayError):
    """A server could not be reached or did not answer; `stage` says where, `sent` whether it may have run."""

    code = "upstream"
    exit_code = 5

    def __init__(
        self, stage: str, reason: str, *, sent: bool = False, refusal: str = "upstream_unavailable"
    ) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason
        self.sent = sent
        self.refusal = refusal


class ServersFileError(GatewayError):
    """An mcp.json that does not read or says something impossible; names file and line."""

    code = "servers_file"
    exit_code = 2


class NotYet(GatewayError):
    """Something a server needs is still starting: look again when it has."""

    code = "not_yet"
    exit_code = 5


class GatewayRunning(GatewayError):
    """Another gateway holds this home, or the port is taken."""

    code = "running"


class GatewayUnreachable(GatewayError):
    """A gateway runs in this home and does not answer."""

    code = "gateway_unreachable"
    exit_code = 5
