"""Documents cut into passages that know their heading and their lines: Markdown, plain text, PDF."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tool_servers.errors import BadInput

SUFFIXES = (".md", ".markdown", ".txt", ".pdf")
LONGEST = 1400  # characters of a passage, unless one line is longer

_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*$")
_FENCE = re.compile(r"\s*(```|~~~)")


@dataclass(frozen=True, slots=True)
class Passage:
    """Some consecutive lines under one heading."""

    heading: str
    first: int  # line numbers count from 1
    last: int
    text: str


@dataclass(frozen=True, slots=True)
class Manual:
    """A document: its name, its title, its lines and its passages."""

    name: str
    title: str
    lines: list[str]
    passages: list[Passage]


def read(path: Path, name: str) -> Manual:
    """Read a file into passages; its kind follows from its ending."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInput("path", str(path), f"a file ending in {', '.join(SUFFIXES)}")
    if suffix == ".pdf":
        return _from_pdf(path, name)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise BadInput("path", str(path), "a file in UTF-8") from None
    if suffix == ".txt":
        return Manual(name, _named(path), lines, list(_cut(lines, 1, "")))
    return _from_markdown(lines, name, path)


def _named(path: Path) -> str:
    return path.stem.replace("_", " ").replace("-", " ")


def _from_markdown(lines: list[str], name: str, path: Path) -> Manual:
    title = ""
    trail: list[tuple[int, str]] = []
    passages: list[Passage] = []
    begun, fenced = _after_front_matter(lines), False
    title = _front_matter_title(lines[:begun])
    start = begun

    def finish(end: int) -> None:
        heading = " > ".join(text for _, text in trail)
        passages.extend(_cut(lines[start:end], start + 1, heading))

    for index in range(begun, len(lines)):
        fenced ^= bool(_FENCE.match(lines[index]))
        heading = None if fenced else _HEADING.match(lines[index])
        if heading is None:
            continue
        finish(index)
        level, text = len(heading[1]), heading[2].strip("*` ")
        title = title or text
        trail = [(depth, above) for depth, above in trail if depth < level] + [(level, text)]
        start = index
    finish(len(lines))
    return Manual(name, title or _named(path), lines, passages)


def _after_front_matter(lines: list[str]) -> int:
    if lines and lines[0].strip() == "---":
        for index, line in enumerate(lines[1:100], 1):
            if line.strip() == "---":
                return index + 1
    return 0


def _front_matter_title(lines: list[str]) -> str:
    for line in lines:
        if line.lower().startswith("title:"):
            return line.partition(":")[2].strip().strip("\"'")
    return ""


def _cut(lines: list[str], first: int, heading: str) -> list[Passage]:
    """Lines as passages of bounded length, cut at empty lines where possible."""
    passages: list[Passage] = []
    start, size, gap = 0, 0, 0
    for index, line in enumerate(lines):
        if not line.strip():
            gap = index
        size += len(line) + 1
        if size > LONGEST and index > start:
            end = gap if gap > start else index
            passages.append(_passage(lines, start, end, first, heading))
            start, size = end, sum(len(text) + 1 for text in lines[end : index + 1])
    passages.append(_passage(lines, start, len(lines), first, heading))
    return [passage for passage in passages if _says_something(passage)]


def _says_something(passage: Passage) -> bool:
    return any(line.strip() and not _HEADING.match(line) for line in passage.text.split("\n"))


def _passage(lines: list[str], start: int, end: int, first: int, heading: str) -> Passage:
    while start < end and not lines[start].strip():
        start += 1
    while end > start and not lines[end - 1].strip():
        end -= 1
    return Passage(heading, first + start, first + max(end - 1, start), "\n".join(lines[start:end]))


def _from_pdf(path: Path, name: str) -> Manual:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    lines: list[str] = []
    passages: list[Passage] = []
    try:
        reader = PdfReader(path)
        title = str((reader.metadata.title if reader.metadata else "") or "")
        for number, sheet in enumerate(reader.pages, 1):
            text = [line.rstrip() for line in sheet.extract_text().splitlines()]
            passages += _cut(text, len(lines) + 1, f"page {number}")
            lines += text
    except (PyPdfError, OSError, ValueError, KeyError) as error:
        raise BadInput("path", str(path), f"a PDF that can be read ({error})") from error
    if not passages:
        raise BadInput("path", str(path), "a PDF with text in it; this one holds only images or nothing")
    return Manual(name, title or _named(path), lines, passages)
