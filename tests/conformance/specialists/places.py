"""Where a specialist may run. The contract runs in every place; a new mode adds an entry to PLACES."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specialists.roster import BUILT_IN, Roster
from specialists.settings import SpecialistsSettings
from specialists.types import Specialist
from tests.conformance.specialists.liars import LIARS, TABLES
from tests.fakes.a2a_agent import FakeAgent, opened, whole
from tests.fakes.openai_server import FakeModel, serving
from tests.fakes.small_gateway import SmallGateway

AGENT_TOKEN = "token-of-the-served-agents"

# Ends that fail, each in its own way: what the model answers, and what the remote agent answers.
FAILING: dict[str, tuple[dict[str, Any], Any]] = {
    "down": ({"status": 500}, {"error": {"code": -32603, "message": "down"}}),
    "bad json": ({"raw": "{"}, ["{not json"]),
    "too long": ({"text": "x" * 200_000}, [opened(), "x" * (17 << 20)]),
    "wrong form": ({"answer": {"status": "sure"}}, [opened(), *whole('{"status": "sure"}')]),
}


@dataclass
class Ground:
    """What a place may use: a folder for settings, and the agents that run in a second process."""

    folder: Path
    agents: Callable[[], str]  # starts them when first asked; gives their URL

    def roster(self, **table: Any) -> Roster:
        """A roster whose specialists all have this table of settings, but for `{name}` in a value."""
        lines = []
        for name in (*BUILT_IN, *LIARS):
            lines.append(f"[specialists.{name}]")
            for key, value in (table | TABLES.get(name, {})).items():
                shown = value.replace("{name}", name) if isinstance(value, str) else value
                lines.append(f"{key} = {json.dumps(shown)}")
        path = self.folder / "pointsman.toml"
        path.write_text("\n".join(lines))
        return Roster.from_settings(SpecialistsSettings.load(path))


@dataclass
class Seat:
    """A specialist in its place."""

    specialist: Specialist
    target: Any  # the gateway, as a toolbox is given it
    mode: str  # what its findings say
    more: dict[str, Any] = field(default_factory=dict)


Place = Callable[..., AbstractAsyncContextManager[Seat]]


@contextmanager
def endpoint(script: Any) -> Iterator[tuple[str, FakeModel | None]]:
    """The base URL of a scripted model; nobody is there if the script is `gone`."""
    if script == "gone":
        with nobody() as url:
            yield f"{url}/v1", None
        return
    fails = isinstance(script, str) and script in FAILING
    with serving({"turns": [FAILING[script][0]]} if fails else script) as told:
        yield told


@contextmanager
def nobody() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@asynccontextmanager
async def agent(name: str, ground: Ground, script: Any) -> AsyncIterator[str]:
    """The address of the served specialist; of nobody, or of an agent that fails, if the script says so."""
    if script == "gone":
        with nobody() as url:
            yield url
    elif isinstance(script, str) and script in FAILING:
        async with FakeAgent(FAILING[script][1], specialist=name).listening() as url:
            yield url
    else:
        yield f"{ground.agents()}/{name}"


@asynccontextmanager
async def local(name: str, gateway: SmallGateway | str, ground: Ground, script: Any) -> AsyncIterator[Seat]:
    """In this process."""
    target = gateway if isinstance(gateway, str) else gateway.server
    yield Seat(ground.roster(mode="local").specialist(name), target, "local")


@asynccontextmanager
async def remote(name: str, gateway: SmallGateway | str, ground: Ground, script: Any) -> AsyncIterator[Seat]:
    """In another process, over A2A; its tool calls come back to the gateway over HTTP."""
    async with agent(name, ground, script) as where, reached(gateway) as url:
        settings = {"mode": "remote", "url": where, "patience": 1.0, "token_env": "AGENT_TOKEN"}
        yield Seat(ground.roster(**settings).specialist(name), url, "remote")


@asynccontextmanager
async def reached(gateway: SmallGateway | str) -> AsyncIterator[str]:
    """The address of a gateway that another process can call."""
    if isinstance(gateway, str):
        yield gateway
        return
    async with gateway.listening() as url:
        yield url


@asynccontextmanager
async def chat(name: str, gateway: SmallGateway | str, ground: Ground, script: Any) -> AsyncIterator[Seat]:
    """A model behind a chat-completions endpoint reasons."""
    with endpoint(script) as (url, model):
        roster = ground.roster(mode="cloud", base_url=url, model="scripted", retries=0)
        target = gateway if isinstance(gateway, str) else gateway.server
        yield Seat(roster.specialist(name), target, "cloud", {"model": model})


@asynccontextmanager
async def responses(
    name: str, gateway: SmallGateway | str, ground: Ground, script: Any
) -> AsyncIterator[Seat]:
    """A model behind the Responses API reasons."""
    with endpoint(script) as (url, model):
        roster = ground.roster(mode="cloud", provider="openai", base_url=url, model="scripted", retries=0)
        target = gateway if isinstance(gateway, str) else gateway.server
        yield Seat(roster.specialist(name), target, "cloud", {"model": model})


@asynccontextmanager
async def foundry(name: str, gateway: SmallGateway | str, ground: Ground, script: Any) -> AsyncIterator[Seat]:
    """An agent of a Foundry project reasons; a token from the environment stands for the identity."""
    with endpoint(script) as (url, model):
        project = url.removesuffix("/v1") + "/api/projects/p"
        where = {"base_url": project, "model": "scripted", "retries": 0, "api_key_env": "OPENAI_API_KEY"}
        roster = ground.roster(mode="cloud", provider="foundry", **where)
        target = gateway if isinstance(gateway, str) else gateway.server
        yield Seat(roster.specialist(name), target, "cloud", {"model": model})


PLACES: dict[str, Place] = {
    "local": local,
    "remote": remote,
    "cloud": chat,
    "cloud-responses": responses,
    "cloud-foundry": foundry,
}
# The providers differ in how a model is reached, not in who asks: two specialists stand for all there.
PAIRS = [
    (name, place)
    for place in PLACES
    for name in (BUILT_IN if place in ("local", "remote", "cloud") else ("logs", "changes"))
]
MODELS = ("cloud", "cloud-responses", "cloud-foundry")  # places in which a scripted model reasons
