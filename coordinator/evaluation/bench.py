"""The bench: cases through gateway, tool servers, specialists and coordinator, as they would really run."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator import private_gateway, trigger
from coordinator.cases import CaseRunner
from coordinator.errors import CoordinatorError, GatewayUnreachable
from coordinator.evaluation.cases import BenchCase, DataSet, Row
from coordinator.evaluation.progress import Progress
from coordinator.gateway_client import Access, GatewayClient
from coordinator.settings import CoordinatorSettings
from coordinator.types import CaseResult
from specialists.errors import GatewayLost, SpecialistsError
from specialists.roster import Roster
from specialists.settings import SpecialistsSettings
from specialists.types import Evidence

MOST_RECORDS = 1000
MOST_STARTS = 3  # of a private gateway: on a busy machine it may not answer in time


@dataclass(frozen=True)
class Bench:
    """One job's private gateway with the bundled tool servers, and what runs cases on it."""

    data: DataSet
    runner: CaseRunner
    operator: Access
    home: Path

    async def run(self, case: BenchCase) -> Row:
        """One case: its recording behind the link, the case from trigger to report, then the scoring."""
        row = Row(case.name, case.truth, case.fault)
        began = time.monotonic()
        try:
            await (self.data.ask or _whole_case)(self, case, row)
        except (CoordinatorError, SpecialistsError) as error:
            row.error = f"{getattr(error, 'code', type(error).__name__)}: {error}"
        row.seconds = row.seconds or time.monotonic() - began
        row.decoy = bool(row.guesses) and row.guesses[0] in case.wrong
        return row

    def serve(self, directory: Path) -> None:
        """Let the tool servers serve this recording from now on."""
        _switch(self.home / "recording", directory)

    def place(self, case: BenchCase) -> Path:
        """Where the recording of a case stands."""
        return self.home / "cases" / case.name.replace("/", "-")


async def run(
    data: DataSet, cases: list[BenchCase], jobs: int, config: str | None = None
) -> tuple[list[Row], list[dict[str, Any]]]:
    """All cases, `jobs` at a time; the rows in the order of the cases, and what each ledger verified to."""
    waiting: asyncio.Queue[int] = asyncio.Queue()
    for place in range(len(cases)):
        waiting.put_nowait(place)
    rows: dict[int, Row] = {}
    with tempfile.TemporaryDirectory(prefix="pointsman-eval-") as made, Progress(len(cases)) as tell:
        async with asyncio.TaskGroup() as group:
            working = [
                group.create_task(_job(data, cases, waiting, rows, Path(made) / f"job-{n}", config, tell))
                for n in range(min(jobs, len(cases)))
            ]
    return [rows[place] for place in sorted(rows)], [task.result() for task in working]


async def _job(
    data: DataSet,
    cases: list[BenchCase],
    waiting: asyncio.Queue[int],
    rows: dict[int, Row],
    home: Path,
    config: str | None,
    tell: Callable[[Row], None],
) -> dict[str, Any]:
    """Take cases until there are none; a gateway that is lost is replaced, a few times."""
    for start in range(MOST_STARTS):
        try:
            return await _cases(data, cases, waiting, rows, home / f"start-{start}", config, tell)
        except (GatewayLost, GatewayUnreachable):
            if start + 1 == MOST_STARTS:
                raise
    raise AssertionError("unreachable")


async def _cases(
    data: DataSet,
    cases: list[BenchCase],
    waiting: asyncio.Queue[int],
    rows: dict[int, Row],
    home: Path,
    config: str | None,
    tell: Callable[[Row], None],
) -> dict[str, Any]:
    """Cases on one private gateway; at last, what its ledger verifies to."""
    home.mkdir(parents=True)
    first = write_recording_of_nothing(home / "before")
    if data.together:
        first = data.write(cases[0], home / "all")
    _switch(home / "recording", first)
    async with _bench(data, home, first, config) as bench:
        if data.ready:
            await data.ready(bench)
        while not waiting.empty():
            place = waiting.get_nowait()
            rows[place] = await bench.run(cases[place])
            tell(rows[place])
        async with GatewayClient(bench.operator, bench.operator.coordinator) as client:
            return await client.read("gateway__verify_ledger", {})


@asynccontextmanager
async def _bench(data: DataSet, home: Path, recording: Path, config: str | None) -> AsyncIterator[Bench]:
    """A runner on a private gateway with the bundled tool servers, and the operator's access to it."""
    settings = CoordinatorSettings.load(config).model_copy(update={"gateway_url": ""})
    absolute = str(Path(config).resolve()) if config else None
    async with private_gateway.gateway(settings, home, recording, absolute) as found:
        access = await private_gateway.tokens(found, settings.login)
        await private_gateway.servers_settled(access)
        roster = Roster.from_settings(SpecialistsSettings.load(config))
        async with CaseRunner(
            access, roster, home, seconds=settings.specialist_seconds, thresholds=settings.thresholds()
        ) as runner:
            yield Bench(data, runner, Access(url=access.url, coordinator=found.operator_token), home)


async def _whole_case(bench: Bench, case: BenchCase, row: Row) -> None:
    """A case from trigger to report; guesses from its hypotheses, calls and soundness from the ledger."""
    directory = bench.data.write(case, bench.place(case))
    bench.serve(directory)
    began = time.monotonic()
    result = await bench.runner.start(trigger.from_recording(directory), specialists=bench.data.asked)
    row.seconds = time.monotonic() - began
    report = result.report
    if report is None:
        row.error = "no report was delivered"
        return
    row.outcome = report.outcome
    row.said = " ".join(sentence.text for sentence in report.summary[1:2])
    for answer, confidence in bench.data.answers(result)[: max(bench.data.depths)]:
        row.guesses.append(answer)
        row.confidences.append(confidence)
    await count_calls(bench, result.case, row)
    await _check_claims(bench, result, row)


async def count_calls(bench: Bench, case: str, row: Row) -> None:
    """The tool calls of a case, as its ledger has them."""
    async with bench.runner.gateway(case) as gateway:
        asked = {"case": case, "kind": "intent", "limit": MOST_RECORDS}
        records = (await gateway.read("gateway__search_ledger", asked)).get("records") or []
    row.calls = sum(not str(record.get("tool", "")).startswith("gateway__") for record in records)


async def _check_claims(bench: Bench, result: CaseResult, row: Row) -> None:
    """How many claims there are, and for how many every quote stands in the result the ledger holds."""
    texts: dict[str, str] = {}
    async with bench.runner.gateway(result.case) as gateway:
        for evidence in _claims(result):
            for one in evidence:
                if one.call not in texts:
                    texts[one.call] = str((await gateway.show_call(one.call)).get("text") or "")
            row.claims += 1
            row.sound += all(one.quote in texts[one.call] for one in evidence)


def _claims(result: CaseResult) -> list[tuple[Evidence, ...]]:
    """The evidence of every claim and cause that a specialist made, and of every hypothesis reported."""
    findings = (result.state or {}).get("findings") or []
    held = [one for finding in findings for kind in ("claims", "causes") for one in finding.get(kind) or []]
    return [tuple(Evidence.model_validate(e) for e in one["evidence"]) for one in held]


def _switch(link: Path, target: Path) -> None:
    """Let a link lead to another directory, at no moment to none."""
    draft = link.with_name(f"{link.name}.next")
    draft.unlink(missing_ok=True)
    os.symlink(target.resolve(), draft)
    os.replace(draft, link)


def write_recording_of_nothing(directory: Path) -> Path:
    """A recording without an answer, for a gateway that starts before its first case."""
    directory.mkdir(parents=True, exist_ok=True)
    about = '{"format": "pointsman-recording/1", "id": "before", "clock": "2025-01-01T00:00:00Z"}'
    (directory / "recording.json").write_text(about, encoding="utf-8")
    return directory
