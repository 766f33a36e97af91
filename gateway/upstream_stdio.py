"""A tool server as a child process: supervised, its requests told apart by our own ids."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from gateway import strictjson
from gateway.bridge import Bridge
from gateway.caller import Caller
from gateway.children import alone, end, environment, undertaker
from gateway.errors import RpcError, UpstreamFailed
from gateway.questions import Questions, answer_question
from gateway.servers_file import ServerEntry
from gateway.types import Subject
from gateway.upstream import (
    ASKS,
    CHANGED,
    CLIENT_INFO,
    PER_LINE,
    Background,
    Breaker,
    Pace,
    hello,
    hello_of,
    in_rounds,
    message_of,
    outgoing,
    result_of,
    shared_key,
)
from gateway.wire import MODERN, SUBSCRIPTION_KEY

log = logging.getLogger("gateway.upstream")
OURSELVES = Subject("gateway:service")
WRITE_SECONDS = 10
PROBE_SECONDS = 5  # some servers of the old era never answer what they do not know
NOISE_A_SECOND = 8 * 1_048_576  # bytes of stderr that are read in a second
STEADY_SECONDS = 60  # a process that has run this long did not die of its start
MOST_PROCESSES = 64  # of one server, when each subject or session has its own


class Process:
    """One running child and the requests it has not answered yet."""

    def __init__(self, entry: ServerEntry, limit: int, changed: Callable[[str], None]) -> None:
        self.entry = entry
        self.limit = limit
        self.hello: dict[str, Any] = {}
        self.downstream: Any = None  # the session whose own stream gets what nobody asked for
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[asyncio.Future[dict[str, Any]], Caller, Any]] = {}
        self._listening: set[int] = set()  # those of them that only listen, for as long as they like
        self._writing = asyncio.Lock()
        self._background = Background()
        self._questions = Questions(self._background)
        self._pace = Pace()
        self._last_words = b""
        self._hearing: asyncio.Task[Any] | None = None
        self._over = False  # it is being ended, or has ended by itself
        self.died: Callable[[float, str], None] = lambda lived, reason: None
        self.used = self._started = asyncio.get_running_loop().time()

    @property
    def reaped(self) -> bool:
        """Whether it has ended and the system knows that we know."""
        return self._process is not None and self._process.returncode is not None

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process is not None and self._process.returncode is None and not self._over

    @property
    def busy(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self._waiting)

    async def start(self, command: tuple[str, ...], env: dict[str, str]) -> None:
        """Start it, in a process group of its own."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment(env),
                cwd=self.entry.cwd or None,
                limit=self.limit,
                start_new_session=True,
                preexec_fn=alone,
            )
        except OSError as error:
            raise UpstreamFailed("start", f"cannot run {command[0]}: {error.strerror}") from None
        assert self._process.stderr is not None
        undertaker.mind(self._process.pid)
        self._background.start(self._read())
        self._hearing = self._background.start(self._listen_to_errors(self._process.stderr))

    async def _listen_to_errors(self, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(65_536):
            self._last_words = (self._last_words + chunk)[-2_000:]
            log.debug("%s: %s", self.entry.name, chunk[-2_000:].decode("utf-8", "replace").rstrip())
            await asyncio.sleep(len(chunk) / NOISE_A_SECOND)

    # -- asking it ---------------------------------------------------------------------------------

    async def request(self, method: str, params: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """Its result; notifications and questions meanwhile go to the caller."""
        number = next(self._ids)
        self.used = asyncio.get_running_loop().time()
        meta = params.get("_meta") or {}
        token = meta.get("progressToken")
        if token is not None:  # two callers may use the same token
            params = {**params, "_meta": {**meta, "progressToken": number}}
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (future, caller, token)
        if method == "subscriptions/listen":
            self._listening.add(number)
        try:
            await self._write({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            return result_of(await future)
        except asyncio.CancelledError:
            words = {"requestId": number, "reason": "the caller has gone or the deadline has passed"}
            if self.alive:
                self._background.start(self._try_tell("notifications/cancelled", words))
            await self._questions.end(number)
            raise
        finally:
            self._waiting.pop(number, None)
            self._listening.discard(number)
            if future.done() and not future.cancelled():
                future.exception()  # told already, where the process was ended while we wrote to it

    async def _try_tell(self, method: str, params: dict[str, Any]) -> None:
        with suppress(UpstreamFailed):
            await self.tell(method, params)

    async def tell(self, method: str, params: dict[str, Any]) -> None:
        """Send it a notification."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        await self._write({**message, "params": params} if params else message)

    async def _write(self, message: dict[str, Any]) -> None:
        if not self.alive or self._process is None or self._process.stdin is None:
            await self._last_word()
            raise UpstreamFailed("send", self._epitaph())
        try:
            async with asyncio.timeout(WRITE_SECONDS), self._writing:
                self._process.stdin.write(orjson.dumps(message) + b"\n")
                await self._process.stdin.drain()
        except TimeoutError:
            # Half a message may be in the pipe: nothing that is sent after it can be read.
            await self._end(f"it has not read its input for {WRITE_SECONDS} s", sick=True)
            raise UpstreamFailed("send", "it does not read its input", sent=True) from None
        except (BrokenPipeError, ConnectionResetError):
            await self._last_word()
            raise UpstreamFailed("send", self._epitaph(), sent=True) from None

    # -- hearing it --------------------------------------------------------------------------------

    async def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        reason = ""
        try:
            while line := await self._process.stdout.readline():
                if line.strip():
                    await self._take(message_of(strictjson.read(line, limit=self.limit)), len(line))
                else:
                    await self._pace.spend(PER_LINE)
        except ValueError:
            reason = f"a line is longer than the {self.limit} bytes allowed"
        except RpcError as error:
            reason = f"it does not write JSON lines ({error})"
        except UpstreamFailed as failed:
            reason = failed.reason
        if reason:
            log.warning("%s: %s; ended", self.entry.name, reason)
        await self._end(reason, sick=bool(reason))

    async def _end(self, reason: str, *, sick: bool) -> None:
        """It is of no more use: tell those who wait, and make sure that it is gone."""
        if self._over or self._process is None:
            return
        self._over = True
        if not sick:
            await self._last_word()
        reason = reason or self._epitaph()
        self.died(asyncio.get_running_loop().time() - self._started, reason)
        failure = UpstreamFailed("read", reason, sent=True)
        for future, _, _ in list(self._waiting.values()):
            if not future.done():
                future.set_exception(failure)
        await end(self._process, patience=0 if sick else 2)

    async def _last_word(self) -> None:
        """Give a process that goes a moment to say why and to end, so that both can be told."""
        assert self._process is not None and self._hearing is not None
        ending = asyncio.ensure_future(self._process.wait())
        await asyncio.wait((ending, self._hearing), timeout=0.5, return_when=asyncio.ALL_COMPLETED)
        ending.cancel()

    async def _take(self, message: dict[str, Any], size: int) -> None:
        if "method" not in message:
            number = message.get("id")
            waiting = self._waiting.get(number) if type(number) is int else None
            if waiting is not None and not waiting[0].done():
                waiting[0].set_result(message)
                return
        await self._pace.spend(self._pace.count(size))
        if "method" not in message:
            return  # an answer to nothing
        if "id" in message:
            self._ask(message)
            return
        await self._notified(message)

    async def _notified(self, message: dict[str, Any]) -> None:
        method, params = message["method"], message.get("params") or {}
        self._changed(method)
        meta = params.get("_meta") or {}
        if method == "notifications/cancelled":
            self._questions.taken_back(params.get("requestId"))
        elif method == "notifications/progress":
            waiting = self._of(params.get("progressToken"))
            if waiting is not None:
                await waiting[1].notify({**message, "params": {**params, "progressToken": waiting[2]}})
        elif SUBSCRIPTION_KEY in meta:
            waiting = self._of(meta[SUBSCRIPTION_KEY])
            if waiting is not None:
                stamped = {**meta, SUBSCRIPTION_KEY: waiting[1].request_id}
                await waiting[1].notify({**message, "params": {**params, "_meta": stamped}})
        elif method not in CHANGED:
            newest = self._newest()
            if newest is not None and (method == "notifications/message" or self.downstream is None):
                await newest[1].notify(message)
            elif self.downstream is not None:
                self.downstream.push(message)

    def _of(self, number: Any) -> tuple[asyncio.Future[dict[str, Any]], Caller, Any] | None:
        return self._waiting.get(number) if type(number) is int else None

    def _newest(self) -> tuple[int, Caller] | None:
        """The only call it can mean: with several under way nobody gets what may be another's."""
        calls = [(number, c) for number, (_, c, _) in self._waiting.items() if number not in self._listening]
        same = {(c.subject.id, c.session.id if c.session else "") for _, c in calls}
        return calls[-1] if len(same) == 1 else None

    def _ask(self, question: dict[str, Any]) -> None:
        number, caller = self._newest() or (None, None)
        if caller is None and self.downstream is not None:
            caller = self.downstream.caller()
        asked = caller or Caller(OURSELVES)
        self._questions.answer(self._answer(question, asked), question["id"], asked.subject.id, number)

    async def _answer(self, question: dict[str, Any], caller: Caller) -> None:
        reply = await answer_question(caller, self.entry, question)
        with suppress(UpstreamFailed):
            await self._write(reply)

    def _epitaph(self) -> str:
        code = self._process.returncode if self._process else None
        lines = self._last_words.decode("utf-8", "replace").strip().splitlines()
        words = f": {lines[-1][:300]}" if lines else ""
        return f"its process has ended{f' with code {code}' if code is not None else ''}{words}"

    async def stop(self) -> None:
        """End it and everything it started."""
        self._over = True
        for future, _, _ in list(self._waiting.values()):
            if not future.done():
                future.set_exception(UpstreamFailed("read", "it is being ended", sent=True))
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            await end(self._process)
        await self._background.stop()


class StdioUpstream:
    """One tool server behind a command; one process for all, or one for each subject or session."""

    def __init__(self, entry: ServerEntry, command: tuple[str, ...], env: dict[str, str], limit: int) -> None:
        self.entry = entry
        self.info: dict[str, Any] = {}
        self.modern: bool | None = None
        self.on_changed: Callable[[str], None] = lambda method: None
        self._command = command
        self._env = env
        self._limit = limit
        self._processes: dict[str, Process] = {}
        self._started_here: list[Process] = []  # also those that serve nobody any more, until they are gone
        self._starting: dict[str, asyncio.Lock] = {}
        self._watch: asyncio.Task[Any] | None = None
        self._background = Background()
        self._bridge = Bridge()
        self._old_era: bool | None = None  # whether it shakes hands; None: not tried yet
        self._breakers: dict[str, Breaker] = {}

    async def connect(self) -> None:
        """Start the shared process and learn its era."""
        process = await self._process(Caller(OURSELVES, info=CLIENT_INFO))
        self.info = process.hello
        told = self.info.get("capabilities") or {}
        kinds = ("tools", "prompts", "resources")
        wanted = {f"{k}ListChanged": True for k in kinds if (told.get(k) or {}).get("listChanged")}
        if self.modern and wanted and (self._watch is None or self._watch.done()):
            self._watch = self._background.start(self._listen(process, wanted))

    async def _listen(self, process: Process, wanted: dict[str, Any]) -> None:
        caller = Caller(OURSELVES, info=CLIENT_INFO, request_id="watch")
        with suppress(RpcError, UpstreamFailed):
            params = outgoing({"notifications": wanted}, caller, self.entry, modern=True)
            await process.request("subscriptions/listen", params, caller)

    def _key(self, caller: Caller) -> str:
        """Which process serves this caller: what one user is asked never reaches another."""
        isolation = self.entry.isolation or self._needed(caller)
        if caller.subject is OURSELVES or isolation == "shared":
            return "shared"
        if isolation == "session" and caller.session is not None:
            return f"session {caller.session.id}"
        return f"subject {shared_key(caller, self.entry)}"

    def _needed(self, caller: Caller) -> str:
        if not self.entry.open & ASKS:
            return "shared"  # it is offered nothing to ask with
        if caller.era == "modern":
            return "shared" if self.modern else "principal"
        return "session" if self._old_era is not False else "shared"

    async def _process(self, caller: Caller) -> Process:
        key = self._key(caller)
        process = self._processes.get(key)
        if process is not None and process.alive:
            return process
        async with self._starting.setdefault(key, asyncio.Lock()):
            process = self._processes.get(key)
            if process is not None and process.alive:
                return process
            breaker = self._breakers.setdefault(key, Breaker())
            breaker.check()
            await self._make_room()
            try:
                process = self._processes[key] = await self._started(caller, key)
            except RpcError:
                if not key.startswith("session ") or not self.modern:
                    raise
                self._old_era = False  # it knows the new era only: the shared process serves this caller too
            except UpstreamFailed as failed:
                breaker.failed(failed.reason)
                raise
            else:
                process.died = lambda lived, reason: self._died(breaker, lived, reason)
                return process
        return await self._process(caller)

    def _died(self, breaker: Breaker, lived: float, reason: str) -> None:
        if lived > STEADY_SECONDS:
            breaker.worked()
        breaker.failed(reason)

    async def _make_room(self) -> None:
        """End the process that has been idle longest when there are as many as there may be."""
        for key in [key for key, process in self._processes.items() if not process.alive]:
            del self._processes[key]
        if len(self._processes) < MOST_PROCESSES:
            return
        idle = [k for k, p in self._processes.items() if k.startswith("subject ") and not p.busy]
        if not idle:
            reason = f"{MOST_PROCESSES} processes of it run already; try again later"
            raise UpstreamFailed("start", reason)
        oldest = min(idle, key=lambda key: self._processes[key].used)
        await self._processes.pop(oldest).stop()

    async def _started(self, caller: Caller, key: str) -> Process:
        probe = not key.startswith("session ") and self.modern is not False
        process = Process(self.entry, self._limit, lambda method: self.on_changed(method))
        self._started_here = [one for one in self._started_here if not one.reaped] + [process]
        await process.start(self._command, self._env)
        try:
            await (self._learn_era(process, caller) if probe else self._shake_hands(process, caller))
        except UpstreamFailed as failed:
            if not probe or process.alive:
                stage = failed.stage if process.alive else "start"
                await asyncio.shield(process.stop())
                raise UpstreamFailed(stage, failed.reason) from None
            self.modern = False  # it could not bear the question: ask it no more
            await asyncio.shield(process.stop())
            return await self._started(caller, key)
        except BaseException:
            await asyncio.shield(process.stop())
            raise
        return process

    async def _learn_era(self, process: Process, caller: Caller) -> None:
        """Ask in the new era; where no answer comes, shake hands as well, and take what is answered first."""
        asked = outgoing({}, caller, self.entry, modern=True)
        probe = asyncio.ensure_future(process.request("server/discover", asked, caller))
        hands: asyncio.Future[None] | None = None
        try:
            await asyncio.wait((probe,), timeout=PROBE_SECONDS)
            if not probe.done():  # it is slow to start, or says nothing to what it does not know
                hands = asyncio.ensure_future(self._shake_hands(process, caller))
                await asyncio.wait((probe, hands), return_when=asyncio.FIRST_COMPLETED)
            shaken = hands is not None and hands.done() and hands.exception() is None
            told = {} if shaken else await self._told(probe)
            self.modern = MODERN in told.get("supportedVersions", ())
            if self.modern:
                process.hello = told
            else:
                await (hands or self._shake_hands(process, caller))
        finally:
            started: list[asyncio.Future[Any]] = [probe] if hands is None else [probe, hands]
            for task in started:
                task.cancel()
            await asyncio.gather(*started, return_exceptions=True)

    async def _told(self, probe: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
        try:
            return hello_of(await probe)
        except RpcError:
            return {}

    async def _shake_hands(self, process: Process, caller: Caller) -> None:
        process.hello = hello_of(await process.request("initialize", hello(caller, self.entry), caller))
        process.downstream = caller.session
        await process.tell("notifications/initialized", {})

    async def request(self, method: str, params: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """Its result, in the era its process speaks."""
        process = await self._process(caller)
        modern = "supportedVersions" in process.hello
        if not modern:
            return await self._in_old_era(process, method, params, caller)

        async def send(wanted: dict[str, Any]) -> dict[str, Any]:
            return await process.request(method, outgoing(wanted, caller, self.entry, modern=True), caller)

        return await send(params) if caller.era == "modern" else await in_rounds(send, params, caller)

    async def _in_old_era(
        self, process: Process, method: str, params: dict[str, Any], caller: Caller
    ) -> dict[str, Any]:
        async def send(wanted: dict[str, Any], asker: Caller) -> dict[str, Any]:
            return await process.request(method, outgoing(wanted, asker, self.entry, modern=False), asker)

        bridged = caller.era == "modern" and bool(self.entry.open & ASKS)
        return await (self._bridge.run(send, params, caller) if bridged else send(params, caller))

    async def open_session(self, caller: Caller) -> dict[str, Any] | None:
        """The process of this caller; what it said, None where it speaks the new era."""
        process = await self._process(caller)
        return None if "supportedVersions" in process.hello else process.hello

    async def notify(self, method: str, params: dict[str, Any], caller: Caller) -> None:
        """Pass a legacy client's notification to its own process."""
        process = self._processes.get(self._key(caller))
        if process is not None and process.alive and process.downstream is not None:
            await process.tell(method, params)

    async def close_session(self, key: str) -> None:
        """End the process that was this session's own."""
        self._starting.pop(f"session {key}", None)
        self._breakers.pop(f"session {key}", None)
        process = self._processes.pop(f"session {key}", None)
        if process is not None:
            await process.stop()

    async def close(self) -> None:
        """End every process."""
        await self._bridge.close()
        await self._background.stop()
        every = {*self._started_here, *self._processes.values()}
        await asyncio.gather(*(process.stop() for process in every))
        self._processes.clear()
