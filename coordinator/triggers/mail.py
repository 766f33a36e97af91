"""The mail trigger: each message of a maildir or an IMAP mailbox opens one case, its attachments are kept."""

from __future__ import annotations

import asyncio
import hashlib
import imaplib
import logging
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from coordinator.errors import CoordinatorError
from coordinator.triggers.blobs import Blobs
from coordinator.triggers.opening import Opener
from coordinator.triggers.state import Kept
from coordinator.workflows.expressions import ExpressionFailed
from coordinator.workflows.model import Mailbox, MailboxTrigger
from specialists.errors import SettingsError, SpecialistsError

log = logging.getLogger("coordinator.triggers")
MOST_BYTES = 50_000_000
MOST_ATTACHMENTS = 100
SECONDS = 30
LOOPBACK = ("127.0.0.1", "::1", "localhost")
Refused = Callable[[str, str], Awaitable[None]]  # where, why


class MailboxUnreachable(CoordinatorError):
    """A mailbox that cannot be read now."""

    code = "mailbox_unreachable"
    exit_code = 5


class MailWatch:
    """Reads one mailbox again and again."""

    def __init__(self, opener: Opener, blobs: Blobs, refused: Refused, base: Path) -> None:
        assert isinstance(opener.trigger, MailboxTrigger)
        self.mailbox: Mailbox = opener.trigger.mailbox
        self._opener, self._blobs, self._refused, self._base = opener, blobs, refused, base
        self._where = str(base / self.mailbox.maildir) if self.mailbox.maildir else str(self.mailbox.imap)
        self._kept = Kept(opener.index, f"mail {opener.workflow.id} {self._where}")

    async def run(self) -> None:
        """Go on reading."""
        while True:
            try:
                await self.look()
            except (CoordinatorError, SpecialistsError) as error:
                log.warning("%s: mail not read, tried again: %s", self._opener.workflow.id, error)
            await asyncio.sleep(self.mailbox.every.total_seconds())

    async def look(self) -> list[str]:
        """Open a case for each message that has none; their cases."""
        return await (self._maildir() if self.mailbox.maildir else self._imap())

    async def _maildir(self) -> list[str]:
        new, cur = Path(self._where) / "new", Path(self._where) / "cur"
        if not new.is_dir() or not cur.is_dir():
            raise MailboxUnreachable(f"{self._where} is no maildir: it has no new and cur; make it one")
        cases = []
        for path in sorted(path for path in new.iterdir() if path.is_file() and not path.is_symlink()):
            cases += await self._take(await asyncio.to_thread(path.read_bytes))
            path.rename(cur / f"{path.name.partition(':')[0]}:2,S")  # only once its case is there
        return cases

    async def _imap(self) -> list[str]:
        before = self._kept.get()
        cases: list[str] = []
        try:
            async for uid, validity, raw in self._fetched(dict(before)):
                cases += await self._take(raw)
                after = {"validity": validity, "uid": uid}
                self._kept.change(before, after)
                before = after
        except (OSError, imaplib.IMAP4.error) as error:
            raise MailboxUnreachable(
                f"{self._where}: {error or type(error).__name__}; see host, certificate (`ca`) and login"
            ) from None
        return cases

    async def _fetched(self, before: dict[str, Any]) -> AsyncIterator[tuple[int, str, bytes]]:
        """Messages that arrived since, one at a time: at first the unread ones, then all after the last."""
        with await asyncio.to_thread(self._login) as server:
            validity = _validity(server)
            last = int(before["uid"]) if before.get("validity") == validity else 0
            wanted = f"UID {last + 1}:*" if last else "UNSEEN"
            _, found = await asyncio.to_thread(server.uid, "SEARCH", wanted)
            for uid in sorted(int(n) for n in (found[0] or b"").split()):
                if uid <= last:  # `N:*` names the last message even if N is beyond it
                    continue
                _, parts = await asyncio.to_thread(server.uid, "FETCH", str(uid), "(BODY.PEEK[])")
                raw = next((part[1] for part in parts if isinstance(part, tuple)), None)
                if raw is not None:
                    yield uid, validity, raw

    def _tls(self) -> ssl.SSLContext:
        if not self.mailbox.ca:
            return ssl.create_default_context()
        try:
            return ssl.create_default_context(cafile=self._base / self.mailbox.ca)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"`ca` of {self._where}: {self._base / self.mailbox.ca} holds no certificate ({error}): "
                "name a PEM file"
            ) from None

    def _login(self) -> imaplib.IMAP4:
        url = urlsplit(str(self.mailbox.imap))
        host = url.hostname or ""
        password = os.environ.get(self.mailbox.password_env, "")
        if not password:
            name = self.mailbox.password_env or "password_env"
            raise SettingsError(f"{name}, the password of {self._where}, is not set: export it first")
        if url.scheme == "imaps":
            tls = self._tls()
            server: imaplib.IMAP4 = imaplib.IMAP4_SSL(host, url.port or 993, ssl_context=tls, timeout=SECONDS)
        elif url.scheme == "imap" and host in LOOPBACK:
            server = imaplib.IMAP4(host, url.port or 143, timeout=SECONDS)
        else:
            raise SettingsError(f"{self._where}: write imaps://HOST/FOLDER; a password goes through TLS only")
        folder = unquote(url.path.strip("/")) or "INBOX"
        try:
            server.login(self.mailbox.user, password)
            status, answer = server.select(f'"{folder}"', readonly=True)
            if status != "OK":
                raise MailboxUnreachable(f"{self._where}: no folder {folder!r}: {answer[0]!r}")
        except BaseException:
            server.shutdown()
            raise
        return server

    async def _take(self, raw: bytes) -> list[str]:
        """The case of one message; what cannot become one is kept, told to the ledger and passed over."""
        digest = hashlib.sha256(raw).hexdigest()
        try:
            event = await asyncio.to_thread(event_of, raw, self._blobs)
            if not self._opener.wanted(event):
                return []
            title = f"{self._opener.workflow.name}: {event['subject']}"
            return [self._opener.open("mail", event, title, f"{event['message_id']} {digest}")]
        except (ExpressionFailed, ValueError, LookupError) as error:
            await self._refused(f"mail {self._where}", f"message {digest}: {error}")
            return []


def event_of(raw: bytes, blobs: Blobs) -> dict[str, Any]:
    """What `event` is for a message; its attachments, and the message itself, are kept as documents."""
    if len(raw) > MOST_BYTES:
        raise ValueError(f"{len(raw)} bytes are more than the {MOST_BYTES} taken")
    whole = blobs.keep(raw, "message.eml")
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    attachments = [blobs.keep(*one) for one in _attachments(message)]
    return {
        "message_id": _head(message, "Message-ID"), "from": _head(message, "From"),
        "to": _head(message, "To"), "subject": _head(message, "Subject"), "date": _head(message, "Date"),
        "text": _text(message), "attachments": attachments, "file": whole["file"],
    }  # fmt: skip


def _attachments(message: EmailMessage) -> Iterator[tuple[bytes, str]]:
    for n, part in enumerate(message.walk()):
        if n > MOST_ATTACHMENTS * 4:
            raise ValueError(f"more than {MOST_ATTACHMENTS * 4} parts")
        name = part.get_filename()
        if part.is_multipart() or not (name or part.get_content_disposition() == "attachment"):
            continue
        content = part.get_payload(decode=True)
        if isinstance(content, bytes):
            yield content, Path(str(name or "attachment")).name[:200]


def _text(message: EmailMessage) -> str:
    part = message.get_body(("plain", "html"))
    if part is None:
        return ""
    content = part.get_payload(decode=True)
    charset = part.get_content_charset() or "utf-8"
    try:
        return content.decode(charset, errors="replace")[:200_000] if isinstance(content, bytes) else ""
    except LookupError:  # a charset nobody knows
        return content.decode("utf-8", errors="replace")[:200_000] if isinstance(content, bytes) else ""


def _head(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message[name] or "").split())[:1000]
    except (
        ValueError,
        IndexError,
        AttributeError,
    ):  # headers that the parser of the standard library breaks on
        return ""


def _validity(server: imaplib.IMAP4) -> str:
    answer = server.response("UIDVALIDITY")[1]
    return (answer[0] or b"").decode() if answer and answer[0] else ""
