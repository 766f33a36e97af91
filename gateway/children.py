"""Processes that serve several tool servers: started, supervised, and gone when the gateway is."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from gateway.errors import UsageError
from gateway.servers_file import ChildEntry, References

log = logging.getLogger("gateway.children")
INHERITED = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "SYSTEMROOT"),
)
SLOWEST = 30.0
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def environment(own: dict[str, str]) -> dict[str, str]:
    """What a child may know of our environment, and what the operator gave it."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | own


def alone(*kept: int) -> None:
    """In the child, before its program runs: die with the gateway, and inherit no descriptor but these.

    uvloop, unlike the standard library, leaves descriptors open: the child would hold its own pipes twice,
    so that closing one tells us nothing, and whatever the process that started us has left open.
    """
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGKILL)
    here = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
    for name in os.listdir(here):
        if (number := int(name)) > 2:
            with suppress(OSError):  # the one that lists them is closed again
                os.set_inheritable(number, number in kept)


class Undertaker:
    """A small process that outlives the gateway by a moment and ends every child's group with it.

    The system kills a child when the gateway dies, but not what the child has started (npx, a shell).
    """

    # The numbers of groups come in, `-5` when one is done with; when the input ends, so has the gateway.
    SCRIPT = """trap '' HUP INT TERM; all=' '
    while read -r g; do case $g in
        -*) all="${all%% ${g#-} *} ${all#* ${g#-} }";;
        *) all="$all$g ";;
    esac; done
    for g in $all; do kill -9 "-$g"; done"""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._minded: set[int] = set()

    def mind(self, pid: int) -> None:
        """See to it that this group ends with us."""
        self._minded.add(pid)
        if self._process is None or self._process.poll() is not None:
            self._start()
        else:
            self._tell(f"{pid}")

    def forget(self, pid: int) -> None:
        """The group has ended."""
        if pid in self._minded:
            self._minded.discard(pid)
            self._tell(f"-{pid}")

    def _start(self) -> None:
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", self.SCRIPT],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            log.warning("no process to end children with us: %s", error)
            return
        self._tell("\n".join(map(str, sorted(self._minded))))

    def _tell(self, words: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.write(words.encode() + b"\n")
                self._process.stdin.flush()


undertaker = Undertaker()


def kill_group(pid: int, how: int = signal.SIGKILL) -> None:
    """End a child and everything it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, how)


async def end(process: asyncio.subprocess.Process, patience: float = 2.0) -> None:
    """Ask a child to go, wait briefly, then make it."""
    if process.returncode is None:
        kill_group(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(patience):
                await process.wait()
        except TimeoutError:
            pass
    kill_group(process.pid)
    await process.wait()
    undertaker.forget(process.pid)


def _settings() -> dict[str, str]:
    """What the bundled tool servers are told through our environment."""
    return {name: value for name, value in os.environ.items() if name.startswith("POINTSMAN_TOOL_SERVERS__")}


class Children:
    """Keeps every child of the servers file running and knows its address and its token."""

    def __init__(self, entries: dict[str, ChildEntry], references: References) -> None:
        self._entries = entries
        self._references = references
        self.ready: Callable[[str], None] = lambda name: None
        self._tasks: list[asyncio.Task[Any]] = []
        self.tokens: dict[str, str] = {}
        self.trouble = references.trouble

    def start(self) -> None:
        """Start them all; nobody waits."""
        for entry in self._entries.values() if not self._tasks else ():
            self.tokens[entry.name] = secrets.token_urlsafe(32)
            self._tasks.append(asyncio.create_task(self._keep(entry), name=f"child {entry.name}"))

    async def stop(self) -> None:
        """End them all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, entry: ChildEntry) -> None:
        wait = 0.5
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await self._run(entry)
            except (OSError, UsageError, ValueError) as error:
                self.trouble[entry.name] = f"cannot run {entry.command}: {error}"
                log.warning("child %s: %s", entry.name, error)
                self.ready(entry.name)
            self._references.children.pop(entry.name, None)
            if asyncio.get_running_loop().time() - started > SLOWEST:
                wait = 0.5
            await asyncio.sleep(wait)
            wait = min(wait * 2, SLOWEST)

    async def _run(self, entry: ChildEntry) -> None:
        reading, writing = os.pipe()
        try:
            resolve = self._references.resolve
            args = [resolve(arg.replace("{fd}", str(writing))) for arg in entry.args]
            own = {name: resolve(value) for name, value in entry.env.items()}
            process = await asyncio.create_subprocess_exec(
                resolve(entry.command),
                *args,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=environment(_settings() | own | {"TOOL_SERVERS_TOKEN": self.tokens[entry.name]}),
                pass_fds=(writing,),
                start_new_session=True,
                preexec_fn=partial(alone, writing),
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        undertaker.mind(process.pid)
        try:
            await self._serve(entry, process, reading)
        finally:
            await asyncio.shield(end(process))

    async def _serve(self, entry: ChildEntry, process: asyncio.subprocess.Process, reading: int) -> None:
        assert process.stderr is not None
        tail = asyncio.create_task(_tail(process.stderr, entry.name))
        line = await _line(reading)
        if line:
            url = str(json.loads(line)["url"]).rstrip("/")
            self._references.children[entry.name] = url
            self.trouble.pop(entry.name, None)
            log.info("child %s serves on %s", entry.name, url)
            self.ready(entry.name)
        await process.wait()
        said = (await tail).strip().splitlines()
        self.trouble[entry.name] = f"its process ended with code {process.returncode}" + (
            f": {said[-1]}" if said else ""
        )
        log.warning("child %s: %s", entry.name, self.trouble[entry.name])
        self._references.children.pop(entry.name, None)
        self.ready(entry.name)


async def _line(reading: int) -> bytes:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb")
    )
    try:
        return await reader.readline()
    finally:
        transport.close()


async def _tail(stream: asyncio.StreamReader, name: str) -> str:
    kept = b""
    while chunk := await stream.read(65_536):
        log.debug("%s: %s", name, chunk[-2_000:].decode("utf-8", "replace").rstrip())
        kept = (kept + chunk)[-4_000:]
    return kept.decode("utf-8", "replace")
