"""What travels between Pointsman and a remote specialist: names, and how our words become A2A parts.

Tasks and findings travel as JSON text with a media type of their own and not as A2A data parts, in which
every number is a float. The way to the gateway travels in headers: task stores keep messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from a2a.types.a2a_pb2 import Message, Part
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from specialists.types import Finding, Progress, Task

EXTENSION = "urn:pointsman:a2a:specialist:1"
EXTENSIONS_HEADER = "A2A-Extensions"
GATEWAY_HEADER = "Pointsman-Gateway"  # the MCP endpoint to call tools on
TOKEN_HEADER = "Pointsman-Gateway-Token"  # a token of the gateway for this task alone
RUN_HEADER = "Pointsman-Run"  # part of every idempotency key

TASK_TYPE = "application/vnd.pointsman.task+json"
FINDING_TYPE = "application/vnd.pointsman.finding+json"
FINDING = "finding"  # the artifact's name

STEP = ("kind", "tool", "call", "seconds")  # what a part's metadata tells of a progress


def task_part(task: Task) -> Part:
    """A task as a part of a message."""
    return Part(text=task.model_dump_json(), media_type=TASK_TYPE)


def finding_parts(finding: Finding) -> list[Part]:
    """A finding as the parts of an artifact: for people, and whole."""
    return [Part(text=finding.summary), Part(text=finding.model_dump_json(), media_type=FINDING_TYPE)]


def progress_part(progress: Progress) -> Part:
    """A step on the way: its words as text, the rest beside them."""
    told = progress.model_dump(include=set(STEP), exclude_defaults=True)
    metadata = Struct()
    metadata.update(told)
    return Part(text=progress.text, metadata=metadata)


def progress_of(part: Part, specialist: str) -> Progress:
    """The step that a part tells; a part without our metadata is a note. Raises ValidationError."""
    told: dict[str, Any] = MessageToDict(part.metadata)
    known = {key: told[key] for key in STEP if key in told}
    return Progress.model_validate({"kind": "note"} | known | {"specialist": specialist, "text": part.text})


def text_of(parts: Iterable[Part]) -> str:
    """The plain text of some parts."""
    return "\n".join(part.text for part in parts if part.text and not is_ours(part)).strip()


def typed(parts: Iterable[Part], media_type: str) -> str:
    """The text of the first part of a media type, or nothing."""
    return next((part.text for part in parts if part.media_type == media_type and part.text), "")


def is_ours(part: Part) -> bool:
    """Whether a part is written for programs of ours."""
    return part.media_type in (TASK_TYPE, FINDING_TYPE)


def said(message: Message) -> str:
    """The plain text of a message."""
    return text_of(message.parts)
