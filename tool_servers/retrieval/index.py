"""The index of runbooks: SQLite full-text search and Chroma vectors, fused, with a bar for relevance."""

from __future__ import annotations

import hashlib
import math
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tool_servers.errors import NotFound
from tool_servers.retrieval.passages import Manual
from tool_servers.retrieval.vectors import Vectors
from tool_servers.retrieval.words import words

CANDIDATES = 100
RELEVANT = 0.28  # half the sum of coverage and cosine; below it a passage is about something else
WEIGHTS = {"pages": 1.0, "passages": 1.0, "vectors": 1.0, "titles": 0.5}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS document (
    id INTEGER PRIMARY KEY, shelf TEXT, name TEXT, title TEXT, digest TEXT, lines TEXT, UNIQUE (shelf, name)
);
CREATE TABLE IF NOT EXISTS passage (
    id INTEGER PRIMARY KEY, document INTEGER REFERENCES document, key TEXT UNIQUE,
    heading TEXT, first INTEGER, last INTEGER, text TEXT
);
CREATE INDEX IF NOT EXISTS passage_document ON passage (document);
CREATE VIRTUAL TABLE IF NOT EXISTS document_words USING fts5 (title, body);
CREATE VIRTUAL TABLE IF NOT EXISTS passage_words USING fts5 (title, heading, body);
CREATE VIRTUAL TABLE IF NOT EXISTS vocabulary USING fts5vocab (passage_words, row);
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found, where it stands, and how relevant it is."""

    document: str
    title: str
    heading: str
    first: int
    last: int
    text: str
    score: float


@dataclass(slots=True)
class _Candidate:
    row: sqlite3.Row
    fused: float
    cosine: float


class Index:
    """Runbooks on shelves; one index may hold the shelves of several recordings."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "runbooks.db"
        self._vectors = Vectors(directory / "chroma")
        self._lock = threading.RLock()
        with self._open() as database:
            database.executescript(_SCHEMA)

    def digests(self, shelf: str) -> dict[str, str]:
        """The documents of a shelf, each with the digest it was put there with."""
        with self._open() as database:
            rows = database.execute("SELECT name, digest FROM document WHERE shelf = ?", (shelf,))
            return {row["name"]: row["digest"] for row in rows}

    def put(self, shelf: str, manuals: Sequence[tuple[Manual, str]]) -> int:
        """Put documents on a shelf, each in place of an older one of its name; returns how many passages."""
        with self._lock:
            passages: dict[str, str] = {}
            titles: dict[str, str] = {}
            for manual, digest in manuals:
                prefix = _key(shelf, manual.name, digest)
                titles[prefix] = manual.title
                for number, one in enumerate(manual.passages):
                    passages[f"{prefix}.{number}"] = f"{manual.title}\n{one.heading}\n{one.text}"
            self._vectors.put("passage", shelf, passages)
            self._vectors.put("title", shelf, titles)
            stale: list[str] = []
            with self._open() as database:
                for manual, digest in manuals:
                    stale += self._drop(database, shelf, manual.name)
                    self._add(database, shelf, manual, digest)
            self._forget([key for key in stale if key not in passages])
            return len(passages)

    def remove(self, shelf: str, names: Sequence[str]) -> None:
        """Take documents off a shelf."""
        with self._lock:
            stale: list[str] = []
            with self._open() as database:
                for name in names:
                    stale += self._drop(database, shelf, name)
            self._forget(stale)

    def _forget(self, keys: list[str]) -> None:
        self._vectors.remove("passage", keys)
        self._vectors.remove("title", sorted({key.partition(".")[0] for key in keys}))

    def lines(self, shelves: Sequence[str], name: str) -> tuple[str, list[str]]:
        """The title and the lines of a document; the first shelf that has it."""
        with self._open() as database:
            for shelf in shelves:
                row = database.execute(
                    "SELECT title, lines FROM document WHERE shelf = ? AND name = ?", (shelf, name)
                ).fetchone()
                if row:
                    return row["title"], row["lines"].split("\n")
            marks = ",".join("?" * len(shelves))
            rows = database.execute(f"SELECT name FROM document WHERE shelf IN ({marks})", tuple(shelves))
            raise NotFound("document", name, {row["name"] for row in rows}, "document")

    def search(self, shelves: Sequence[str], query: str, limit: int) -> list[Hit]:
        """The best passage of each document that is about the query, best first; perhaps none."""
        asked = list(dict.fromkeys(words(query)))[:100]
        if not asked:
            return []
        with self._lock, self._open() as database:
            candidates = self._candidates(database, shelves, query, asked)
            weights = self._weights(database, asked)
            hits = []
            for one in sorted(candidates, key=lambda one: (-one.fused, one.row["name"])):
                score = (_coverage(one.row, weights) + max(one.cosine, 0.0)) / 2
                if score >= RELEVANT:
                    hits.append(_hit(one.row, score))
                if len(hits) == limit:
                    break
            return hits

    def _candidates(
        self, database: sqlite3.Connection, shelves: Sequence[str], query: str, asked: list[str]
    ) -> list[_Candidate]:
        """The best passage of each document, with the document's fused score."""
        pages = _best(_matching_documents(database, shelves, asked))
        by_words = _best(_matching_passages(database, shelves, asked))
        cosines = self._vectors.near("passage", shelves, query, CANDIDATES)
        by_vector = _best(cosines)
        titles = _best(self._vectors.near("title", shelves, query, CANDIDATES))
        best: dict[int, tuple[float, sqlite3.Row]] = {}
        fused: dict[int, dict[str, float]] = {}
        for row in _rows(database, by_words.keys() | by_vector.keys()):
            id, key = row["document"], row["key"]
            parts = fused.setdefault(id, {"pages": pages.get(id, 0.0)})
            parts["titles"] = titles.get(key.partition(".")[0], 0.0)
            lexical, near = by_words.get(key, 0.0), by_vector.get(key, 0.0)
            parts["passages"] = max(parts.get("passages", 0.0), lexical)
            parts["vectors"] = max(parts.get("vectors", 0.0), near)
            if id not in best or lexical + near > best[id][0]:
                best[id] = (lexical + near, row)
        return [
            _Candidate(
                row=row,
                fused=sum(WEIGHTS[name] * part for name, part in fused[id].items()),
                cosine=cosines.get(row["key"], 0.0),
            )
            for id, (_, row) in best.items()
        ]

    @staticmethod
    def _weights(database: sqlite3.Connection, asked: list[str]) -> dict[str, float]:
        """How much each word of the query tells; a word that no passage has, as much as a rare one."""
        marks = ",".join("?" * len(asked))
        rows = database.execute(f"SELECT term, doc FROM vocabulary WHERE term IN ({marks})", asked)
        counts = {row["term"]: row["doc"] for row in rows}
        total = database.execute("SELECT COUNT(*) FROM passage").fetchone()[0]
        weights = {}
        for word in asked:
            count = max(counts.get(word, 0), 1)
            weights[word] = math.log(1 + (total - count + 0.5) / (count + 0.5))
        return weights

    @staticmethod
    def _drop(database: sqlite3.Connection, shelf: str, name: str) -> list[str]:
        row = database.execute(
            "SELECT id FROM document WHERE shelf = ? AND name = ?", (shelf, name)
        ).fetchone()
        if row is None:
            return []
        id = row["id"]
        passages = database.execute("SELECT id, key FROM passage WHERE document = ?", (id,)).fetchall()
        database.executemany("DELETE FROM passage_words WHERE rowid = ?", [(one["id"],) for one in passages])
        database.execute("DELETE FROM passage WHERE document = ?", (id,))
        database.execute("DELETE FROM document_words WHERE rowid = ?", (id,))
        database.execute("DELETE FROM document WHERE id = ?", (id,))
        return [one["key"] for one in passages]

    @staticmethod
    def _add(database: sqlite3.Connection, shelf: str, manual: Manual, digest: str) -> None:
        text = "\n".join(manual.lines)
        id = database.execute(
            "INSERT INTO document (shelf, name, title, digest, lines) VALUES (?, ?, ?, ?, ?)",
            (shelf, manual.name, manual.title, digest, text),
        ).lastrowid
        title = " ".join(words(manual.title))
        database.execute(
            "INSERT INTO document_words (rowid, title, body) VALUES (?, ?, ?)",
            (id, title, " ".join(words(text))),
        )
        prefix = _key(shelf, manual.name, digest)
        for number, one in enumerate(manual.passages):
            row = database.execute(
                "INSERT INTO passage (document, key, heading, first, last, text) VALUES (?, ?, ?, ?, ?, ?)",
                (id, f"{prefix}.{number}", one.heading, one.first, one.last, one.text),
            ).lastrowid
            database.execute(
                "INSERT INTO passage_words (rowid, title, heading, body) VALUES (?, ?, ?, ?)",
                (row, title, " ".join(words(one.heading)), " ".join(words(one.text))),
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self._path, timeout=30)
        try:
            database.row_factory = sqlite3.Row
            with database:
                yield database
        finally:
            database.close()


def _key(shelf: str, name: str, digest: str) -> str:
    return hashlib.sha256(f"{shelf}\n{name}\n{digest}".encode()).hexdigest()[:24]


def _best(scores: dict) -> dict:
    """Scores brought to a common scale: the best is 1."""
    top = max(scores.values(), default=0.0)
    return {key: score / top for key, score in scores.items()} if top > 0 else {}


def _match(asked: list[str]) -> str:
    return " OR ".join(f'"{word}"' for word in asked)


def _matching_documents(
    database: sqlite3.Connection, shelves: Sequence[str], asked: list[str]
) -> dict[int, float]:
    marks = ",".join("?" * len(shelves))
    rows = database.execute(
        "SELECT document.id, bm25(document_words, 6.0, 1.0) AS cost FROM document_words "
        "JOIN document ON document.id = document_words.rowid "
        f"WHERE document_words MATCH ? AND shelf IN ({marks}) ORDER BY cost LIMIT {CANDIDATES}",
        (_match(asked), *shelves),
    )
    return {row["id"]: -row["cost"] for row in rows}


def _matching_passages(
    database: sqlite3.Connection, shelves: Sequence[str], asked: list[str]
) -> dict[str, float]:
    marks = ",".join("?" * len(shelves))
    rows = database.execute(
        "SELECT passage.key, bm25(passage_words, 2.0, 1.0, 1.0) AS cost FROM passage_words "
        "JOIN passage ON passage.id = passage_words.rowid JOIN document ON document.id = passage.document "
        f"WHERE passage_words MATCH ? AND shelf IN ({marks}) ORDER BY cost LIMIT {CANDIDATES}",
        (_match(asked), *shelves),
    )
    return {row["key"]: -row["cost"] for row in rows}


def _rows(database: sqlite3.Connection, keys: set[str]) -> list[sqlite3.Row]:
    marks = ",".join("?" * len(keys))
    return database.execute(
        "SELECT passage.*, document.name, document.title FROM passage "
        f"JOIN document ON document.id = passage.document WHERE passage.key IN ({marks})",
        sorted(keys),
    ).fetchall()


def _coverage(row: sqlite3.Row, weights: dict[str, float]) -> float:
    """The share of the query's meaning that the passage's words cover."""
    present = set(words(f"{row['title']} {row['heading']} {row['text']}"))
    whole = sum(weights.values()) or 1.0
    return sum(weight for word, weight in weights.items() if word in present) / whole


def _hit(row: sqlite3.Row, score: float) -> Hit:
    return Hit(
        document=row["name"],
        title=row["title"],
        heading=row["heading"],
        first=row["first"],
        last=row["last"],
        text=row["text"],
        score=round(score, 3),
    )
