"""A mailbox spoken to in IMAP: login, select, search and fetch by UID, from messages that a test puts in."""

import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


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


@contextmanager
def mailbox() -> Iterator[Box]:
    """An IMAP server on loopback."""
    box = Box()

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

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        box.url = f"imap://127.0.0.1:{server.server_address[1]}/INBOX"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield box
        finally:
            server.shutdown()
            thread.join()
