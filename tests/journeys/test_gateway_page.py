"""docs/gateway.md typed line by line: every command in its order, every answer as the page prints it."""

import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

from tests.gateway.world import until
from tests.journeys.conftest import ROOT, Person

PAGE = ROOT / "docs" / "gateway.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
PORTS = ("8420", "8931")  # of the gateway and of the tool server
ELSEWHERE = ("npx",)  # what needs more than this checkout is left out
APPROVAL = re.compile(r"\ba_[0-9a-f]{12}\b")
# What is another one each time.
MOVING = (
    (r"\b[ac]_[0-9a-f]{6,}\b", "ID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"\d+\.\d+ ms", "MS"),
    (r"(^|\s)\d+ (?=TIME)", " N "),
    (r"\s+", " "),
)


def steps(text: str) -> list[tuple[str, str]]:
    """What the page has typed, each with what it prints; a Python block is written to call.py."""
    found: list[tuple[str, str]] = []
    for kind, body in BLOCK.findall(text):
        if kind == "python":
            found.append((f"cat > call.py <<'END'\n{body}END", ""))
        elif kind == "" and body.startswith("$ "):
            for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
                lines = part.splitlines()
                count = 1
                while lines[count - 1].endswith("\\"):
                    count += 1
                found.append(("\n".join(lines[:count]), "\n".join(lines[count:])))
    return found


def plain(text: str) -> str:
    for pattern, word in MOVING:
        text = re.sub(pattern, word, text)
    return text.strip()


def listens(port: str) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", int(port))) == 0


def free_ports() -> list[str]:
    socks = [socket.socket() for _ in PORTS]
    for sock in socks:
        sock.bind(("127.0.0.1", 0))
    ports = [str(sock.getsockname()[1]) for sock in socks]
    for sock in socks:
        sock.close()
    return ports


class Terminal:
    """A shell in which one command is typed after the other."""

    def __init__(self, person: Person) -> None:
        self.log = person.directory.parent / "background.log"
        self._process = subprocess.Popen(
            ["bash"],
            cwd=person.directory,
            env=person.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def type(self, command: str) -> str:
        """Run it; what it printed."""
        if command.endswith("&"):
            command = f"{command[:-1]} >> {shlex.quote(str(self.log))} 2>&1 &"
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho '<done>'\n")
        self._process.stdin.flush()
        told = ""
        while not told.endswith("<done>\n"):
            line = self._process.stdout.readline()
            assert line, f"the shell ended in {command}: {told}"
            told += line
        return told.removesuffix("<done>\n")

    def close(self) -> None:
        self.type("kill $(jobs -p) 2>/dev/null; wait")
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def test_every_command_of_the_page_does_what_the_page_says(person: Person) -> None:
    (person.directory / "examples").symlink_to(ROOT / "examples")
    ports = dict(zip(PORTS, free_ports(), strict=True))
    path = f"{Path(sys.executable).parent}:{person.environment['PATH']}"
    person.environment |= {"PATH": path, "POINTSMAN_GATEWAY__PORT": ports["8420"], "COLUMNS": "200"}
    ids: dict[str, str] = {}  # as the page has them → as they are
    terminal = Terminal(person)
    try:
        for typed, printed in steps(PAGE.read_text()):
            if any(word in typed for word in ELSEWHERE):
                continue
            command = typed
            for old, new in (*ports.items(), *ids.items()):
                command = command.replace(old, new)
            told = terminal.type(command)
            if typed.endswith("&"):
                port = ports["8931" if "8931" in typed else "8420"]
                assert until(lambda port=port: listens(port), 30), f"{typed}: {terminal.log.read_text()}"
                continue
            if typed == "kill $!":
                assert until(lambda: not listens(ports["8931"]), 10)
            for old, new in ports.items():
                told = told.replace(new, old)
            wanted = ".*".join(re.escape(part) for part in re.split(r" ?… ?", plain(printed)))
            silent = not printed.strip() and not told.strip()
            assert silent or re.fullmatch(wanted, plain(told), re.S), f"$ {typed}\n{told}"
            ids |= dict(zip(APPROVAL.findall(printed), APPROVAL.findall(told), strict=False))
    finally:
        terminal.close()
