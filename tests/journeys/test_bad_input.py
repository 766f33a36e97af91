"""What goes wrong is told in one line: what, why, what to do; no traceback; its own exit code."""

import json

import pytest

from tests.journeys.conftest import INCIDENT, POINTSMAN

RECORDING = str(INCIDENT / "recording")


def complaint(person, *arguments, code, **environment):
    """What a failing command says; one line on standard error."""
    done = person.run(POINTSMAN, *arguments, code=code, **environment)
    lines = [line for line in done.stderr.splitlines() if line.startswith("pointsman: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize("table", ["gateway", "coordinator", "specialists.logs", "tool_servers"])
def test_an_unknown_setting_is_named_with_the_nearest_one(person, table):
    near = {
        "gateway": "prot",
        "coordinator": "gateway_ulr",
        "specialists.logs": "moed",
        "tool_servers": "recordin",
    }
    real = {
        "gateway": "port",
        "coordinator": "gateway_url",
        "specialists.logs": "mode",
        "tool_servers": "recording",
    }
    (person.directory / "pointsman.toml").write_text(f'[{table}]\n{near[table]} = "x"\n')
    code = 5 if table == "tool_servers" else 2  # read by a process of its own, which then is what is down
    said = complaint(person, "triage", RECORDING, code=code)
    assert near[table] in said and real[table] in said


def test_a_settings_file_that_is_no_toml_is_told_with_its_line(person):
    (person.directory / "pointsman.toml").write_text("[gateway]\nport = = 1\n")
    assert "line 2" in complaint(person, "triage", RECORDING, code=2)


def test_a_missing_alert_file_is_named(person):
    assert "nowhere.json" in complaint(person, "triage", "nowhere.json", code=2)


def test_an_alert_that_is_no_json_is_told(person):
    (person.directory / "alert.json").write_text("{oops")
    assert "alert.json" in complaint(person, "triage", "alert.json", code=2)


def test_an_unreachable_gateway_is_told_with_its_address(person):
    nowhere = "http://127.0.0.1:9"
    said = complaint(
        person,
        "triage",
        RECORDING,
        code=5,
        POINTSMAN_COORDINATOR__GATEWAY_URL=nowhere,
        POINTSMAN_TOKEN="pm_x",
    )
    assert nowhere in said


def test_an_unreachable_server_is_told_with_the_stage_that_fails(person):
    person.run(POINTSMAN, "servers", "add", "gone", "http://127.0.0.1:9/mcp")
    done = person.run(POINTSMAN, "servers", "test", "gone", "--json", code=5)
    told = json.loads(done.stdout)
    assert "connect" in json.dumps(told)


def test_a_malformed_policy_is_told_with_its_place_and_nothing_starts(person):
    policy = person.directory / "policy"
    policy.mkdir()
    (policy / "mine.cedar").write_text("permit (principal, action, resource);\npermit (principal action);\n")
    (person.directory / "pointsman.toml").write_text('[gateway]\npolicy = "policy"\n')
    said = complaint(person, "triage", RECORDING, code=2)
    assert "mine.cedar:2" in said
    assert "mine.cedar:2" in complaint(person, "policy", "check", code=2)


def test_a_wrong_token_is_refused_in_plain_words(person, gateway):
    said = complaint(
        person,
        "triage",
        RECORDING,
        code=3,
        POINTSMAN_COORDINATOR__GATEWAY_URL=gateway,
        POINTSMAN_TOKEN="pm_wrong",
    )
    assert "token" in said and "pm_wrong" not in said


def test_an_unknown_case_is_told(person):
    assert "INC-NOPE" in complaint(person, "cases", "resume", "INC-NOPE", code=2)


def test_errors_are_json_where_json_was_asked_for(person):
    done = person.run(POINTSMAN, "cases", "show", "INC-NOPE", "--json", code=2)
    assert json.loads(done.stdout)["error"]["message"]
