"""`subscriptions/listen`: one stream of changes for a caller, gathered from the catalogue and the servers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from gateway.caller import Caller
from gateway.catalogue import Catalogue
from gateway.errors import InvalidParams, RpcError, UpstreamFailed
from gateway.wire import SUBSCRIPTION_KEY

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
KINDS = {"tools": "toolsListChanged", "prompts": "promptsListChanged", "resources": "resourcesListChanged"}
MOST_WAITING = 1_000
AGAIN_SECONDS = 1.0
CLOSED: dict[str, Any] = {}  # what stands in the queue of a stream that is to end


class Listeners:
    """Open listen streams; each gets what it asked for and nothing else."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._open: dict[asyncio.Queue[dict[str, Any]], tuple[str, dict[str, Any]]] = {}
        catalogue.changed.append(self._changed)

    def _changed(self, what: str, server: str) -> None:
        message = {"jsonrpc": "2.0", "method": f"notifications/{what}/list_changed"}
        for queue, (endpoint, wanted) in list(self._open.items()):
            if wanted.get(KINDS[what]) and (not endpoint or not server or endpoint == server):
                _offer(queue, message)

    async def listen(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        """Serve one stream until the caller goes."""
        asked = params.get("notifications")
        if not isinstance(asked, dict):
            raise InvalidParams("params.notifications must say what to listen for")
        wanted: dict[str, Any] = {name: True for name in KINDS.values() if asked.get(name) is True}
        uris = asked.get("resourceSubscriptions")
        if isinstance(uris, list) and uris:
            wanted["resourceSubscriptions"] = uris
        stamp = {SUBSCRIPTION_KEY: caller.request_id}
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MOST_WAITING)
        self._open[queue] = (caller.endpoint, wanted)
        # The servers' own changes reach the catalogue by its own streams; only updates are asked for here.
        tasks = [
            asyncio.create_task(self._updates(name, caller, uris, queue))
            for name in self._servers(caller, wanted)
        ]
        try:
            ack = {"notifications": wanted, "_meta": stamp}
            await caller.notify({"jsonrpc": "2.0", "method": ACKNOWLEDGED, "params": ack})
            while (message := await queue.get()) != CLOSED:
                told = message.get("params") or {}
                meta = {**(told.get("_meta") or {}), **stamp}
                await caller.notify({**message, "params": {**told, "_meta": meta}})
        finally:
            del self._open[queue]
            for task in tasks:
                task.cancel()
        return {"resultType": "complete", "_meta": stamp}

    def close(self) -> None:
        """End every stream, as on purpose."""
        for queue in self._open:
            _offer(queue, CLOSED)

    def _servers(self, caller: Caller, wanted: dict[str, Any]) -> list[str]:
        if "resourceSubscriptions" not in wanted:
            return []
        names = [caller.endpoint] if caller.endpoint else list(self._catalogue.servers)
        servers = [self._catalogue.servers[name] for name in names if name in self._catalogue.servers]
        return [s.name for s in servers if s.upstream is not None and s.upstream.modern]

    async def _updates(
        self, name: str, caller: Caller, uris: Any, queue: asyncio.Queue[dict[str, Any]]
    ) -> None:
        relay = _Relay(caller, queue)
        wanted = {"notifications": {"resourceSubscriptions": uris}}
        while True:  # a server that was changed, or broke off, is listened to again
            with suppress(RpcError, UpstreamFailed):
                await self._catalogue.upstream(name).request("subscriptions/listen", wanted, relay)
            await asyncio.sleep(AGAIN_SECONDS)


class _Relay(Caller):
    """Takes a server's updates and puts them on the caller's stream."""

    __slots__ = ("_queue",)

    def __init__(self, caller: Caller, queue: asyncio.Queue[dict[str, Any]]) -> None:
        super().__init__(
            caller.subject,
            "modern",
            info=caller.info,
            endpoint=caller.endpoint,
            request_id=f"relay-{id(queue)}",
        )
        self._queue = queue

    async def notify(self, message: dict[str, Any]) -> None:
        """Pass on updates, not the server's acknowledgement."""
        if message.get("method") == "notifications/resources/updated":
            _offer(self._queue, message)


def _offer(queue: asyncio.Queue[dict[str, Any]], message: dict[str, Any]) -> None:
    if not queue.full():
        queue.put_nowait(message)
