"""A failing or lying specialist never spoils a case: what does not stand goes, the rest says what failed."""

import pytest

from tests.conformance.specialists.liars import SAID, SCHEMAS, SEARCH
from tests.conformance.specialists.places import MODELS, PLACES
from tests.conformance.specialists.test_contract import asked, assert_shape, task_for
from tests.fakes.small_gateway import SmallGateway

pytestmark = pytest.mark.anyio
TOOLS = {
    "logs__search": "three words here\nand a second line",
    "gateway__grant_approval": {"refusal": "denied"},
}

at_each_place = pytest.mark.parametrize("place", list(PLACES))
IN_CODE = [place for place in PLACES if place not in MODELS]


@pytest.fixture
def told(placed):
    """`await told(name, place)`: the finding of a liar in its place, and the gateway it used."""

    async def ask(name, place):
        gateway = SmallGateway(dict(TOOLS), schemas=SCHEMAS)
        async with placed(place, name, gateway, SAID.get(name)) as seat:
            events, _ = await asked(seat, task_for(name))
        assert_shape(events, name)
        return events[-1], gateway

    return ask


@pytest.mark.parametrize("place", IN_CODE)
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("impostor", "its answer was for 'remediation'"),
        ("stranger", "on task 'another-case/observe/stranger'"),
        ("breaker", "it broke: RuntimeError: it fell over"),
        ("mute", "it ended without a finding"),
    ],
)
async def test_what_is_no_finding_for_this_task_is_a_failure_that_says_so(told, name, place, why):
    finding, _ = await told(name, place)
    assert finding.status == "failed" and why in finding.summary and finding.missing
    assert (finding.claims, finding.causes, finding.actions) == ((), (), ())


@pytest.mark.parametrize("place", MODELS)
@pytest.mark.parametrize("name", ["impostor", "stranger"])
async def test_a_model_answers_for_the_subject_and_task_it_was_asked_as(told, name, place):
    finding, _ = await told(name, place)
    assert (finding.specialist, finding.task) == (name, f"c-1/{name}")
    assert [claim.text for claim in finding.claims] == ["True."]


@at_each_place
async def test_forged_citations_go_and_the_true_one_stays(told, place):
    finding, gateway = await told("forger", place)
    assert [claim.text for claim in finding.claims] == ["True."] and finding.causes == ()
    assert finding.dropped == 2
    assert [(call["tool"], call["arguments"]) for call in gateway.made] == [("logs__search", SEARCH)]


@at_each_place
async def test_nobody_approves_its_own_action_or_makes_it_done_by_saying_so(told, place):
    finding, gateway = await told("selfapprover", place)
    assert {(action.status, action.approval) for action in finding.actions} == {("proposed", "")}
    assert [call["tool"] for call in gateway.made] == ["logs__search"]


@at_each_place
async def test_an_answer_that_is_too_long_is_cut(told, place):
    finding, _ = await told("babbler", place)
    assert len(finding.model_dump_json()) < 150_000 and len(finding.summary) <= 2_000
    assert 0 < len(finding.claims) <= 60 and all(len(claim.text) <= 2_000 for claim in finding.claims)
