"""`pointsman policy`: check, test and explain, with one clear line where something is wrong."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.admin import builtin_tools
from gateway.cli_governance import policy_app
from gateway.errors import PolicyError, Refusal, UsageError
from tests.gateway.records import ANA, call, parts, tool

GOOD = '@id("all") @description("Everybody may.") permit (principal, action in Action::"call", resource);\n'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POINTSMAN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def run(*words: str) -> Result:
    return CliRunner().invoke(policy_app, list(words))


def written(text: str, cases: str = "") -> str:
    Path("policy/tests").mkdir(parents=True)
    Path("policy/mine.cedar").write_text(text)
    if cases:
        Path("policy/tests/mine.yaml").write_text(cases)
    return "policy"


def test_check_says_what_fits_what() -> None:
    written(GOOD)
    done = run("check", "--json")
    assert done.exit_code == 0
    answer = json.loads(done.stdout)
    assert (answer["directory"], [rule["id"] for rule in answer["rules"]]) == ("policy", ["all"])
    assert run("check").stdout.startswith("policy: 1 policies fit ")


def test_check_without_a_policy_of_ones_own_checks_the_shipped_one() -> None:
    assert "default" in run("check").stdout


def test_check_names_file_line_and_column() -> None:
    written("\npermit (principal, action, resource)\n  when { resource.frobs };")
    done = run("check")
    assert isinstance(done.exception, PolicyError) and done.exception.exit_code == 2
    assert str(done.exception).startswith("mine.cedar:3:")


def test_check_of_no_directory_says_so() -> None:
    assert isinstance(run("check", "nowhere").exception, PolicyError)


def test_cases_pass_and_fail_by_verdict_and_by_rule() -> None:
    cases = """
tools: [{server: shop, name: buy}]
cases:
  - {name: fine, subject: "agent:x", tool: shop__buy, expect: call, rules: [all]}
  - {name: wrong verdict, subject: "agent:x", tool: shop__buy, expect: deny}
  - {name: wrong rule, subject: "agent:x", tool: shop__buy, expect: call, rules: [other]}
"""
    written(GOOD, cases)
    done = run("test")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "1 of 3 cases pass"
    assert lines[1] == "tests/mine.yaml:2: wrong verdict: expected deny, got call (all)"
    assert lines[2].startswith("tests/mine.yaml:3: wrong rule")
    assert [case["passed"] for case in json.loads(run("test", "--json").stdout)["cases"]] == [
        True,
        False,
        False,
    ]


def test_the_shipped_cases_pass() -> None:
    assert run("test").exit_code == 0


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ("cases: [", "cannot be read"),
        ("- a", "no list `cases`"),
        ("cases: [{subject: 'agent:x'}]", "needs subject, tool and expect"),
        ("cases: [{subject: 'agent:x', tool: a__b, expect: deny, expct: 1}]", "knows only"),
        ("cases: [{subject: 'agent:x', tool: a__b, expect: deny}]", "no tool 'a__b'"),
        ("tools: [{name: b}]\ncases: []", "needs `server` and `name`"),
    ],
)
def test_cases_that_cannot_be_read_are_named(cases: str, words: str) -> None:
    written(GOOD, cases)
    error = run("test").exception
    assert isinstance(error, PolicyError) and words in str(error) and "mine.yaml" in str(error)


def test_explain_gives_the_verdict_the_rules_and_what_would_permit() -> None:
    yes = run("explain", "gateway__search_ledger", "--as", "agent:coordinator")
    assert (
        yes.exit_code == 0
        and "may call" in yes.stdout
        and "rule coordinator-case (default.cedar:" in yes.stdout
    )
    no = json.loads(run("explain", "gateway__search_ledger", "--as", "agent:logs", "--json").stdout)
    assert (no["verdict"], no["rules"], no["roles"]) == ("deny", [], ["specialist"])
    assert [rule["id"] for rule in no["would_permit"]] == [
        "coordinator-case",
        "oncall-gateway",
        "operator-gateway",
    ]


def test_explain_says_what_is_needed() -> None:
    written(
        '@id("ask") @approvals("2")'
        ' permit (principal in Role::"oncall", action in Action::"request", resource);'
        '@id("safe") permit (principal in Role::"oncall", action in Action::"call", resource);'
        '@id("not-eve") @advice("Ask ana.")'
        ' forbid (principal, action, resource) when { principal.name == "eve" };'
        '@id("slow") forbid (principal in Role::"oncall", action in Action::"call", resource)'
        ' when { resource.name == "search_ledger" };'
    )
    asked = ["explain", "gateway__search_ledger", "--json", "--as"]
    ana, eve, logs = (json.loads(run(*asked, who).stdout) for who in ("user:ana", "user:eve", "agent:logs"))
    assert ana["verdict"] == "request" and ana["needs"] == [
        "the approval of 2 different persons",
        "that forbid slow (mine.cedar:1) does not apply",
    ]
    forbid = "that forbid not-eve (mine.cedar:1) does not apply: Ask ana."
    assert eve["verdict"] == "deny" and eve["needs"][0] == forbid
    assert logs["needs"] == ["that one of these applies: ask (mine.cedar:1), safe (mine.cedar:1)"]
    assert (
        json.loads(run("explain", "gateway__list_tokens", "--json", "--as", "user:ana").stdout)["needs"] == []
    )
    told = run("explain", "gateway__search_ledger", "--as", "user:ana").stdout
    assert "  needs the approval of 2 different persons" in told


def test_explain_looks_at_the_arguments() -> None:
    asked = ["explain", "gateway__issue_token", "--as", "agent:coordinator", "--json", "--args"]
    for roles, verdict in ((["specialist"], "call"), (["specialist", "operator"], "deny")):
        done = run(*asked, json.dumps({"subject": "agent:logs", "roles": roles}))
        assert json.loads(done.stdout)["verdict"] == verdict


@pytest.mark.parametrize("args", ["{", "[]", "7"])
def test_arguments_that_are_no_object_are_refused(args: str) -> None:
    error = run("explain", "gateway__list_tokens", "--as", "user:ana", "--args", args).exception
    assert isinstance(error, UsageError) and "--args" in str(error)


def test_an_unknown_tool_is_named() -> None:
    error = run("explain", "no__tool", "--as", "user:ana").exception
    assert isinstance(error, UsageError) and "no__tool" in str(error)


def test_simulate_says_which_past_calls_would_change(tmp_path: Path) -> None:
    async def work() -> None:
        async with parts(tmp_path / "home") as p:
            search = next(t for t in builtin_tools() if t.name == "search_ledger")
            show = next(t for t in builtin_tools() if t.name == "show_call")
            await p.run(call(search, ANA, limit=5))
            await p.run(call(search, ANA, limit=500))
            await p.run(call(show, ANA, call="Bearer abcdefghijklmnop1234567890"))
            await p.run(call(tool("gone", "away"), ANA))
            await p.ledger.refusal(ANA, Refusal("denied", "no"), call(show, ANA, call="c1"))

    asyncio.run(work())
    Path("new.cedar").write_text(
        '@id("few") permit (principal, action == Action::"call/gateway__search_ledger", resource)'
        " when { context.args has limit && context.args.limit < 100 };"
        '@id("show") permit (principal, action in Action::"request", resource)'
        ' when { resource.name == "show_call" };'
    )
    answer = json.loads(run("simulate", "new.cedar", "--json").stdout)
    assert answer["calls"] == 5
    changed = [(c["seq"], c["before"], c["after"], c["rules"]) for c in answer["changed"]]
    assert changed == [(3, "call", "deny", []), (9, "deny", "request", ["show"])]
    assert [i["why"] for i in answer["indeterminate"]] == [
        "its arguments were redacted",
        "the tool is not approved any more",
    ]
    assert "5 calls: 2 would change, 2 cannot be told" in run("simulate", "new.cedar").stdout


def test_check_takes_no_tool_that_is_not_there() -> None:
    written('permit (principal, action == Action::"call/no__tool", resource);')
    error = run("check").exception
    assert isinstance(error, PolicyError) and "mine.cedar:1:" in str(error) and "no such tool" in str(error)
