"""The ledger: before dispatch, before release, through a crash, and against whoever would change it."""

import asyncio
import base64
import hashlib
import json
import random
import threading
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.canonical import canonical
from gateway.checkpoints import Checkpoints
from gateway.errors import KeyTaken, LedgerError, Refusal
from gateway.labels import Labels
from gateway.ledger import Ledger
from gateway.limits import Limits
from gateway.redaction import Redactor
from gateway.settings import load
from gateway.sqlite import Sqlite, SqliteConnection
from gateway.store import Store
from gateway.types import Rule, Subject
from gateway.writing import Connection, Writing
from tests.databases import own_schema
from tests.gateway.records import (
    ANA,
    ASK,
    GET,
    GO,
    LOGS,
    PLACES,
    ROLLBACK,
    Parts,
    call,
    directly,
    parts,
    place,
    second_place,
    text,
)

pytestmark = pytest.mark.anyio


async def test_a_call_stands_as_intent_and_outcome_with_all_that_was_decided(home: Path) -> None:
    async with parts(home) as p:
        made = call(resource_type="pods")
        await p.run(made, "two pods")
        found = await p.ledger.show(made.id)
    assert found is not None
    intent, outcome = found["records"]
    assert (intent["kind"], outcome["kind"]) == ("intent", "outcome")
    assert (intent["subject"], intent["chain"]) == ("agent:logs", ["user:ana", "agent:coordinator"])
    assert (intent["case"], intent["run"], intent["task"]) == ("case-1", "run-1", "task-1")
    assert (intent["verdict"], intent["rules"], intent["policy"]) == ("call", ["specialists-read"], "p1")
    assert (intent["tool"], intent["server"], intent["control"]) == (
        "kubernetes__get",
        "kubernetes",
        "enforced",
    )
    assert (outcome["status"], outcome["ms"], outcome["prev"]) == ("ok", 1.5, intent["hash"])
    assert found["arguments"] == {"resource_type": "pods"}
    assert (found["result"], found["text"]) == (text("two pods"), "two pods")


async def test_there_is_no_outcome_without_its_intent_and_no_second_one(home: Path) -> None:
    async with parts(home) as p:
        made = call()
        with pytest.raises(LedgerError, match="no open intent"):
            await p.ledger.outcome(made, text("x"), status="ok")
        await p.run(made)
        with pytest.raises(LedgerError, match="no open intent"):
            await p.ledger.outcome(made, text("y"), status="ok")
        assert (await p.ledger.verify())["records"] == 2


async def test_a_refusal_is_one_record_with_code_rules_and_words(home: Path) -> None:
    async with parts(home) as p:
        made = call(ROLLBACK, service="orders")
        refusal = Refusal("denied", "agent:logs may not", rules=(Rule("no-acting"),))
        await p.ledger.refusal(LOGS, refusal, made)
        await p.ledger.refusal(None, Refusal("unknown_tool", "no such tool"), tool="nowhere__nothing")
        first, second = (await p.ledger.search(kind="refusal"))["records"]
        shown = await p.ledger.show(made.id)
    assert (first["code"], first["rules"], first["control"]) == ("denied", ["no-acting"], "refused")
    assert first["body"] == {"message": "agent:logs may not"}
    assert shown is not None and shown["arguments"] == {"service": "orders"}
    assert (second["tool"], "subject" in second) == ("nowhere__nothing", False)


async def test_records_are_found_by_what_they_are_about(home: Path) -> None:
    async with parts(home) as p:
        for n in range(5):
            await p.run(call(n=n))
        await p.ledger.append("step", ANA, case="case-2", step="plan", body={"specialists": ["logs"]})
        assert [r["seq"] for r in (await p.ledger.search(case="case-1", kind="intent"))["records"]] == [
            1,
            3,
            5,
            7,
            9,
        ]
        (step,) = (await p.ledger.search(subject="user:ana"))["records"]
        assert (step["kind"], step["case"], step["body"]) == ("step", "case-2", {"specialists": ["logs"]})
        page = await p.ledger.search(limit=4)
        assert (len(page["records"]), page["next"]) == (4, 4)
        assert [r["seq"] for r in (await p.ledger.search(after=9, limit=4))["records"]] == [10, 11]
        assert [r["seq"] for r in (await p.ledger.search(newest=True, limit=2))["records"]] == [10, 11]


class Counting(Sqlite):
    """A SQLite file that counts, in hundreds, the instructions its statements take."""

    taken = 0

    def connect(self, *, readonly: bool = False) -> SqliteConnection:
        connection = super().connect(readonly=readonly)
        connection.set_progress_handler(self._count, 100)
        return connection

    def _count(self) -> None:
        self.taken += 1


async def test_what_is_known_of_one_case_or_call_is_found_without_reading_the_rest(tmp_path: Path) -> None:
    store = Store(tmp_path / "ledger.db")
    store.database = counting = Counting(tmp_path / "ledger.db")
    async with store:
        ledger = await Ledger(store, Redactor()).prepare()
        gets = [call(key=f"k{n}", n=n) for n in range(400)]
        await asyncio.gather(*(ledger.intent(one, GO) for one in gets))
        await asyncio.gather(*(ledger.outcome(one, text("fine"), status="ok") for one in gets))
        await ledger.append("step", ANA, case="case-2", step="plan")
        last, stranger = gets[-1], Subject("agent:logs", case="case-2", run="run-2")
        await store.read(lambda c: c.execute("SELECT 1").fetchall())

        counting.taken = 0
        assert len((await ledger.search(case="case-2"))["records"]) == 1
        assert len((await ledger.search(call=last.id))["records"]) == 2
        assert [r["case"] async for r in ledger.export(case="case-2")] == ["case-2"]
        assert (await ledger.show(last.id) or {})["text"] == "fine"
        replay = await ledger.find_key(last.subject, last.key)
        assert replay is not None and replay.result == text("fine")
        assert (await Labels(ledger).of(stranger)).labels() == frozenset()
        await Limits(load(max_per_case=5), ledger).spend(replace(last, subject=stranger))
        assert counting.taken < 5  # to look through 800 records even once takes more


async def test_steps_are_found_by_what_they_are_about(home: Path) -> None:
    async with parts(home) as p:
        for n in range(3):
            await p.ledger.append("step", ANA, about=f"w{n}", case="c1")
        await p.ledger.append("registration", ANA, about="w1")
        found = await p.ledger.search(kind="step", about="w1")
        assert [record["seq"] for record in found["records"]] == [2]
        assert len((await p.ledger.search(about="w1"))["records"]) == 2


async def test_export_gives_every_record_in_order_and_bodies_when_asked(home: Path) -> None:
    async with parts(home) as p:
        await asyncio.gather(*(p.run(call(n=n), f"answer {n}") for n in range(600)))
        every = [record async for record in p.ledger.export()]
        assert [record["seq"] for record in every] == list(range(1, 1201))
        tail = [record async for record in p.ledger.export(after=1190, bodies=("arguments", "result"))]
        assert [r["seq"] for r in tail] == list(range(1191, 1201))
        ends = [r for r in tail if r["kind"] == "outcome"]
        assert ends and all(r["result"]["content"][0]["text"].startswith("answer ") for r in ends)


# -- idempotency keys --------------------------------------------------------------------------------


async def test_a_key_holds_the_outcome_of_its_call(home: Path) -> None:
    async with parts(home) as p:
        assert await p.ledger.find_key(LOGS, "k") is None
        made = call(key="k", n=1)
        await p.ledger.intent(made, GO)
        running = await p.ledger.find_key(LOGS, "k")
        assert running is not None and (running.call, running.status, running.result) == (
            made.id,
            "running",
            None,
        )
        with pytest.raises(KeyTaken):
            await p.ledger.intent(call(key="k", n=1), GO)
        await p.ledger.outcome(made, text("one"), status="ok")
        done = await p.ledger.find_key(LOGS, "k")
        assert done is not None and (done.status, done.digest, done.result) == (
            "ok",
            made.digest,
            text("one"),
        )
        with pytest.raises(KeyTaken, match="another key"):
            await p.ledger.intent(call(key="k", n=2), GO)
        assert await p.ledger.find_key(ANA, "k") is None  # another subject's keys are its own


async def test_of_a_hundred_calls_with_one_key_one_runs(home: Path) -> None:
    async with parts(home) as p:
        tries = await asyncio.gather(
            *(p.ledger.intent(call(key="once", n=1), GO) for _ in range(100)), return_exceptions=True
        )
        assert [type(t) for t in tries if not isinstance(t, int)] == [KeyTaken] * 99


async def test_after_a_crash_open_calls_are_unknown_and_their_keys_are_free(home: Path) -> None:
    async with parts(home) as p:
        lost, kept = call(key="k", n=1), call()
        await p.ledger.intent(lost, GO)
        await p.run(kept)
    async with parts(home) as p:  # as after a restart
        assert await p.ledger.recover() == [lost.id]
        assert await p.ledger.recover() == []
        found = await p.ledger.find_key(LOGS, "k")
        assert found is not None and found.status == "unknown"
        last = (await p.ledger.search(newest=True, limit=1))["records"][0]
        assert (last["call"], last["status"], last["case"], last["key"]) == (
            lost.id,
            "unknown",
            "case-1",
            "k",
        )
        await p.run(call(key="k", n=1), "again")
        assert (await p.ledger.verify())["ok"]


async def test_a_caller_that_leaves_while_its_intent_is_written_leaves_no_open_call(home: Path) -> None:
    async with parts(home) as p:
        started, go_on = threading.Event(), threading.Event()

        def slow(connection: Writing) -> None:
            started.set()
            go_on.wait(10)

        first = asyncio.create_task(p.store.write(slow))
        await asyncio.to_thread(started.wait, 10)
        gone = asyncio.create_task(p.ledger.intent(call(), GO))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        go_on.set()
        await first
        assert await p.ledger.recover() == []
        assert [r.get("status") for r in (await p.ledger.search())["records"]] == [None, "cancelled"]


# -- secrets -----------------------------------------------------------------------------------------


async def test_no_secret_reaches_the_file(home: Path) -> None:
    shapes = {
        "configured": 's3cr"et-näme',
        "bearer": "Bearer abcdefghijklmnop1234567890",
        "ours": "pm_" + "Zy9" * 14,
        "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbmEifQ.c2lnbmF0dXJl",
        "cloud": "AKIAABCDEFGHIJKLMNOP",
        "forge": "ghp_" + "a1B2" * 9,
        "url": "postgres://shop:hunter2hunter2@db/orders",
        "pem": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\n-----END PRIVATE KEY-----",
    }
    secret = [
        "s3cr",
        "abcdefghijklmnop1234567890",
        "Zy9Zy9",
        "c2lnbmF0dXJl",
        "AKIAABCDEFGH",
        "a1B2a1B2",
        "hunter2",
        "MIIEvQ",
    ]
    async with parts(home, secrets=('s3cr"et-näme',)) as p:
        for words in shapes.values():
            made = call(
                query=f"before {words} after", headers={"X-Api-Key": "plainvalue77", "Cookie": "crumb-value"}
            )
            await p.run(made, f"log line {words} end")
            await p.ledger.append("step", LOGS, case="c", body={"note": words, "password": "plainvalue77"})
            found = await p.ledger.show(made.id)
            assert (
                found is not None and "[redacted]" in found["text"] and found["text"].startswith("log line ")
            )
        await p.approvals.settle(call(ROLLBACK, password="plainvalue77"), ASK)

        def bodies(connection: Connection) -> bytes:
            large = connection.execute("SELECT packed, body FROM blobs").fetchall()
            small = connection.execute("SELECT body FROM records WHERE body IS NOT NULL").fetchall()
            assert small
            bodies = [zlib.decompress(body) if packed else body for packed, body in large]
            return b"".join([*bodies, *(body for (body,) in small)])

        def rows(connection: Connection) -> bytes:
            tables = [connection.execute(f"SELECT * FROM {t}").fetchall() for t in ("records", "approvals")]
            return repr(tables).encode()

        files = home.iterdir() if home.exists() else ()
        kept = b"".join([await p.store.read(bodies), await p.store.read(rows)])
        kept += b"".join(f.read_bytes() for f in files)
    for word in [*secret, "plainvalue77", "crumb-value"]:
        assert word.encode() not in kept, word


async def test_ordinary_words_are_kept_as_they_are(home: Path) -> None:
    words = "token expired; secretName: default-token-x7; https://example.org/a@b?page=2 sk-1 bearer of news"
    async with parts(home) as p:
        made = call(next_token_count=5, keys=["a"])
        await p.run(made, words)
        found = await p.ledger.show(made.id)
    assert found is not None
    assert (found["text"], found["arguments"]) == (words, {"next_token_count": 5, "keys": ["a"]})


# -- tampering ---------------------------------------------------------------------------------------


async def written(p: Parts) -> None:
    for n in range(12):
        await p.run(call(n=n), f"answer {n} " + "long " * 200)


def edit(db: Writing) -> None:
    db.execute("""UPDATE records SET record = replace(record, '"ok"', '"error"') WHERE seq = 6""")


def edit_a_column(db: Writing) -> None:
    db.execute("UPDATE records SET subject = 'user:nobody' WHERE seq = 6")


def delete(db: Writing) -> None:
    db.execute("DELETE FROM records WHERE seq = 6")


def insert(db: Writing) -> None:
    db.execute("UPDATE records SET seq = seq + 100 WHERE seq >= 6")
    db.execute("UPDATE records SET seq = seq - 99 WHERE seq > 100")
    db.execute(
        "INSERT INTO records SELECT 6, hash, kind, call, time, subject, case_id, tool, verdict, record, body "
        "FROM records WHERE seq = 5"
    )


def reorder(db: Writing) -> None:
    db.execute("UPDATE records SET seq = -1 WHERE seq = 6")
    db.execute("UPDATE records SET seq = 6 WHERE seq = 7")
    db.execute("UPDATE records SET seq = 7 WHERE seq = -1")


def truncate(db: Writing) -> None:
    db.execute("DELETE FROM records WHERE seq > 20")
    if db.shared:  # as one would who knows where the head is kept
        seq, hashed = db.execute("SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1").fetchone()
        db.execute("UPDATE head SET seq = ?, hash = ?", (seq, hashed.hex()))


def empty(db: Writing) -> None:
    db.execute("DELETE FROM records")


def rewrite(db: Writing) -> None:
    """Edit one record and forge every hash after it, as one who knows the form would."""
    prev = ""
    for seq, words in db.execute("SELECT seq, record FROM records ORDER BY seq").fetchall():
        record = json.loads(words)
        record["prev"] = prev
        if seq == 6:
            record["status"] = "error"
        raw = canonical(record)
        prev = hashlib.sha256(raw).hexdigest()
        db.execute(
            "UPDATE records SET record = ?, hash = ? WHERE seq = ?", (raw.decode(), bytes.fromhex(prev), seq)
        )


def last_blob(db: Writing) -> bytes:
    (record,) = db.execute("SELECT record FROM records WHERE seq = 24").fetchone()
    return bytes.fromhex(json.loads(record)["result_digest"])


def edit_a_body(db: Writing) -> None:
    db.execute("UPDATE blobs SET body = ?, packed = 0 WHERE digest = ?", (b"0", last_blob(db)))


def remove_a_body(db: Writing) -> None:
    db.execute("DELETE FROM blobs WHERE digest = ?", (last_blob(db),))


def edit_a_small_body(db: Writing) -> None:
    db.execute("UPDATE records SET body = ? WHERE seq = 5", (b"0",))


def remove_a_small_body(db: Writing) -> None:
    db.execute("UPDATE records SET body = NULL WHERE seq = 5")


def copied(db: Writing) -> dict[str, list[tuple]]:
    """Everything the ledger consists of."""
    tables = ("records", "blobs", "facts", *(("head",) if db.shared else ()))
    return {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in tables}


def replaced(db: Writing, rows: dict[str, list[tuple]]) -> None:
    """Put these in the place of what is there."""
    for table, every in rows.items():
        db.execute(f"DELETE FROM {table}")
        for row in every:
            db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


TAMPERS: list[tuple[Callable[[Writing], None], str, int]] = [
    (edit, "edited", 6),
    (edit_a_column, "edited", 6),
    (delete, "deleted", 7),
    (insert, "edited", 6),
    (reorder, "edited", 6),
    (truncate, "truncated", 20),
    (empty, "truncated", 0),
    (rewrite, "replaced", 24),
    (edit_a_body, "body", 0),
    (remove_a_body, "body", 24),
    (edit_a_small_body, "body", 5),
    (remove_a_small_body, "body", 5),
]


@pytest.mark.parametrize(("tamper", "kind", "seq"), TAMPERS, ids=[t[0].__name__ for t in TAMPERS])
async def test_verify_finds_what_was_done_and_says_where(
    home: Path, tamper: Callable[[Writing], None], kind: str, seq: int
) -> None:
    async with parts(home) as p:
        await written(p)
        assert (await p.ledger.verify())["ok"]
    with directly(home) as db:
        tamper(db)
    async with parts(home) as p:
        answer = await p.ledger.verify()
    assert not answer["ok"]
    assert (kind, seq) in {(problem["kind"], problem["seq"]) for problem in answer["problems"]}, answer


async def test_a_cut_tail_stays_visible_after_the_ledger_has_grown_again(home: Path) -> None:
    async with parts(home) as p:
        await written(p)
    with directly(home) as db:
        truncate(db)
    async with parts(home) as p:
        await written(p)
    async with parts(home) as p:
        problems = (await p.ledger.verify())["problems"]
    assert [(x["kind"], x["seq"]) for x in problems] == [("replaced", 24)]


async def test_a_ledger_swapped_whole_is_not_the_one_that_was_checkpointed(
    home: Path, tmp_path: Path
) -> None:
    async with parts(home) as p:
        await written(p)
    async with parts(tmp_path / "other" / "home") as p:
        await written(p)
    with directly(tmp_path / "other" / "home") as other:
        rows = copied(other)
        rows |= {"head": [(1, 24, rows["records"][-1][1].hex())]}
    with directly(home) as db:
        replaced(db, {table: every for table, every in rows.items() if db.shared or table != "head"})
    async with parts(home) as p:
        problems = (await p.ledger.verify())["problems"]
    assert [problem["kind"] for problem in problems] == ["replaced"]


async def test_a_forged_checkpoint_is_seen(home: Path) -> None:
    async with parts(home) as p:
        await written(p)
        notes = second_place(home).path
        note = json.loads(notes.read_bytes().splitlines()[-1])
        with notes.open("ab") as file:
            file.write(canonical({**note, "seq": 3}) + b"\n")
        problems = (await p.ledger.verify())["problems"]
    assert [problem["kind"] for problem in problems] == ["checkpoint"]


async def test_a_ledger_begun_anew_in_the_same_place_is_no_alarm(home: Path) -> None:
    async with parts(home) as p:
        await written(p)
    with directly(home) as db:
        for table in ("records", "blobs", "facts", *(("head",) if db.shared else ())):
            db.execute(f"DROP TABLE {table}")
    async with parts(home) as p:
        await written(p)
        assert (await p.ledger.verify())["problems"] == []


async def test_the_checkpoint_key_is_readable_by_its_owner_only_and_not_beside_the_ledger(home: Path) -> None:
    async with parts(home) as p:
        await written(p)
        key = second_place(home).path.parent / "signing.key"
        assert oct(key.stat().st_mode & 0o777) == "0o600"
        assert not list(home.glob("*.key"))


@pytest.mark.parametrize(("database", "many"), [("sqlite", 42), ("postgres", 8)])  # a slow one to prepare
async def test_fifty_clean_ledgers_raise_no_alarm(
    tmp_path: Path, database: str, many: int, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(4)
    server = request.getfixturevalue("postgres_server") if database == "postgres" else None
    for n in range(many):
        home = tmp_path / str(n) / "home"
        if server is not None:
            PLACES[home] = own_schema(server.get_uri())
        async with parts(home) as p:
            for _ in range(chance.randrange(3)):
                await asyncio.gather(
                    *(p.run(call(n=chance.random()), "w" * chance.randrange(900)) for _ in range(5))
                )
                await p.ledger.refusal(LOGS, Refusal("denied", "no"), call(ROLLBACK))
            if chance.random() < 0.5:
                await p.ledger.intent(call(), GO)
        async with parts(home) as p:
            await p.ledger.recover()
            assert (await p.ledger.verify())["problems"] == [], n


async def test_the_rules_of_a_decision_are_kept_with_the_intent(home: Path) -> None:
    async with parts(home) as p:
        made = call(GET)
        await p.ledger.intent(made, ASK)
        (record,) = (await p.ledger.search(verdict="request"))["records"]
    assert record["rules"] == ["remediation-asks"]


async def test_a_gateway_that_starts_on_a_changed_ledger_says_so(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with parts(home) as p:
        await written(p)
    async with parts(home) as p:
        await p.run(call())
    assert caplog.records == []
    with directly(home) as db:
        truncate(db)
    async with parts(home):
        pass
    assert ["record 26 is not the one" in record.getMessage() for record in caplog.records] == [True]


async def test_a_key_is_the_subjects_in_one_case(home: Path) -> None:
    async with parts(home) as p:
        other = Subject(LOGS.id, LOGS.roles, case="case-2")
        made, theirs = call(key="step-1"), call(subject=other, key="step-1")
        await p.run(made, "ours")
        assert await p.ledger.find_key(other, "step-1") is None
        await p.run(theirs, "theirs")
        again = Subject(LOGS.id, LOGS.roles, case="case-1", run="run-2")  # the case goes on in another run
        found = await p.ledger.find_key(again, "step-1")
        assert found is not None and (found.call, found.result) == (made.id, text("ours"))


async def test_a_key_that_signs_nothing_or_is_gone_is_told(home: Path) -> None:
    async with parts(home) as p:
        await written(p)
    key = second_place(home).path.parent / "signing.key"
    kept = key.read_bytes()
    key.unlink()
    async with parts(home) as p:
        assert [x["kind"] for x in (await p.ledger.verify())["problems"]] == ["checkpoint"]
    key.write_bytes(b"nonsense")
    async with parts(home) as p:
        (problem,) = (await p.ledger.verify())["problems"]
        assert problem["kind"] == "checkpoint" and "no Ed25519 key" in problem["message"]
        await p.run(call())  # a second place that fails stops no call
    key.write_bytes(kept)
    async with parts(home) as p:
        assert (await p.ledger.verify())["ok"]


async def test_checkpoints_are_signed_by_the_key_that_is_named_and_told_elsewhere(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = Ed25519PrivateKey.generate()
    none = serialization.NoEncryption()
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none).decode()
    notes = Checkpoints.beside(place(home), home.parent / "elsewhere", pem, "stdout")
    async with Store(place(home)) as store:
        ledger = await Ledger(store, Redactor(), notes).prepare()
        await ledger.append("step", ANA, step="plan", case="C1")
    assert not list((home.parent / "elsewhere").glob("*.key"))
    (first, last) = [
        line.removeprefix("pointsman checkpoint ") for line in capsys.readouterr().out.splitlines()
    ]
    told = json.loads(last)
    private.public_key().verify(base64.b64decode(told.pop("signature")), canonical(told))
    assert (json.loads(first)["seq"], told["seq"]) == (0, 1)
    async with Store(place(home), readonly=True) as store:
        assert (await Ledger(store, Redactor(), notes).verify())["ok"]
        other = Checkpoints.beside(place(home), home.parent / "elsewhere")
        (problem, *_) = (await Ledger(store, Redactor(), other).verify())["problems"]
        assert problem["kind"] == "checkpoint"
