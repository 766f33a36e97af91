"""Whether a specialist can work: its card, its mode, the gateway, its tools, its model."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from specialists.errors import GatewayLost, SpecialistsError
from specialists.roster import Roster
from specialists.settings import Remote
from specialists.types import Card


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what to do if it is not well."""

    name: str
    ok: bool
    detail: str
    exit_code: int = 0

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {key: value for key, value in asdict(self).items() if key != "exit_code"}


def roll_call(roster: Roster) -> list[dict[str, Any]]:
    """Every specialist with its mode, place, tools and state."""
    rows = []
    for name in roster.names():
        tools, state = (), "ready"
        try:
            tools = roster.card(name).tools
        except SpecialistsError as error:
            state = f"unavailable: {error}"
        row = {"name": name, "mode": roster.mode(name), "where": roster.where(name)}
        rows.append(row | {"tools": list(tools), "state": state})
    return rows


async def self_check(roster: Roster, name: str) -> list[Check]:
    """Look at everything one specialist needs, the gateway included."""
    try:
        card = roster.card(name)
    except SpecialistsError as error:
        return [Check("card", False, str(error), error.exit_code)]
    checks = [
        Check("card", True, f"{card.description} (version {card.version})"),
        Check("mode", True, f"{roster.mode(name)}: {roster.where(name)}"),
    ]
    checks += await _gateway(card)
    if agent := roster.agent(name):
        checks.append(await _agent(name, agent))
    if endpoint := roster.endpoint(name):
        checks.append(await _endpoint(*endpoint))
    return checks


async def _gateway(card: Card) -> list[Check]:
    """Whether the running gateway answers, and shows the tools that the card names."""
    from specialists.toolbox import Toolbox

    home = Path(os.environ.get("POINTSMAN_HOME") or ".pointsman")
    try:
        running = json.loads((home / "gateway.json").read_text(encoding="utf-8"))
        url, operator = f"{running['url']}/mcp", running["operator_token"]
    except (OSError, ValueError, KeyError) as error:
        why = f"none runs in {home} ({type(error).__name__}); start it with `pointsman gateway`"
        return [Check("gateway", False, why, GatewayLost.exit_code)]
    try:
        async with Toolbox(url, token=operator, task="specialists-test") as toolbox:
            asked = {"subject": f"agent:{card.name}", "roles": ["specialist"], "expires_seconds": 60}
            issued = (await toolbox.call("gateway__issue_token", asked)).required()
        async with Toolbox(url, token=str(issued.data["token"]), specialist=card.name) as toolbox:
            shown = [tool.name for tool in await toolbox.tools()]
    except SpecialistsError as error:
        return [Check("gateway", False, str(error), error.exit_code)]
    found = [tool for tool in shown if any(fnmatchcase(tool, pattern) for pattern in card.tools)]
    unseen = [pattern for pattern in card.tools if not any(fnmatchcase(tool, pattern) for tool in shown)]
    said = f"{len(found)} tools: {', '.join(found)}"
    if unseen:
        said += (
            f"; not shown: {', '.join(unseen)} (see `pointsman servers list` and `pointsman policy explain`)"
        )
    return [Check("gateway", True, url), Check("tools", not unseen, said, 1 if unseen else 0)]


async def _agent(name: str, agent: Remote) -> Check:
    """Whether the A2A agent answers, is the one that is meant, and takes the token."""
    from specialists.remote.talk import greet

    try:
        return Check("agent", True, await greet(name, agent))
    except SpecialistsError as error:
        return Check("agent", False, str(error), error.exit_code)


async def _endpoint(base_url: str, key: str, variable: str) -> Check:
    """Whether the model endpoint answers and takes the key."""
    import httpx2

    try:
        async with httpx2.AsyncClient(timeout=10) as http:
            answer = await http.get(
                f"{base_url.rstrip('/')}/models", headers={"Authorization": f"Bearer {key}"}
            )
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        why = f"{base_url}: {error or type(error).__name__}; see that it runs and that base_url is right"
        return Check("endpoint", False, why, 5)
    if answer.status_code in (401, 403):
        why = f"{base_url}: refused the key (HTTP {answer.status_code}); put a valid one in {variable}"
        return Check("endpoint", False, why, 5)
    if answer.status_code >= 500:
        return Check("endpoint", False, f"{base_url}: HTTP {answer.status_code}; try again later", 5)
    return Check("endpoint", True, f"{base_url} answers")
