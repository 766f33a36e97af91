"""The runbooks server: find the passage that helps, read a document, take in new ones."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mcp.types import CallToolResult, ToolAnnotations
from pydantic import Field

from tool_servers.errors import BadInput, NotOffered
from tool_servers.toolkit import READ, TEXT_LIMIT, ToolServer, clip, reply
from tool_servers.types import Document, Ingested, Passages
from tool_servers.types import Passage as PassageFound
from tool_servers.world import World

if TYPE_CHECKING:
    from tool_servers.retrieval.index import Index

TAKES_IN = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
OURS = "ingested"
LARGEST = 20_000_000  # bytes of one document
TOGETHER = 100  # documents stored in one go

Query = Annotated[
    str, Field(description="What to look for, in plain words or an alert's text.", max_length=4000)
]
Few = Annotated[int, Field(ge=1, le=20, description="At most so many passages, each of another document.")]
Name = Annotated[str, Field(description="The document, as `search` names it.", min_length=1, max_length=500)]
Line = Annotated[int, Field(ge=1, description="The first line to read; lines count from 1.")]
Lines = Annotated[int, Field(ge=1, le=2000, description="At most so many lines.")]
FilePath = Annotated[
    str, Field(description="A Markdown, text or PDF file, or a folder of them.", min_length=1)
]


def build(world: World) -> ToolServer:
    """The runbooks server for a world."""
    server = ToolServer("runbooks", "Runbooks: guidance for people who handle an incident.")
    library = Library(world)
    server.warm = library.index  # loading Chroma takes seconds, which the first search need not wait for

    @server.tool(annotations=READ)
    def search(query: Query, limit: Few = 3) -> Annotated[CallToolResult, Passages]:
        """Find passages that are about the query, and where they stand; none if nothing is relevant."""
        if not query.strip():
            raise BadInput("query", query, "some words to look for")
        index = library.index()
        found = [
            PassageFound(
                document=hit.document,
                title=hit.title,
                heading=hit.heading,
                lines=f"{hit.first}-{hit.last}",
                passage=hit.text,
                score=hit.score,
            )
            for hit in index.search(library.shelves(), query, limit)
        ]
        header = f"{len(found)} passages" if found else "0 passages: no runbook is about this"
        return reply("\n\n".join([header, *map(_passage_text, found)]), Passages(passages=found))

    @server.tool(annotations=READ)
    def read(document: Name, start_line: Line = 1, limit: Lines = 200) -> Annotated[CallToolResult, Document]:
        """Read lines of a document."""
        title, lines = library.index().lines(library.shelves(), document)
        if start_line > len(lines):
            raise BadInput("start_line", start_line, f"1 to {len(lines)}, the lines of {document}")
        part = lines[start_line - 1 : start_line - 1 + limit]
        text = clip("\n".join(part), TEXT_LIMIT)
        end = start_line + len(part) - 1
        header = f"{document}: {title}, lines {start_line}-{end} of {len(lines)}"
        return reply(
            f"{header}\n\n{text}",
            Document(
                document=document,
                title=title,
                start_line=start_line,
                end_line=end,
                total_lines=len(lines),
                text=text,
            ),
        )

    @server.tool(annotations=TAKES_IN)
    def ingest(path: FilePath) -> Annotated[CallToolResult, Ingested]:
        """Take a file or a folder into the collection; one that is there already is brought up to date."""
        done = library.ingest(path)
        lines = [f"{len(done.documents)} documents taken in, {done.passages} passages", *done.documents]
        lines += [f"skipped {name}" for name in done.skipped]
        return reply(clip("\n".join(lines), TEXT_LIMIT), done)

    return server


class Library:
    """The index with the runbooks of the served recording, and those taken in."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._index: Index | None = None
        self._lock = threading.Lock()

    def shelves(self) -> list[str]:
        """The shelves to look on: that of the recording first."""
        return [_shelf(self._world.recording().root), OURS] if self._world.recorded else [OURS]

    def index(self) -> Index:
        """The index, with the recording's runbooks as they are on disk now."""
        with self._lock:
            if self._index is None:
                from tool_servers.retrieval.index import Index

                self._index = Index(self._world.state_directory)
            if self._world.recorded:
                self._bring_up_to_date(self._index)
            return self._index

    def _bring_up_to_date(self, index: Index) -> None:
        recording = self._world.recording()
        shelf, root = _shelf(recording.root), recording.root / "runbooks"
        _store(index, shelf, root, recording.runbooks)
        present = {str(path.relative_to(root)) for path in recording.runbooks}
        index.remove(shelf, sorted(index.digests(shelf).keys() - present))

    def ingest(self, path: str) -> Ingested:
        """Take in a file or a folder that stands inside the allowed directory."""
        if not self._world.settings.runbooks:
            raise NotOffered(
                "ingest: no directory is allowed; set `runbooks` in the [tool_servers] table of "
                "pointsman.toml (or --runbooks DIR) to the directory that holds them"
            )
        root = Path(self._world.settings.runbooks).resolve()
        target = (root / path).resolve()
        if not target.is_relative_to(root) or not target.exists():
            raise BadInput("path", path, f"an existing file or folder inside {root}")
        files = [target] if target.is_file() else sorted(one for one in target.rglob("*") if one.is_file())
        return _store(self.index(), OURS, root, files, strict=target.is_file())


def _store(index: Index, shelf: str, root: Path, files: Iterable[Path], strict: bool = False) -> Ingested:
    """Put files that are new or changed into the index; what cannot be read is skipped and named."""
    from tool_servers.retrieval import passages

    known = index.digests(shelf)
    done = Ingested(documents=[], passages=0)
    waiting: list[tuple[passages.Manual, str]] = []
    for path in files:
        name = str(path.relative_to(root))
        try:
            _check_file(path, passages.SUFFIXES)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if known.get(name) == digest:
                continue
            waiting.append((passages.read(path, name), digest))
        except BadInput as error:
            if strict:
                raise
            done.skipped.append(f"{name}: {error}")
            continue
        done.documents.append(name)
        if len(waiting) == TOGETHER:
            done.passages += index.put(shelf, waiting)
            waiting = []
    if waiting:
        done.passages += index.put(shelf, waiting)
    return done


def _check_file(path: Path, suffixes: tuple[str, ...]) -> None:
    if path.suffix.lower() not in suffixes:
        raise BadInput("path", str(path), f"a file ending in {', '.join(suffixes)}")
    if path.stat().st_size > LARGEST:
        raise BadInput("path", str(path), f"a file of at most {LARGEST // 1_000_000} MB")


def _shelf(root: Path) -> str:
    return f"recording {hashlib.sha256(str(root).encode()).hexdigest()[:16]}"


def _passage_text(found: PassageFound) -> str:
    return (
        f"{found.document} lines {found.lines} | {found.title} | {found.heading or '-'} | "
        f"score {found.score}\n{found.passage}"
    )


if __name__ == "__main__":
    from tool_servers.cli import serve_one

    serve_one("runbooks")
