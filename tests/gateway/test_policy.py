# ruff: noqa: E501 (a policy reads best on one line)
"""Policy: silence denies, forbid wins, errors refuse, and nothing a caller sends turns a denial round."""

import itertools
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cedarpy
import pytest

from gateway.cedar_schema import Schemas, schema_of
from gateway.cedar_text import read_text
from gateway.cedar_values import encode, shape_of
from gateway.errors import PolicyError
from gateway.policy import SHIPPED, Policy
from gateway.policy_cases import run_cases
from gateway.types import Subject
from tests.gateway.records import ANA, FIXER, GET, LOGS, ROLLBACK, tool

ALL = {
    "type": "object",
    "properties": {
        "s": {"type": "string"},
        "i": {"type": "integer"},
        "n": {"type": "number"},
        "b": {"type": "boolean"},
        "l": {"type": "array", "items": {"type": "string"}},
        "o": {"type": "object", "properties": {"name": {"type": "string"}}, "additionalProperties": False},
        "u": {},
        "m": {"type": ["string", "integer"]},
        "q": {"type": ["string", "null"]},
        "map": {"type": "object"},
        "r": {"$ref": "#/$defs/R"},
    },
    "required": ["s"],
    "$defs": {"R": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}},
}
PAST = {
    "type": "object",
    "properties": {"step": {"type": "string"}, "by": {"type": "string"}},
    "required": ["step"],
}
ISSUE = {
    "type": "object",
    "properties": {"subject": {"type": "string"}, "roles": {"type": "array", "items": {"type": "string"}}},
    "required": ["subject"],
}
TRANSFER = tool("bank", "transfer", ALL)
PERMIT = '@id("go") permit (principal, action in Action::"call", resource);\n'


def verdict(text: str, arguments: dict[str, Any], subject: Subject = LOGS, **context: Any) -> str:
    return Policy.parse(text, [TRANSFER]).decide(subject, "call", TRANSFER, arguments, context).verdict


def forbids(condition: str) -> str:
    return (
        PERMIT
        + f'forbid (principal, action == Action::"call/bank__transfer", resource) when {{ {condition} }};'
    )


def test_silence_is_a_denial() -> None:
    decision = Policy.parse("", [GET]).decide(LOGS, "call", GET, {})
    assert (decision.verdict, decision.rules, decision.errors) == ("deny", (), ())


def test_forbid_wins_wherever_it_stands() -> None:
    forbid = '@id("no") forbid (principal, action, resource);\n'
    for text in (PERMIT + forbid, forbid + PERMIT):
        decision = Policy.parse(text, [GET]).decide(LOGS, "call", GET, {})
        assert (decision.verdict, [rule.id for rule in decision.rules]) == ("deny", ["no"])


def test_a_call_that_may_not_go_at_once_may_be_requested() -> None:
    text = (
        '@id("ask") @description("Ask first.") @advice("Wait.")\n'
        'permit (principal, action in Action::"request", resource);\n'
        '@id("not-at-once") forbid (principal, action in Action::"call", resource);'
    )
    decision = Policy.parse(text + PERMIT, [ROLLBACK]).decide(FIXER, "call", ROLLBACK, {})
    assert decision.verdict == "request"
    first = decision.rules[0]
    assert (first.id, first.description, first.advice, first.where) == (
        "ask",
        "Ask first.",
        "Wait.",
        "policy.cedar:1",
    )
    assert [rule.id for rule in decision.rules] == ["ask", "not-at-once"]


def test_rules_have_names_words_and_a_place(tmp_path: Path) -> None:
    (tmp_path / "b.cedar").write_text(
        "\n// a comment; with a semicolon\n  permit (principal, action, resource);\n"
    )
    policy = Policy.load(tmp_path, [GET])
    (rule,) = policy.decide(LOGS, "call", GET, {}).rules
    assert (rule.id, rule.where) == ("b.cedar:3", "b.cedar:3")


def test_subject_facts_are_what_the_token_says() -> None:
    text = 'permit (principal, action, resource) when { context.chain.contains("user:ana") && context.case.id == "case-1" };'
    policy = Policy.parse(text.replace("context.case.id", "context has case && context.case.id"), [GET])
    assert (
        policy.decide(LOGS, "call", GET, {}, {"case": {"id": "other", "severity": "low"}}).verdict == "call"
    )
    stranger = Subject("agent:logs", ("specialist",), ("user:eve",), "case-1")
    assert policy.decide(stranger, "call", GET, {}, {"case": {"id": "case-1"}}).verdict == "deny"


def test_every_part_of_the_context_can_be_asked_about() -> None:
    conditions = {
        'context.environment == "prod"': {"environment": "prod"},
        'context.labels.contains("private")': {"labels": ["private"]},
        'context.now > datetime("2026-01-01T00:00:00Z")': {"now": datetime(2026, 6, 1, tzinfo=UTC)},
        'context.now.toTime() > duration("8h")': {"now": datetime(2026, 6, 1, 9, tzinfo=UTC)},
        'context.clock.hour == 9 && context.clock.weekday == "monday"': {"now": datetime(2026, 6, 1, 9)},
        'context has case && context.case has severity && context.case.severity == "high"': {
            "case": {"severity": "high"}
        },
        'context has case && context.case has confidence && context.case.confidence.lessThan(decimal("0.5"))': {
            "case": {"confidence": 0.25}
        },
        "context has case && context.case has freshness && context.case.freshness > 60": {
            "case": {"freshness": 61}
        },
    }
    early = {"now": datetime(2020, 1, 1, 3, tzinfo=UTC)}
    for condition, context in conditions.items():
        text = f"permit (principal, action, resource) when {{ {condition} }};"
        policy = Policy.parse(text, [GET])
        assert policy.decide(LOGS, "call", GET, {}, context).verdict == "call", condition
        assert policy.decide(LOGS, "call", GET, {}, early).verdict == "deny", condition


def test_hints_and_labels_of_a_tool_can_be_asked_about() -> None:
    text = 'permit (principal, action, resource) when { resource.readOnly && resource.labels.contains("private") };'
    private = tool("mail", "read", read_only=True, labels=("private",))
    policy = Policy.parse(text, [private, GET])
    assert policy.decide(LOGS, "call", private, {}).verdict == "call"
    assert policy.decide(LOGS, "call", GET, {}).verdict == "deny"


def test_reads_and_prompts_are_actions_of_their_own() -> None:
    text = 'permit (principal, action == Action::"read", resource in Server::"files") when { resource.uri like "file:///pub/*" };'
    policy = Policy.parse(text, [GET])
    public, private = tool("files", "file:///pub/a"), tool("files", "file:///etc/passwd")
    assert policy.decide(LOGS, "read", public, {}).verdict == "call"
    assert policy.decide(LOGS, "read", private, {}).verdict == "deny"
    assert policy.decide(LOGS, "prompt", public, {}).verdict == "deny"
    assert policy.decide(LOGS, "call", GET, {}).verdict == "deny"


# -- hostile arguments -------------------------------------------------------------------------------

GUARDS = [
    ('context.args.s == "evil"', "s", "evil"),
    ("context.args has i && context.args.i > 100", "i", 101),
    ('context.args has n && context.args.n.rounded.greaterThan(decimal("100.0"))', "n", 100.5),
    ("context.args has b && context.args.b", "b", True),
    ('context.args has l && context.args.l.contains("evil")', "l", ["evil"]),
    ('context.args has o && context.args.o has name && context.args.o.name == "evil"', "o", {"name": "evil"}),
    ('context.args has u && context.args.u like "*evil*"', "u", {"x": ["evil"]}),
    ('context.args has m && context.args.m == "\\"evil\\""', "m", "evil"),
    ('context.args has q && context.args.q == "evil"', "q", "evil"),
    ('context.args has map && context.args.map like "*evil*"', "map", {"k": "evil"}),
    ('context.args has r && context.args.r.id == "evil"', "r", {"id": "evil"}),
    ('context.args has "*" && context.args["*"] like "*evil*"', "extra", "evil"),
]


@pytest.mark.parametrize(("condition", "name", "bad"), GUARDS, ids=[name for _, name, _ in GUARDS])
def test_a_guard_on_an_argument_of_every_type_holds(condition: str, name: str, bad: Any) -> None:
    text = forbids(condition)
    assert verdict(text, {"s": "fine"}) == "call"
    assert verdict(text, {"s": "fine", name: bad}) == "deny"


HOSTILE: list[Any] = [
    None,
    {"__entity": {"type": "Role", "id": "operator"}},
    {"__extn": {"fn": "decimal", "arg": "0.0"}},
    {"__extn": {"fn": "decimal", "arg": "nonsense"}},
    {"__expr": "true"},
    {"type": "User", "id": "ana"},
    [{"__entity": {"type": "Role", "id": "x"}}],
    {"deep": {"er": [{"__extn": {"fn": "ip", "arg": "::1"}}]}},
    "",
    "evil\x00",
    "\u202eevil",
    0,
    -0.0,
    1e300,
    -1e300,
    1e-300,
    2**63,
    2**64 + 1,
    -(2**63) - 1,
    10**400,
    True,
    [],
    {},
    [None],
    [1, "a", None],
    [[["evil"]]],
    {"name": None},
    {"name": 5},
    {"name": "evil", "more": 1},
    {"id": {"__entity": {"type": "A", "id": "b"}}},
    {str(n): n for n in range(10_000)},
    "x" * 200_000,
]


@pytest.mark.parametrize(("condition", "name", "bad"), GUARDS, ids=[name for _, name, _ in GUARDS])
def test_no_hostile_form_beside_or_inside_turns_a_denial_into_a_call(
    condition: str, name: str, bad: Any
) -> None:
    policy = Policy.parse(forbids(condition), [TRANSFER])
    for other in [*ALL["properties"], "surplus", "*", "__entity", "__extn", "__proto__"]:
        if other == name:
            continue
        for form in HOSTILE:
            arguments = {"s": "fine", name: bad, other: form}
            decision = policy.decide(LOGS, "call", TRANSFER, arguments)
            assert decision.verdict == "deny", (other, str(form)[:60])


def test_keys_that_cedar_keeps_for_itself_are_refused_at_any_depth() -> None:
    for key, value in itertools.product(
        ("__entity", "__extn", "__expr"), ({"type": "A", "id": "b"}, 1, None)
    ):
        for arguments in (
            {key: value},
            {"u": {key: value}},
            {"u": [{"x": {key: value}}]},
            {"l": [{key: value}]},
        ):
            decision = Policy.parse(PERMIT, [TRANSFER]).decide(
                LOGS, "call", TRANSFER, {"s": "x", **arguments}
            )
            assert decision.verdict == "deny" and key in decision.errors[0]


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30, 1.5, "7", True, [7], {"a": 7}])
def test_what_does_not_fit_the_pinned_type_is_refused_and_not_skipped(value: Any) -> None:
    decision = Policy.parse(PERMIT, [TRANSFER]).decide(LOGS, "call", TRANSFER, {"s": "x", "i": value})
    assert decision.verdict == "deny" and "arguments.i" in decision.errors[0]


def test_a_missing_required_argument_is_refused() -> None:
    decision = Policy.parse(PERMIT + forbids('context.args.s == "evil"')[len(PERMIT) :], [TRANSFER])
    answer = decision.decide(LOGS, "call", TRANSFER, {})
    assert answer.verdict == "deny" and answer.errors


def test_an_evaluation_error_refuses_even_where_a_permit_holds() -> None:
    text = (
        PERMIT
        + '@id("sum") forbid (principal, action == Action::"call/bank__transfer", resource) when { context.args has i && context.args.i * 4 > 3 };'
    )
    policy = Policy.parse(text, [TRANSFER])
    assert policy.decide(LOGS, "call", TRANSFER, {"s": "x", "i": 0}).verdict == "call"
    decision = policy.decide(LOGS, "call", TRANSFER, {"s": "x", "i": 2**62})
    assert decision.verdict == "deny"
    assert "sum (policy.cedar:2)" in decision.errors[0]


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (0.1, "0.1000"),
        (5, "5.0000"),
        (-0.00004, "-0.0000"),
        (100.00005, "100.0000"),
        (1e300, "922337203685477.5807"),
        (-1e300, "-922337203685477.5807"),
        (2**70, "922337203685477.5807"),
    ],
)
def test_numbers_are_text_and_a_decimal_held_at_its_limits(value: float, rounded: str) -> None:
    found = encode({"s": "x", "n": value}, shape_of(ALL))["n"]
    assert found["rounded"] == {"__extn": {"fn": "decimal", "arg": rounded}}
    assert json.loads(found["text"]) == value


def test_arguments_take_their_documented_forms() -> None:
    given = {
        "s": "x",
        "u": [1, None],
        "m": 3,
        "q": None,
        "map": {"b": 1, "a": 2},
        "r": {"id": "7"},
        "more": 1,
        "l": [],
    }
    assert encode(given, shape_of(ALL)) == {
        "s": "x",
        "u": "[1,null]",
        "m": "3",
        "map": '{"a":2,"b":1}',
        "r": {"id": "7"},
        "l": [],
        "*": '{"more":1}',
    }


@pytest.mark.parametrize(
    "schema",
    [
        None,
        True,
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"type": "object", "properties": {"a": {"$ref": "https://example.org/x.json"}}},
        {"type": "object", "properties": {"*": {"type": "string"}, "b": {"type": "integer"}}},
        {"type": "object", "properties": {"__entity": {"type": "string"}}},
        {"type": "object", "properties": {'we"ird\n name': {"type": "string"}, "": {"type": "number"}}},
        {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}},
        {"type": "object", "properties": {"a": {"type": ["integer", "number"]}, "b": {"enum": ["x", 1]}}},
        {"type": "object", "properties": {"a": {"type": "array", "prefixItems": [{"type": "string"}]}}},
        {"type": "object", "properties": {"in": {"type": "string"}, "has": {"type": "string"}, "if": {}}},
    ],
)
def test_any_tool_schema_gives_a_schema_for_policies(schema: Any) -> None:
    odd = tool("odd", "tool", schema)
    policy = Policy.parse(
        PERMIT + 'forbid (principal, action, resource) when { context.args has "*" };', [odd]
    )
    assert policy.decide(LOGS, "call", odd, {}).errors == ()


# -- what is asked is what Cedar would say -----------------------------------------------------------

MANY = (
    PERMIT
    + """
@id("role") permit (principal in Role::"specialist", action in [Action::"call", Action::"request"], resource in Server::"bank");
@id("typed") forbid (principal is User, action, resource) unless { context.args has b && context.args.b };
@id("one") forbid (principal == Agent::"logs", action == Action::"call/bank__transfer", resource) when { context.args has i && context.args.i > 5 };
@id("labels") forbid (principal, action in Action::"call", resource) when { context.labels.contains("private") };
@id("inside") forbid (principal is Agent in Role::"oncall", action, resource is Tool in Server::"bank");
@id("asks") permit (principal, action in Action::"request", resource == Tool::"bank__transfer") when { context.environment == "prod" };
@id("others") permit (principal == User::"zoe", action, resource in Server::"elsewhere");
"""
)


def test_preselection_and_memory_never_change_a_decision() -> None:
    tools = [TRANSFER, tool("elsewhere", "look", ALL), tool("bank", "balance", ALL)]
    policy = Policy.parse(MANY, tools)
    whole = cedarpy.PolicySet.from_str(MANY)
    schema = cedarpy.Schema.from_json_str(json.dumps(schema_of(Schemas(tools).shapes)))
    chance = random.Random(1)
    seen = set()
    for _ in range(600):
        kind, name = chance.choice([("agent", "logs"), ("agent", "x"), ("user", "zoe"), ("user", "ana")])
        roles = tuple(r for r in ("specialist", "oncall") if chance.random() < 0.5)
        subject = Subject(f"{kind}:{name}", roles)
        target = chance.choice(tools)
        arguments: dict[str, Any] = {"s": "x", "i": chance.choice([1, 9]), "b": chance.choice([True, False])}
        context = {"labels": chance.choice([[], ["private"]]), "environment": chance.choice(["prod", "dev"])}
        got = policy.decide(subject, "call", target, arguments, context).verdict
        expected = "deny"
        for group in ("request", "call"):
            if _cedar(whole, schema, subject, group, target, arguments, context):
                expected = group
        assert got == expected, (subject, target.public, arguments, context)
        if policy.hidden(subject, target):
            assert got == "deny"
        seen.add(got)
    assert seen == {"call", "request", "deny"}


WORDS = [
    'context.args.s == "prod"',
    'context.args.s != "prod"',
    '"prod" == context.args.s',
    '["prod", "stage"].contains(context.args.s)',
    'context.args.s like "pr*d"',
    'context.args.s == "prod" || context.args.s like "x*"',
    "context.args.s == context.environment",
    'context.args.s == "prod" || (context.args has q && context.args.s == context.args.q)',
    'context.args has q && context.args.q == "prod"',
    "context.args has q",
    'context.args has m && context.args.m == "prod"',
    'context.args has u && context.args.u == "prod"',
    'context.args has o && context.args.o has name && context.args.o.name == "prod"',
    'context.args has l && context.args.l.contains("prod")',
    "context.args has l && context.args.l.contains(context.args.s)",
    'if context.args.s == "prod" then context.args has q else context.args has b',
]


@pytest.mark.parametrize("condition", WORDS)
def test_what_is_remembered_for_some_words_is_right_for_every_other(condition: str) -> None:
    """Decisions one after the other, against those of a policy that remembers nothing."""
    kept = Policy.parse(forbids(condition), [TRANSFER])
    words = ["", "prod", "stage", "prods", "x1", "pr d", "local", "Prod", "\x00", '"prod"', "null"]
    every = [{"s": word, "o": {"name": "a"}, "l": [], "i": 1, "b": True, "m": word} for word in words]
    every += [{**one, "q": word} for one in every for word in words[:3]]
    every += [
        {**one, "u": word, "l": [word], "o": {"name": word}} for one in every[:11] for word in words[:3]
    ]
    random.Random(2).shuffle(every)
    for arguments in every:
        context = {"environment": "local", "labels": []}
        expected = kept.for_tools([TRANSFER]).decide(LOGS, "call", TRANSFER, arguments, context)
        assert kept.decide(LOGS, "call", TRANSFER, arguments, context) == expected, arguments


def test_words_a_rule_does_not_name_are_decided_once() -> None:
    policy = Policy.parse(forbids('context.args.s == "prod"'), [TRANSFER])
    decisions = [policy.decide(LOGS, "call", TRANSFER, {"s": f"word {n}"}) for n in range(50)]
    assert all(decision is decisions[0] for decision in decisions)
    assert policy.decide(LOGS, "call", TRANSFER, {"s": "prod"}).verdict == "deny"


def _cedar(
    whole: Any, schema: Any, subject: Subject, group: str, target: Any, arguments: Any, context: Any
) -> bool:
    """The same question put to Cedar with every policy and nothing remembered."""
    parents = [{"type": "Role", "id": role} for role in subject.roles]
    who = {"type": subject.kind.title(), "id": subject.name}
    it, server = {"type": "Tool", "id": target.public}, {"type": "Server", "id": target.server}
    hints = {"readOnly": False, "destructive": True, "idempotent": False, "openWorld": True, "labels": []}
    entities = [
        {"uid": who, "attrs": {"id": subject.id, "name": subject.name}, "parents": parents},
        {"uid": it, "attrs": {**hints, "name": target.name}, "parents": [server]},
        {"uid": server, "attrs": {}, "parents": []},
        *({"uid": parent, "attrs": {}, "parents": []} for parent in parents),
    ]
    now = {"__extn": {"fn": "datetime", "arg": "2026-01-01T00:00:00Z"}}
    full = {**context, "args": arguments, "now": now, "clock": {"hour": 0, "weekday": "monday"}, "chain": []}
    request = {
        "principal": who,
        "action": {"type": "Action", "id": f"{group}/{target.public}"},
        "resource": it,
    }
    answer = cedarpy.is_authorized({**request, "context": full}, whole, entities, schema=schema)
    assert not answer.diagnostics.errors
    return answer.allowed


def test_a_rule_about_the_time_is_asked_every_time() -> None:
    text = 'permit (principal, action, resource) when { context.now < datetime("2026-01-01T00:00:00Z") };'
    policy = Policy.parse(text, [GET])
    assert policy.decide(LOGS, "call", GET, {}, {"now": datetime(2025, 12, 31, tzinfo=UTC)}).verdict == "call"
    assert policy.decide(LOGS, "call", GET, {}, {"now": datetime(2026, 1, 2, tzinfo=UTC)}).verdict == "deny"


# -- lists -------------------------------------------------------------------------------------------


def test_only_what_can_never_be_called_is_hidden() -> None:
    labelled = 'forbid (principal, action, resource) when { context.labels.contains("private") };'
    hints = "permit (principal, action, resource) when { resource.readOnly };"
    asks = 'permit (principal, action in Action::"request", resource);'
    assert Policy.parse("", [GET]).hidden(LOGS, GET)
    assert Policy.parse(hints, [GET, ROLLBACK]).hidden(LOGS, ROLLBACK)
    assert not Policy.parse(hints, [GET, ROLLBACK]).hidden(LOGS, GET)
    assert not Policy.parse(PERMIT + labelled, [GET]).hidden(LOGS, GET)
    assert Policy.parse(PERMIT + "forbid (principal, action, resource);", [GET]).hidden(LOGS, GET)
    assert not Policy.parse(asks, [ROLLBACK]).hidden(FIXER, ROLLBACK)
    assert Policy.parse('permit (principal in Role::"x", action, resource);', [GET]).hidden(LOGS, GET)


APART = """
permit (principal, action in Action::"call", resource in Server::"bank") when { resource.readOnly };
permit (principal == Agent::"logs", action, resource == Tool::"shop__look");
permit (principal, action == Action::"call/shop__buy", resource) when { context.args.s == "x" };
forbid (principal, action, resource) when { resource == Tool::"bank__look" };
forbid (principal, action, resource) when { action == Action::"call/bank__read" };
"""
BY_NAME = 'permit (principal, action, resource) when { resource.name == "buy" };'


@pytest.mark.parametrize("text", [APART, APART + BY_NAME, BY_NAME])
def test_tools_that_look_alike_are_hidden_alike_and_no_others(text: str) -> None:
    names = ("look", "read", "buy", "sell")
    tools = [
        tool(server, name, ALL, read_only=name != "sell") for server in ("bank", "shop") for name in names
    ]
    policy = Policy.parse(text, tools)
    for subject in (LOGS, ANA):
        together = [each.public for each in tools if policy.hidden(subject, each)]
        alone = [t.public for t in tools if Policy.parse(text, tools).hidden(subject, t)]
        assert together == alone and 0 < len(alone) < len(tools)


def test_a_rule_about_arguments_has_to_fit_every_form_of_them() -> None:
    text = 'permit (principal, action in Action::"call", resource) when { context.args.s == "x" };'
    forms = [
        tool("many", f"t{n}", {**ALL, "properties": {**ALL["properties"], f"p{n}": {}}}) for n in range(250)
    ]
    Policy.parse(text, forms)
    odd = tool("many", "odd", {"type": "object", "properties": {"s": {"type": "integer"}}, "required": ["s"]})
    for at in (0, 120, 250):
        with pytest.raises(PolicyError, match=r"policy\.cedar:1:"):
            Policy.parse(text, [*forms[:at], odd, *forms[at:]])
        with pytest.raises(PolicyError, match=r"policy\.cedar:1:"):
            Policy.parse(text, forms).for_tools([*forms[:at], odd, *forms[at:]])


def test_a_tool_the_policy_was_not_loaded_for_is_denied_and_hidden() -> None:
    policy = Policy.parse(PERMIT, [GET])
    assert policy.decide(LOGS, "call", ROLLBACK, {}).errors == (
        "not decidable: actions__rollback is not in the policy schema",
    )
    assert policy.hidden(LOGS, ROLLBACK)


def test_a_subject_that_is_neither_agent_nor_person_is_denied() -> None:
    policy = Policy.parse(PERMIT, [GET])
    for name in ("gateway:service", "Role:operator", "", "agent"):
        assert policy.decide(Subject(name, ("operator",)), "call", GET, {}).verdict == "deny"


# -- who may approve ---------------------------------------------------------------------------------


def test_a_rule_can_ask_for_a_person_outside_the_chain() -> None:
    text = (
        'permit (principal in Role::"oncall", action in Action::"approve", resource);'
        '@id("second-person") forbid (principal is User, action in Action::"approve", resource)'
        " when { context.requester.chain.contains(principal.id) };"
    )
    policy = Policy.parse(text, [ROLLBACK])
    assert policy.may_approve(Subject("user:bob", ("oncall",)), ROLLBACK, {}, FIXER).verdict == "call"
    decision = policy.may_approve(ANA, ROLLBACK, {}, FIXER)
    assert (decision.verdict, decision.rules[0].id) == ("deny", "second-person")


def test_what_may_be_approved_can_depend_on_the_arguments() -> None:
    limit = 'permit (principal, action == Action::"approve/bank__transfer", resource) when { context.args has i && context.args.i < 100 };'
    policy = Policy.parse(limit, [TRANSFER])
    assert policy.may_approve(ANA, TRANSFER, {"s": "x", "i": 99}, LOGS).verdict == "call"
    assert policy.may_approve(ANA, TRANSFER, {"s": "x", "i": 100}, LOGS).verdict == "deny"


# -- loading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("permit (principal, action, resource)", "bad.cedar:1:1", "does not read"),
        ("permit (principal, action, resource) when { context.nope };", "bad.cedar:1:", "nope"),
        (
            "// first\n\npermit (principal, action, resource)\nwhen { resource.readonly };",
            "bad.cedar:4:",
            "readonly",
        ),
        (
            'permit (principal, action == Action::"call/bank__tool", resource);',
            "bad.cedar:1:",
            "no such tool",
        ),
        ("permit (principal, action, resource) when { context.args.s == 1 };", "bad.cedar:1:", "args"),
        (
            'permit (principal, action == Action::"call/bank__transfer", resource) when { context.args.z == "" };',
            "bad.cedar:1:",
            "z",
        ),
        (
            'permit (principal, action == Action::"call/bank__transfer", resource) when { context.args.i == 1 };',
            "bad.cedar:1:",
            "has",
        ),
        ("permit (principal is Robot, action, resource);", "bad.cedar:1:", "Robot"),
        ("permit (principal == ?principal, action, resource);", "bad.cedar:1:1", "template"),
        (
            '@id("a") permit (principal, action, resource);\n@id("a") forbid (principal, action, resource);',
            "bad.cedar:2:1",
            "taken",
        ),
        ("allow everything;", "bad.cedar:1:7", "does not read"),
        ("permit (principal, action, resource) when { frobnicate(context) };", "bad.cedar:1:", "frobnicate"),
        ('permit (principal, action, resource) when { "open };', "bad.cedar:1:", "does not read"),
    ],
)
def test_a_policy_that_cannot_be_right_is_refused_with_file_line_and_column(
    tmp_path: Path, text: str, where: str, words: str
) -> None:
    (tmp_path / "bad.cedar").write_text(text)
    with pytest.raises(PolicyError) as error:
        Policy.load(tmp_path, [TRANSFER])
    assert str(error.value).startswith(where), str(error.value)
    assert words in str(error.value)


def test_every_error_of_a_directory_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.cedar").write_text("permit (principal, action, resource) when { resource.x };")
    (tmp_path / "b.cedar").write_text("permit (principal, action, resource) when { context.y };")
    with pytest.raises(PolicyError) as error:
        Policy.load(tmp_path, [GET])
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == ["a.cedar", "b.cedar"]


def test_a_directory_without_policies_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="holds no"):
        Policy.load(tmp_path, [GET])
    (tmp_path / "x.cedar").write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyError, match="UTF-8"):
        Policy.load(tmp_path, [GET])


def test_a_set_that_does_not_fit_leaves_the_old_one_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "p.cedar").write_text(PERMIT)
    policy = Policy.load(tmp_path, [GET])
    (tmp_path / "p.cedar").write_text("permit (principal, action, resource) when { resource.nope };")
    kept, problem = policy.reloaded(tmp_path, [GET])
    assert kept is policy and problem is not None and "p.cedar:1:" in str(problem)
    (tmp_path / "p.cedar").write_text("")
    fresh, problem = policy.reloaded(tmp_path, [GET])
    assert problem is None and fresh is not policy
    assert (policy.decide(LOGS, "call", GET, {}).verdict, fresh.decide(LOGS, "call", GET, {}).verdict) == (
        "call",
        "deny",
    )
    assert fresh.digest != policy.digest


def test_the_shipped_policy_keeps_its_promises() -> None:
    outcomes = run_cases(SHIPPED, [])
    assert [outcome.as_dict() for outcome in outcomes if not outcome.passed] == []
    assert len(outcomes) > 30


def test_every_shipped_rule_has_a_name_words_and_advice() -> None:
    issue, past = tool("gateway", "issue_token", ISSUE), tool("gateway", "pass_checkpoint", PAST)
    for statement in Policy.load(SHIPPED, [issue, past]).statements:
        rule = statement.rule
        assert rule.description.endswith(".") and rule.advice.endswith(".") and ":" not in rule.id, rule


def test_explaining_names_the_rules_that_could_permit_a_tool_and_no_others() -> None:
    issue, past = tool("gateway", "issue_token", ISSUE), tool("gateway", "pass_checkpoint", PAST)
    policy = Policy.load(SHIPPED, [issue, past, ROLLBACK, GET])
    assert [rule.id for rule in policy.permits(ROLLBACK)] == ["remediation-asks", "people-ask"]
    assert [rule.id for rule in policy.permits(GET)] == [
        "specialists-read",
        "people-read",
        "people-ask",
        "workflows-read",
    ]
    assert [rule.id for rule in policy.permits(issue)] == [
        "coordinator-tokens",
        "coordinator-one-case",
        "oncall-coordinator",
        "operator-gateway",
    ]


def test_a_rule_may_wait_for_a_tool_of_a_server_that_has_none_yet() -> None:
    text = (
        'permit (principal, action in Action::"call", resource);\n'
        '@id("later") forbid (principal, action in [Action::"call/bank__transfer", Action::"call/kubernetes__get"], resource);\n'
        '@id("typed") forbid (principal, action == Action::"call/bank__transfer", resource) when { context.args has i && context.args.i > 5 };'
    )
    policy = Policy.parse(text, [GET, ROLLBACK])
    assert policy.waiting == [
        "policy.cedar:2: rule later waits for bank__transfer: no such tool yet",
        "policy.cedar:3: rule typed waits for bank__transfer: no such tool yet",
    ]
    assert policy.decide(LOGS, "call", GET, {}).rules[0].id == "later"  # what it names already is forbidden
    assert policy.decide(LOGS, "call", ROLLBACK, {}).verdict == "call"
    later = policy.for_tools([GET, ROLLBACK, TRANSFER])
    assert (later.waiting, later.digest) == ([], policy.digest)
    assert later.decide(LOGS, "call", TRANSFER, {"s": "x"}).verdict == "deny"
    assert later.for_tools([GET]).waiting  # and it may go away again


def test_when_the_tool_appears_the_rule_has_to_fit_it() -> None:
    text = 'forbid (principal, action == Action::"call/bank__transfer", resource) when { context.args.nonsense == 1 };'
    policy = Policy.parse(text, [GET])
    with pytest.raises(PolicyError, match="nonsense"):
        policy.for_tools([GET, TRANSFER])


def test_a_misspelt_tool_of_a_known_server_is_an_error() -> None:
    text = 'forbid (principal, action == Action::"call/bank__transfers", resource);'
    with pytest.raises(PolicyError, match="no such tool"):
        Policy.parse(text, [TRANSFER])
    with pytest.raises(PolicyError, match="unrecognized action"):
        Policy.parse('forbid (principal, action == Action::"cal/shop__buy", resource);', [TRANSFER])


@pytest.mark.parametrize(
    "condition",
    [
        'resource.labels.contains("privat")',
        'context.labels.contains("privat")',
        'context.labels.containsAny(["private", "privat"])',
        '["privat"].containsAll(resource.labels)',
        'context.labels == ["privat"]',
    ],
)
def test_a_rule_that_looks_for_a_label_nothing_carries_is_an_error(condition: str) -> None:
    text = f'@id("l") @description("privat")\nforbid (principal, action, resource)\n  when {{ {condition} }};'
    column = len("  when { ") + condition.index('"privat"') + 2
    with pytest.raises(PolicyError) as error:
        Policy.parse(text, [GET])
    assert str(error.value).startswith(f"policy.cedar:3:{column}: l: no server or tool carries"), error.value
    assert Policy.parse(text, [tool("mail", "read", labels=("privat",))])
    assert Policy(read_text(text), [GET], labels=("privat",))


QUIET = """
@id("go") permit (principal, action in Action::"call", resource);
@id("night") @description("Nothing changes at night or on sundays.")
forbid (principal, action in [Action::"call", Action::"request"], resource)
when { context.clock.hour < 7 || context.clock.hour >= 22 || context.clock.weekday == "sunday" };
"""


@pytest.mark.parametrize(
    ("moment", "verdict", "wait"),
    [
        ("2026-11-27T12:30:00", "call", None),  # a friday
        ("2026-11-27T06:59:00", "deny", 60),
        ("2026-11-27T22:00:00", "deny", 9 * 3600),
        ("2026-11-28T23:15:00", "deny", 31.75 * 3600),  # over the sunday
    ],
)
def test_a_refusal_in_quiet_hours_says_when_they_end(moment: str, verdict: str, wait: float | None) -> None:
    policy = Policy.parse(QUIET, [GET])
    for when in (datetime.fromisoformat(moment), datetime.fromisoformat(moment).astimezone(UTC)):
        decision = policy.decide(LOGS, "call", GET, {}, {"now": when})
        assert (decision.verdict, decision.retry_after) == (verdict, wait)


def test_a_refusal_for_another_reason_promises_nothing() -> None:
    never = QUIET + 'forbid (principal, action, resource) when { context.labels.contains("private") };'
    decision = Policy.parse(never, [GET]).decide(LOGS, "call", GET, {}, {"labels": ["private"]})
    assert (decision.verdict, decision.retry_after) == ("deny", None)


@pytest.mark.parametrize("word", ["0", "10", "two", "", "1.5", "-1"])
def test_a_number_of_persons_that_is_none_is_an_error(word: str) -> None:
    with pytest.raises(PolicyError, match=r"policy\.cedar:1:1: @approvals says how many persons"):
        Policy.parse(f'@approvals("{word}") permit (principal, action, resource);', [GET])


def test_the_strictest_deciding_rule_says_how_many_persons_agree() -> None:
    text = (
        'permit (principal, action in Action::"request", resource);\n'
        '@approvals("3") forbid (principal, action == Action::"call/bank__transfer", resource)'
        " when { context.args has i && context.args.i > 5 };"
    )
    policy = Policy.parse(text, [TRANSFER])
    asked = [policy.decide(LOGS, "call", TRANSFER, {"s": "x", "i": i}) for i in (5, 6)]
    assert [(decision.verdict, decision.approvals) for decision in asked] == [("request", 1), ("request", 3)]
