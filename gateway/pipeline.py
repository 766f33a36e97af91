"""The one road: every call goes through `Gateway.call`, in the order of its lines, and leaves by one door."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from dataclasses import dataclass
from typing import Any

from gateway.approvals import Approvals
from gateway.caller import Caller
from gateway.canonical import digest
from gateway.catalogue import Catalogue
from gateway.errors import (
    ApprovalSpent,
    BudgetSpent,
    KeyTaken,
    LabelsGained,
    LedgerError,
    Refusal,
    RpcError,
    UpstreamFailed,
)
from gateway.labels import Labels, Seen
from gateway.ledger import Also, Ledger
from gateway.limits import Limits
from gateway.meters import Meters, Note
from gateway.policy import Policy
from gateway.redaction import Redactor
from gateway.refusals import APPROVAL, denied, refusal_error, refusal_result, waiting
from gateway.seal import Sealer
from gateway.server import now_ms
from gateway.settings import Settings
from gateway.shares import SharedFlow
from gateway.targets import VERBS, Target, Targets
from gateway.timers import Deadline, Timers
from gateway.tracing import Tracing
from gateway.types import Call, Decision
from gateway.upstream import Upstream

log = logging.getLogger("gateway.pipeline")
LOOK_SECONDS = 0.05  # between looks at a key that another gateway works on
STATE_KEYS = ("inputResponses", "requestState")


@dataclass(slots=True)
class Ending:
    """How a call ended: with a result, an error of the server's own, or a refusal on the way."""

    status: str  # ok | error | unknown
    result: dict[str, Any] | None = None
    error: RpcError | None = None
    refusal: Refusal | None = None
    replayed: str = ""  # the call whose recorded outcome this is
    packed: bytes | None = None  # the result as the ledger keeps it, from the check until it is recorded


class Gateway:
    """Decides, records and runs calls."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        approvals: Approvals,
        catalogue: Catalogue,
        targets: Targets,
        policy: Policy,
        redactor: Redactor,
        sealer: Sealer,
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.approvals = approvals
        self.catalogue = catalogue
        self.targets = targets
        self.policy = policy
        self.redactor = redactor
        self.sealer = sealer
        self._shared = ledger.store.database.shared  # with other gateways
        self.limits = Limits(settings, ledger, SharedFlow(ledger.store) if self._shared else None)
        self.labels = Labels(ledger)
        self.meters = Meters()
        self.timers = Timers()
        self.tracing: Tracing | None = None  # only where spans are sent
        self.builtin: dict[str, Upstream] = {}  # the servers that are parts of the gateway
        self._boot = "c_" + secrets.token_hex(6)
        self._calls = itertools.count(1)
        self._under_way: dict[tuple[str, str], asyncio.Event] = {}  # by subject and key
        self._holds: dict[str, tuple[str, str]] = {}  # by call

    async def prepare(self) -> Gateway:
        """Create the tables of what gateways on one database count together."""
        if self._shared:
            await self.limits.prepare()
            await self.labels.prepare()
        return self

    async def call(self, caller: Caller, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Run one call for this caller; its result, or a refusal as a result."""
        call: Call | None = None
        note = Note()
        if self.tracing is not None:
            params = self.tracing.begin(note, method, params)
        try:
            subject = caller.subject  # 1 identify: the front read the token before the body
            with await self.limits.admit(subject):  # 2 admit
                target = await self.targets.find(caller, method, params)  # 3 find; by the pinned schema
                call, params = self.accept(caller, target, params)
                with await self.limits.use(subject, call.tool):
                    seen = await self.labels.of(subject)
                    decision = self.decide(call, seen, note)  # 4 decide
                    approval, recorded = await self.settle(call, decision)  # 5 settle approval, idempotency
                    if recorded is not None:
                        note.ending = recorded
                        return self.release(call, caller, recorded, seen)
                    await self.limits.spend(call)  # 6 spend
                    recorded = await self.intend(call, decision, approval, seen, note)  # 7 record the intent
                    if recorded is not None:
                        note.ending = recorded
                        return self.release(call, caller, recorded, seen)
                    started = now_ms()
                    ending = await self.run(call, caller, target, params)  # 8 run
                    note.upstream = (now_ms() - started) / 1000
                    note.ending = ending = self.check(call, target, ending)  # 9 check
                    await self.conclude(call, ending, now_ms() - started, seen)  # 10 record the outcome
                    return self.release(call, caller, ending, seen)
        except Refusal as refusal:
            note.refusal = refusal
            return await self.refused(caller, method, params, call, refusal)
        except LedgerError as error:
            note.refusal = Refusal("ledger_unavailable", f"nothing was run: {error}", retry_after=5)
            return await self.refused(caller, method, params, call, note.refusal)
        finally:
            self._done(call)
            self.meters.call(note, call)
            if self.tracing is not None and note.span is not None:
                self.tracing.end(note, call, method)

    # -- 3: what is asked for ----------------------------------------------------------------------

    def accept(self, caller: Caller, target: Target, params: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
        """The call as the road knows it, and the parameters as the server will get them."""
        meta = params.get("_meta") or {}
        key = meta.get("pointsman/key", "")
        if not isinstance(key, str) or len(key) > 200:
            raise Refusal("invalid_arguments", "pointsman/key must be a string of at most 200 characters")
        arguments = target.arguments
        fingerprint = digest(arguments)
        call = Call(
            id=f"{self._boot}{next(self._calls):06x}",
            verb=VERBS[target.method],
            subject=caller.subject,
            tool=target.tool,
            arguments=arguments,
            digest=fingerprint,
            key=key,
            meta=meta,
        )
        params = self.targets.outgoing(target, params)
        params = self._opened(call, params)
        if key and any(
            name in params for name in STATE_KEYS
        ):  # another round of the same call is another call
            round_key = f"{key}#{digest([params.get(name) for name in STATE_KEYS])[:16]}"
            call = Call(call.id, call.verb, call.subject, call.tool, arguments, fingerprint, round_key, meta)
        return call, params

    def _opened(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters with our own sealed state taken out and the server's put back."""
        state = params.get("requestState")
        if not isinstance(state, str) or not state.startswith("pointsman."):
            return params
        kept = self.sealer.open(state, _binding(call))
        rest = {name: value for name, value in params.items() if name not in STATE_KEYS}
        return {**rest, **kept}

    # -- 4, 5, 7: may it -----------------------------------------------------------------------------

    def decide(self, call: Call, seen: Seen, note: Note) -> Decision:
        """What policy says, with the arguments and what this run has already seen."""
        context = {"environment": self.settings.environment, "labels": seen.labels()}
        decision = self.policy.decide(call.subject, call.verb, call.tool, call.arguments, context)
        note.decision = decision
        if decision.verdict == "deny":
            raise denied(call, decision)
        return decision

    async def settle(self, call: Call, decision: Decision) -> tuple[str, Ending | None]:
        """The granted approval to spend, or what the ledger holds under the call's key."""
        if call.key and (recorded := await self._recorded(call)) is not None:
            return "", recorded
        if call.meta.get("pointsman/recorded"):  # asked for what is recorded, and nothing is
            raise await self._unrecorded(call, decision)
        return await self.consent(call, decision), None

    async def consent(self, call: Call, decision: Decision) -> str:
        """The granted approval to spend; empty where none is needed."""
        if decision.verdict == "call":
            return ""
        approval = await self.approvals.settle(call, decision)
        if approval.status == "granted":
            return approval.id
        raise waiting(call, decision, approval)

    async def _recorded(self, call: Call) -> Ending | None:
        slot = (call.subject.id, call.key)
        while (running := self._under_way.get(slot)) is not None:
            await running.wait()
        self._under_way[slot] = asyncio.Event()
        self._holds[call.id] = slot
        return await self._found(call)

    async def _found(self, call: Call) -> Ending | None:
        """What the ledger holds under the key, once no other gateway works on it any more."""
        patience = time.monotonic() + self.deadline(call)
        while (found := await self.ledger.find_key(call.subject, call.key)) and found.status == "running":
            if time.monotonic() > patience:
                raise Refusal(
                    "upstream_unavailable",
                    f"call {found.call} under this key is still under way: ask again for what it gives",
                    retry_after=5,
                )
            await asyncio.sleep(LOOK_SECONDS)
        if found is None:
            return None
        if (found.tool, found.digest) != (call.tool.public, call.digest):
            raise Refusal(
                "key_conflict", f"key {call.key!r} belongs to call {found.call}, a different one: use another"
            )
        if found.status in ("ok", "error") and found.result is not None:
            error = found.result.get("error") if set(found.result) == {"error"} else None
            if error is not None:
                told = RpcError(error["message"], number=error["code"], data=error.get("data"))
                return Ending("error", error=told, replayed=found.call)
            return Ending(found.status, found.result, replayed=found.call)
        if found.status == "unknown" and not (call.tool.read_only or call.tool.idempotent):
            raise Refusal(
                "upstream_unavailable",
                f"call {found.call} under this key was cut off and may have run: look at what it did, "
                "and use another key to make it again",
            )
        return None

    async def _unrecorded(self, call: Call, decision: Decision) -> Refusal:
        """Why there is nothing to replay: the call waits for a person, or was never made."""
        if decision.verdict != "call":
            return waiting(call, decision, await self.approvals.settle(call, decision))
        return Refusal(
            "key_conflict", "nothing is recorded under this key: make the call without pointsman/recorded"
        )

    async def intend(
        self, call: Call, decision: Decision, approval: str, seen: Seen, note: Note
    ) -> Ending | None:
        """Write the intent, which spends the approval; what cannot be written does not run.

        An ending instead where another gateway has taken the key since it was looked for.
        """
        try:
            note.seq = await self.ledger.intent(call, decision, approval, self._together(call, seen))
            return None
        except LabelsGained as gained:
            for label, moment in gained.labels.items():
                seen.add((label,), moment)
            decision = self.decide(call, seen, note)
            return await self.intend(call, decision, await self.consent(call, decision), seen, note)
        except BudgetSpent:
            raise await self.limits.refuse(call) from None
        except ApprovalSpent as spent:
            raise Refusal(
                "approval_pending", f"{spent}; make the call again to ask anew", approval=approval
            ) from None
        except KeyTaken as taken:
            if (recorded := await self._found(call)) is not None:
                return recorded
            raise Refusal("key_conflict", str(taken)) from None
        except LedgerError as error:
            raise Refusal(
                "ledger_unavailable", f"{call.tool.public} did not run: {error}", retry_after=5
            ) from None

    def _together(self, call: Call, seen: Seen) -> list[Also]:
        """What other gateways on the same database have a say in, as the intent is written."""
        if not self._shared:
            return []
        charge = self.limits.charge(call)
        check = self.labels.check(call.subject, seen)
        return [check] if charge is None else [check, charge]

    # -- 8, 9, 10: do it -----------------------------------------------------------------------------

    async def run(self, call: Call, caller: Caller, target: Target, params: dict[str, Any]) -> Ending:
        """The server's answer within the deadline; tried once more only where that cannot do harm."""
        started = now_ms()
        ending = Ending("cancelled")
        try:
            with Deadline(self.timers, self.deadline(call)):
                ending = Ending("ok", await self._ask(call, caller, target, params))
        except RpcError as error:
            ending = Ending("error", error=error)
        except UpstreamFailed as failed:
            ending = Ending("unknown" if failed.sent else "error", refusal=_failure(call, failed))
        except TimeoutError:
            seconds = self.deadline(call)
            message = f"{call.tool.public} gave no answer within {seconds:g} s and may have run: ask for less"
            ending = Ending("unknown", refusal=Refusal("deadline_exceeded", message))
        except asyncio.CancelledError:
            await asyncio.shield(self.ledger.outcome(call, {}, status="cancelled", ms=now_ms() - started))
            raise
        except Exception:  # whatever a server makes of us, a call that went out gets its outcome
            log.exception("%s failed", call.tool.public)
            message = (
                f"{call.tool.public} failed and may have run: a mistake of ours, which stands in the log"
            )
            ending = Ending("unknown", refusal=Refusal("upstream_unavailable", message))
        self.catalogue.count(call.tool.server, now_ms() - started, ending.refusal is None)
        return ending

    async def _ask(
        self, call: Call, caller: Caller, target: Target, params: dict[str, Any]
    ) -> dict[str, Any]:
        try:
            return await self._send(call, caller, target, params)
        except UpstreamFailed as failed:
            if failed.refusal == "credential_missing":  # nothing is wrong with the server
                raise
            self.catalogue.broken(call.tool.server)
            harmless = not failed.sent or call.tool.read_only or call.tool.idempotent
            if not harmless or failed.refusal != "upstream_unavailable":
                raise
        await asyncio.sleep(0.05)
        return await self._send(call, caller, target, params)

    async def _send(
        self, call: Call, caller: Caller, target: Target, params: dict[str, Any]
    ) -> dict[str, Any]:
        if (own := self.builtin.get(call.tool.server)) is not None:
            return await own.request(target.method, params, caller)
        with await self.catalogue.connection(call.tool) as upstream:
            return await upstream.request(target.method, params, caller)

    def deadline(self, call: Call) -> float:
        """Seconds this call may take."""
        server = self.catalogue.servers.get(call.tool.server)
        return (server.entry.timeout if server else 0) or self.settings.call_seconds

    def check(self, call: Call, target: Target, ending: Ending) -> Ending:
        """The result if it may pass: it fits the approved schema, and carries no secret of ours."""
        result = ending.result
        if result is None:
            return ending
        check = self.catalogue.checks.get(call.tool.digest, (None, None))[1]
        promised = "structuredContent" in result and result.get("isError") is not True
        if check is not None and promised and (trouble := check.problem(result["structuredContent"])):
            message = f"the result of {call.tool.public} does not fit its approved schema: {trouble}"
            return Ending("error", refusal=Refusal("schema_mismatch", message))
        packed = None
        if call.tool.server != "gateway":
            packed, result = self.redactor.pack(self.targets.cleaned(target, result))
        return Ending("error" if result.get("isError") is True else "ok", result, packed=packed)

    async def conclude(self, call: Call, ending: Ending, ms: float, seen: Seen) -> None:
        """Write the outcome; what cannot be written is not released."""
        if ending.refusal is not None:
            told = refusal_result(ending.refusal, call, "legacy")
        elif ending.error is not None:
            told = {"error": ending.error.body()}
        else:
            told = {} if ending.result is None else ending.result
        try:
            packed, ending.packed = ending.packed, None  # a large result is not held twice from here on
            tell = self.labels.tell(call.subject, seen, call.tool.labels) if self._shared else None
            await self.ledger.outcome(call, told, status=ending.status, ms=ms, packed=packed, also=tell)
            if tell is not None:
                seen.told |= dict.fromkeys(call.tool.labels, time.time())
        except LedgerError as error:
            message = f"{call.tool.public} ran, but its outcome cannot be recorded: {error}"
            raise Refusal("ledger_unavailable", message) from None

    def release(self, call: Call, caller: Caller, ending: Ending, seen: Seen) -> dict[str, Any]:
        """The result as the caller's era has it, with the call's id where the caller gave a key."""
        if call.tool.labels:
            seen.add(call.tool.labels)
        if ending.error is not None:
            raise ending.error
        if ending.refusal is not None:
            if call.verb != "call":
                raise refusal_error(ending.refusal, call)
            return refusal_result(ending.refusal, call, caller.era)
        result = ending.result or {}
        if call.key:
            meta = {**(result.get("_meta") or {}), "pointsman/call": ending.replayed or call.id}
            result = {**result, "_meta": {**meta, "pointsman/replayed": True} if ending.replayed else meta}
        if caller.era == "modern" and "resultType" not in result:
            result = {**result, "resultType": "complete"}
        if result.get("cacheScope") == "public":  # decided for this subject, and for nobody else
            result = {**result, "cacheScope": "private"}
        return result

    # -- the door ------------------------------------------------------------------------------------

    async def refused(
        self, caller: Caller, method: str, params: dict[str, Any], call: Call | None, refusal: Refusal
    ) -> dict[str, Any]:
        """The one door by which a refusal leaves: recorded, then told in a form a model can act on."""
        try:
            name = str(params.get("name") or params.get("uri") or "")
            facts = {} if call is not None else {"tool": name[:200], "verb": VERBS.get(method, "call")}
            await self.ledger.refusal(caller.subject, refusal, call, **facts)
        except LedgerError as error:
            refusal = Refusal("ledger_unavailable", f"nothing runs unrecorded: {error}", retry_after=5)
        if method != "tools/call":
            raise refusal_error(refusal, call, params.get("uri"))
        asks = (
            refusal.code == "approval_pending"
            and caller.era == "modern"
            and "elicitation" in caller.capabilities
        )
        if asks and call is not None:
            kept = {name: params[name] for name in STATE_KEYS if name in params}
            kept["inputResponses"] = {
                k: v for k, v in kept.get("inputResponses", {}).items() if k != APPROVAL
            }
            state = self.sealer.seal({k: v for k, v in kept.items() if v}, _binding(call))
            return refusal_result(refusal, call, caller.era, state)
        return refusal_result(refusal, call, caller.era)

    def _done(self, call: Call | None) -> None:
        slot = self._holds.pop(call.id, None) if call is not None else None
        if slot is not None:
            self._under_way.pop(slot).set()


def _binding(call: Call) -> str:
    return "\0".join((call.subject.id, call.verb, call.tool.server, call.tool.name, call.digest))


def _failure(call: Call, failed: UpstreamFailed) -> Refusal:
    may = " and may have run" if failed.sent else ""
    message = f"{call.tool.public} failed{may}: server {call.tool.server}, {failed.stage}: {failed.reason}"
    return Refusal(failed.refusal, message, retry_after=5)
