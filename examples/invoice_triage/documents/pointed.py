"""What another reader points at: words of the page, taken where the labels told nothing, compared elsewhere.

A model that reads the page gives words, never values. They count only where they stand on the page as a
person sees it, and are read by the same rules as everything else: it cannot bring in an amount or an account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from documents.fields import Found, Reading, parser
from documents.labels import SUM_LABELS
from documents.layout import Row, Segment

POINTED = 0.7  # how sure a field is that only the other reader found


def found_there(rows: Sequence[Row], words: Mapping[str, str], mark: str) -> dict[str, Found]:
    """The fields whose words stand in one piece of the page and can be read as that field."""
    found = {}
    for name, said in words.items():
        place = _place(rows, said.strip())
        value = parser(name, mark)(said.strip()) if place else ""
        if place and value:
            found[name] = Found(value, place.text, place.page, round(place.x, 1), round(place.y, 1), POINTED)
    return found


def fill(reading: Reading, found: Mapping[str, Found]) -> None:
    """Put in what the labels did not tell."""
    for name, one in found.items():
        if name in SUM_LABELS:
            reading.sums.setdefault(name, [one])
        else:
            reading.facts.setdefault(name, one)


def differing(facts: Mapping[str, Found], found: Mapping[str, Found]) -> list[str]:
    """What the two readers read differently, in words."""
    return [
        f"{name}: {facts[name].value} by its label, {one.value} by the other reader"
        for name, one in found.items()
        if name in facts and facts[name].value.casefold() != one.value.lstrip("-").casefold()
    ]


def _place(rows: Sequence[Row], words: str) -> Segment | None:
    """The piece of the page in which these words stand as whole words."""
    padded = f" {' '.join(words.split())} "
    segments = (segment for row in rows for segment in row)
    return next((one for one in segments if words and padded in f" {' '.join(one.text.split())} "), None)
