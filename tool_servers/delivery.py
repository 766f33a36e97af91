"""The delivery server: sends reports to the destinations that the operator has named, each key once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import smtplib
import ssl
import tempfile
import time
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx2
from mcp.types import CallToolResult, ToolAnnotations
from pydantic import Field

from tool_servers.destinations import Destination
from tool_servers.errors import BadInput, NotFound, NotSent, ToolServerError, Unavailable
from tool_servers.rendering import as_html, as_pdf
from tool_servers.sending import Outbox, digest_of
from tool_servers.toolkit import READ, ToolServer, reply
from tool_servers.types import Place, Places, Sent
from tool_servers.world import World

SENDS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True
)
SECONDS = 20.0
PLAIN = r"^[^\x00-\x1f\x7f]+$"  # one line, without characters that steer a terminal or a header
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

To = Annotated[str, Field(description="A destination's name; `destinations` lists them.", max_length=100)]
Key = Annotated[
    str,
    Field(description="Yours, such as a case and a number: sent once.", pattern=PLAIN, max_length=200),
]
Title = Annotated[str, Field(description="One line.", pattern=PLAIN, max_length=300)]
Markdown = Annotated[str, Field(description="Markdown.", min_length=1, max_length=500_000)]
FileName = Annotated[
    str, Field(description="Name of the files, without an ending.", pattern=NAME, max_length=100)
]
Body = Annotated[dict[str, Any], Field(description="A JSON object.")]
Text = Annotated[str, Field(description="A few lines.", min_length=1, max_length=4000)]


def build(world: World) -> ToolServer:
    """The delivery server for a world."""
    server = ToolServer("delivery", "Sends reports to destinations that the operator has named.")
    places = world.settings.delivery
    outbox = Outbox(world.state_directory / "delivery.db")

    def place(to: str, kind: str) -> Destination:
        found = places.get(to)
        if found is None or found.kind != kind:
            known = [name for name, one in places.items() if one.kind == kind]
            raise NotFound("to", to, known, f"destination of kind {kind}")
        return found

    def once(to: str, kind: str, key: str, send: Callable[[Destination, Sent], Sent], *what: object) -> Any:
        destination = place(to, kind)
        sent = Sent(to=to, kind=kind, key=key, digest=digest_of(*what))
        done = outbox.once(sent, kind == "files", lambda: send(destination, sent))
        before = " before; nothing was sent again" if done.again else ""
        lines = [
            f"Delivered to {to} ({kind}){before}",
            *(f"{path} sha256 {d}" for path, d in done.files.items()),
        ]
        return reply("\n".join(lines), done)

    @server.tool(annotations=READ)
    def destinations() -> Annotated[CallToolResult, Places]:
        """List the destinations by name, and whether they can be reached as configured."""
        found = [
            Place(name=name, kind=one.kind, trouble=_trouble(one)) for name, one in sorted(places.items())
        ]
        lines = [f"{p.name} {p.kind}{': ' + p.trouble if p.trouble else ''}" for p in found]
        return reply("\n".join([f"{len(found)} destinations", *lines]), Places(destinations=found))

    @server.tool(annotations=SENDS)
    def write_report(
        to: To, key: Key, name: FileName, title: Title, markdown: Markdown
    ) -> Annotated[CallToolResult, Sent]:
        """Write a report into a directory, in the formats it is configured for."""
        return once(to, "files", key, lambda d, s: _write(d, s, name, title, markdown), name, title, markdown)

    @server.tool(annotations=SENDS)
    def send_email(to: To, key: Key, title: Title, markdown: Markdown) -> Annotated[CallToolResult, Sent]:
        """Send a report by e-mail, as text and as HTML."""
        return once(to, "email", key, lambda d, s: _mail(d, s, title, markdown), title, markdown)

    @server.tool(annotations=SENDS)
    def send_webhook(to: To, key: Key, body: Body) -> Annotated[CallToolResult, Sent]:
        """POST a JSON object, signed as Standard Webhooks has it."""
        return once(to, "webhook", key, lambda d, s: _post(d, s, body), body)

    @server.tool(annotations=SENDS)
    def post_message(to: To, key: Key, text: Text) -> Annotated[CallToolResult, Sent]:
        """Post a message to a chat, by an incoming webhook as Slack and Mattermost have it."""
        return once(to, "chat", key, lambda d, s: _say(d, s, text), text)

    return server


def _trouble(destination: Destination) -> str:
    try:
        for field in ("url", "secret"):
            destination.resolved(field)
    except ToolServerError as error:
        return str(error)
    return ""


def _write(destination: Destination, sent: Sent, name: str, title: str, markdown: str) -> Sent:
    page = as_html(title, markdown)
    made: dict[str, Callable[[], bytes]] = {
        "md": markdown.encode,
        "html": page.encode,
        "pdf": lambda: as_pdf(page),
    }
    contents = {f"{name}.{kind}": made[kind]() for kind in destination.formats}
    folder = Path(destination.directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in contents.items():
            _replace(folder / file, content)
    except OSError as error:
        raise Unavailable(f"cannot write into {sent.to}: {error.strerror}; nothing else was done") from error
    files = {str(folder / file): hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    return sent.model_copy(update={"files": files})


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as draft:
        draft.write(content)
        draft.flush()
        os.fsync(draft.fileno())
    os.chmod(draft.name, 0o644)
    os.replace(draft.name, path)


def _post(destination: Destination, sent: Sent, body: dict[str, Any]) -> Sent:
    raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    stamp = str(int(time.time()))
    signed = f"{sent.key}.{stamp}.".encode() + raw
    secret = destination.resolved("secret").encode()
    proof = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    headers = {
        "Webhook-Id": sent.key,
        "Webhook-Timestamp": stamp,
        "Webhook-Signature": f"v1,{proof}",
        "Idempotency-Key": sent.key,
    }
    return _posted(destination, sent, raw, headers)


def _say(destination: Destination, sent: Sent, text: str) -> Sent:
    inert = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")  # <!channel> calls nobody
    return _posted(destination, sent, json.dumps({"text": inert}).encode(), {})


def _posted(destination: Destination, sent: Sent, raw: bytes, headers: dict[str, str]) -> Sent:
    """POST, follow no redirect, and tell what is certain: refused, never reached, or perhaps arrived."""
    url = destination.resolved("url")
    told = {"Content-Type": "application/json", "User-Agent": "pointsman", **headers}
    try:
        answer = httpx2.post(
            url, content=raw, headers=told, timeout=SECONDS, trust_env=False, follow_redirects=False
        )
    except (
        httpx2.ConnectError,
        httpx2.ConnectTimeout,
        httpx2.UnsupportedProtocol,
        httpx2.InvalidURL,
    ) as error:
        raise Unavailable(f"{sent.to} cannot be reached: {type(error).__name__}; try again later") from None
    except httpx2.HTTPError as error:
        raise NotSent(
            f"{sent.to} gave no answer ({type(error).__name__}): it may have arrived and is not sent again"
        ) from None
    if not answer.is_success:
        raise Unavailable(f"{sent.to} did not take it: HTTP {answer.status_code}; see what it expects")
    return sent.model_copy(update={"reference": f"HTTP {answer.status_code}"})


def _mail(destination: Destination, sent: Sent, title: str, markdown: str) -> Sent:
    message = EmailMessage()
    message["From"] = destination.sender
    message["To"] = ", ".join(destination.to)
    message["Subject"] = title
    message["Date"] = formatdate()
    message["Auto-Submitted"] = "auto-generated"
    domain = destination.sender.rpartition("@")[2] or "localhost"
    message["Message-ID"] = f"<{hashlib.sha256(f'{sent.to} {sent.key}'.encode()).hexdigest()[:32]}@{domain}>"
    message.set_content(markdown)
    message.add_alternative(as_html(title, markdown), subtype="html")
    data_sent = False
    try:
        with _smtp(destination) as server:
            data_sent = True  # from here on it may have arrived, unless the server says that it refused it
            refused = server.send_message(message)
    except smtplib.SMTPResponseException as error:
        raise Unavailable(f"{sent.to}: the mail server refused it with {error.smtp_code}") from None
    except smtplib.SMTPRecipientsRefused:
        raise Unavailable(f"{sent.to}: the mail server refused every recipient; check `to`") from None
    except (OSError, smtplib.SMTPException) as error:
        if data_sent:
            raise NotSent(
                f"{sent.to}: cut off while sending ({type(error).__name__}): it may have arrived"
            ) from None
        raise Unavailable(f"{sent.to}: the mail server cannot be used: {type(error).__name__}") from None
    note = f"; refused for {len(refused)} of the recipients" if refused else ""
    return sent.model_copy(update={"reference": f"{message['Message-ID']}{note}"})


def _smtp(destination: Destination) -> smtplib.SMTP:
    """A connection to the mail server: TLS where it offers it, and never a password without."""
    url = urlsplit(destination.resolved("url"))
    host, tls = url.hostname or "localhost", ssl.create_default_context()
    if url.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, url.port or 465, timeout=SECONDS, context=tls)
    else:
        server = smtplib.SMTP(host, url.port or 587, timeout=SECONDS)
    try:
        server.ehlo()
        if url.scheme == "smtp" and server.has_extn("starttls"):
            server.starttls(context=tls)
            server.ehlo()
        if destination.user:
            if not isinstance(server.sock, ssl.SSLSocket):
                raise BadInput("to", host, "a mail server with TLS: the password is not sent without")
            server.login(destination.user, destination.resolved("secret"))
    except BaseException:
        server.close()
        raise
    return server


if __name__ == "__main__":
    from tool_servers.cli import serve_one

    serve_one("delivery")
