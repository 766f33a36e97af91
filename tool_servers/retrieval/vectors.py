"""The vectors of passages and titles, kept in a persistent Chroma collection with our own embedding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import chromadb
from chromadb.api.types import Documents, EmbeddingFunction, Embeddings
from chromadb.config import Settings
from chromadb.utils.embedding_functions import register_embedding_function

from tool_servers.retrieval.embedding import embed

BATCH = 2000

Kind = Literal["passage", "title"]


@register_embedding_function
class HashingEmbedding(EmbeddingFunction[Documents]):
    """Our offline embedding, as Chroma calls it."""

    def __init__(self) -> None:
        """Take no parameters; there is nothing to load."""

    def __call__(self, input: Documents) -> Embeddings:
        return list(embed(input))

    @staticmethod
    def name() -> str:
        return "pointsman-hashing"

    def get_config(self) -> dict[str, Any]:
        return {}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> HashingEmbedding:
        return HashingEmbedding()


class Vectors:
    """Nearest neighbours of a text among passages or titles."""

    def __init__(self, path: Path) -> None:
        client = chromadb.PersistentClient(str(path), settings=Settings(anonymized_telemetry=False))
        self._collection = client.get_or_create_collection(
            "runbooks",
            embedding_function=HashingEmbedding(),  # type: ignore[arg-type]
            configuration={"hnsw": {"space": "cosine"}},
        )

    def put(self, kind: Kind, shelf: str, texts: dict[str, str]) -> None:
        """Store texts by key; a key that is there already is replaced."""
        keys = list(texts)
        for start in range(0, len(keys), BATCH):
            part = keys[start : start + BATCH]
            self._collection.upsert(
                ids=[f"{kind} {key}" for key in part],
                documents=[texts[key] for key in part],
                metadatas=[{"kind": kind, "shelf": shelf} for _ in part],
            )

    def remove(self, kind: Kind, keys: Sequence[str]) -> None:
        """Remove what is stored by these keys."""
        for start in range(0, len(keys), BATCH):
            self._collection.delete(ids=[f"{kind} {key}" for key in keys[start : start + BATCH]])

    def near(self, kind: Kind, shelves: Sequence[str], text: str, count: int) -> dict[str, float]:
        """The keys nearest to a text, each with its cosine."""
        found = self._collection.query(
            query_texts=[text],
            n_results=count,
            where={"$and": [{"kind": kind}, {"shelf": {"$in": list(shelves)}}]},
            include=["distances"],
        )
        distances = (found["distances"] or [[]])[0]
        keys = (key.removeprefix(f"{kind} ") for key in found["ids"][0])
        return {key: 1.0 - distance for key, distance in zip(keys, distances, strict=True)}
