"""The command `pointsman eval`: recorded incidents through the real path, and how well they were read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from coordinator.evaluation.cases import BenchCase, DataSet

HELP = "Measure on recorded incidents how often the cause is found, at what cost, and on which evidence."
app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False, help=HELP)

Directory = Annotated[Path, typer.Argument(help="where the unpacked data are")]
Limit = Annotated[int, typer.Option(min=0, help="at most so many cases, spread over all (0 = all)")]
Case = Annotated[list[str] | None, typer.Option(help="only the case of this name; repeatable")]
Jobs = Annotated[int, typer.Option(min=1, help="cases at a time, each with a gateway of its own")]
Out = Annotated[Path | None, typer.Option(help="write one row a case, and the figures, as JSON")]
Picture = Annotated[Path | None, typer.Option(help="write the calibration curve as SVG")]
AsJson = Annotated[bool, typer.Option("--json", help="print the figures as JSON")]
Config = Annotated[str | None, typer.Option("--config", help="settings file")]


@dataclass(frozen=True)
class Wish:
    """What a person wants of an evaluation, whatever the data."""

    limit: int
    case: list[str] | None
    jobs: int
    out: Path | None
    picture: Path | None
    as_json: bool
    config: str | None


@app.callback()
def _group() -> None:
    """Measure on recorded incidents how often the cause is found, at what cost, and on which evidence."""


@app.command(
    "cloudopsbench",
    epilog="Example: pointsman eval cloudopsbench incidents/ --limit 30 --perturb all --out after.json",
)
def cloudopsbench(
    directory: Directory,
    perturb: Annotated[
        str, typer.Option(help="change what was recorded: rename,ports,restarted,dangling,elsewhere or all")
    ] = "",
    healthy: Annotated[bool, typer.Option("--healthy", help="only healed clusters: nothing to find")] = False,
    limit: Limit = 0,
    case: Case = None,
    jobs: Jobs = 2,
    out: Out = None,
    picture: Picture = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Cloud-OpsBench: Kubernetes incidents whose every diagnostic call has a recorded answer."""
    from coordinator.evaluation import cloudopsbench as data
    from coordinator.evaluation import perturb as other

    names = [name for name in perturb.split(",") if name]
    change = other.chain(names, healthy)

    def cases(found: list[BenchCase]) -> list[BenchCase]:
        return other.perturbed(other.healed(found) if healthy else found, names)

    wish = Wish(limit, case, jobs, out, picture, as_json, config)
    label = "+".join((["healthy"] if healthy else []) + names)
    _run(data.data(change if label else None), data.find(directory), wish, label, cases)


@app.command(
    "rootcausebench",
    epilog="Example: pointsman eval rootcausebench data/rootcausebench --picture calibration.svg",
)
def rootcausebench(
    directory: Directory,
    limit: Limit = 0,
    case: Case = None,
    jobs: Jobs = 2,
    out: Out = None,
    picture: Picture = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """RootCauseBench: an alert, telemetry and changes; which commit did it, or "none"."""
    from coordinator.evaluation import rootcausebench as data

    _run(data.DATA, data.find(directory), Wish(limit, case, jobs, out, picture, as_json, config))


@app.command("petshop", epilog="Example: pointsman eval petshop data/petshop --jobs 2 --out petshop.json")
def petshop(
    directory: Directory,
    limit: Limit = 0,
    case: Case = None,
    jobs: Jobs = 2,
    out: Out = None,
    picture: Picture = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """PetShop: a violated indicator in a service graph; at which node is the cause?"""
    from coordinator.evaluation import petshop as data

    _run(data.DATA, data.find(directory), Wish(limit, case, jobs, out, picture, as_json, config))


@app.command("sockshop", epilog="Example: pointsman eval sockshop data/sockshop1 --late 60")
def sockshop(
    directory: Directory,
    late: Annotated[float, typer.Option(min=0, help="the alert fires so many seconds after the fault")] = 0.0,
    limit: Limit = 0,
    case: Case = None,
    jobs: Jobs = 2,
    out: Out = None,
    picture: Picture = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Sock Shop 1: resource metrics without a call graph; which service is at fault?"""
    from coordinator.evaluation import sockshop as data

    label = f"{late:g}s late" if late else ""
    _run(data.data(late), data.find(directory), Wish(limit, case, jobs, out, picture, as_json, config), label)


@app.command("runbooks", epilog="Example: pointsman eval runbooks data/runbooks --out runbooks.json")
def runbooks(
    directory: Directory,
    limit: Limit = 0,
    case: Case = None,
    out: Out = None,
    picture: Picture = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Runbooks: alerts by their text alone, and the pages written for them; some have none."""
    from coordinator.evaluation import runbooks as data

    _run(data.DATA, data.find(directory), Wish(limit, case, 1, out, picture, as_json, config))


@app.command("compare", epilog="Example: pointsman eval compare before.json after.json")
def compare(
    before: Annotated[Path, typer.Argument(help="what --out wrote, earlier")],
    after: Annotated[Path, typer.Argument(help="what --out wrote, later")],
    as_json: AsJson = False,
) -> None:
    """What got better and what got worse between two evaluations, case by case and in sum."""
    from coordinator.evaluation import compare as comparison

    found = comparison.compare(comparison.load(before), comparison.load(after))
    print(json.dumps(found, indent=1) if as_json else comparison.printed(found))


def _run(
    data: DataSet,
    found: list[BenchCase],
    wish: Wish,
    label: str = "",
    cases: Callable[[list[BenchCase]], list[BenchCase]] = list,
) -> None:
    """Run the chosen cases, tell the figures, and leave: 0 when all ran and the ledgers verify."""
    import asyncio

    from coordinator.evaluation.bench import run
    from coordinator.evaluation.cases import chosen
    from coordinator.evaluation.figures import figures, printed
    from coordinator.evaluation.picture import reliability

    wanted = chosen(cases(found), wish.case or [], wish.limit)
    before = _cpu()
    rows, ledgers = asyncio.run(run(data, wanted, wish.jobs, wish.config))
    summary = figures(rows, ledgers, data.depths, _cpu() - before)
    name = f"{data.name} ({label})" if label else data.name
    whole = {"benchmark": name, "figures": summary, "cases": [row.as_data(data.words) for row in rows]}
    if wish.out:
        _write(wish.out, json.dumps(whole, indent=1) + "\n")
    if wish.picture:
        _write(wish.picture, reliability(name, summary["calibration"], summary["ece"]))
    if wish.as_json:
        print(json.dumps(summary if wish.out else whole, indent=1))
    else:
        print(f"{name}: {printed(data, summary, rows)}")
    raise typer.Exit(0 if summary["ledger_ok"] and not summary["failed"] else 1)


def _cpu() -> float:
    """Seconds of CPU that this process and its ended children (gateway, tool servers) have used."""
    import resource

    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


commands = [("eval", app)]
