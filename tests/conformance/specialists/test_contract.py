"""What every specialist keeps in every place: the order of events, the rules of evidence, and how it fails.

The same bodies run everywhere (places.py). Tools are the bundled tool servers on the bundled recording,
behind a small gateway; where a model reasons, it is a scripted one.
"""

import json
import socket

import pytest

from specialists.evidence import investigate_checked, stands
from specialists.roster import BUILT_IN
from specialists.toolbox import Toolbox
from specialists.types import Finding, Progress, Scope, Task
from tests.conformance.specialists.conftest import RECORDING, shop
from tests.conformance.specialists.places import MODELS, PAIRS, PLACES
from tests.fakes.small_gateway import SmallGateway

pytestmark = pytest.mark.anyio

everyone = pytest.mark.parametrize("name", list(BUILT_IN))
everywhere = pytest.mark.parametrize(("name", "place"), PAIRS)


def task_for(name, seconds=60.0):
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


async def asked(seat, task, **more):
    """All events, and the toolbox as it was at the end."""
    async with Toolbox(seat.target, token="t", case=task.case, run="r-1", task=task.id, **more) as toolbox:
        return [event async for event in investigate_checked(seat.specialist, task, toolbox)], toolbox


def assert_shape(events, name):
    """One start, progress, one finish, one finding; all in the specialist's own name."""
    assert isinstance(events[-1], Finding)
    kinds = [event.kind for event in events[:-1] if isinstance(event, Progress)]
    assert len(kinds) == len(events) - 1
    assert (kinds[0], kinds[-1]) == ("started", "finished") and set(kinds[1:-1]) <= {"tool", "note"}
    assert {event.specialist for event in events} == {name}
    assert Finding.model_validate(json.loads(events[-1].model_dump_json())) == events[-1]


@everywhere
async def test_a_finding_rests_on_calls_of_its_own_and_on_tools_of_its_card(name, place, placed, tmp_path):
    task = task_for(name)
    async with shop(tmp_path / "state") as gateway, placed(place, name, gateway) as seat:
        events, toolbox = await asked(seat, task)
    assert_shape(events, name)
    finding = events[-1]
    assert finding.status in ("found", "abstained"), finding.summary
    assert (finding.task, finding.mode, finding.dropped) == (task.id, seat.mode, 0)
    assert finding.calls == len(gateway.made) == sum(getattr(e, "kind", "") == "tool" for e in events)
    for holder in (*finding.claims, *finding.causes):
        assert holder.evidence
        for evidence in holder.evidence:
            result = toolbox.results[evidence.call]
            assert stands(evidence, result.text)
            assert (evidence.tool, evidence.arguments) == (result.tool, result.arguments)
    allowed = {pattern.partition("__")[0] for pattern in seat.specialist.card.tools}
    assert {call["tool"].partition("__")[0] for call in gateway.made} <= allowed


@everywhere
async def test_a_task_resumed_makes_the_calls_it_made_and_none_runs_twice(name, place, placed, tmp_path):
    task = task_for(name)
    async with shop(tmp_path / "state") as gateway, placed(place, name, gateway) as seat:
        first, _ = await asked(seat, task)
        ran = len(gateway.made)
        again, _ = await asked(seat, task)
    assert len(gateway.made) == ran
    assert again[-1].claims == first[-1].claims and again[-1].causes == first[-1].causes


HANGING = [*((n, p) for n in BUILT_IN for p in PLACES if p not in MODELS), *(("logs", p) for p in MODELS)]


@pytest.mark.parametrize(("name", "place"), HANGING)
async def test_tools_that_hang_do_not_hold_it_beyond_its_deadline(name, place, placed, schemas):
    gateway = SmallGateway({key: {"delay": 600} for key in schemas}, schemas=schemas)
    async with placed(place, name, gateway) as seat:
        events, _ = await asked(seat, task_for(name, seconds=0.6))
    assert_shape(events, name)
    if events[-1].calls:
        assert events[-1].status == "failed" and "0.6 s" in events[-1].summary
    assert events[-1].seconds < 10


@everyone
@pytest.mark.parametrize("place", [place for place in PLACES if place not in MODELS])
@pytest.mark.parametrize(
    "answer",
    [{"refusal": "denied"}, {"error": "the index is gone"}, {"text": "¿?", "data": {"unexpected": [1]}}, ""],
    ids=["denied", "error", "nonsense", "nothing"],
)
async def test_tools_that_give_nothing_make_no_claims_and_break_nothing(name, answer, place, placed, schemas):
    gateway = SmallGateway(dict.fromkeys(schemas, answer), schemas=schemas)
    async with placed(place, name, gateway) as seat:
        events, _ = await asked(seat, task_for(name))
    assert_shape(events, name)
    finding = events[-1]
    assert (finding.claims, finding.causes) == ((), ())
    assert finding.status != "found" and "it broke" not in finding.summary


@everywhere
async def test_a_lost_gateway_is_a_failed_finding_that_says_so(name, place, placed):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/mcp"
        async with placed(place, name, url) as seat:
            events, _ = await asked(seat, task_for(name), patience=0.1)
    assert_shape(events, name)
    if events[-1].missing or place in MODELS:
        assert events[-1].status == "failed" and url in events[-1].summary


@pytest.mark.parametrize(("name", "place"), [pair for pair in PAIRS if pair[1] in MODELS])
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
async def test_a_model_that_fails_is_a_failed_finding_that_says_so(name, script, place, placed, schemas):
    gateway = SmallGateway(dict.fromkeys(schemas, "nothing"), schemas=schemas)
    async with placed(place, name, gateway, script) as seat:
        events, _ = await asked(seat, task_for(name))
    assert_shape(events, name)
    assert events[-1].status == "failed" and "model scripted at" in events[-1].summary
    assert len(events[-1].summary) < 2_001
