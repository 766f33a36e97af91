"""Everything that opens cases by itself for a set of workflows: conditions, mail, files."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from coordinator.cases import CaseRunner
from coordinator.triggers.blobs import Blobs
from coordinator.triggers.condition import ConditionWatch
from coordinator.triggers.folder import FolderWatch
from coordinator.triggers.mail import MailWatch
from coordinator.triggers.opening import Opener
from coordinator.workflows.model import ConditionTrigger, FolderTrigger, MailboxTrigger, Workflow
from specialists.toolbox import Toolbox, ToolResult

TOKEN_SECONDS = 120
Watch = ConditionWatch | MailWatch | FolderWatch
WATCHES: tuple[type[Watch], ...] = (ConditionWatch, MailWatch, FolderWatch)


async def watch(
    runner: CaseRunner, submit: Callable[[str], None], kinds: tuple[type[Watch], ...] = WATCHES
) -> None:
    """Go on opening cases of the workflows there are; paths are relative to their folder's parent.

    Any number of processes may watch conditions; mail and files are of one machine.
    """
    library = runner.workflows
    base = library.folder.absolute().parent if library.folder else Path.cwd()
    found = watches([source.workflow for source in library.all()], runner, submit, base)
    async with asyncio.TaskGroup() as group:
        for one in (each for each in found if isinstance(each, kinds)):
            group.create_task(one.run())


def watches(
    workflows: Iterable[Workflow], runner: CaseRunner, submit: Callable[[str], None], base: Path
) -> list[Watch]:
    """A watch for each condition, mailbox and folder of the workflows."""

    async def record(case: str, kind: str, body: dict[str, Any]) -> None:
        async with runner.gateway(case) as gateway:
            await gateway.record_step(kind, body)

    async def refused(where: str, why: str) -> None:
        await record("", "hook", {"source": where, "refused": why[:1000], "times": 1})

    async def call(workflow: str, tool: str, arguments: dict[str, Any]) -> ToolResult:
        """Ask a tool as the workflow's own agent, which may only read."""
        async with runner.gateway("") as gateway:
            token = await gateway.issue_token(
                f"agent:{workflow}", "specialist", task="condition", seconds=TOKEN_SECONDS
            )
            task = f"condition {uuid.uuid4().hex}"  # its own keys: an answer of the past is no measurement
            async with Toolbox(runner.access.url, token=token, task=task) as toolbox:
                return await toolbox.call(tool, arguments)

    blobs, made = Blobs(runner.home), []
    for workflow in workflows:
        for trigger in workflow.triggers:
            opener = Opener(workflow, trigger, runner.index, submit)
            if isinstance(trigger, ConditionTrigger):
                made.append(ConditionWatch(opener, call, record))
            elif isinstance(trigger, MailboxTrigger):
                made.append(MailWatch(opener, blobs, refused, base))
            elif isinstance(trigger, FolderTrigger):
                made.append(FolderWatch(opener, blobs, refused, base))
    return made
