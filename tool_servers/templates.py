"""Log templates: a message with its variable parts masked, so that like messages can be counted together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

VARIED = 8  # a word that takes more values than this in otherwise equal messages is a variable

_MASKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"), "<uuid>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"), "<time>"),
    (re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"), "<email>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<ip>"),
    (re.compile(r"\b(?:[0-9a-fA-F]{1,4}:){3,7}[0-9a-fA-F]{1,4}\b"), "<ip>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<hex>"),
    (re.compile(r"(?<![\w<.])[-+]?\d+\.\d+(?:[eE][-+]?\d+)?(?![\d.])"), "<n>"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{7,}\b"), "<hex>"),
    (re.compile(r"\"[^\"]*\d[^\"]*\"|\"[^\"]{41,}\""), '"<text>"'),
    (re.compile(r"'[^']*\d[^']*'|'[^']{41,}'"), "'<text>'"),
    (re.compile(r"(?<=[A-Za-z]{2})\d{3,}\b"), "<n>"),
    (re.compile(r"(?<![\w<.])[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?"), "<n>"),
    (re.compile(r"(?<=[-_/#])[A-Za-z]*\d[A-Za-z0-9]*\b"), "<id>"),
)


def mask(message: str) -> str:
    """The message with uuids, times, addresses, hex, quoted values and numbers replaced by their kind."""
    for pattern, kind in _MASKS:
        message = pattern.sub(kind, message)
    return " ".join(message.split())


def mine(messages: Sequence[str]) -> list[str]:
    """The template of each message: masked, then words that vary in otherwise equal messages masked too."""
    masked = [mask(message) for message in messages]
    final = _merge(sorted(set(masked)))
    return [final[template] for template in masked]


def _merge(templates: list[str]) -> dict[str, str]:
    """Fold templates that differ in one word which takes many values."""
    words = {template: template.split(" ") for template in templates}
    longest = max((len(split) for split in words.values()), default=0)
    for position in range(1, longest):
        groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for template, split in words.items():
            if position < len(split):
                groups[(*split[:position], "", *split[position + 1 :])].append(template)
        for group in groups.values():
            if len({words[template][position] for template in group}) > VARIED:
                for template in group:
                    words[template] = [*words[template][:position], "<*>", *words[template][position + 1 :]]
    return {template: " ".join(split) for template, split in words.items()}
