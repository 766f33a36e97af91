"""Signed notes of the ledger's head in a second place: a cut tail or a swapped file cannot match them."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import logging
import os
import syslog
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from gateway.canonical import canonical
from gateway.errors import LedgerError
from gateway.postgres import is_url, place_of

log = logging.getLogger("gateway.checkpoints")
KEEP = 2_000


class Checkpoints:
    """One file of signed heads per ledger file, outside the ledger's own directory."""

    def __init__(self, path: Path, key: Path, pem: str = "", also: str = "") -> None:
        self.path = path
        self._key_path = key
        self._pem = pem
        self._also = also
        self._signer: Any = None
        self._failed = ""

    @classmethod
    def beside(
        cls, ledger: str | Path, directory: str | Path = "", pem: str = "", also: str = ""
    ) -> Checkpoints:
        """Those of this ledger (file or URL), here or in `$XDG_STATE_HOME/pointsman/checkpoints`.

        `pem` is the signing key where it is kept elsewhere, else it lies beside the notes; `also` tells
        every note to `stdout` or `syslog` as well.
        """
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        directory = Path(directory or Path(state) / "pointsman" / "checkpoints")
        place = place_of(str(ledger)) if is_url(ledger) else str(Path(ledger).resolve())
        name = hashlib.sha256(place.encode()).hexdigest()[:24]
        return cls(directory / f"{name}.jsonl", directory / "signing.key", pem, also)

    def note(self, ledger: str, seq: int, head: str) -> None:
        """Write down the head; a second place that cannot be written is reported once, never waited for."""
        note: dict[str, Any] = {"ledger": ledger, "seq": seq, "head": head}
        note["time"] = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            signer = self._sign_with()
            note["signature"] = base64.b64encode(signer.sign(canonical(note))).decode()
            line = canonical(note)
            self._tell(line.decode())
            with self.path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # another gateway may keep its notes here too
                file.write(line + b"\n")
            self._trim()
            self._failed = ""
        except (OSError, LedgerError) as error:
            if self._failed != str(error):
                self._failed = str(error)
                log.warning("checkpoint not written to %s: %s; a cut tail would go unseen", self.path, error)

    def _tell(self, line: str) -> None:
        if self._also == "stdout":
            print(f"pointsman checkpoint {line}", flush=True)
        elif self._also == "syslog":
            syslog.openlog("pointsman", facility=syslog.LOG_AUTH)
            syslog.syslog(syslog.LOG_NOTICE, f"checkpoint {line}")

    def read(self) -> tuple[list[dict[str, Any]], list[str]]:
        """The notes that carry our signature, and what is wrong with the others."""
        if not self.path.exists():
            return [], []
        try:
            public = self._sign_with().public_key()
        except LedgerError as error:
            return [], [str(error)]
        from cryptography.exceptions import InvalidSignature

        notes, problems = [], []
        for number, line in enumerate(self.path.read_bytes().splitlines(), 1):
            try:
                note = orjson.loads(line)
                signature = base64.b64decode(note.pop("signature"))
                public.verify(signature, canonical(note))
                notes.append(note)
            except (ValueError, KeyError, AttributeError, InvalidSignature) as error:
                problems.append(f"{self.path}:{number}: not signed by this key ({type(error).__name__})")
        return notes, problems

    def _sign_with(self) -> Any:
        if self._signer is None:
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives import serialization as form
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._pem and not self._key_path.exists():
                if self.path.exists():
                    raise LedgerError(
                        f"the key {self._key_path} is gone, so nobody can tell whether the checkpoints in "
                        f"{self.path} are ours: restore it, or remove both to begin anew"
                    )
                self._create_key(
                    Ed25519PrivateKey.generate().private_bytes(
                        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
                    )
                )
            try:
                pem = self._pem.encode() or self._key_path.read_bytes()
                signer = form.load_pem_private_key(pem, None)
                if not isinstance(signer, Ed25519PrivateKey):
                    raise ValueError("another kind of key")
                self._signer = signer
            except (ValueError, UnsupportedAlgorithm) as error:
                where = "gateway.checkpoint_key" if self._pem else self._key_path
                raise LedgerError(
                    f"{where} is no Ed25519 key in PEM form ({error}): restore it from a backup; "
                    "without it the checkpoints prove nothing"
                ) from None
        return self._signer

    def _create_key(self, pem: bytes) -> None:
        """Put the key in place whole, or leave the one that another process has put there first."""
        fresh = self._key_path.with_name(f".{self._key_path.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        try:
            os.link(fresh, self._key_path)
        except FileExistsError:
            log.debug("another process made %s first", self._key_path)
        finally:
            fresh.unlink()

    def _trim(self) -> None:
        if not self.path.exists() or self.path.stat().st_size < KEEP * 320:
            return
        with self.path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            kept = file.read().splitlines(keepends=True)[-KEEP // 2 :]
            fresh = self.path.with_suffix(".new")
            fresh.write_bytes(b"".join(kept))
            fresh.replace(self.path)
