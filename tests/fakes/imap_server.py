"""A mailbox spoken to in IMAP: login, select, search and fetch by UID, from messages that a test puts in."""

import ipaddress
import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass
class Box:
    """A mailbox: messages by UID."""

    url: str = ""
    password: str = "right"
    validity: int = 7
    messages: dict[int, bytes] = field(default_factory=dict)

    def put(self, raw: bytes) -> None:
        """A message arrives."""
        self.messages[max(self.messages, default=0) + 1] = raw


def answers(box: Box, verb: str, rest: str) -> Iterator[bytes]:
    """The untagged answers to one command, and at last OK or NO."""
    if verb == "CAPABILITY":
        yield b"* CAPABILITY IMAP4rev1\r\n"
    elif verb == "LOGIN" and box.password not in rest:
        yield b"NO wrong password\r\n"
        return
    elif verb in ("SELECT", "EXAMINE"):
        yield b"* %d EXISTS\r\n* OK [UIDVALIDITY %d] UIDs valid\r\n" % (len(box.messages), box.validity)
    elif verb == "UID" and rest.startswith("SEARCH"):
        first = re.search(r"UID (\d+):\*", rest)
        least = min(int(first[1]), max(box.messages, default=0)) if first else 0
        yield b"* SEARCH %s\r\n" % b" ".join(b"%d" % uid for uid in box.messages if uid >= least)
    elif verb == "UID" and rest.startswith("FETCH"):
        uid = int(rest.split()[1])
        raw = box.messages[uid]
        yield b"* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n" % (uid, uid, len(raw), raw)
    elif verb == "LOGOUT":
        yield b"* BYE\r\n"
    yield b"OK done\r\n"


def certificate(folder: Path) -> Path:
    """A PEM file with a key and its own certificate for 127.0.0.1, which signs itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now, day = datetime.now(UTC), timedelta(days=1)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
        .add_extension(names, critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(private + made.public_bytes(pem))
    (folder / "ca.pem").write_bytes(made.public_bytes(pem))
    return folder / "server.pem"


@contextmanager
def mailbox(tls: Path | None = None) -> Iterator[Box]:
    """An IMAP server on loopback; over TLS with the key and certificate of a PEM file."""
    box = Box()
    secured = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if tls else None
    if secured and tls:
        secured.load_cert_chain(tls)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"* OK ready\r\n")
            for line in self.rfile:
                tag, verb, *rest = line.decode().strip().split(" ", 2)
                for answer in answers(box, verb.upper(), rest[0] if rest else ""):
                    tagged = b"" if answer.startswith(b"*") else f"{tag} ".encode()
                    self.wfile.write(tagged + answer)
                if verb.upper() == "LOGOUT":
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def get_request(self) -> tuple[socket.socket, object]:
            plain, client = super().get_request()
            if secured is None:
                return plain, client
            return secured.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), client

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that does not trust the certificate goes away, which is what a test may want."""

    with Server(("127.0.0.1", 0), Handler) as server:
        box.url = f"{'imaps' if tls else 'imap'}://127.0.0.1:{server.server_address[1]}/INBOX"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield box
        finally:
            server.shutdown()
            thread.join()
