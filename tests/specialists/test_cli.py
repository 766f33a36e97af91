"""`pointsman specialists list | test | set`, as a user types them."""

import json
import tomllib

import pytest
from typer.testing import CliRunner

from specialists.cli import app
from specialists.errors import SettingsError
from tests.fakes.openai_server import serving
from tests.fakes.small_gateway import SmallGateway

FILE = """# ours
[specialists.metrics]  # stays here
mode = "local"

[gateway]
port = 8420  # the port
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a sub-command in a folder of its own; gives exit code and output, raises what main would print."""
    monkeypatch.chdir(tmp_path)
    for variable in ("POINTSMAN_CONFIG", "POINTSMAN_HOME"):
        monkeypatch.delenv(variable, raising=False)

    def command(*words):
        done = CliRunner().invoke(app, words)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    return command


def test_list_shows_who_runs_where(run, tmp_path):
    (tmp_path / "pointsman.toml").write_text(
        '[specialists.logs]\nmode = "cloud"\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "small"\n'
        '[specialists.mine]\nclass = "absent_module:Mine"\n'
    )
    rows = {row["name"]: row for row in json.loads(run("list", "--json")[1])}
    assert (rows["logs"]["mode"], rows["logs"]["where"]) == ("cloud", "small at http://127.0.0.1:9/v1")
    assert (rows["metrics"]["mode"], rows["metrics"]["state"]) == ("local", "ready")
    assert rows["mine"]["state"].startswith("unavailable: ") and "absent_module" in rows["mine"]["state"]
    lines = run("list")[1].splitlines()
    assert lines[0].split() == ["NAME", "MODE", "WHERE", "TOOLS", "STATE"] and len(lines) == len(rows) + 1


def test_set_moves_a_specialist_and_keeps_the_rest_of_the_file(run, tmp_path):
    (tmp_path / "pointsman.toml").write_text(FILE)
    code, said = run(
        "set", "logs", "--mode", "cloud", "--base-url", "http://127.0.0.1:9/v1", "--model", "small"
    )
    written = (tmp_path / "pointsman.toml").read_text()
    assert code == 0 and "small at http://127.0.0.1:9/v1" in said
    assert all(line in written.splitlines() for line in FILE.splitlines())
    assert run("set", "logs", "--mode", "local")[0] == 0
    back = (tmp_path / "pointsman.toml").read_text()
    assert back == written.replace('mode = "cloud"', 'mode = "local"')
    assert json.loads(run("list", "--json")[1])[2]["mode"] == "local"


def test_set_moves_a_specialist_to_a_provider_with_its_tools(run, tmp_path):
    cloud = ("--mode", "cloud", "--provider", "foundry", "--base-url", "https://x.example/p", "--model", "m")
    hosted = ("--hosted", "web_search", "--hosted", "bing", "--bing-connection", "c-1")
    assert run("set", "logs", *cloud, *hosted)[0] == 0
    written = tomllib.loads((tmp_path / "pointsman.toml").read_text())["specialists"]["logs"]
    assert (written["provider"], written["hosted"]) == ("foundry", ["web_search", "bing"])
    assert run("set", "logs", "--mode", "cloud", "--hosted", "web_search")[0] == 0  # instead, not in addition
    assert 'hosted = ["web_search"]' in (tmp_path / "pointsman.toml").read_text()


def test_set_begins_a_file_where_there_is_none(run, tmp_path):
    run("set", "metrics", "--mode", "local")
    assert (tmp_path / "pointsman.toml").read_text() == '[specialists.metrics]\nmode = "local"\n'


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("logs", "--mode", "cloud"), "base_url: is missing"),
        (("logs", "--mode", "clod"), "use local, remote or cloud"),
        (
            ("logs", "--mode", "cloud", "--base-url", "x", "--model", "m", "--hosted", "bing"),
            "only openai and",
        ),
        (("lgos", "--mode", "local"), "did you mean 'logs'"),
        (("logs", "--mode", "cloud", "--base-url", "x", "--model", "m", "--fallback", "maybe"), "fallback"),
    ],
)
def test_set_writes_nothing_that_cannot_be_loaded(run, tmp_path, words, why):
    (tmp_path / "pointsman.toml").write_text(FILE)
    with pytest.raises(SettingsError, match=why) as caught:
        run("set", *words)
    assert "draft" not in str(caught.value)
    assert (tmp_path / "pointsman.toml").read_text() == FILE
    assert [path.name for path in tmp_path.iterdir()] == ["pointsman.toml"]


def test_test_without_a_gateway_says_how_to_start_one(run):
    code, said = run("test", "logs")
    assert code == 5 and "FAIL  gateway" in said and "`pointsman gateway`" in said


def test_test_looks_at_gateway_tools_and_model(run, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    issue = {"gateway__issue_token": {"text": "issued", "data": {"token": "right"}}}
    gateway = SmallGateway(issue | {"logs__search": "x"}, token="right")
    with gateway.serving() as url, serving("investigate", "sk-1") as (endpoint, _):
        home = tmp_path / ".pointsman"
        home.mkdir()
        running = {"url": url.removesuffix("/mcp"), "operator_token": "right"}
        (home / "gateway.json").write_text(json.dumps(running))
        run("set", "logs", "--mode", "cloud", "--base-url", endpoint, "--model", "small")
        code, said = run("test", "logs", "--json")
        assert code == 0 and all(check["ok"] for check in json.loads(said)["checks"])
        assert gateway.made[0]["arguments"]["subject"] == "agent:logs"
        code, said = run("test", "metrics")
        assert code == 1 and "not shown: metrics__*" in said
        (home / "gateway.json").write_text(json.dumps(running | {"operator_token": "wrong"}))
        code, said = run("test", "logs")
        assert code == 3 and "refused the token" in said and "right" not in said
