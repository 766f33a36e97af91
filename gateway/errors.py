"""What can go wrong in the gateway.

GatewayError
├── UsageError             an argument or a name that cannot be right
├── PolicyError            a policy that does not read or does not fit the schema
├── LedgerError            the ledger says no
│   ├── LedgerUnavailable  it cannot be written or read just now: nothing runs unrecorded
│   ├── LedgerBroken       verification found records that are not as they were written
│   ├── KeyTaken           another call holds this idempotency key
│   └── ApprovalSpent      the approval is used, expired, or was given for another call
└── ApprovalError          an approval that is unknown, decided already, or not this person's to decide
"""

from __future__ import annotations


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


class LedgerBroken(LedgerError):
    """Verification found records that are not as they were written."""

    code = "ledger_broken"


class KeyTaken(LedgerError):
    """Another call holds this idempotency key; look it up with `find_key`."""

    code = "key_conflict"


class ApprovalSpent(LedgerError):
    """The approval is used, expired, or was given for another call."""

    code = "approval_spent"
    exit_code = 3


class ApprovalError(GatewayError):
    """An approval that is unknown, decided already, or not this person's to decide."""

    code = "approval_refused"
    exit_code = 3
