"""The command `pointsman eval`: recorded incidents through the real path, and how well they were read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    help="Measure on recorded incidents how often the cause is found, at what cost, and on which evidence.",
)


@app.callback()
def _group() -> None:
    """Measure on recorded incidents how often the cause is found, at what cost, and on which evidence."""


@app.command("cloudopsbench")
def cloudopsbench(
    directory: Annotated[Path, typer.Argument(help="the unpacked cases: …/CATEGORY/N/metadata.json")],
    limit: Annotated[int, typer.Option(min=0, help="at most so many cases, spread over all (0 = all)")] = 0,
    case: Annotated[list[str] | None, typer.Option(help="only this case (CATEGORY/N); repeatable")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="cases at a time, each with a gateway of its own")] = 2,
    out: Annotated[Path | None, typer.Option(help="write one row a case, and the figures, as JSON")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
    config: Annotated[str | None, typer.Option("--config", help="settings file")] = None,
) -> None:
    """Cloud-OpsBench: Kubernetes incidents whose every diagnostic call has a recorded answer."""
    import asyncio

    from coordinator.evaluation import cloudopsbench as data
    from coordinator.evaluation.bench import run
    from coordinator.evaluation.figures import figures, printed

    cases = data.chosen(data.find(directory), case or [], limit)
    rows, ledgers = asyncio.run(run(cases, jobs, config))
    summary = figures(rows, ledgers)
    whole = {"benchmark": "cloudopsbench", "figures": summary, "cases": [row.as_data() for row in rows]}
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(whole if not out else summary, indent=1) if as_json else printed(summary, rows))
    raise typer.Exit(0 if summary["ledger_ok"] and not summary["failed"] else 1)


commands = [("eval", app)]
