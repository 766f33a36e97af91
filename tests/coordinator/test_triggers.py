"""Conditions, mail and files open cases by themselves: each episode, message and file exactly once."""

import asyncio
import json
import mailbox as stdlib_mailbox
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest

from coordinator.case_index import CaseIndex
from coordinator.triggers.blobs import Blobs
from coordinator.triggers.folder import FolderWatch
from coordinator.triggers.mail import MailboxUnreachable, MailWatch
from coordinator.triggers.opening import Opener
from coordinator.triggers.watching import watches
from coordinator.workflows.model import Workflow
from specialists.errors import SettingsError
from tests.fakes.imap_server import certificate, mailbox

HERE = Path(__file__).parent
ATTACHED = {"file": "event.attachments[0].file", "sender": "event['from']"}


def workflow(**trigger) -> Workflow:
    """A workflow with one trigger."""
    steps = [{"id": "report", "deliver": "report"}]
    told = {"id": "post", "name": "Post", "owner": "the tests", "triggers": [trigger], "steps": steps}
    return Workflow.model_validate(told)


def message(subject: str = "Invoice 7", name: str = "seven.pdf", id_: str = "<7@example.org>") -> bytes:
    """A message with an attachment."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"], mail["Message-ID"] = (
        "a@example.org",
        "b@example.org",
        subject,
        id_,
    )
    mail.set_content("See the attachment.")
    mail.add_attachment(f"%PDF {subject}".encode(), maintype="application", subtype="pdf", filename=name)
    mail.set_boundary("between")
    return mail.as_bytes()


class Scene:
    """A watch on a home of its own, made anew whenever it is asked, as after a restart."""

    def __init__(self, root: Path, kind: type, **trigger) -> None:
        self.root, self.kind, self.workflow = root, kind, workflow(**trigger)
        self.submitted: list[str] = []
        self.refused: list[str] = []
        self.index = CaseIndex(root / "home")

    def look(self) -> list[str]:
        """What one look opens."""

        async def refused(where: str, why: str) -> None:
            self.refused.append(why)

        opener = Opener(self.workflow, self.workflow.triggers[0], self.index, self.submitted.append)
        made = self.kind(opener, Blobs(self.root / "home"), refused, self.root)
        return asyncio.run(made.look())

    def events(self) -> list[dict]:
        """What the cases were opened with."""
        return [self.index.trigger(row.id).payload for row in reversed(self.index.list())]


def test_each_message_of_a_maildir_opens_one_case_with_its_attachments(tmp_path):
    box = stdlib_mailbox.Maildir(tmp_path / "mail")
    scene = Scene(
        tmp_path,
        MailWatch,
        mailbox={"maildir": "mail"},
        inputs=ATTACHED,
        title="event.subject",
        tenant="event.to",
    )
    box.add(message())
    [case] = scene.look()
    opened = scene.index.trigger(case)
    assert (opened.kind, opened.workflow, opened.title) == ("mail", "post", "Invoice 7")
    assert opened.tenant == opened.payload["to"] != ""
    assert opened.inputs["sender"] == "a@example.org"
    kept = tmp_path / "home" / "documents" / opened.inputs["file"]
    assert kept.read_bytes() == b"%PDF Invoice 7" and kept.suffix == ".pdf"
    assert scene.look() == []
    box.add(message())  # delivered twice
    assert scene.look() == [case]
    box.add(message("Invoice 8"))  # another one under the same Message-ID
    assert scene.look() != [case]
    assert len(scene.index.list()) == 2 and not list((tmp_path / "mail" / "new").iterdir())


def test_hostile_messages_lead_nowhere_and_stop_nothing(tmp_path):
    box = stdlib_mailbox.Maildir(tmp_path / "mail")
    scene = Scene(tmp_path, MailWatch, mailbox={"maildir": "mail"}, inputs=ATTACHED)
    box.add(b"Subject: =?x?q?=FF?=\nFrom: \xff\xfe\nContent-Type: text/plain; charset=none\n\n\xff")
    box.add(b"")
    box.add(message("../x", name="../../../etc/passwd.PDF"))
    assert len(scene.look()) == 1
    assert len(scene.refused) == 2 and all("event.attachments" in why for why in scene.refused)
    [event] = scene.events()
    assert event["attachments"][0]["name"] == "passwd.PDF"
    assert {path.parent for path in (tmp_path / "home" / "documents").rglob("*")} == {
        tmp_path / "home" / "documents"
    }
    (tmp_path / "mail" / "new").rename(tmp_path / "mail" / "gone")
    with pytest.raises(MailboxUnreachable, match="is no maildir"):
        scene.look()


def test_each_message_of_an_imap_mailbox_opens_one_case(tmp_path, monkeypatch):
    monkeypatch.setenv("MAIL_PASSWORD", "right")
    with mailbox() as box:
        told = {"imap": box.url, "user": "ana", "password_env": "MAIL_PASSWORD"}
        scene = Scene(tmp_path, MailWatch, mailbox=told, inputs=ATTACHED)
        assert scene.look() == []
        box.put(message())
        [first] = scene.look()
        assert scene.look() == []
        box.put(message("Invoice 8", id_="<8@example.org>"))
        [second] = scene.look()
        box.validity, box.messages = 8, {1: message()}  # the server numbers anew
        assert scene.look() == [first] and first != second
        assert len(scene.index.list()) == 2
        monkeypatch.setenv("MAIL_PASSWORD", "wrong")
        with pytest.raises(MailboxUnreachable, match="wrong password"):
            scene.look()


def test_imap_over_tls_is_read_from_a_server_that_is_trusted_and_from_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("MAIL_PASSWORD", "right")
    with mailbox(certificate(tmp_path)) as box:
        told = {"imap": box.url, "user": "ana", "password_env": "MAIL_PASSWORD"}
        box.put(message())
        with pytest.raises(MailboxUnreachable, match=r"certificate verify failed.*`ca`"):
            Scene(tmp_path, MailWatch, mailbox=told, inputs=ATTACHED).look()
        with pytest.raises(SettingsError, match=r"none\.pem holds no certificate"):
            Scene(tmp_path, MailWatch, mailbox={**told, "ca": "none.pem"}, inputs=ATTACHED).look()
        scene = Scene(tmp_path, MailWatch, mailbox={**told, "ca": "ca.pem"}, inputs=ATTACHED)
        [case] = scene.look()
        assert scene.index.trigger(case).title.endswith("Invoice 7") and scene.look() == []


def test_each_file_of_a_folder_opens_one_case_once_it_is_whole(tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    scene = Scene(tmp_path, FolderWatch, folder="inbox", pattern="*.pdf", inputs={"file": "event.name"})
    (inbox / "a.pdf").write_bytes(b"one")
    (inbox / "note.txt").write_bytes(b"no")
    (inbox / ".hidden.pdf").write_bytes(b"no")
    (inbox / "link.pdf").symlink_to("/etc/hostname")
    [first] = scene.look()
    assert scene.look() == [first]  # a restart looks at everything again
    (inbox / "a.pdf").write_bytes(b"two")
    assert scene.look() != [first]
    assert [event["name"] for event in scene.events()] == ["a.pdf", "a.pdf"]
    assert scene.index.trigger(first).inputs == {"file": "a.pdf"}


CRASHING = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.coordinator.test_triggers import FolderWatch, MailWatch, Scene
import json
kind = {"folder": FolderWatch, "mailbox": MailWatch}[sys.argv[2]]
scene = Scene(Path(sys.argv[1]), kind, **{sys.argv[2]: json.loads(sys.argv[3])})
class Killed:
    append = staticmethod(lambda case: os.kill(os.getpid(), signal.SIGKILL))
scene.submitted = Killed
scene.look()
"""


@pytest.mark.parametrize("kind", ["folder", "mailbox"])
def test_kill_9_between_the_case_and_its_note_opens_no_second_one(tmp_path, kind):
    box = stdlib_mailbox.Maildir(tmp_path / "mail")
    (tmp_path / "inbox").mkdir()
    box.add(message())
    (tmp_path / "inbox" / "a.pdf").write_bytes(b"one")
    told = {"folder": "inbox", "mailbox": {"maildir": "mail"}}[kind]
    command = [sys.executable, "-c", CRASHING, str(tmp_path), kind, json.dumps(told)]
    died = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=120)
    assert died.returncode == -signal.SIGKILL, died.stderr
    scene = Scene(tmp_path, FolderWatch if kind == "folder" else MailWatch, **{kind: told})
    [left] = scene.index.list()
    assert scene.look() == [left.id]
    assert scene.submitted == [left.id] and len(scene.index.list()) == 1


def test_a_condition_opens_one_case_an_episode_and_remembers_over_restarts(workspace, run):
    gauge = workspace.folder / "gauge"
    command = [str(HERE / "gauge_server.py"), str(gauge)]
    servers = {"gauge": {"command": sys.executable, "args": command, "pointsman": {"pin": "trust"}}}
    (workspace.folder / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
    condition = {
        "tool": "gauge__value",
        "value": "result.value",
        "above": 5,
        "clear": 3,
        "for": "2m",
        "every": "1m",
    }
    start = datetime(2026, 1, 31, 9, tzinfo=UTC)

    async def act(runner, _):
        submitted = []

        async def look(minute: float, shown: float, **changed) -> str:
            gauge.write_text(str(shown))
            told = workflow(condition=condition | changed, inputs={"high": "event.value"})
            [watch] = watches([told], runner, submitted.append, workspace.folder)
            return await watch.look(start + timedelta(minutes=minute))

        phases = [await look(n, shown) for n, shown in enumerate([9, 4, 9, 9, 9, 9, 4, 9, 3, 9])]
        told = "pending quiet pending pending active active active active quiet pending"
        assert phases == told.split()
        [case] = submitted
        opened = runner.index.trigger(case)
        assert (opened.kind, opened.inputs, opened.payload["value"]) == ("condition", {"high": 9.0}, 9.0)
        assert opened.title == "Post: 9 is above 5 for 2m" and opened.payload["call"]
        assert await look(30, 9) == "pending"  # nobody looked for so long: it counts from anew
        assert await look(31, 9) == "pending" and await look(32, 9) == "active"
        assert len(submitted) == 2 == len(runner.index.list())
        assert (
            await look(0, 1, above=None, below=2, **{"for": "0s", "clear": 4}) == "active"
        )  # another condition
        gauge.write_text("9")
        told = [workflow(condition=condition | {"for": "0s", "clear": 2}, inputs={"high": "event.value"})] * 3
        many = watches(told, runner, submitted.append, workspace.folder)  # as of several processes
        await asyncio.gather(*(one.look(start + timedelta(seconds=n)) for n, one in enumerate(many)))
        assert [await one.look(start + timedelta(minutes=1)) for one in many] == ["active"] * 3
        assert len(submitted) == 4 == len(runner.index.list())
        for wrong, why in (
            ({"value": "result.nothing"}, "nothing"),
            ({"tool": "gauge__reset"}, "gauge__reset"),
        ):
            with pytest.raises(Exception, match=why):
                await look(1, 9, **wrong)

    run(act)


def test_up_takes_files_and_runs_their_cases(workspace):
    shutil.copytree(HERE / "workflows", workspace.folder / "workflows")
    up = workspace.start("up", "--port", "0", "--json")
    (workspace.folder / "inbox").mkdir()
    (workspace.folder / "inbox" / "a.txt").write_text("thing 1")
    index = CaseIndex(workspace.home)
    workspace.until(lambda: [row.status for row in index.list()] == ["delivered"])
    [row] = index.list()
    assert index.trigger(row.id).kind == "file" and row.title == "A file: a.txt"
    up.send_signal(signal.SIGTERM)
    assert up.wait(30) == 0
    assert os.listdir(workspace.home / "documents")
