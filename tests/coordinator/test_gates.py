"""The gates doubt what a person should doubt, and cap what evidence does not carry."""

from datetime import UTC, datetime, timedelta

from coordinator import gates
from coordinator.types import Hypothesis
from specialists.types import Cause, Claim, Evidence, Finding, Scope

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def evidence(n=1):
    return Evidence(call=f"c{n}", tool="logs__search", arguments={}, quote=f"words {n}")


def hypothesis(rank, confidence, object_="service/a", pieces=2, against=()):
    return Hypothesis(
        rank=rank, category="x", object=object_, label="l", statement="s",
        component=object_.partition("/")[2],
        confidence=confidence, evidence=tuple(evidence(n) for n in range(pieces)), against=against,
    )  # fmt: skip


def ground(*hypotheses, **given):
    return gates.Ground(**({"findings": (), "hypotheses": hypotheses, "scope": Scope(now=NOW)} | given))


def doubted(*hypotheses, **given):
    return [d.gate for d in gates.doubts(ground(*hypotheses, **given))]


def test_a_sure_well_supported_cause_raises_no_doubt():
    assert doubted(hypothesis(1, 0.9), newest=NOW) == []


def test_no_cause_is_a_blocking_doubt():
    [doubt] = gates.doubts(ground())
    assert (doubt.gate, doubt.blocking) == ("cause", True)


def test_an_unsure_cause_is_a_blocking_doubt():
    [doubt] = gates.doubts(ground(hypothesis(1, 0.4)))
    assert (doubt.gate, doubt.blocking) == ("confidence", True)


def test_a_rival_elsewhere_that_is_as_likely_is_doubted_one_at_the_same_place_is_not():
    assert doubted(hypothesis(1, 0.8), hypothesis(2, 0.79, "service/b")) == ["margin"]
    assert doubted(hypothesis(1, 0.8), hypothesis(2, 0.79)) == []


def test_old_data_is_doubted_and_caps_confidence():
    old = ground(hypothesis(1, 0.9), newest=NOW - timedelta(hours=1))
    assert [d.gate for d in gates.doubts(old)] == ["freshness"]
    assert gates.capped(old)[0].confidence == 0.6


def test_a_single_piece_of_evidence_caps_confidence():
    [capped] = gates.capped(ground(hypothesis(1, 0.9, pieces=1)))
    assert capped.confidence == 0.6 and "only one piece" in capped.weighed[-1]


def test_caps_do_not_change_the_order():
    first, second = gates.capped(ground(hypothesis(1, 0.9, pieces=1), hypothesis(2, 0.8, "service/b")))
    assert (first.object, second.object) == ("service/a", "service/b")
    assert first.confidence >= second.confidence


def test_a_failed_specialist_is_doubted_by_name():
    failed = Finding(task="t", specialist="traces", status="failed", summary="gone")
    [doubt] = gates.doubts(ground(hypothesis(1, 0.9), findings=(failed,)))
    assert doubt.gate == "coverage" and "traces" in doubt.text


def test_what_rests_on_words_that_do_not_stand_is_dropped():
    good, bad = evidence(1), evidence(2)
    finding = Finding(
        task="t", specialist="logs", status="found", summary="",
        claims=(
            Claim(kind="symptom", text="both", confidence=0.5, evidence=(good, bad)),
            Claim(kind="symptom", text="bad only", confidence=0.5, evidence=(bad,)),
        ),
        causes=(
            Cause(category="x", object="o", label="l", statement="s", confidence=0.5, evidence=(bad,)),
        ),
    )  # fmt: skip
    [kept] = gates.without_fallen([finding], {(bad.call, bad.quote): False})
    assert [(c.text, c.evidence) for c in kept.claims] == [("both", (good,))]
    assert kept.causes == ()


def test_quotations_that_fell_are_counted():
    assert doubted(hypothesis(1, 0.9), standing={("c1", "w"): True, ("c2", "w"): False}) == ["evidence"]
