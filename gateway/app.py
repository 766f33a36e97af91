"""Puts the gateway together: store, ledger, policy, servers and the road, entered and left as one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway import servers_file, tracing
from gateway.admin import Admin, builtin_tools
from gateway.approvals import Approvals
from gateway.catalogue import OPERATOR, Catalogue
from gateway.children import Children
from gateway.credentials import credential
from gateway.errors import GatewayError, LedgerError, PolicyError, ServersFileError
from gateway.front import Front
from gateway.governance import checkpoints, database
from gateway.hosted import Hosted
from gateway.http_client import Pool
from gateway.identity import Identity
from gateway.index import Index
from gateway.ledger import Ledger
from gateway.methods import Methods
from gateway.pins import Pins
from gateway.pipeline import Gateway
from gateway.policy import Policy, directory
from gateway.policy_reader import PolicyReader
from gateway.redaction import Redactor, secret_headers
from gateway.seal import Sealer
from gateway.servers_file import References, ServerEntry
from gateway.settings import Settings
from gateway.store import Store
from gateway.targets import Targets
from gateway.throttle import Throttle
from gateway.tidying import keep_tidy
from gateway.tokens import Tokens
from gateway.types import Subject
from gateway.upstream import Upstream
from gateway.upstream_http import OURSELVES, HttpUpstream
from gateway.upstream_stdio import StdioUpstream

log = logging.getLogger("gateway")
POLL_SECONDS = 1.0


@dataclass
class App:
    """A gateway, whole."""

    settings: Settings
    home: Path
    gateway: Gateway
    front: Front
    methods: Methods
    catalogue: Catalogue
    ledger: Ledger
    tokens: Tokens
    identity: Identity
    approvals: Approvals
    children: Children
    store: Store
    reader: ServersReader
    policies: PolicyReader

    def start(self) -> None:
        """Start children and connect to servers, in the background."""
        self.children.start()
        self.catalogue.start()


class ServersReader:
    """Reads the servers file, again whenever it has changed."""

    def __init__(self, settings: Settings, home: Path, catalogue: Catalogue) -> None:
        self._settings = settings
        self._home = home
        self._catalogue = catalogue
        self._seen: Any = None
        self._lock = asyncio.Lock()

    @property
    def path(self) -> Path:
        """The file in force now."""
        return servers_file.locate(self._settings.servers, self._home)

    @property
    def own_path(self) -> Path:
        """The file that commands write to: never the bundled one."""
        return self._home / "mcp.json" if self.path == servers_file.BUNDLED else self.path

    async def read(self, *, strict: bool = True, by: Subject = OPERATOR) -> None:
        """Take in the file if it is not as it was, as `by` did it; a broken one is refused, or reported."""
        async with self._lock:
            path = self.path
            stamp = (path, path.stat().st_mtime_ns, path.stat().st_size)
            if stamp == self._seen:
                return
            try:
                file = servers_file.load(path)
            except ServersFileError as error:
                if strict:
                    raise
                log.error("%s; the servers stay as they were", error)
                self._seen = stamp
                return
            await self._catalogue.apply(file, by)
            self._seen = stamp

    async def watch(self) -> None:
        """Go on reading it."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.read(strict=False)
            except (OSError, GatewayError) as error:
                log.error("cannot take the servers file over: %s; the servers stay as they were", error)


@asynccontextmanager
async def open_app(settings: Settings, home: Path) -> AsyncIterator[App]:
    """The gateway on this home, not started yet."""
    async with AsyncExitStack() as stack:
        place = database(settings, home)
        store = await stack.enter_async_context(Store(place, durability=settings.durability))
        redactor = Redactor()
        ledger = await Ledger(store, redactor, checkpoints(settings, home)).prepare()
        approvals = await Approvals(store, ledger, expiry_seconds=settings.approval_seconds).prepare()
        tokens = await Tokens(store).prepare()
        await ledger.recover()
        stack.push_async_callback(_ended, asyncio.create_task(ledger.keep()))
        pool = await stack.enter_async_context(Pool(settings.connect_seconds))
        references = References(home, settings.recording, settings.source)
        path = servers_file.locate(settings.servers, home)
        children_entries = servers_file.load(path).children
        children = Children(children_entries, references)
        stack.push_async_callback(children.stop)
        maker = Maker(settings, references, children, pool, redactor)
        pins = await Pins(store).prepare()
        patience = {"connect_seconds": settings.connect_seconds, "call_seconds": settings.call_seconds}
        catalogue = await Catalogue(pins, ledger, maker, **patience).prepare()
        store.on("pins", catalogue.reload)
        stack.push_async_callback(catalogue.stop)
        children.ready = lambda name: _wake(catalogue, name)
        catalogue.serve_builtin(builtin_tools())
        reader = ServersReader(settings, home, catalogue)
        await reader.read()
        index = Index(catalogue)
        rules = directory(settings.policy)
        policy = Policy.load(rules, catalogue.approved(), labels=catalogue.labels())
        shared = store.database.shared  # what one gateway has sealed, every gateway must open
        sealer = Sealer(await ledger.secret("state key")) if shared else Sealer.at(home / "state.key")
        targets = Targets(catalogue, index)
        gateway = Gateway(settings, ledger, approvals, catalogue, targets, policy, redactor, sealer)
        await gateway.prepare()
        if shared:
            stack.push_async_callback(_ended, asyncio.create_task(keep_tidy(store, gateway.labels)))
        store.measure = gateway.meters.write
        if (gateway_tracing := tracing.begun()) is not None:
            gateway.tracing = gateway_tracing
            stack.push_async_callback(asyncio.to_thread, gateway_tracing.close)
        catalogue.changed.append(lambda what, server: _fit_policy(gateway, what))
        methods = Methods(gateway, index)
        identity = Identity(tokens, settings, pool)
        stack.push_async_callback(identity.close)
        throttle = Throttle(lambda told: _bad_tokens(ledger, told))
        stack.push_async_callback(throttle.close)
        front = Front(gateway, methods, identity, throttle)
        stack.push_async_callback(front.sessions.close_all)
        app = App(
            settings,
            home,
            gateway,
            front,
            methods,
            catalogue,
            ledger,
            tokens,
            identity,
            approvals,
            children,
            store,
            reader,
            PolicyReader(rules, gateway),
        )
        gateway.builtin = {"gateway": Admin(app), "hosted": Hosted(app)}
        yield app


async def _bad_tokens(ledger: Ledger, told: dict[str, Any]) -> None:
    try:
        await ledger.append("token", OURSELVES, status="refused", body=told)
    except LedgerError as error:
        log.error("bad tokens, not recorded (%s): %s", error, told)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _wake(catalogue: Catalogue, child: str) -> None:
    for server in catalogue.servers.values():
        if f"${{child:{child}}}" in server.entry.url:
            server.wake.set()


def _fit_policy(gateway: Gateway, what: str) -> None:
    if what != "tools":
        return
    tools = gateway.catalogue.approved()
    if {(t.public, t.digest) for t in tools} == {(t.public, t.digest) for t in gateway.policy.tools}:
        return
    try:
        gateway.policy = gateway.policy.for_tools(tools)
    except PolicyError as error:
        log.error("policy does not fit the tools: %s; new tools stay refused until it does", error)


class Maker:
    """Builds the connection to a server, or keeps the one there is when nothing about it has changed."""

    def __init__(
        self,
        settings: Settings,
        references: References,
        children: Children,
        pool: Pool,
        redactor: Redactor,
    ) -> None:
        self._settings = settings
        self._references = references
        self._children = children
        self._pool = pool
        self._redactor = redactor

    def __call__(self, entry: ServerEntry, kept: Upstream | None, made_of: Any) -> tuple[Upstream, Any]:
        """The connection, and what it was made of."""
        resolve = self._references.resolve
        limit = self._settings.max_result_bytes
        if entry.url:
            url = resolve(entry.url)
            headers = {name: resolve(value) for name, value in entry.headers.items()}
            if token := self._child_token(entry.url):
                headers["Authorization"] = f"Bearer {token}"
            told = {name: resolve(value) for name, value in entry.credentials.items()}
            fresh: Any = (urlsplit(url).geturl(), tuple(headers.items()), tuple(told.items()))
            self._redactor.know(secret_headers(headers))
            build = lambda: HttpUpstream(  # noqa: E731
                entry,
                url,
                headers,
                self._pool,
                limit,
                credential(entry.name, told, url, self._pool, self._redactor),
            )
        else:
            command = (resolve(entry.command), *(resolve(arg) for arg in entry.args))
            own = {name: resolve(value) for name, value in entry.env.items()}
            fresh = (command, tuple(own.items()), entry.cwd)
            build = lambda: StdioUpstream(entry, command, own, limit)  # noqa: E731
        self._redactor.know(self._references.secrets)
        return (kept, made_of) if kept is not None and fresh == made_of else (build(), fresh)

    def _child_token(self, url: str) -> str:
        return next((t for name, t in self._children.tokens.items() if f"${{child:{name}}}" in url), "")
