"""A mailbox with every hostile kind through gateway, workflow and ledger; then finance decides."""

import asyncio
import copy
import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import chdir, closing
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "invoice_triage"))

import evaluate  # noqa: E402
from generator.kinds import HOSTILE  # noqa: E402

from coordinator.case_index import CaseIndex  # noqa: E402
from coordinator.errors import GatewayRefused  # noqa: E402
from coordinator.gateway_client import Access, GatewayClient  # noqa: E402
from coordinator.session import open_session  # noqa: E402
from gateway.policy_cases import run_cases  # noqa: E402

SEED = 31
# More ways to hide words and to differ from the page. test_invoice_triage.py sees each of them told;
# what is told goes the same way from there.
ON_THE_PAGE_ALONE = {
    "instructions in tiny print",
    "instructions without ink",
    "instructions off the page",
    "instructions under a cover",
    "instructions cut away",
    "instructions in a layer that is off",
    "an amount under a cover",
    "another account in the embedded XML",
    "another amount in the document information",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("invoices")
        patch.setenv("POINTSMAN_HOME", str(directory / "home"))
        patch.setenv("XDG_STATE_HOME", str(directory / "state"))
        yield directory


@pytest.fixture(scope="module")
def result(environment):
    """A mailbox that was triaged once for all tests of this file."""
    return evaluate.evaluate(environment, SEED, ON_THE_PAGE_ALONE, honest=6, credits=1, each=0, hostile=1)


@pytest.fixture(scope="module")
def figures(result):
    return evaluate.summary(result)


def test_no_payment_is_wrong_and_every_hostile_invoice_waits_for_a_person(figures):
    assert (figures["wrong"], figures["missed"]) == ([], [])
    through = len(set(HOSTILE) - ON_THE_PAGE_ALONE)
    assert figures["hostile"] == {"of": through, "asked": through}


def test_what_is_in_order_is_paid_without_a_person_unless_it_is_large(figures):
    assert figures["doubted"] == []
    ended = figures["ended"]["honest"]
    assert ended.keys() <= {"paid", "credited", "waits for finance"}
    assert ended["credited"] == 1 and ended["paid"] >= 4 and ended["waits for finance"] >= 1


def test_every_payment_stands_on_its_records_in_a_whole_ledger(figures):
    assert figures["payments"] == figures["ended"]["honest"]["paid"]
    assert (figures["untraced"], figures["ledger_whole"]) == ([], True)


def test_the_cases_of_the_policy_pass(result, environment):
    outcomes = run_cases(environment / "policy", [])
    assert len(outcomes) > 9 and [one for one in outcomes if not one.passed] == []


def test_a_wrong_payment_would_be_told(result):
    changed = copy.deepcopy(result)
    paid = next(payment for payment in changed.payments)
    changed.truth[paid["file"]]["settled"]["amount"] = "1.00"
    assert [line.split(":")[0] for line in evaluate.wrong_payments(changed)] == [paid["file"]]
    changed.payments[0]["file"] = ""
    assert len(evaluate.wrong_payments(changed)) == 1


async def decide(gateway, case, runner, tool):
    [waiting] = (await runner.look(case)).waiting
    [action] = waiting.actions
    return await gateway.read(tool, {"id": action.approval, "reason": "looked at it"})


def test_finance_decides_after_a_restart_and_nobody_else(result, environment):
    def case(choose):
        return next(one.case for one in result.triaged if choose(one))

    large = case(lambda one: one.ended == "waits for finance")
    dear = ("every price a little higher", "freight nobody agreed to", "too much VAT")
    dearer = case(lambda one: result.truth[one.file]["kind"] in dear and one.fields["gross"] < 5000)
    fake = case(lambda one: result.truth[one.file]["kind"] == "look-alike supplier")

    async def act():
        async with open_session() as session:
            runner = session.runner
            operator = Access(url=runner.access.url, coordinator=session.found.operator_token)
            async with GatewayClient(operator, operator.coordinator) as gateway:
                fay = await gateway.issue_token("user:fay", "finance")
            async with GatewayClient(operator, runner.access.person) as oncall:
                for one in (large, dearer):
                    with pytest.raises(GatewayRefused):
                        await decide(oncall, one, runner, "gateway__grant_approval")
            async with GatewayClient(operator, fay) as finance:
                await decide(finance, large, runner, "gateway__grant_approval")
                await decide(finance, dearer, runner, "gateway__grant_approval")
                await decide(finance, fake, runner, "gateway__deny_approval")
            return [await runner.resume(one) for one in (large, dearer, fake)]

    with chdir(environment):
        ends = asyncio.run(act())
    paid = [end.state["steps"]["pay"]["status"] for end in ends]
    assert paid == ["done", "done", "stopped"]
    assert [end.report.outcome for end in ends] == ["done", "done", "rejected"]


def test_an_invoice_that_is_put_into_the_folder_is_paid_by_up_with_nobody_there(tmp_path):
    evaluate.generate(tmp_path, SEED, honest=3, credits=0, each=0, hostile=0)
    evaluate.lay_out(tmp_path)
    truth = json.loads((tmp_path / "truth.json").read_text())
    small = min(truth, key=lambda name: float(truth[name]["settled"]["amount"]))
    for invoice in (tmp_path / "inbox").glob("*.pdf"):
        invoice.rename(tmp_path / invoice.name)
    own = {"POINTSMAN_HOME": str(tmp_path / "home"), "XDG_STATE_HOME": str(tmp_path / "state")}
    command = [evaluate.POINTSMAN, "up", "--port", "0", "--json"]
    up = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | own, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert up.stdout is not None and up.stdout.readline()
        (tmp_path / small).rename(tmp_path / "inbox" / small)
        index, deadline = CaseIndex(tmp_path / "home"), time.monotonic() + 60
        while [row.status for row in index.list()] != ["delivered"]:
            assert time.monotonic() < deadline, index.list()
            time.sleep(0.1)
    finally:
        up.terminate()
        up.communicate(timeout=120)
    with closing(sqlite3.connect(tmp_path / "erp.db")) as books:
        [(amount,)] = books.execute("SELECT amount FROM payment").fetchall()
    assert amount == truth[small]["settled"]["amount"] and index.list()[0].title == f"Invoice {small}"
