"""How the chat speaks: colours in a terminal, plain lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from coordinator.chat_answers import Answer
from coordinator.markdown import refs

REFERENCE = re.compile(r"\[E\d+\]|\bA-\d+\b")


class Printer:
    """Prints answers, notes and problems."""

    def __init__(self, as_json: bool = False) -> None:
        self._json = as_json
        self._terminal = not as_json and sys.stdout.isatty()

    def answer(self, answer: Answer, facts: dict[str, Any]) -> None:
        """An answer, a sentence a line, each with its references."""
        lines = _lines(answer)
        if self._json:
            self._data(answer.model_dump(mode="json") | {"text": "\n".join(lines)} | facts)
            return
        for line in lines:
            self._line(line)

    def lines(self, kind: str, lines: list[str]) -> None:
        """Some lines as they are."""
        self.text(kind, "\n".join(lines))

    def text(self, kind: str, text: str) -> None:
        """A text as it is."""
        if self._json:
            self._data({"kind": kind, "text": text})
            return
        for line in text.splitlines():
            self._line(line)

    def note(self, text: str) -> None:
        """Something on the side; programs do not see it."""
        if not self._json:
            self._line(text, style="dim")

    def problem(self, code: str, message: str) -> None:
        """What could not be done, and what to do."""
        if self._json:
            self._data({"error": {"code": code, "message": message}})
        else:
            self._line(message, style="yellow")

    def _line(self, line: str, style: str = "") -> None:
        if not self._terminal:
            print(line, flush=True)
            return
        from rich.console import Console
        from rich.text import Text

        text = Text(line, style=style)
        text.highlight_regex(REFERENCE, "cyan")
        Console(highlight=False, soft_wrap=False).print(text)

    def _data(self, value: dict[str, Any]) -> None:
        print(json.dumps(value, ensure_ascii=False), flush=True)


def _lines(answer: Answer) -> list[str]:
    """The sentences as lines, under the name of their part where they have one."""
    lines: list[str] = []
    part = ""
    for sentence in answer.sentences:
        if sentence.part and sentence.part != part:
            lines.append(sentence.part)
        part = sentence.part
        bullet = "  - " if part else ""
        lines.append(f"{bullet}{sentence.text} {refs(sentence.cites)}".rstrip())
    return lines
