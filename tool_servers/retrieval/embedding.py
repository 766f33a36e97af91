"""An embedding that needs no model and no network: words, word pairs and parts of words, hashed."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tool_servers.retrieval.words import words

DIMENSIONS = 1024
_WORD, _PAIR, _PART = 1.0, 0.6, 0.25


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """One row of length 1 for each text; like texts have like rows."""
    rows = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for feature, weight in _features(text).items():
            place, sign = _place(feature)
            row[place] += sign * weight
        length = float(np.linalg.norm(row))
        if length:
            row /= length
    return rows


def _features(text: str) -> dict[str, float]:
    found = words(text)
    features: dict[str, float] = {}
    for word, count in Counter(found).items():
        features[word] = _WORD * (1 + math.log(count))
        padded = f"^{word}$"
        for index in range(max(len(padded) - 3, 1)):
            part = f"~{padded[index : index + 4]}"
            features[part] = features.get(part, 0.0) + _PART
    for pair, count in Counter(pairwise(found)).items():
        features[" ".join(pair)] = _PAIR * (1 + math.log(count))
    return features


@lru_cache(maxsize=200_000)
def _place(feature: str) -> tuple[int, float]:
    digest = zlib.crc32(feature.encode())
    return digest % DIMENSIONS, 1.0 if digest & 0x8000_0000 else -1.0
