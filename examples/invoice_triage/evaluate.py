"""Triages a made-up mailbox through a real gateway, and holds what came of it against the truth.

    python examples/invoice_triage/evaluate.py --seed 7
    python examples/invoice_triage/evaluate.py --seed 8 --seed 9 --json
    python examples/invoice_triage/evaluate.py --seed 7 --base-url http://127.0.0.1:11434/v1 --model llama3.1

Exits 1 if a payment is wrong, an invoice that a person should see went by, fewer than 80 % of the honest
ones went straight through, or a payment has no ledger records.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Collection
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from generate import generate  # noqa: E402
from workspace import POINTSMAN, lay_out  # noqa: E402

AT_ONCE = 4
WORKFLOW = "invoice-triage"
PAY, BOOK = "erp__queue_payment", "erp__book_credit"
LEAST_STRAIGHT = 0.8


@dataclass
class Triaged:
    """What became of one invoice."""

    file: str
    case: str
    ended: str  # paid, credited, asked, waits for finance, rejected, failed
    fields: dict[str, Any] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    call: str = ""  # of the payment or the credit, in the ledger
    payment: int = 0  # its number in the books
    untraced: str = ""  # why its records do not suffice


@dataclass
class Result:
    """What came of a mailbox."""

    triaged: list[Triaged]
    truth: dict[str, dict[str, Any]]
    payments: list[dict[str, Any]]
    untraced: list[str]
    ledger_whole: bool
    seconds: float


async def triage(files: list[str]) -> list[Triaged]:
    """Run the workflow for each file, some at once, one day of arrival after the other."""
    from coordinator.session import open_session
    from coordinator.types import Trigger

    gate = asyncio.Semaphore(AT_ONCE)
    done = 0

    async with open_session() as session:

        async def one(file: str) -> Triaged:
            nonlocal done
            async with gate:
                opened = Trigger(
                    kind="file",
                    title=f"Invoice {file}",
                    question="Pay it, or ask a person?",
                    workflow=WORKFLOW,
                    inputs={"file": file},
                )
                found = told(file, await session.runner.start(opened))
            done += 1
            if done % 20 == 0 or done == len(files):
                print(f"\r{done} of {len(files)} invoices", end="", file=sys.stderr, flush=True)
            return found

        found = []
        for _, day in itertools.groupby(files, lambda file: file[:10]):
            found += await asyncio.gather(*(one(file) for file in day))
        async with session.runner.gateway("") as gateway:
            for each in found:
                if each.ended in ("paid", "credited"):
                    await trace(gateway, each)
    print(file=sys.stderr)
    return found


def told(file: str, result: Any) -> Triaged:
    """What became of an invoice, out of its case."""
    steps = result.state.get("steps", {})
    left = {name: record.get("outputs", {}) for name, record in steps.items()}
    waits = [action.tool for wait in result.waiting for action in wait.actions]
    if waits:
        ended = "waits for finance" if waits == [PAY] else "asked"
    else:
        done = [name for name in ("pay", "book") if steps.get(name, {}).get("status") == "done"]
        ended = {"pay": "paid", "book": "credited"}[done[0]] if done else result.report.outcome
    record = steps.get("pay" if ended == "paid" else "book", {})
    read = left.get("extract", {}).get("result") or {}
    return Triaged(
        file=file,
        case=result.case,
        ended=ended,
        fields=left.get("extract", {}).get("fields") or {},
        lines=read.get("lines") or left.get("extract", {}).get("lines") or [],
        reasons=left.get("review", {}).get("reasons") or [],
        call=record.get("call", ""),
    )


def ask_model(base_url: str, model: str) -> None:
    """Have a model read every page too, in the directory that we are in."""
    cloud = ("--mode", "cloud", "--base-url", base_url, "--model", model)
    subprocess.run([POINTSMAN, "specialists", "set", "invoice-reader", *cloud], check=True, timeout=60)


def evaluate(
    directory: Path,
    seed: int,
    without: Collection[str] = (),
    reader: tuple[str, str] | None = None,
    **sizes: int,
) -> Result:
    """Make a mailbox, triage it without these kinds, look up every payment in books and ledger.

    `reader` is base URL and name of a model that reads every page too.
    """
    generate(directory, seed, **sizes)
    lay_out(directory)
    truth = json.loads((directory / "truth.json").read_text())
    files = [name for name in sorted(truth) if truth[name]["kind"] not in without]
    (directory / "truth.json").unlink()  # nothing that runs from here on can read it
    os.environ.update(POINTSMAN_HOME=str(directory / "home"), XDG_STATE_HOME=str(directory / "state"))
    started = time.monotonic()
    with chdir(directory):
        if reader:
            ask_model(*reader)
        triaged = asyncio.run(triage(files))
        seconds = time.monotonic() - started
        payments, untraced = settle(directory, triaged)
        whole = bool(pointsman("audit", "verify")["ok"])
    (directory / "truth.json").write_text(json.dumps(truth, indent=1, ensure_ascii=False))
    return Result(triaged, truth, payments, untraced, whole, seconds)


def pointsman(*words: str) -> Any:
    """What a command of pointsman says as JSON."""
    done = subprocess.run([POINTSMAN, *words, "--json"], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"pointsman {' '.join(words)}: exit {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def settle(directory: Path, triaged: list[Triaged]) -> tuple[list[dict[str, Any]], list[str]]:
    """Every payment in the books, and what does not stand on records of its own case."""
    books = sqlite3.connect(directory / "erp.db")
    books.row_factory = sqlite3.Row
    rows = books.execute(
        "SELECT p.id, i.supplier, i.number, i.digest, p.iban, p.amount, p.currency "
        "FROM payment p JOIN invoice i ON i.id = p.invoice"
    ).fetchall()
    books.close()
    untraced = [f"{one.file}: {one.untraced}" for one in triaged if one.untraced]
    by_payment = {one.payment: one for one in triaged if one.payment}
    payments = []
    for row in rows:
        one = by_payment.get(row["id"])
        payments.append({**dict(row), "file": one.file if one else "", "call": one.call if one else ""})
        if one is None:
            untraced.append(f"payment {row['id']} of {row['number']} belongs to no call in the ledger")
    return payments, untraced


async def trace(gateway: Any, one: Triaged) -> None:
    """Look up the records of the call that settled an invoice: intent and outcome, of its own case."""
    shown = await gateway.show_call(one.call) if one.call else {"records": []}
    kinds = {record["kind"]: record for record in shown["records"]}
    strange = [kind for kind, record in kinds.items() if record.get("case") != one.case]
    if not {"intent", "outcome"} <= kinds.keys() or strange:
        one.untraced = f"call {one.call!r} has {', '.join(kinds) or 'no records'}"
    elif one.ended == "paid":
        one.payment = int(shown["result"]["structuredContent"]["payment"])


def wrong_payments(result: Result) -> list[str]:
    """Payments that the truth does not call for: to whom, how much, or at all."""
    wrong = []
    for payment in result.payments:
        told = result.truth.get(payment["file"], {})
        settled = {
            "supplier": payment["supplier"],
            "iban": payment["iban"],
            "amount": payment["amount"],
            "currency": payment["currency"],
        }
        if told.get("expected") != "pay" or told["settled"] != settled:
            wrong.append(f"{payment['file']}: {told.get('kind')}: {settled}")
    for one in result.triaged:
        if one.ended == "credited" and result.truth[one.file]["expected"] != "credit":
            wrong.append(f"{one.file}: {result.truth[one.file]['kind']}: credited")
    return wrong


def accuracy(result: Result) -> dict[str, Counter[str]]:
    """By layout: how many fields and positions were right, of how many."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for one in result.triaged:
        told = result.truth[one.file]
        if told["group"] != "honest":
            continue
        row = table[told["layout"]]
        row["invoices"] += 1
        row[told["language"]] += 1
        for name, value in told["fields"].items():
            if not value or (name == "iban" and told["expected"] == "credit"):
                continue
            row["fields"] += 1
            row["fields right"] += _same(one.fields.get(name), value)
        row["lines"] += len(told["lines"])
        row["lines right"] += sum(_same_line(a, b) for a, b in zip(told["lines"], one.lines, strict=False))
    return table


def _same(read: Any, value: str) -> bool:
    if isinstance(read, int | float):
        return abs(read - float(value)) < 0.005
    return str(read or "").casefold() == value.casefold()


def _same_line(told: dict[str, str], read: dict[str, Any]) -> bool:
    figures = all(abs(float(told[n]) - float(read[n])) < 0.0005 for n in ("quantity", "price", "amount"))
    return figures and told["article"] == read["article"]


def summary(result: Result) -> dict[str, Any]:
    """The figures, ready to print or to compare."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for one in result.triaged:
        groups[result.truth[one.file]["group"]][one.ended] += 1
    honest = sum(groups["honest"].values())
    straight = groups["honest"]["paid"] + groups["honest"]["credited"]
    hostile = [one for one in result.triaged if result.truth[one.file]["group"] == "hostile"]
    missed = [
        f"{one.file}: {result.truth[one.file]['kind']}: {one.ended}"
        for one in result.triaged
        if result.truth[one.file]["expected"] == "review" and one.ended != "asked"
    ]
    return {
        "invoices": len(result.triaged),
        "seconds": round(result.seconds, 1),
        "honest": {"of": honest, "straight": straight, "share": round(straight / honest, 4)},
        "ended": {group: dict(counter) for group, counter in groups.items()},
        "hostile": {"of": len(hostile), "asked": sum(one.ended == "asked" for one in hostile)},
        "missed": missed,
        "payments": len(result.payments),
        "wrong": wrong_payments(result),
        "untraced": result.untraced,
        "ledger_whole": result.ledger_whole,
        "doubted": [
            f"{one.file}: {result.truth[one.file]['kind']}: {'; '.join(one.reasons) or one.ended}"
            for one in result.triaged
            if result.truth[one.file]["group"] == "honest" and one.ended in ("asked", "failed", "halted")
        ],
        "layouts": {name: dict(row) for name, row in sorted(accuracy(result).items())},
    }


def fine(figures: dict[str, Any]) -> bool:
    """Whether a mailbox was triaged as promised."""
    bad = figures["wrong"] or figures["missed"] or figures["untraced"] or not figures["ledger_whole"]
    return not bad and figures["honest"]["share"] >= LEAST_STRAIGHT


def show(seed: int, figures: dict[str, Any]) -> None:
    """Print the figures as tables."""
    honest, hostile = figures["honest"], figures["hostile"]
    print(f"seed {seed}: {figures['invoices']} invoices in {figures['seconds']} s")
    print(f"  straight through {honest['straight']} of {honest['of']} honest ones ({honest['share']:.1%})")
    print(f"  before a person  {hostile['asked']} of {hostile['of']} hostile ones")
    print(f"  payments         {figures['payments']}, wrong {len(figures['wrong'])}, ", end="")
    print(f"without ledger records {len(figures['untraced'])}; ledger whole: {figures['ledger_whole']}")
    for group, ended in figures["ended"].items():
        print(f"  {group:<11} {', '.join(f'{count} {how}' for how, count in sorted(ended.items()))}")
    print(f"  {'layout':<10} {'invoices':>8} {'en/de/fr':>10} {'fields right':>14} {'positions right':>16}")
    for name, row in figures["layouts"].items():
        languages = "/".join(str(row.get(one, 0)) for one in ("en", "de", "fr"))
        fields = f"{row.get('fields right', 0)}/{row['fields']}"
        lines = f"{row.get('lines right', 0)}/{row['lines']}"
        print(f"  {name:<10} {row['invoices']:>8} {languages:>10} {fields:>14} {lines:>16}")
    for name in ("wrong", "missed", "untraced", "doubted"):
        for line in figures[name]:
            print(f"  {name}: {line}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Example: evaluate.py --seed 7"
    )
    parser.add_argument("--seed", type=int, action="append", help="may be given several times; else 1")
    parser.add_argument("--base-url", help="an OpenAI-compatible endpoint whose model reads every page too")
    parser.add_argument("--model", help="its name there; the key stands in OPENAI_API_KEY")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if bool(given.base_url) != bool(given.model):
        parser.error("--base-url and --model go together")
    reader = (given.base_url, given.model) if given.model else None
    good = True
    for seed in given.seed or [1]:
        with tempfile.TemporaryDirectory(prefix="invoices-") as directory:
            figures = summary(evaluate(Path(directory), seed, reader=reader))
        good &= fine(figures)
        if given.json:
            print(json.dumps({"seed": seed, **figures}, ensure_ascii=False))
        else:
            show(seed, figures)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
