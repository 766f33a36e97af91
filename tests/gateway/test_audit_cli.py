"""`pointsman tokens`, `approvals` and `audit`: on the store alone, and through a running gateway."""

import asyncio
import json
import os
import select
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from gateway.cli_audit import audit_app
from gateway.cli_governance import approvals_app, seconds, tokens_app
from gateway.errors import ApprovalError, LedgerUnavailable, UsageError
from tests.gateway.records import ASK, FIXER, ROLLBACK, call, parts, text


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POINTSMAN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("POINTSMAN_GATEWAY__CHECKPOINTS", str(tmp_path / "second-place"))
    (tmp_path / "mcp.json").write_text('{"mcpServers": {}}')
    return tmp_path / "home"


@pytest.fixture
def running(home: Path) -> Iterator[None]:
    """A real gateway in a process of its own, in this home."""
    reading, writing = os.pipe()
    words = [sys.executable, "-m", "gateway", "--port", "0", "--ready-fd", str(writing), "--with-parent"]
    with subprocess.Popen(
        words,
        pass_fds=[writing],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        os.close(writing)
        assert select.select([reading], [], [], 30)[0]
        assert json.loads(os.read(reading, 10_000))["url"]
        os.close(reading)
        yield
        process.terminate()


def run(app: typer.Typer, *words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def answer(app: typer.Typer, *words: str) -> Any:
    done = run(app, *words, "--json")
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


def wrote(home: Path, words: str = "done") -> str:
    """Record a call; its id."""

    async def work() -> str:
        async with parts(home) as p:
            made = call(service="orders")
            await p.run(made, words)
            return made.id

    return asyncio.run(work())


def asked(home: Path) -> str:
    """Record a request for approval; its id."""

    async def work() -> str:
        async with parts(home) as p:
            return (await p.approvals.settle(call(ROLLBACK, FIXER, service="orders\u202e\x1b[2J"), ASK)).id

    return asyncio.run(work())


# -- tokens ------------------------------------------------------------------------------------------


def tokens_work() -> None:
    done = run(tokens_app, "issue", "user:ana", "--role", "oncall", "--expires", "8h")
    assert done.exit_code == 0 and done.stdout.startswith("pm_"), done.exception
    token = done.stdout.strip()
    (mine,) = [t for t in answer(tokens_app, "list")["tokens"] if t["subject"] == "user:ana"]
    assert (mine["roles"], mine["chain"], "token" in mine) == (["oncall"], [], False)
    assert token not in run(tokens_app, "list").stdout
    assert run(tokens_app, "revoke", mine["id"]).stdout == f"revoked {mine['id']}\n"
    assert "user:ana" not in run(tokens_app, "list").stdout
    records = answer(audit_app, "search", "--kind", "token")["records"]
    told = [r for r in records if r["body"].get("for") == "user:ana"]
    assert [r["status"] for r in told] == ["issued", "revoked"]
    assert token not in json.dumps(records)


def test_tokens_are_issued_listed_and_revoked_without_a_gateway() -> None:
    tokens_work()


def test_tokens_are_issued_listed_and_revoked_through_a_running_gateway(running: None) -> None:
    tokens_work()
    calls = answer(audit_app, "search", "--tool", "gateway__issue_token")["records"]
    assert [r["kind"] for r in calls] == ["intent", "outcome"]  # the command went down the one road


@pytest.mark.parametrize(
    ("given", "meant"), [("30m", 1800), ("8h", 28800), ("90d", 7776000), ("5", 5), ("never", None)]
)
def test_a_duration_is_read(given: str, meant: float | None) -> None:
    assert seconds(given) == meant


@pytest.mark.parametrize("given", ["", "0h", "-1h", "1y", "1.5h", "soon", "9" * 10 + "d"])
def test_what_is_no_duration_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        seconds(given)


# -- approvals ---------------------------------------------------------------------------------------


def test_what_waits_is_listed_shown_and_denied(home: Path) -> None:
    waiting = asked(home)
    assert waiting in run(approvals_app, "list").stdout
    shown = run(approvals_app, "show", waiting).stdout
    assert "agent:remediation" in shown and "remediation-asks" in shown
    assert "\x1b" not in shown and "\u202e" not in shown and "\\u202e" in shown  # nothing steers the terminal
    found = answer(approvals_app, "deny", waiting, "--reason", "not now")
    assert (found["status"], found["decided_by"], found["reason"]) == ("denied", "user:operator", "not now")
    assert run(approvals_app, "list").stdout == "nothing waits\n"
    assert answer(approvals_app, "list", "--status", "all")["approvals"][0]["id"] == waiting


def test_a_grant_needs_the_tool_to_be_approved_still(home: Path) -> None:
    waiting = asked(home)
    error = run(approvals_app, "grant", waiting, "--reason", "go on").exception
    assert isinstance(error, ApprovalError) and "no approved tool any more" in str(error)


def test_approvals_are_decided_through_a_running_gateway(home: Path, running: None) -> None:
    waiting = asked(home)
    assert waiting in run(approvals_app, "list").stdout
    assert answer(approvals_app, "deny", waiting, "--reason", "no")["status"] == "denied"
    error = run(approvals_app, "deny", waiting, "--reason", "no").exception
    assert isinstance(error, ApprovalError) and error.exit_code == 3 and "is denied" in str(error)


def test_an_unknown_status_is_refused() -> None:
    assert isinstance(run(approvals_app, "list", "--status", "lost").exception, UsageError)


# -- the ledger --------------------------------------------------------------------------------------


def test_the_ledger_is_read_in_every_way(home: Path) -> None:
    made = wrote(home, "pods: \x1b[31mred\x1b[0m\nsecond line")
    tail = run(audit_app, "tail").stdout.splitlines()
    assert len(tail) == 2 and made in tail[0] and "specialists-read" in tail[0]
    assert answer(audit_app, "search", "--kind", "outcome")["records"][0]["call"] == made
    shown = run(audit_app, "show", made).stdout
    assert 'arguments: {"service":"orders"}' in shown
    assert "pods: \\x1b[31mred\\x1b[0m\nsecond line" in shown
    assert answer(audit_app, "show", made)["text"] == "pods: \x1b[31mred\x1b[0m\nsecond line"
    exported = [
        json.loads(line) for line in run(audit_app, "export", "--jsonl", "--bodies").stdout.splitlines()
    ]
    assert [r["kind"] for r in exported] == ["intent", "outcome"]
    assert exported[1]["result"] == text("pods: \x1b[31mred\x1b[0m\nsecond line")
    assert run(audit_app, "verify").stdout.startswith("2 records are as they were written")


def test_verify_exits_1_and_names_the_record(home: Path) -> None:
    wrote(home)
    with sqlite3.connect(home / "ledger.db") as db:
        db.execute("UPDATE records SET record = replace(record, 'kubernetes', 'kubernetos') WHERE seq = 1")
    db.close()
    done = run(audit_app, "verify")
    assert done.exit_code == 1 and "edited: record 1 is not the one that was written" in done.stdout
    done = run(audit_app, "verify", "--json")
    assert done.exit_code == 1 and json.loads(done.stdout)["problems"][0]["seq"] == 1


def test_verify_works_while_a_gateway_runs(home: Path, running: None) -> None:
    assert answer(audit_app, "verify")["ok"]


def test_where_there_is_no_ledger_one_is_told_so(home: Path) -> None:
    for words in (["tail"], ["verify"], ["export"], ["show", "c1"], ["search"]):
        error = run(audit_app, *words).exception
        assert (
            isinstance(error, LedgerUnavailable) and "POINTSMAN_HOME" in str(error) and error.exit_code == 5
        )
    assert not home.exists()


def test_an_unknown_call_is_named(home: Path) -> None:
    wrote(home)
    error = run(audit_app, "show", "c_none").exception
    assert isinstance(error, UsageError) and "c_none" in str(error)
