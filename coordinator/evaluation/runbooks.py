"""Runbooks: alerts by their text alone, and the pages written for them; some alerts have no page.

Expected: `corpus.jsonl` ({doc_id, title, text}) and `queries*.jsonl` ({qid, text, relevant: [doc_id]}).
The pages are the recording's runbooks; each alert is one search through the gateway, as a specialist
makes it. To the alerts of the data come our own that have no page anywhere: nothing is right for them.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.errors import TriggerUnreadable
from coordinator.evaluation import writing
from coordinator.evaluation.cases import NOTHING, BenchCase, DataSet, Row, nothing_there
from coordinator.evaluation.no_page import ALERTS, NEAR
from specialists.toolbox import Toolbox

if TYPE_CHECKING:
    from coordinator.evaluation.bench import Bench
    from coordinator.gateway_client import GatewayClient
    from coordinator.types import CaseResult
    from specialists.toolbox import ToolResult

DEPTHS = (1, 3, 5)
CLOCK = "2026-01-01T00:00:00Z"
CASE = "runbooks"
MOST_WAITS = 40  # searches, each as long as the gateway's deadline


def find(directory: Path) -> list[BenchCase]:
    """All alerts of the data, then our own that have no page."""
    corpora = sorted(directory.glob("**/corpus.jsonl"))
    if not corpora:
        raise nothing_there(directory, "corpus.jsonl beside queries-*.jsonl")
    root = corpora[0].parent
    rows = [row for path in sorted(root.glob("queries*.jsonl")) for row in _rows(path)]
    known = [
        BenchCase(
            name=str(row["qid"]),
            directory=root,
            truth=tuple((str(page),) for page in row["relevant"]) or (NOTHING,),
            fault=str(row.get("source") or "alert"),
            question=str(row["text"]),
        )
        for row in rows
    ]
    own = [
        BenchCase(f"{name.replace(' ', '-')}-{n}", root, (NOTHING,), name, question=text)
        for name, texts in (("no page", ALERTS), ("no page but near", NEAR))
        for n, text in enumerate(texts, start=1)
    ]
    return known + own


def write_recording(case: BenchCase, directory: Path) -> Path:
    """All pages as runbooks of one recording, each under its own id."""
    writing.about(directory, "runbooks", clock=CLOCK)
    for row in _rows(case.directory / "corpus.jsonl"):
        page = directory / "runbooks" / f"{row['doc_id']}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(_text(row), encoding="utf-8")
    return directory


def _text(row: dict[str, Any]) -> str:
    """A page with its title on top, if it has no heading of its own."""
    text = str(row["text"]).lstrip("\n")
    return text if text.startswith(("# ", "---")) else f"# {row['title']}\n\n{text}"


def _rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


async def ready(bench: Bench) -> None:
    """Wait until all pages are taken in, however slow the machine: a search before that may time out."""
    async with bench.runner.gateway(CASE) as gateway:
        for attempt in range(MOST_WAITS):
            probe = BenchCase(f"ready-{attempt}", Path(), (NOTHING,), "", question=f"page number {attempt}")
            if not (await _search(bench, gateway, probe, Row(probe.name, probe.truth))).is_error:
                return
    raise TriggerUnreadable("the runbooks were not taken in: look at the log of the tool servers")


async def search(bench: Bench, case: BenchCase, row: Row) -> None:
    """One search, as the runbooks specialist: its tokens, its rights, its place in the ledger."""
    async with bench.runner.gateway(CASE) as gateway:
        result = await _search(bench, gateway, case, row)
    row.calls = 1
    if result.is_error or not isinstance(result.data, dict):
        row.error = f"runbooks__search: {result.text[:200]}"
        return
    passages = result.data.get("passages") or []
    row.said = result.text.partition("\n")[0]
    row.outcome = "found" if passages else "nothing"
    for passage in passages:
        row.guesses.append((str(passage["document"]).removesuffix(".md"),))
        row.confidences.append(min(1.0, max(0.0, float(passage["score"]))))
        row.claims += 1
        row.sound += str(passage["passage"]).strip() in result.text


async def _search(bench: Bench, gateway: GatewayClient, case: BenchCase, row: Row) -> ToolResult:
    task = f"{CASE}/{case.name}"
    token = await gateway.issue_token("agent:runbooks", "specialist", run=CASE, task=task)
    async with Toolbox(
        bench.runner.access.url,
        token=token,
        case=CASE,
        run=CASE,
        task=task,
        specialist="runbooks",
        seconds=120,
    ) as toolbox:
        began = time.monotonic()
        result = await toolbox.call("runbooks__search", {"query": case.question, "limit": max(DEPTHS)})
        row.seconds = time.monotonic() - began
    return result


def _no_hypotheses(_: CaseResult) -> list[Any]:
    return []


DATA = DataSet(
    name="runbooks",
    words=("page",),
    asked=("runbooks",),
    depths=DEPTHS,
    write=write_recording,
    answers=_no_hypotheses,
    together=True,
    ask=search,
    ready=ready,
)
