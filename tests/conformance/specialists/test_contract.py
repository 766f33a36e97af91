"""What every specialist keeps in every mode: the order of events, the rules of evidence, and how it fails.

The same bodies run over local and cloud. Tools are the bundled tool servers on the bundled recording,
behind a small gateway; in cloud mode a scripted model reasons.
"""

import asyncio
import json
import socket
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from mcp import Client

from specialists.evidence import investigate_checked, stands
from specialists.roster import BUILT_IN, Roster
from specialists.settings import SpecialistsSettings
from specialists.toolbox import Toolbox
from specialists.types import Finding, Progress, Scope, Task
from tests.fakes.openai_server import serving
from tests.fakes.small_gateway import SmallGateway
from tool_servers.serving import NAMES, build
from tool_servers.settings import ToolServersSettings
from tool_servers.world import World

pytestmark = pytest.mark.anyio

RECORDING = Path(__file__).parents[3] / "examples" / "incident_triage" / "recording"
MODES = ("local", "cloud")
everyone = pytest.mark.parametrize("name", list(BUILT_IN))
everywhere = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def schemas(tmp_path_factory):
    """The input schemas of all bundled tools by public name."""

    async def listed():
        async with shop(tmp_path_factory.mktemp("state")) as gateway:
            return gateway.schemas

    return asyncio.run(listed())


@pytest.fixture
def roster(tmp_path, monkeypatch):
    """A roster whose specialists all run in one mode; in cloud mode on the endpoint given."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    for name in BUILT_IN:
        monkeypatch.delenv(f"POINTSMAN_SPECIALISTS__{name.upper()}__MODE", raising=False)

    def of(mode, url="http://127.0.0.1:9/v1"):
        where = {"base_url": url, "model": "scripted", "mode": mode}
        lines = [f"{key} = {json.dumps(value)}" for key, value in where.items()]
        (tmp_path / "pointsman.toml").write_text("\n".join(["[specialists.defaults]", "retries = 0", *lines]))
        for name in BUILT_IN:
            monkeypatch.setenv(f"POINTSMAN_SPECIALISTS__{name.upper()}__MODE", mode)
        return Roster.from_settings(SpecialistsSettings.load(tmp_path / "pointsman.toml"))

    return of


@contextmanager
def placed(roster, name, mode, script="investigate"):
    """The specialist in its mode, with a model that works while the block runs."""
    with serving(script) as (url, model):
        yield roster(mode, url).specialist(name), model


@asynccontextmanager
async def shop(state):
    """The bundled tool servers on the bundled recording, behind a small gateway."""
    world = World(ToolServersSettings(recording=str(RECORDING), state=str(state)))
    gateway = SmallGateway({})
    async with AsyncExitStack() as stack:
        for server in NAMES:
            client = await stack.enter_async_context(Client(build(server, world), cache=None))
            for tool in (await client.list_tools()).tools:
                public = f"{server}__{tool.name}"
                gateway.schemas[public] = tool.input_schema
                gateway.tools[public] = lambda given, c=client, n=tool.name: c.call_tool(n, given)
        yield gateway


def task_for(name, seconds=30.0):
    known = json.loads((RECORDING / "recording.json").read_text())
    alert = json.loads((RECORDING / "alert.json").read_text())
    scope = Scope.model_validate({"now": known["clock"], "alert": alert})
    return Task(
        id=f"c-1/{name}",
        case="c-1",
        specialist=name,
        question=known["question"],
        scope=scope,
        seconds=seconds,
    )


async def asked(specialist, target, task, **more):
    """All events, and the toolbox as it was at the end."""
    async with Toolbox(target, case=task.case, run="r-1", task=task.id, **more) as toolbox:
        return [event async for event in investigate_checked(specialist, task, toolbox)], toolbox


def assert_shape(events, name):
    """One start, progress, one finish, one finding; all in the specialist's own name."""
    assert isinstance(events[-1], Finding)
    kinds = [event.kind for event in events[:-1] if isinstance(event, Progress)]
    assert len(kinds) == len(events) - 1
    assert (kinds[0], kinds[-1]) == ("started", "finished") and set(kinds[1:-1]) <= {"tool", "note"}
    assert {event.specialist for event in events} == {name}
    assert Finding.model_validate(json.loads(events[-1].model_dump_json())) == events[-1]


@everywhere
@everyone
async def test_a_finding_rests_on_calls_of_its_own_and_on_tools_of_its_card(name, mode, roster, tmp_path):
    task = task_for(name)
    async with shop(tmp_path / "state") as gateway:
        with placed(roster, name, mode) as (specialist, _):
            events, toolbox = await asked(specialist, gateway.server, task)
    assert_shape(events, name)
    finding = events[-1]
    assert finding.status in ("found", "abstained"), finding.summary
    assert (finding.task, finding.mode, finding.dropped) == (task.id, mode, 0)
    assert finding.calls == len(gateway.made) == sum(getattr(e, "kind", "") == "tool" for e in events)
    for holder in (*finding.claims, *finding.causes):
        assert holder.evidence
        for evidence in holder.evidence:
            result = toolbox.results[evidence.call]
            assert stands(evidence, result.text)
            assert (evidence.tool, evidence.arguments) == (result.tool, result.arguments)
    allowed = {pattern.partition("__")[0] for pattern in specialist.card.tools}
    assert {call["tool"].partition("__")[0] for call in gateway.made} <= allowed


@everywhere
@everyone
async def test_a_task_resumed_makes_the_calls_it_made_and_none_runs_twice(name, mode, roster, tmp_path):
    task = task_for(name)
    async with shop(tmp_path / "state") as gateway:
        with placed(roster, name, mode) as (specialist, _):
            first, _ = await asked(specialist, gateway.server, task)
            ran = len(gateway.made)
            again, _ = await asked(specialist, gateway.server, task)
    assert len(gateway.made) == ran
    assert again[-1].claims == first[-1].claims and again[-1].causes == first[-1].causes


@pytest.mark.parametrize(("name", "mode"), [*((name, "local") for name in BUILT_IN), ("logs", "cloud")])
async def test_tools_that_hang_do_not_hold_it_beyond_its_deadline(name, mode, roster, schemas):
    gateway = SmallGateway({key: {"delay": 600} for key in schemas}, schemas=schemas)
    with placed(roster, name, mode) as (specialist, _):
        events, _ = await asked(specialist, gateway.server, task_for(name, seconds=0.6))
    assert_shape(events, name)
    if events[-1].calls:
        assert events[-1].status == "failed" and "0.6 s" in events[-1].summary
    assert events[-1].seconds < 10


@everyone
@pytest.mark.parametrize(
    "answer",
    [{"refusal": "denied"}, {"error": "the index is gone"}, {"text": "¿?", "data": {"unexpected": [1]}}, ""],
    ids=["denied", "error", "nonsense", "nothing"],
)
async def test_tools_that_give_nothing_make_no_claims_and_break_nothing(name, answer, roster, schemas):
    gateway = SmallGateway(dict.fromkeys(schemas, answer), schemas=schemas)
    events, _ = await asked(roster("local").specialist(name), gateway.server, task_for(name))
    assert_shape(events, name)
    finding = events[-1]
    assert (finding.claims, finding.causes) == ((), ())
    assert finding.status != "found" and "it broke" not in finding.summary


@everywhere
@everyone
async def test_a_lost_gateway_is_a_failed_finding_that_says_so(name, mode, roster):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/mcp"
        with placed(roster, name, mode) as (specialist, _):
            events, toolbox = await asked(specialist, url, task_for(name), patience=0.1)
    assert_shape(events, name)
    if toolbox.calls or mode == "cloud":
        assert events[-1].status == "failed" and url in events[-1].summary


@everyone
@pytest.mark.parametrize(
    "script",
    [
        {"turns": [{"status": 500}]},
        {"turns": [{"raw": "{"}]},
        {"turns": [{"text": "x" * 200_000}]},
        {"turns": [{"answer": {"status": "sure"}}]},
    ],
    ids=["down", "bad json", "too long", "wrong form"],
)
async def test_a_model_that_fails_is_a_failed_finding_that_says_so(name, script, roster, schemas):
    gateway = SmallGateway(dict.fromkeys(schemas, "nothing"), schemas=schemas)
    with placed(roster, name, "cloud", script) as (specialist, _):
        events, _ = await asked(specialist, gateway.server, task_for(name))
    assert_shape(events, name)
    assert events[-1].status == "failed" and "model scripted at" in events[-1].summary
    assert len(events[-1].summary) < 2_001
