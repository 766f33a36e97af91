"""Words of a text for retrieval: identifiers split, function words left out, endings cut."""

from __future__ import annotations

import re
from functools import lru_cache

_SPLIT = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[a-z]+|\d+")

_FUNCTION = """
a about after all also an and any are as at be because been before being both but by can could did
do does doing don during each few for from further get had has have having he her here how i if in
into is it its just let me more most my no nor not now of off on once only or other our out over own
please s same she should so some such t than that the their them then there these they this those
through to too under until up us very was we were what when where which while who whom why will with
would you your
"""
FUNCTION_WORDS = frozenset(_FUNCTION.split())

_ENDINGS = (
    ("ations", "at"),
    ("ation", "at"),
    ("ingly", ""),
    ("ments", ""),
    ("ment", ""),
    ("ness", ""),
    ("ings", ""),
    ("ing", ""),
    ("ies", "i"),
    ("ied", "i"),
    ("ers", ""),
    ("ions", ""),
    ("ion", ""),
    ("ed", ""),
    ("es", ""),
    ("er", ""),
    ("ly", ""),
    ("e", ""),
    ("s", ""),
    ("y", "i"),
)


def spread(text: str) -> str:
    """Text with camelCase identifiers taken apart."""
    return _SPLIT.sub(" ", text)


def words(text: str) -> list[str]:
    """The words that carry meaning, in order, each cut to its stem."""
    found = _WORD.findall(spread(text).lower())
    return [stem(word) for word in found if word not in FUNCTION_WORDS and len(word) > 1]


@lru_cache(maxsize=200_000)  # a text has few different words
def stem(word: str) -> str:
    """A word without its ending, so that fails, failed, failing and failure meet."""
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + instead
            break
    if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "ls":
        word = word[:-1]
    return word[:-2] if word.endswith("ur") and len(word) > 5 else word
