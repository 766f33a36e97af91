"""Takes secrets out of what is kept or released: configured values, tell-tale keys, well-known shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from gateway.canonical import canonical

HIDDEN = "[redacted]"

# A value under one of these names (case, dash and underscore aside) is never kept.
KEYS = frozenset(
    "password passwd pwd passphrase secret clientsecret secretkey privatekey accesskey secretaccesskey apikey "
    "xapikey token accesstoken refreshtoken idtoken bearertoken authorization proxyauthorization cookie "
    "setcookie credential credentials".split()
)

# Every pattern is linear: one literal start, then one run of one class of characters.
_SHAPES = (
    r"pm_[A-Za-z0-9_-]{24,}",
    r"(?:[Bb]earer|BEARER) +[A-Za-z0-9._~+/=-]{16,}",
    r"[Bb]asic +[A-Za-z0-9+/=]{16,}",
    r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    r"sk-[A-Za-z0-9_-]{20,}",
    r"gh[pousr]_[A-Za-z0-9]{30,}",
    r"github_pat_[A-Za-z0-9_]{30,}",
    r"glpat-[A-Za-z0-9_-]{20,}",
    r"xox[abeprs]-[A-Za-z0-9-]{10,}",
    r"(?:AKIA|ASIA)[A-Z0-9]{16}",
    r"AIza[A-Za-z0-9_-]{35}",
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[A-Za-z0-9+/=\s\\]{0,20000}",
    r"(?<=://)[^/\s:@\"\\]{1,64}:[^/\s@\"\\]{1,128}(?=@)",
    r"(?i:(?<=password=)|(?<=passwd=)|(?<=api_key=)|(?<=apikey=)|(?<=access_token=)|(?<=client_secret=))[^\s&\"'\\;,]{4,}",
)
_NAMES = re.compile(
    rb'"(?i:[a-z_-]{0,12}(?:pass[_-]?(?:word|wd|phrase)|pwd|secret|token|key|authorization|cookie|credentials?))":'
)


class Redactor:
    """Knows the configured secrets and replaces them, and whatever looks like one, with a mark."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._values: set[str] = set()
        self._compile()
        self.know(secrets)

    def know(self, secrets: Iterable[str]) -> None:
        """Remember further secret values; those under six characters would hide ordinary words."""
        self._values.update(value for value in secrets if len(value) >= 6)
        self._compile()

    def _compile(self) -> None:
        values = sorted(self._values, key=len, reverse=True)
        self._text = re.compile("|".join([*map(re.escape, values), *_SHAPES]))
        escaped = [canonical(value)[1:-1].decode() for value in values]
        self._bytes = re.compile("|".join([*map(re.escape, escaped), *_SHAPES]).encode())

    def text(self, text: str) -> str:
        """The text with every secret replaced."""
        return self._text.sub(HIDDEN, text)

    def clean(self, value: Any) -> Any:
        """The value without secrets; the same object when there was none."""
        return self.pack(value)[1]

    def pack(self, value: Any) -> tuple[bytes, Any]:
        """The canonical bytes of the value without secrets, and that value."""
        raw = canonical(value)
        if not self._bytes.search(raw) and not _NAMES.search(raw):
            return raw, value
        value = self._walk(value)
        return canonical(value), value

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text.sub(HIDDEN, value)
        if isinstance(value, dict):
            return {self._text.sub(HIDDEN, k): self._entry(k, v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._walk(item) for item in value]
        return value

    def _entry(self, key: str, value: Any) -> Any:
        if key.lower().replace("-", "").replace("_", "") in KEYS and isinstance(value, str | int | float):
            return value if isinstance(value, bool) or value == "" else HIDDEN
        return self._walk(value)
