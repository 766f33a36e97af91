"""A failing or lying specialist never spoils a case: what does not stand goes, the rest says what failed."""

import pytest

from tests.conformance.specialists.liars import LIARS, SEARCH
from tests.conformance.specialists.places import MODELS, PLACES
from tests.conformance.specialists.test_contract import asked, assert_shape, task_for
from tests.fakes.small_gateway import SmallGateway

pytestmark = pytest.mark.anyio
TOOLS = {
    "logs__search": "three words here\nand a second line",
    "gateway__grant_approval": {"refusal": "denied"},
}

IN_CODE = [place for place in PLACES if place not in MODELS]


@pytest.fixture(params=IN_CODE)
def told(request, placed):
    """`await told(name)`: the events of a liar in its place, and the gateway it used."""

    async def ask(name):
        gateway = SmallGateway(dict(TOOLS))
        async with placed(request.param, name, gateway) as seat:
            events, _ = await asked(seat, task_for(name))
        assert_shape(events, name)
        return events[-1], gateway

    return ask


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("impostor", "its answer was for 'remediation'"),
        ("stranger", "on task 'another-case/observe/stranger'"),
        ("breaker", "it broke: RuntimeError: it fell over"),
        ("mute", "it ended without a finding"),
    ],
)
async def test_what_is_no_finding_for_this_task_is_a_failure_that_says_so(told, name, why):
    finding, _ = await told(name)
    assert finding.status == "failed" and why in finding.summary and finding.missing
    assert (finding.claims, finding.causes, finding.actions) == ((), (), ())


async def test_forged_citations_go_and_the_true_one_stays(told):
    finding, gateway = await told("forger")
    assert [claim.text for claim in finding.claims] == ["True."] and finding.causes == ()
    assert finding.dropped == 2
    assert [(call["tool"], call["arguments"]) for call in gateway.made] == [("logs__search", SEARCH)]


async def test_nobody_approves_its_own_action_or_makes_it_done_by_saying_so(told):
    finding, gateway = await told("selfapprover")
    assert {(action.status, action.approval) for action in finding.actions} == {("proposed", "")}
    assert [call["tool"] for call in gateway.made] == ["logs__search"]


async def test_an_answer_that_is_too_long_is_cut(told):
    finding, _ = await told("babbler")
    assert len(finding.model_dump_json()) < 200_000 and len(finding.summary) <= 2_000
    assert 0 < len(finding.claims) <= 60 and all(len(claim.text) <= 2_000 for claim in finding.claims)


def test_every_liar_is_asked():
    assert set(LIARS) == {"impostor", "stranger", "breaker", "mute", "forger", "selfapprover", "babbler"}
