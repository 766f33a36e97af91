"""Takes secrets out of what is kept or released: configured values, tell-tale keys, well-known shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from gateway.canonical import canonical

Text = TypeVar("Text", str, bytes)
HIDDEN = "[redacted]"

# A value under one of these names (case, dash and underscore aside) is never kept.
KEYS = frozenset(
    """password passwd pwd passphrase secret clientsecret secretkey privatekey accesskey secretaccesskey
    apikey xapikey token accesstoken refreshtoken idtoken bearertoken authorization proxyauthorization
    cookie setcookie credential credentials""".split()  # noqa: SIM905
)
# What a secret looks like: a literal that has to be there, then a pattern that is linear to search.
_SHAPES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("pm_",), r"pm_[A-Za-z0-9_-]{24,}"),
    (("earer ", "EARER "), r"(?:[Bb]earer|BEARER) +[A-Za-z0-9._~+/=-]{16,}"),
    (("asic ",), r"[Bb]asic +[A-Za-z0-9+/=]{16,}"),
    (("eyJ",), r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    (("sk-",), r"\bsk-[A-Za-z0-9_-]{20,}"),
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[pousr]_[A-Za-z0-9]{30,}"),
    (("github_pat_",), r"github_pat_[A-Za-z0-9_]{30,}"),
    (("glpat-",), r"glpat-[A-Za-z0-9_-]{20,}"),
    (("xox",), r"xox[abeprs]-[A-Za-z0-9-]{10,}"),
    (("AKIA", "ASIA"), r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    (("AIza",), r"AIza[A-Za-z0-9_-]{35}"),
    (("PRIVATE KEY-----",), r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[A-Za-z0-9+/=\s\\]*"),
    (("://",), r"(?<=://)[^/\s:@\"\\]{1,64}:[^/\s@\"\\]{1,128}(?=@)"),
    (("password=", "PASSWORD="), r"(?i:(?<=password=))[^\s&\"'\\;,]{4,}"),
    (("api_key=", "apikey=", "API_KEY="), r"(?i:(?<=api_key=)|(?<=apikey=))[^\s&\"'\\;,]{4,}"),
    (("access_token=", "client_secret="), r"(?:(?<=access_token=)|(?<=client_secret=))[^\s&\"'\\;,]{4,}"),
)
_PATTERNS = tuple((needles, re.compile(pattern)) for needles, pattern in _SHAPES)


def _by_letter(needles: list[str]) -> list[tuple[str, list[str]]]:
    """The needles by a letter of theirs that bodies seldom have: one letter is looked for in no time."""
    groups: dict[str, list[str]] = {}
    for needle in needles:
        letter = next((letter for letter in "_=-JAx:" if letter in needle), needle[0])
        groups.setdefault(letter, []).append(needle)
    return list(groups.items())


_NEEDLES = _by_letter([needle for needles, _ in _SHAPES for needle in needles])
_NEEDLES_ENCODED = [(letter.encode(), [n.encode() for n in needles]) for letter, needles in _NEEDLES]
LONG = 262_144  # from so many bytes on, a copy as text is worth avoiding


def _has_any(body: Text, groups: list[tuple[Text, list[Text]]], values: list[Text]) -> bool:
    for letter, needles in groups:
        if letter in body:
            for needle in needles:
                if needle in body:
                    return True
    for value in values:  # noqa: SIM110 (a generator costs more than the search)
        if value in body:
            return True
    return False


_NESTED = (dict, list, tuple)


_PLAIN: set[str] = set()  # names that are no secret's, remembered: the same ones come again and again


def _secret_name(name: str) -> bool:
    if name.lower().replace("-", "").replace("_", "") in KEYS:
        return True
    if len(_PLAIN) < 4_096:
        _PLAIN.add(name)
    return False


def _has_secret_name(value: Any) -> bool:
    """Whether any object in the value has a key under which nothing is kept; names are few, values long."""
    if isinstance(value, dict):
        if not _PLAIN.issuperset(value) and any(_secret_name(name) for name in value):
            return True
        value = value.values()
    for item in value:  # noqa: SIM110 (a generator costs more than the search)
        if isinstance(item, _NESTED) and _has_secret_name(item):
            return True
    return False


class Redactor:
    """Knows the configured secrets and replaces them, and whatever looks like one, with a mark."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._values: list[str] = []
        self._escaped: list[str] = []
        self.know(secrets)

    def know(self, secrets: Iterable[str]) -> None:
        """Remember further secret values; those under six characters would hide ordinary words."""
        values = {*self._values, *(value for value in secrets if len(value) >= 6)}
        self._values = sorted(values, key=lambda value: (-len(value), value))  # the longest goes first
        self._escaped = [canonical(value)[1:-1].decode() for value in self._values]

    def forget(self, secrets: Iterable[str]) -> None:
        """Look for these values no longer: they are secrets no more."""
        gone = set(secrets) - {""}
        if gone:
            self._values = [value for value in self._values if value not in gone]
            self.know(())

    def text(self, text: str) -> str:
        """The text with every secret replaced."""
        if not _has_any(text, _NEEDLES, self._values):
            return text
        for value in self._values:
            if value in text:
                text = text.replace(value, HIDDEN)
        for needles, pattern in _PATTERNS:
            if any(needle in text for needle in needles):
                text = pattern.sub(HIDDEN, text)
        return text

    def clean(self, value: Any) -> Any:
        """The value without secrets; the same object when there was none."""
        return self.pack(value)[1]

    def pack(self, value: Any) -> tuple[bytes, Any]:
        """The canonical bytes of the value without secrets, and that value."""
        raw = canonical(value)
        if not self._suspect(raw) and not (isinstance(value, _NESTED) and _has_secret_name(value)):
            return raw, value
        value = self._walk(value)
        return canonical(value), value

    def _suspect(self, raw: bytes) -> bool:
        # Substring search is a hundred times faster than the patterns, and most bodies have none of these; in
        # text it is faster than in bytes.
        if len(raw) > LONG:
            return _has_any(raw, _NEEDLES_ENCODED, [value.encode() for value in self._escaped])
        return _has_any(raw.decode(), _NEEDLES, self._escaped)

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(name): self._entry(name, item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._walk(item) for item in value]
        return value

    def _entry(self, name: str, value: Any) -> Any:
        if (
            _secret_name(name)
            and value != ""
            and isinstance(value, str | int | float)
            and not isinstance(value, bool)
        ):
            return HIDDEN
        return self._walk(value)


def secret_headers(headers: Mapping[str, str]) -> set[str]:
    """The secrets in headers written out in an entry: values under telling names, without their scheme."""
    telling = ("auth", "token", "key", "secret", "cookie", "password")
    values = {value for name, value in headers.items() if any(part in name.lower() for part in telling)}
    return {value.partition(" ")[2] or value for value in values}
