"""The bench: cases through gateway, tool servers, specialists and coordinator, as they would really run."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coordinator import private_gateway, trigger
from coordinator.cases import CaseRunner
from coordinator.errors import CoordinatorError
from coordinator.evaluation.cloudopsbench import BenchCase, write_recording
from coordinator.gateway_client import Access, GatewayClient
from coordinator.settings import CoordinatorSettings
from coordinator.types import CaseResult
from specialists.errors import SpecialistsError
from specialists.roster import Roster
from specialists.settings import SpecialistsSettings
from specialists.types import Evidence

ASKED = ("kubernetes",)
GUESSES = 3
MOST_RECORDS = 1000


@dataclass
class Row:
    """What one case came to."""

    case: str
    truth: tuple[str, str, str]
    guesses: list[tuple[str, str, str]] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    calls: int = 0  # tool calls in the ledger, the gateway's own tools aside
    seconds: float = 0.0
    claims: int = 0
    sound: int = 0  # claims all of whose quotes stand in the result the ledger holds
    outcome: str = ""
    said: str = ""
    error: str = ""

    @property
    def rank(self) -> int:
        """The place of the truth among the guesses, 0 if it is not among them."""
        return self.guesses.index(self.truth) + 1 if self.truth in self.guesses else 0

    def as_data(self) -> dict[str, Any]:
        """The row as JSON values."""
        words = ("taxonomy", "object", "root_cause")
        return {
            "case": self.case,
            "truth": dict(zip(words, self.truth, strict=True)),
            "guesses": [
                {**dict(zip(words, guess, strict=True)), "confidence": confidence}
                for guess, confidence in zip(self.guesses, self.confidences, strict=True)
            ],
            "rank": self.rank,
            "calls": self.calls,
            "seconds": round(self.seconds, 3),
            "claims": self.claims,
            "sound_claims": self.sound,
            "outcome": self.outcome,
            "said": self.said,
            "error": self.error,
        }


async def run(
    cases: list[BenchCase], jobs: int, config: str | None = None
) -> tuple[list[Row], list[dict[str, Any]]]:
    """All cases, `jobs` at a time; the rows in the order of the cases, and what each ledger verified to."""
    waiting: asyncio.Queue[int] = asyncio.Queue()
    for place in range(len(cases)):
        waiting.put_nowait(place)
    rows: dict[int, Row] = {}
    with tempfile.TemporaryDirectory(prefix="pointsman-eval-") as made, _progress(len(cases)) as tell:
        async with asyncio.TaskGroup() as group:
            working = [
                group.create_task(_job(cases, waiting, rows, Path(made) / f"job-{n}", config, tell))
                for n in range(min(jobs, len(cases)))
            ]
    return [rows[place] for place in sorted(rows)], [task.result() for task in working]


async def _job(
    cases: list[BenchCase],
    waiting: asyncio.Queue[int],
    rows: dict[int, Row],
    home: Path,
    config: str | None,
    tell: Callable[[Row], None],
) -> dict[str, Any]:
    """Take cases until there are none; at last, what the ledger of this job's gateway verifies to."""
    home.mkdir(parents=True)
    empty = home / "before"
    _switch(home / "recording", write_recording_of_nothing(empty))
    async with _runner(home, empty, config) as (runner, operator):
        while not waiting.empty():
            place = waiting.get_nowait()
            case = cases[place]
            rows[place] = await _one(runner, case, home)
            tell(rows[place])
        async with GatewayClient(operator, operator.coordinator) as client:
            return await client.read("gateway__verify_ledger", {})


@asynccontextmanager
async def _runner(
    home: Path, recording: Path, config: str | None
) -> AsyncIterator[tuple[CaseRunner, Access]]:
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
            yield runner, Access(url=access.url, coordinator=found.operator_token)


async def _one(runner: CaseRunner, case: BenchCase, home: Path) -> Row:
    """One case: its answers behind the link, the case from trigger to report, then the scoring."""
    row = Row(case.name, case.truth)
    directory = write_recording(case, home / "cases" / case.name.replace("/", "-"))
    _switch(home / "recording", directory)
    began = time.monotonic()
    try:
        result = await runner.start(trigger.from_recording(directory), specialists=ASKED)
        row.seconds = time.monotonic() - began
        await _score(runner, result, row)
    except (CoordinatorError, SpecialistsError) as error:
        row.seconds = row.seconds or time.monotonic() - began
        row.error = f"{getattr(error, 'code', type(error).__name__)}: {error}"
    return row


async def _score(runner: CaseRunner, result: CaseResult, row: Row) -> None:
    """Guesses from the report; calls and soundness from the ledger."""
    report = result.report
    if report is None:
        row.error = "no report was delivered"
        return
    row.outcome = report.outcome
    row.said = report.summary[0].text if report.summary else ""
    for hypothesis in report.hypotheses[:GUESSES]:
        row.guesses.append((hypothesis.category, hypothesis.object, hypothesis.label))
        row.confidences.append(hypothesis.confidence)
    async with runner.gateway(result.case) as gateway:
        asked = {"case": result.case, "kind": "intent", "limit": MOST_RECORDS}
        records = (await gateway.read("gateway__search_ledger", asked)).get("records") or []
        row.calls = sum(not str(record.get("tool", "")).startswith("gateway__") for record in records)
        texts: dict[str, str] = {}
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


class _progress:
    """A progress bar on standard error, drawn only on a terminal."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._right = self._done = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not os.isatty(2),
            transient=True,
        )
        self._task = self._bar.add_task("A@1  –", total=total)

    def __enter__(self) -> Callable[[Row], None]:
        self._bar.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _tell(self, row: Row) -> None:
        self._done += 1
        self._right += row.rank == 1
        share = self._right / self._done
        self._bar.update(self._task, advance=1, description=f"A@1 {share:.3f}  {row.case}")
