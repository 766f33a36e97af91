"""The operator's way into a gateway that is running: its admin tools, under the operator's own token."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

from gateway.errors import GatewayError, LedgerUnavailable, Refusal
from gateway.types import Rule


def running(home: Path) -> dict[str, Any] | None:
    """What HOME/gateway.json says, when a gateway holds the home's lock; None when none runs."""
    try:
        with (home / "gateway.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None  # nobody holds it
    except FileNotFoundError:
        return None
    except BlockingIOError:
        try:
            return json.loads((home / "gateway.json").read_text())
        except (OSError, ValueError) as error:
            raise LedgerUnavailable(
                f"a gateway runs in {home}, but its gateway.json cannot be read ({error}): "
                "wait until it has started, or run this as the user who started it"
            ) from None


async def call_admin(home: Path, tool: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """The structured result of an admin tool of the running gateway; None when no gateway runs."""
    about = running(home)
    if about is None:
        return None
    import httpx2
    from mcp import Client, MCPError
    from mcp.client.streamable_http import streamable_http_client

    url = about["url"].rstrip("/").removesuffix("/mcp") + "/mcp"
    headers = {"Authorization": f"Bearer {about['operator_token']}"}
    try:
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http), cache=None) as client,
        ):
            result = await client.call_tool(f"gateway__{tool}", arguments)
    except (MCPError, OSError, httpx2.HTTPError, ExceptionGroup) as error:
        raise LedgerUnavailable(
            f"the gateway at {url} did not answer ({type(error).__name__}: {error}): "
            "see its log, or restart it"
        ) from None
    return _structured(result.model_dump(by_alias=True, exclude_none=True))


def _structured(result: dict[str, Any]) -> dict[str, Any]:
    if result.get("isError"):
        text = "; ".join(part.get("text", "") for part in result.get("content", ()))
        refusal = (result.get("_meta") or {}).get("pointsman/refusal")
        if not refusal:
            raise GatewayError(text or "the admin tool failed and did not say why: see the gateway's log")
        rules = tuple(Rule(**rule) for rule in refusal.get("rules", ()))
        raise Refusal(refusal["code"], text, rules=rules, approval=refusal.get("approval", ""))
    return result.get("structuredContent") or {}
