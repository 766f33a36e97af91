"""What every specialist keeps in every place: the order of events, the rules of evidence, and how it fails.

The same bodies run everywhere (places.py). Tools are the bundled tool servers on the bundled recording,
behind a small gateway; where a model reasons, it is a scripted one.
"""

import asyncio
import json
import re
from contextlib import ExitStack

import pytest

from specialists.evidence import investigate_checked, stands
from specialists.roster import BUILT_IN
from specialists.toolbox import Toolbox
from specialists.types import Finding, Progress, Scope, Task
from tests.conformance.specialists.conftest import RECORDING, shop
from tests.conformance.specialists.liars import SCHEMAS, TWO_CALLS
from tests.conformance.specialists.places import FAILING, MODELS, PAIRS, PLACES, nobody
from tests.fakes.small_gateway import SmallGateway

pytestmark = pytest.mark.anyio

everywhere = pytest.mark.parametrize(("name", "place"), PAIRS)
at_each_place = pytest.mark.parametrize("place", list(PLACES))


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
async def test_a_finding_rests_on_calls_of_its_own_and_a_resumed_task_makes_none_twice(
    name, place, placed, tmp_path
):
    task = task_for(name)
    async with shop(tmp_path / "state") as gateway, placed(place, name, gateway) as seat:
        events, toolbox = await asked(seat, task)
        made = list(gateway.made)
        again, _ = await asked(seat, task)
    assert_shape(events, name)
    finding = events[-1]
    assert finding.status in ("found", "abstained"), finding.summary
    assert (finding.task, finding.mode, finding.dropped) == (task.id, seat.mode, 0)
    assert finding.calls == len(made) == sum(getattr(e, "kind", "") == "tool" for e in events)
    for holder in (*finding.claims, *finding.causes):
        assert holder.evidence
        for evidence in holder.evidence:
            result = toolbox.results[evidence.call]
            assert stands(evidence, result.text)
            assert (evidence.tool, evidence.arguments) == (result.tool, result.arguments)
    allowed = {pattern.partition("__")[0] for pattern in seat.specialist.card.tools}
    assert {call["tool"].partition("__")[0] for call in made} <= allowed
    assert gateway.made == made, "what had finished ran again"
    assert again[-1].claims == finding.claims and again[-1].causes == finding.causes


def names_at(place):
    """Whom to ask in a place where all are alike: where a model reasons, one stands for all."""
    return ["logs"] if place in MODELS else list(BUILT_IN)


@at_each_place
async def test_tools_that_hang_do_not_hold_it_beyond_its_deadline(place, placed, schemas):
    async def ask(name):
        gateway = SmallGateway({key: {"delay": 600} for key in schemas}, schemas=schemas)
        async with placed(place, name, gateway) as seat:
            events, _ = await asked(seat, task_for(name, seconds=0.9))
        assert_shape(events, name)
        if events[-1].calls:
            assert events[-1].status == "failed" and "0.9 s" in events[-1].summary
        assert events[-1].seconds < 10

    await asyncio.gather(*map(ask, names_at(place)))


@pytest.mark.parametrize("place", [place for place in PLACES if place not in MODELS])
@pytest.mark.parametrize(
    "answer",
    [{"refusal": "denied"}, {"error": "the index is gone"}, {"text": "¿?", "data": {"unexpected": [1]}}, ""],
    ids=["denied", "error", "nonsense", "nothing"],
)
async def test_tools_that_give_nothing_make_no_claims_and_break_nothing(answer, place, placed, schemas):
    async def ask(name):
        gateway = SmallGateway(dict.fromkeys(schemas, answer), schemas=schemas)
        async with placed(place, name, gateway) as seat:
            events, _ = await asked(seat, task_for(name))
        assert_shape(events, name)
        finding = events[-1]
        assert (finding.claims, finding.causes) == ((), ())
        assert finding.status != "found" and "it broke" not in finding.summary

    await asyncio.gather(*map(ask, BUILT_IN))


@at_each_place
async def test_a_gateway_that_is_not_there_is_a_failed_finding_that_says_so(place, placed):
    async def ask(name, url):
        async with placed(place, name, url) as seat:
            events, _ = await asked(seat, task_for(name), patience=0.1)
        assert_shape(events, name)
        if events[-1].missing or place in MODELS:
            assert events[-1].status == "failed" and url in events[-1].summary

    with nobody() as url:
        await asyncio.gather(*(ask(name, f"{url}/mcp") for name in names_at(place)))


@at_each_place
async def test_a_gateway_lost_in_the_middle_of_a_task_is_a_failed_finding_that_says_so(place, placed):
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def first(arguments):
        loop.call_soon_threadsafe(begun.set)
        await asyncio.sleep(600)

    gateway = SmallGateway({"logs__search": first}, schemas=SCHEMAS)
    with ExitStack() as stack:
        url = stack.enter_context(gateway.serving())
        async with placed(place, "plodder", url, TWO_CALLS) as seat:
            asking = asyncio.create_task(asked(seat, task_for("plodder"), patience=0.3))
            await asyncio.wait_for(begun.wait(), 20)
            await asyncio.to_thread(stack.close)
            events, _ = await asking
    assert_shape(events, "plodder")
    assert events[-1].status == "failed" and url in events[-1].summary
    assert events[-1].claims == ()


@at_each_place
async def test_a_cancelled_task_makes_no_further_call(place, placed):
    """The first call is let go only when nobody asks any more; a task asked after it shows what was made."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def look(arguments):
        begun.set()
        await go_on.wait()
        return "three words here"

    gateway = SmallGateway({"logs__search": look}, schemas=SCHEMAS)
    async with placed(place, "plodder", gateway, TWO_CALLS) as seat:
        asking = asyncio.create_task(asked(seat, task_for("plodder")))
        await asyncio.wait_for(begun.wait(), 20)
        asking.cancel()
        await asyncio.wait({asking})
        left = set(gateway.keys)
        go_on.set()
        gateway.books.clear()  # so that no thread of a model goes on
        later = task_for("plodder").model_copy(update={"id": "c-2/plodder", "case": "c-2"})
        events, _ = await asked(seat, later)
    assert asking.cancelled() and len(left) == 1
    assert events[-1].status == "found"
    ours = [call["arguments"] for call in gateway.made if call["key"] not in left]
    assert ours == [{"text": "one"}, {"text": "two"}]


@pytest.mark.parametrize("place", [place for place in PLACES if place != "local"])
@pytest.mark.parametrize("end", ["gone", *FAILING])
async def test_an_endpoint_that_fails_is_a_failed_finding_that_says_so(end, place, placed, schemas):
    gateway = SmallGateway(dict.fromkeys(schemas, "nothing"), schemas=schemas)
    async with placed(place, "logs", gateway, end) as seat:
        events, _ = await asked(seat, task_for("logs"))
    assert_shape(events, "logs")
    who = r"model scripted at http://" if place in MODELS else r"agent (logs )?at http://"
    assert events[-1].status == "failed" and re.search(who, events[-1].summary)
    assert len(events[-1].summary) < 2_001
