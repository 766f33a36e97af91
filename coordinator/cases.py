"""Runs cases: opens one, resumes one, answers what one waits for. The API that doors and evaluation use."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator import deliveries, reminders
from coordinator.case_index import CaseIndex
from coordinator.desk import Desk, ignore
from coordinator.errors import CaseUnknown, CoordinatorError
from coordinator.gates import Thresholds
from coordinator.gateway_client import Access, GatewayClient
from coordinator.outbox import BACK_OFF, Outbox
from coordinator.retrying import again_from
from coordinator.types import CaseResult, CaseState, Outgoing, Report, Trigger, Waiting
from coordinator.workflows.library import Library
from specialists import tracing
from specialists.link import Pool
from specialists.types import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langgraph.runtime import RunControl

    from specialists.roster import Roster

os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")  # a checkpoint revives plain values only
RECURSION_LIMIT = 400


@dataclass(frozen=True, slots=True)
class Go:
    """How a run goes on."""

    control: RunControl | None = None  # LangGraph's handle to stop it between two steps (GraphDrained)
    attempt: int = 0  # beyond 0: calls that an earlier attempt made are made anew
    step: str = ""  # the step to go again from


GO = Go()


class CaseRunner:
    """Takes cases through the graph, checkpointed in HOME/checkpoints.db or the database that is set."""

    def __init__(
        self,
        access: Access,
        roster: Roster,
        home: Path,
        *,
        seconds: float = 60.0,
        thresholds: Thresholds | None = None,
        tell: Callable[[Progress], None] = ignore,
        deliver_to: Iterable[str] = (),
        database: str = "",
        workflows: Library | None = None,
    ) -> None:
        self.deliver_to = tuple(deliver_to)
        self.access, self.roster, self.home = access, roster, home
        self.workflows = workflows or Library()
        self.index, self.database = CaseIndex(home, database), database
        self.seconds, self.thresholds, self.tell = seconds, thresholds or Thresholds(), tell
        self._open = AsyncExitStack()
        self._graph: Any = None
        self._pool: Pool

    async def __aenter__(self) -> CaseRunner:
        from coordinator.checkpoints import open_saver
        from coordinator.graph import compile_graph

        self._open.callback(self.index.close)
        self._pool = await self._open.enter_async_context(Pool())
        self._graph = compile_graph(
            await self._open.enter_async_context(open_saver(self.database, self.home))
        )
        return self

    async def __aexit__(self, *failure: Any) -> None:
        await self._open.aclose()

    async def start(
        self, trigger: Trigger, *, specialists: Iterable[str] = (), interactive: bool = False
    ) -> CaseResult:
        """Open a case and take it as far as it goes."""
        case = self.index.open_case(trigger)
        state = self._opening(case, trigger)
        return await self._run(case, {**state, "specialists": list(specialists), "interactive": interactive})

    async def resume(self, case: str, go: Go = GO) -> CaseResult:
        """Take a case that was interrupted (crash, lost gateway, person) as far as it goes now."""
        case = self.index.get(case).id
        snapshot = await self._graph.aget_state(self._config(case))
        if snapshot.created_at is None:
            return await self._run(case, self._opening(case, self.index.trigger(case)), go)
        if go.step:
            return await self._run(case, None, go, await self._back_to(case, go, snapshot.values))
        result = self._result(case, snapshot)
        answers = {w.id: a for w in result.waiting if (a := await self._decided(case, w)) is not None}
        if result.waiting and not answers:
            async with self.gateway(case) as gateway:  # in case a crash came before it was told
                await self._tell_people(result, gateway)
            self.index.change(case, ("queued", "running", "stopped"), "waiting")
            self.index.wait(case, result.awaited)
            return result
        from langgraph.types import Command

        return await self._run(case, Command(resume=answers) if answers else None, go)

    async def pending(self) -> frozenset[str]:
        """The approvals that nobody has decided yet, of all cases."""
        async with self.gateway("") as gateway:
            listed = await gateway.read("gateway__list_approvals", {"status": "pending", "brief": True})
        return frozenset(map(str, listed["ids"]))

    async def answer(self, case: str, waiting: Waiting, answer: str) -> CaseResult:
        """A person's answer to a doubt; the run goes on."""
        from langgraph.types import Command

        return await self._run(case, Command(resume={waiting.id: {"kind": "doubt", "answer": answer}}))

    async def look(self, case: str) -> CaseResult:
        """Where a case stands, without taking it further."""
        case = self.index.get(case).id
        snapshot = await self._graph.aget_state(self._config(case))
        if snapshot.created_at is None:
            raise CaseUnknown(
                f"case {case} never started its run; start it with `pointsman cases resume {case}`"
            )
        return self._result(case, snapshot)

    @asynccontextmanager
    async def gateway(self, case: str) -> AsyncIterator[GatewayClient]:
        """The gateway as the coordinator uses it for one case."""
        client = GatewayClient(
            self.access,
            self.access.coordinator,
            case=case,
            pool=self._pool,
            renewed=lambda: self.access.coordinator,
        )
        async with client:
            yield client

    @asynccontextmanager
    async def desk(self, case: str, attempt: int = 0) -> AsyncIterator[Desk]:
        """What a run of this case works with."""
        async with self.gateway(case) as gateway:
            yield Desk(
                case=case,
                workflow=self.index.trigger(case).workflow,
                run=f"{case}/again-{attempt}" if attempt else case,
                access=self.access,
                roster=self.roster,
                index=self.index,
                pool=self._pool,
                gateway=gateway,
                seconds=self.seconds,
                thresholds=self.thresholds,
                tell=self.tell,
            )

    async def _back_to(self, case: str, go: Go, state: CaseState) -> dict[str, Any]:
        """The checkpoint from which a step, and what stands after it, are done again."""
        update = again_from(state, go.step)
        body = {"from": go.step, "attempt": go.attempt, "again": sorted(update["steps"])}
        async with self.gateway(case) as gateway:
            await gateway.record_step("plan", body)
        config = await self._graph.aupdate_state(self._config(case), update, as_node="execute")
        return {**config, "recursion_limit": RECURSION_LIMIT}

    async def _run(
        self, case: str, given: Any, go: Go = GO, config: dict[str, Any] | None = None
    ) -> CaseResult:
        told: dict[str, Any] = {tracing.CASE: case}
        with tracing.agent("coordinator", **told):
            return await self._ran(case, given, go, config or self._config(case))

    async def _ran(self, case: str, given: Any, go: Go, config: dict[str, Any]) -> CaseResult:
        self.index.update(case, "running")
        try:
            async with self.desk(case, go.attempt) as desk:
                await self._graph.ainvoke(
                    given,
                    config,
                    context=desk,
                    version="v2",
                    durability="sync",
                    control=go.control,
                )
                result = self._result(case, await self._graph.aget_state(self._config(case)))
                await self._tell_people(result, desk.gateway)
                if result.report and not result.waiting:  # what nobody decided serves nothing any more
                    await desk.gateway.record_step("closed", {"until": result.report.ledger.last})
        except BaseException as error:
            self.index.update(case, "stopped")
            if isinstance(error, Exception) and getattr(error, "exit_code", 0) == 5:
                raise _Stopped(case, error) from error
            raise
        self.index.wait(case, result.awaited)
        self.index.update(case, "waiting" if result.waiting else "delivered", result.report)
        return result

    async def _tell_people(self, result: CaseResult, gateway: GatewayClient) -> None:
        """Deliver reports, keeping what did not arrive to be sent later, and see that people are reminded."""
        now, outbox = datetime.now(UTC), Outbox(self.index.db)
        for report, names in self.outgoing(result):
            for became in await deliveries.send(report, names, gateway):
                if became["status"] != "sent":
                    outbox.put([_later(report, became["to"], now)])
        if result.waiting and result.state:
            outbox.put(reminders.reminders_of(result.state, now))

    def outgoing(self, result: CaseResult) -> list[tuple[Report, tuple[str, ...]]]:
        """The reports of a case and where each goes: by its step, and the latest by the settings."""
        state: CaseState | dict[str, Any] = result.state or {}
        told = [(Report.model_validate(one["report"]), tuple(one["to"])) for one in state.get("outgoing", [])]
        return [*told, (result.report, self.deliver_to)] if result.report else told

    async def deliver(
        self, case: str, reports: Iterable[tuple[Report, Iterable[str]]]
    ) -> list[dict[str, Any]]:
        """Send reports now because a person wants it; what became of each, also in the ledger."""
        outbox, told = Outbox(self.index.db), []
        async with self.gateway(case) as gateway:
            for report, names in reports:
                work = f"deliver/{secrets.token_hex(4)}"  # its own: it is not answered from the past
                for became in await deliveries.deliver(deliveries.message_of(report), names, gateway, work):
                    by_hand = {"report": report.ledger.last, **became, "by_hand": True, "work": work}
                    await gateway.record_step("delivery", by_hand)
                    if became["status"] == "sent":
                        outbox.settle(_key(report, became["to"]), "sent")
                    told.append(became)
        return told

    async def _decided(self, case: str, waiting: Waiting) -> dict[str, Any] | None:
        """What persons decided meanwhile about the actions of a wait; nothing while one is still open."""
        if waiting.kind == "doubt":
            return {"kind": "doubt", "answer": "resumed"}
        async with self.gateway(case) as gateway:
            found = {a.approval: await gateway.approval(a.approval) for a in waiting.actions}
        decided = {id_: a for id_, a in found.items() if a["status"] != "pending"}
        if not decided:
            return None
        return {
            "kind": "approval",
            "status": {
                id_: "granted" if a["status"] == "used" else a["status"] for id_, a in decided.items()
            },
            "by": {id_: str(a.get("decided_by") or "") for id_, a in decided.items()},
            "reason": {id_: str(a.get("reason") or "") for id_, a in decided.items()},
            "edit": {id_: a["edit"] for id_, a in decided.items() if a.get("edit")},
        }

    def _opening(self, case: str, trigger: Trigger) -> CaseState:
        """The state a case begins with: what opened it, and the workflow as its file is now."""
        found = self.workflows.get(trigger.workflow)
        return {
            "case": case,
            "trigger": trigger.model_dump(mode="json"),
            "workflow": {"id": found.workflow.id, "version": found.version, "text": found.text},
        }

    def _config(self, case: str) -> dict[str, Any]:
        return {"configurable": {"thread_id": case}, "recursion_limit": RECURSION_LIMIT}

    def _result(self, case: str, snapshot: Any) -> CaseResult:
        report = snapshot.values.get("report")
        waiting = tuple(
            Waiting(
                id=i.id,
                kind=i.value["kind"],
                text=i.value["text"],
                actions=i.value.get("actions", ()),
                doubts=i.value.get("doubts", ()),
            )
            for i in snapshot.interrupts
        )
        return CaseResult(case, Report.model_validate(report) if report else None, waiting, snapshot.values)


def _later(report: Report, to: str, now: datetime) -> Outgoing:
    """A report that did not arrive, to be sent again."""
    key, at, body = _key(report, to), now + BACK_OFF[0], report.model_dump(mode="json")
    return Outgoing(key=key, case=report.case, kind="report", to=to, at=at, attempts=1, body=body)


def _key(report: Report, to: str) -> str:
    return f"{report.case} {report.ledger.last} {to}"


class _Stopped(CoordinatorError):
    """A run that stopped because something it needs is down; finished work is kept."""

    code = "run_stopped"
    exit_code = 5

    def __init__(self, case: str, why: Exception) -> None:
        super().__init__(
            f"case {case} stopped: {why}; finished work is kept, go on with `pointsman cases resume {case}`"
        )
