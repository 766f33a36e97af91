"""What a message asks for: small rules over its words, the names in the case, and nothing else.

Words are put down to concepts first (other wordings, typos), then the first rule whose concepts are all there
decides. A message that is about something else is `unknown`: it gets no paragraph that does not answer it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from coordinator.chat_words import CONCEPTS, STOPWORDS, TOPIC_NAMES, TOPICS

# the first rule whose concepts are all there decides; "x" is a component or topic that the message names
RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("who", ("who", "deploy")),
    ("who", ("who", "change")),
    ("who", ("who", "made")),
    ("guidance", ("runbook",)),
    ("logs", ("log",)),
    ("traces", ("trace",)),
    ("metrics", ("metric",)),
    ("timeline", ("timeline",)),
    ("about", ("why", "not", "x")),
    ("about", ("not", "x")),
    ("sure", ("sure",)),
    ("evidence", ("evidence",)),
    ("summary", ("summary",)),
    ("todo", ("act",)),
    ("over", ("over",)),
    ("considered", ("else", "about")),
    ("considered", ("else", "wrong")),
    ("considered", ("else", "why")),
    ("help", ("can", "you", "do")),
    ("todo", ("approve",)),
    ("since", ("since",)),
    ("since", ("when",)),
    ("hit", ("bad", "x")),
    ("bad", ("bad",)),
    ("changes", ("change",)),
    ("changes", ("deploy",)),
    ("about", ("about", "x")),
    ("considered", ("else",)),
    ("considered", ("why", "not")),
    ("summary", ("wrong", "x")),
    ("cause", ("why",)),
    ("summary", ("wrong",)),
    ("summary", ("detail",)),
    ("about", ("x",)),
    ("todo", ("do",)),
    ("help", ("help",)),
    ("thanks", ("thanks",)),
    ("hello", ("hello",)),
)
ENOUGH_ALONE = frozenset({"help", "thanks", "hello"})  # these words must be nearly the whole message
POLITE = frozenset({"this", "thanks", "hello", "help", "can", "you", "do"})
REFERENCE = re.compile(r"\[?\be(\d+)\b\]?", re.IGNORECASE)
WORD = re.compile(r"[a-z0-9][a-z0-9_.-]*[a-z0-9]|[a-z0-9]")

_MEANS: dict[str, set[str]] = {}
for _concept, _words in CONCEPTS.items():
    for _word in _words.split():
        _MEANS.setdefault(_word, set()).add(_concept)
_IDLE = frozenset(STOPWORDS.split())
_TOPIC = {word: topic for topic, words in TOPIC_NAMES.items() for word in words.split()} | {
    t: t for t in TOPICS
}


@dataclass(frozen=True, slots=True)
class Intent:
    """What a message asks for, what it is about, and the words nobody knows."""

    kind: str
    about: tuple[str, ...] = ()  # components of the case, or topics
    unknown: tuple[str, ...] = ()
    n: int = 0  # the citation it names


def read(message: str, components: Iterable[str] = (), case_words: Iterable[str] = ()) -> Intent:
    """The intent of a message within a case that has these components and speaks these words."""
    text = message.lower().replace("’", "'").replace("'", "").replace("tl;dr", "tldr")
    if found := REFERENCE.search(text):
        return Intent("show", n=int(found[1]))
    names = {c.lower(): c for c in components}
    known_words = {w.lower() for w in case_words}
    concepts: set[str] = set()
    about: list[str] = []
    unknown: list[str] = []
    for word in map(_plain, WORD.findall(text)):
        _place(word, names, known_words, concepts, about, unknown)
    if about:
        concepts.add("x")
    return _decide(concepts, tuple(dict.fromkeys(about)), tuple(unknown))


def words_of(texts: Iterable[str]) -> set[str]:
    """The words that some texts speak, for `case_words`."""
    return {word for text in texts for word in WORD.findall(text.lower()) if len(word) > 2}


def _place(
    word: str,
    names: dict[str, str],
    known_words: set[str],
    concepts: set[str],
    about: list[str],
    unknown: list[str],
) -> None:
    """Put one word where it belongs: a component, a topic, a concept, or the words nobody knows."""
    if name := _component(word, names):
        about.append(name)
    elif word in _MEANS:
        concepts.update(_MEANS[word])
    elif word in _TOPIC:
        about.append(_TOPIC[word])
    elif word in _IDLE or word.isdigit():
        return
    elif word in known_words:
        concepts.add("case")
    elif near := _near(word, names):
        if near in names:
            about.append(names[near])
        elif near in _TOPIC:
            about.append(_TOPIC[near])
        else:
            concepts.update(_MEANS[near])
    else:
        unknown.append(word)


def _plain(word: str) -> str:
    """A word without letters typed twice by mistake, where that makes it known: `nott`, `whhy`."""
    once = re.sub(r"(.)\1+", r"\1", word)
    known = word in _MEANS or word in _IDLE or word in _TOPIC
    return once if not known and (once in _MEANS or once in _IDLE or once in _TOPIC) else word


def _component(word: str, names: dict[str, str]) -> str:
    """The component a word names: exactly, or without its suffix, such as `orders` for `orders-service`."""
    if word in names:
        return names[word]
    short = {n.removesuffix("-service").removesuffix("service").rstrip("-_"): n for n in names}
    for form in (word, word.rstrip("s"), f"{word}s"):
        if form in short and len(form) > 2:
            return names[short[form]]
    return ""


def _near(word: str, names: dict[str, str]) -> str:
    """The known word that a misspelt one means."""
    if len(word) < 4:
        return ""
    candidates = [w for w in (*names, *_TOPIC, *_MEANS) if len(w) >= 4]
    for candidate in candidates:
        if candidate[0] == word[0] and sorted(candidate) == sorted(word):
            return candidate  # two letters changed places
    found = difflib.get_close_matches(word, candidates, n=1, cutoff=0.8)
    return found[0] if found else ""


def _decide(concepts: set[str], about: tuple[str, ...], unknown: tuple[str, ...]) -> Intent:
    anchored = bool(concepts & {"x", "this", "case", "wrong"})
    if unknown and (not anchored or len(unknown) > 3):
        return Intent("unknown", about, unknown)
    for kind, wanted in RULES:
        if concepts.issuperset(wanted):
            if kind in ENOUGH_ALONE and len(concepts - POLITE) > 1:
                continue
            return Intent(kind, about, unknown)
    return Intent("unknown", about, unknown)
