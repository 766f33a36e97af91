"""Causes of several specialists become one ranking, weighed by agreement, contradiction and changes."""

from datetime import UTC, datetime, timedelta

from coordinator.hypotheses import rank
from specialists.types import Cause, Claim, Evidence, Finding, Scope

BEGAN = datetime(2026, 1, 31, 9, 12, tzinfo=UTC)


def evidence(call="c1", quote="words"):
    return Evidence(call=call, tool="metrics__query_range", arguments={}, quote=quote)


def cause(object_, label, confidence, at=None, category="saturation", statement="it is so", call="c1"):
    return Cause(
        category=category, object=object_, label=label, statement=statement, confidence=confidence, at=at,
        evidence=(evidence(call, f"words about {label}"),),
    )  # fmt: skip


def finding(specialist, *causes, claims=()):
    return Finding(
        task=f"t/{specialist}",
        specialist=specialist,
        status="found",
        summary="",
        causes=causes,
        claims=claims,
    )


def ranked(*findings, scope=None):
    return [(h.object, h.label) for h in rank(findings, scope or Scope())]


def test_one_specialist_keeps_its_own_order():
    given = [cause(f"app/a{n}", f"l{n}", c) for n, c in enumerate((0.9, 0.6, 0.6, 0.3))]
    assert ranked(finding("kubernetes", *given)) == [(c.object, c.label) for c in given]


def test_the_same_cause_from_two_specialists_is_one_and_surer():
    first, second = cause("service/a", "slow", 0.6), cause("service/a", "slow", 0.5, call="c2")
    [merged] = rank([finding("metrics", first), finding("traces", second)], Scope())
    assert merged.confidence > 0.6
    assert merged.by == ("metrics", "traces")
    assert {e.call for e in merged.evidence} == {"c1", "c2"}


def test_others_who_point_at_the_same_component_raise_a_cause():
    alone = finding("metrics", cause("service/a", "slow", 0.6), cause("service/b", "busy", 0.62))
    assert ranked(alone)[0] == ("service/b", "busy")
    assert ranked(alone, finding("logs", cause("service/a", "timeouts", 0.5)))[0] == ("service/a", "slow")


def test_a_component_that_another_specialist_ruled_out_sinks():
    claim = Claim(
        kind="ruled_out",
        text="Nothing is wrong with a.",
        confidence=0.9,
        evidence=(evidence("c9"),),
        component="a",
    )
    suspects = finding("metrics", cause("service/a", "slow", 0.7), cause("service/b", "busy", 0.5))
    best, second = rank([suspects, finding("traces", claims=(claim,))], Scope())
    assert (best.object, second.object) == ("service/b", "service/a")
    assert second.against[0].call == "c9"
    assert "traces" in second.weighed[-1]


def test_a_specialist_does_not_contradict_itself_into_the_ground():
    claim = Claim(kind="ruled_out", text="x", confidence=0.9, evidence=(evidence(),), component="a")
    [only] = rank([finding("metrics", cause("service/a", "slow", 0.7), claims=(claim,))], Scope())
    assert only.confidence == 0.7


def change(confidence, at, object_="commit/1a2b3c", statement="Commit 1a2b3c on a did it"):
    return cause(object_, "bad_deploy", confidence, at, "change", statement)


def test_a_change_ranks_before_the_symptom_it_explains():
    symptom = cause("service/a", "slow", 0.9, BEGAN)
    best, second = rank(
        [finding("traces", symptom), finding("changes", change(0.6, BEGAN - timedelta(minutes=2)))], Scope()
    )
    assert (best.object, second.object) == ("commit/1a2b3c", "service/a")
    assert best.confidence > 0.9 and best.component == "a"


def test_a_change_elsewhere_explains_nothing():
    symptom = cause("service/a", "slow", 0.9, BEGAN)
    other = change(0.6, BEGAN - timedelta(minutes=2), "service/b", "Deploy of b")
    assert ranked(finding("traces", symptom), finding("changes", other))[0] == ("service/a", "slow")


def test_a_change_after_it_began_explains_nothing():
    symptom = cause("service/a", "slow", 0.9, BEGAN)
    late = change(0.6, BEGAN + timedelta(minutes=20))
    assert ranked(finding("traces", symptom), finding("changes", late))[0] == ("service/a", "slow")


def test_an_unlikely_change_is_not_lifted_by_standing_nearby():
    symptom = cause("service/a", "slow", 0.9, BEGAN)
    weak = change(0.1, BEGAN - timedelta(minutes=2))
    assert ranked(finding("traces", symptom), finding("changes", weak))[0] == ("service/a", "slow")
