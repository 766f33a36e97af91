"""What can go wrong in a tool server.

ToolServerError
├── BadInput          an argument is wrong: names the field, what was given and what is allowed
├── NotFound          the argument is well formed, but nothing has that name
├── NotRecorded       the recording holds no answer to this call
├── NotOffered        this back-end cannot do what was asked
├── Unavailable       a back-end is missing or does not answer
├── NotSent           a delivery that may have arrived, and is not sent again
├── BadRecording      the recording is missing or malformed
└── BadSettings       pointsman.toml, the environment or the command line is wrong
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ToolServerError(Exception):
    """The base: a message of what, why and what to do, a stable code, an exit code."""

    code = "tool_server_error"
    exit_code = 1


class BadInput(ToolServerError):
    """An argument is wrong."""

    code = "bad_input"
    exit_code = 2

    def __init__(self, field: str, given: object, allowed: str) -> None:
        super().__init__(f"invalid argument {field!r}: got {given!r}; allowed: {allowed}")
        self.field = field


class NotFound(ToolServerError):
    """Nothing has the given name."""

    code = "not_found"

    def __init__(self, field: str, given: str, known: Iterable[str], what: str) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}? " if near else ""
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        super().__init__(f"{field!r}: no {what} {given!r}; {hint}known: {shown or 'none'}")
        self.field = field


class NotRecorded(ToolServerError):
    """The recording holds no answer to this call."""

    code = "not_recorded"

    def __init__(self, what: str) -> None:
        super().__init__(f"not recorded: {what}; only what the recording holds can be asked")


class NotOffered(ToolServerError):
    """This back-end cannot do what was asked."""

    code = "not_offered"


class Unavailable(ToolServerError):
    """A back-end is missing or does not answer."""

    code = "unavailable"
    exit_code = 5


class NotSent(ToolServerError):
    """A delivery that may have arrived, and is not sent again."""

    code = "not_sent"


class BadRecording(ToolServerError):
    """The recording is missing or malformed."""

    code = "bad_recording"
    exit_code = 2


class BadSettings(ToolServerError):
    """The settings are wrong."""

    code = "bad_settings"
    exit_code = 2
