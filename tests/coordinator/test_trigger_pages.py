"""What docs/triggers.md and docs/workers.md show in YAML is checked as a workflow, and fires where it can."""

import asyncio
import mailbox
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from coordinator.case_index import CaseIndex
from coordinator.hooks import sources
from coordinator.schedule import Scheduler, schedules_in
from coordinator.triggers.blobs import Blobs
from coordinator.triggers.folder import FolderWatch
from coordinator.triggers.mail import MailWatch
from coordinator.triggers.opening import Opener
from coordinator.workflows.library import Library
from coordinator.workflows.reading import read_text
from tests.coordinator.test_hooks import read
from tests.coordinator.test_triggers import message

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


def test_what_is_shown_opens_a_case_when_it_happens(tmp_path):
    index, fired = CaseIndex(tmp_path / "home"), []

    async def refused(where: str, why: str) -> None:
        raise AssertionError(why)

    workflows = [source.workflow for page in ("triggers.md", "workers.md") for source in shown(page)]
    for workflow in workflows:
        [trigger] = workflow.triggers
        opener, blobs = Opener(workflow, trigger, index, lambda case: None), Blobs(tmp_path / "home")
        kind = next(iter(trigger.model_fields_set & {"folder", "mailbox", "schedule", "condition"}))
        if kind == "folder":
            (tmp_path / trigger.folder).mkdir()
            (tmp_path / trigger.folder / trigger.pattern.replace("*", "invoice")).write_bytes(b"%PDF")
            fired += asyncio.run(FolderWatch(opener, blobs, refused, tmp_path).look())
        elif kind == "mailbox" and trigger.mailbox.maildir:
            place = trigger.mailbox.model_copy(update={"maildir": str(tmp_path / "mail")})
            opener = Opener(workflow, trigger.model_copy(update={"mailbox": place}), index, lambda case: None)
            mailbox.Maildir(tmp_path / "mail").add(message())
            fired += asyncio.run(MailWatch(opener, blobs, refused, tmp_path).look())
        elif kind == "schedule":
            folder = tmp_path / workflow.id
            folder.mkdir()
            told = workflow.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            (folder / f"{workflow.id}.yaml").write_text(yaml.safe_dump(told))
            found = [each for each in schedules_in(Library(folder)) if each.workflow == workflow.id]
            scheduler = Scheduler(found, index, lambda case: None)
            assert scheduler.fire(datetime(2026, 1, 26, 5, 59, tzinfo=UTC)) == []
            fired += scheduler.fire(datetime(2026, 1, 26, 6, 0, 1, tzinfo=UTC))  # seven o'clock in Berlin
    assert len(fired) == len(set(fired)) == len(index.list()) >= 3
    assert {index.trigger(case).kind for case in fired} == {"file", "mail", "schedule"}


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
