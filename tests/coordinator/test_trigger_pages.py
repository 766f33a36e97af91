"""What docs/triggers.md and docs/workers.md show in YAML is checked as a workflow, and fires."""

import asyncio
import json
import mailbox as stdlib_mailbox
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from coordinator.case_index import CaseIndex
from coordinator.hooks import sources
from coordinator.schedule import Scheduler, schedules_in
from coordinator.triggers.blobs import Blobs
from coordinator.triggers.folder import FolderWatch
from coordinator.triggers.mail import MailWatch
from coordinator.triggers.opening import Opener
from coordinator.triggers.watching import watches
from coordinator.workflows.library import Library
from coordinator.workflows.reading import read_text
from tests.coordinator.test_hooks import read
from tests.coordinator.test_triggers import message
from tests.fakes.imap_server import certificate, mailbox
from tests.fakes.prometheus_api import prometheus

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```(yaml|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STEPS = "steps:\n  - {id: told, deliver: report}\n"


def blocks(page: str, kind: str = "yaml") -> list[str]:
    return [text for language, text in BLOCK.findall((DOCS / page).read_text()) if language == kind]


def shown(page: str) -> list:
    """The workflow around each trigger that a page shows."""
    told = [t for text in blocks(page) for t in yaml.safe_load(text).get("triggers", ())]
    files = []
    for n, trigger in enumerate(told):
        inputs = {name: "any" for name in trigger.get("inputs", {})}
        head = {"id": f"shown-{n}", "name": "Shown", "owner": "docs", "inputs": inputs, "triggers": [trigger]}
        files.append(read_text(yaml.safe_dump(head) + STEPS, page))
    return files


@pytest.mark.parametrize("page", ["triggers.md", "workers.md"])
def test_every_trigger_that_a_page_shows_is_one(page):
    assert shown(page)


def test_the_limits_that_are_shown_are_such():
    [told] = [text for text in blocks("workers.md") if "limits:" in text]
    workflow = read_text(f"id: limited\nname: Limited\nowner: docs\n{told}{STEPS}", "workers.md").workflow
    assert (workflow.priority, workflow.limits.at_once, workflow.limits.tenant) == ("high", 4, 2)


def kind_of(workflow) -> str:
    [trigger] = workflow.triggers
    return next(iter(trigger.model_fields_set & {"folder", "mailbox", "schedule", "condition"}))


def every(kind: str) -> list:
    """The workflows around the triggers of this kind that the pages show."""
    both = [source.workflow for page in ("triggers.md", "workers.md") for source in shown(page)]
    found = [workflow for workflow in both if kind_of(workflow) == kind]
    assert found
    return found


async def refused(where: str, why: str) -> None:
    raise AssertionError(why)


def test_every_file_and_mail_that_is_shown_opens_its_case(tmp_path, monkeypatch):
    monkeypatch.setenv("MAIL_PASSWORD", "right")
    index, blobs, fired = CaseIndex(tmp_path / "home"), Blobs(tmp_path / "home"), []
    for workflow in every("folder"):
        [trigger] = workflow.triggers
        (tmp_path / trigger.folder).mkdir()
        (tmp_path / trigger.folder / trigger.pattern.replace("*", "invoice")).write_bytes(b"%PDF")
        opener = Opener(workflow, trigger, index, lambda case: None)
        fired += asyncio.run(FolderWatch(opener, blobs, refused, tmp_path).look())
    stdlib_mailbox.Maildir(tmp_path / "mail").add(message())
    certificate(tmp_path)
    with mailbox(tmp_path / "server.pem") as box:
        box.put(message())
        for workflow in every("mailbox"):
            [trigger] = workflow.triggers
            if trigger.mailbox.imap:  # as it is shown, at the address of this server
                url = box.url.replace("/INBOX", urlsplit(trigger.mailbox.imap).path)
                place = trigger.mailbox.model_copy(update={"imap": url, "ca": "ca.pem"})
            else:
                place = trigger.mailbox.model_copy(update={"maildir": "mail"})
            moved = trigger.model_copy(update={"mailbox": place})
            opener = Opener(workflow, moved, index, lambda case: None)
            fired += asyncio.run(MailWatch(opener, blobs, refused, tmp_path).look())
    assert len(fired) == len(set(fired)) == len(every("folder") + every("mailbox"))
    opened = [index.trigger(case) for case in fired]
    assert [each.kind for each in opened] == ["file", "mail", "mail"]
    assert opened[0].inputs == {"file": "invoice.pdf"}
    assert (tmp_path / "home" / "documents" / opened[1].inputs["file"]).read_bytes() == b"%PDF Invoice 7"


def test_every_schedule_that_is_shown_fires_at_its_time(tmp_path):
    index, fired = CaseIndex(tmp_path / "home"), []
    for workflow in every("schedule"):
        folder = tmp_path / workflow.id
        folder.mkdir()
        told = workflow.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        (folder / f"{workflow.id}.yaml").write_text(yaml.safe_dump(told))
        scheduler = Scheduler(schedules_in(Library(folder)), index, lambda case: None)
        assert scheduler.fire(datetime(2026, 1, 26, 5, 59, tzinfo=UTC)) == []
        fired += scheduler.fire(datetime(2026, 1, 26, 6, 0, 1, tzinfo=UTC))  # seven o'clock in Berlin
    assert {index.trigger(case).kind for case in fired} == {"schedule"}


def test_every_condition_that_is_shown_fires_on_what_the_metrics_server_answers(workspace, run):
    [workflow] = every("condition")
    [trigger] = workflow.triggers
    with prometheus() as api:
        command = ["-m", "tool_servers.metrics", "--prometheus", api.url]
        servers = {"metrics": {"command": sys.executable, "args": command, "pointsman": {"pin": "trust"}}}
        (workspace.folder / "mcp.json").write_text(json.dumps({"mcpServers": servers}))

        async def act(runner, _):
            submitted = []
            [watch] = watches([workflow], runner, submitted.append, workspace.folder)
            phases = []
            for n, value in enumerate((4, 9, 9, 9, 4, 2)):
                api.value = value
                phases.append(await watch.look(datetime(2026, 1, 31, 9, n, tzinfo=UTC)))
            assert phases == ["quiet", "pending", "pending", "active", "active", "quiet"]
            [case] = submitted
            assert runner.index.trigger(case).inputs == {"rate": 9.0}
            assert set(api.asked) == {trigger.condition.arguments["promql"]}

        run(act)


def test_the_mapping_that_is_shown_finds_the_fields():
    import tomllib

    tables = [tomllib.loads(text)["coordinator"]["hooks"] for text in blocks("triggers.md", "toml")]
    [disks] = [table["disks"] for table in tables if "disks" in table]
    [found] = read(
        "generic", {"event": {"what": "disk full", "on": [{"svc": "db"}]}}, disks["mapping"]
    ).alerts
    assert (found.title, found.service) == ("disk full", "db")
    assert {kind for table in tables for kind in table} - {"disks"} <= set(sources.READERS)


def test_the_receiver_that_is_shown_sends_where_alerts_are_taken():
    [told] = [yaml.safe_load(text) for text in blocks("triggers.md") if "receivers" in text]
    [hook] = told["receivers"][0]["webhook_configs"]
    assert hook["url"].endswith(":8421/hooks/alertmanager") and hook["send_resolved"] is True
