"""Seals the gateway's own `requestState`, so that nobody can read, forge or move it to another call."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import InvalidParams

PREFIX = "pointsman."
LIFETIME = 24 * 3600


class Sealer:
    """Encrypts small values under a key that stays in the gateway's home."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def at(cls, path: Path) -> Sealer:
        """The sealer whose key is in this file; the file is made when there is none."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(os.urandom(32))
        return cls(path.read_bytes())

    def seal(self, value: dict[str, Any], bound_to: str) -> str:
        """The value as text that opens only for the same `bound_to`."""
        nonce = os.urandom(12)
        plain = orjson.dumps({"v": value, "t": int(time.time())})
        return (
            PREFIX
            + base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, plain, bound_to.encode())).decode()
        )

    def open(self, text: str, bound_to: str) -> dict[str, Any]:
        """The value that was sealed; refuses what was changed, is too old, or belongs to another call."""
        try:
            raw = base64.urlsafe_b64decode(text.removeprefix(PREFIX))
            told = orjson.loads(self._cipher.decrypt(raw[:12], raw[12:], bound_to.encode()))
        except (ValueError, InvalidTag):
            raise InvalidParams(
                "requestState refused: it was not made by this gateway for this call"
            ) from None
        if told["t"] + LIFETIME < time.time():
            raise InvalidParams(
                "requestState refused: it is older than a day; make the call again without it"
            )
        return told["v"]
