"""What can be set, and what is said when it is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tool_servers.making import make_recording
from tool_servers.cli import serve_all
from tool_servers.errors import BadSettings
from tool_servers.settings import load


def test_the_environment_is_over_the_file_and_the_command_line_over_both(tmp_path, monkeypatch):
    (tmp_path / "p.toml").write_text(
        '[tool_servers]\nlogs = "a"\ngit = "a"\nprometheus = "a"\n[gateway]\nport = 1\n'
    )
    monkeypatch.setenv("POINTSMAN_TOOL_SERVERS__GIT", "b")
    monkeypatch.setenv("POINTSMAN_TOOL_SERVERS__PROMETHEUS", "b")
    settings = load(str(tmp_path / "p.toml"), {"prometheus": "c"})
    assert (settings.logs, settings.git, settings.prometheus) == (str(tmp_path / "a"), "b", "c")


def test_state_is_kept_in_the_home_unless_set(monkeypatch):
    assert load().state == ".pointsman/tools"
    monkeypatch.setenv("POINTSMAN_HOME", "/somewhere")
    assert load().state == "/somewhere/tools"


def test_an_unknown_setting_names_the_nearest(tmp_path, monkeypatch):
    (tmp_path / "p.toml").write_text('[tool_servers]\npromethius = "x"\n')
    with pytest.raises(BadSettings, match="unknown setting 'promethius'; did you mean 'prometheus'"):
        load(str(tmp_path / "p.toml"))
    monkeypatch.setenv("POINTSMAN_TOOL_SERVERS__LOG", "x")
    with pytest.raises(BadSettings, match=r"POINTSMAN_TOOL_SERVERS__LOG: unknown setting 'log'.*'logs'"):
        load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[tool_servers", "not TOML"),
        ("tool_servers = 1", "is not a table"),
        ('[tool_servers]\nkubectl = "perhaps"', r"kubectl: .*got 'perhaps'"),
    ],
)
def test_a_wrong_file_is_said_in_one_line(tmp_path, content, message):
    (tmp_path / "p.toml").write_text(content)
    with pytest.raises(BadSettings, match=message):
        load(str(tmp_path / "p.toml"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--recording", "/nowhere"],
            2,
            "/nowhere: no recording.json in it; point --recording at a recording",
        ),
        (["--config", "/nowhere.toml"], 2, "/nowhere.toml: no such file"),
        (["--git", "/nowhere"], 5, "/nowhere: no such directory"),
        (["--only", "log"], 1, "'--only': no server 'log'; did you mean 'logs'?"),
        (["--prometheus", "localhost"], 2, "a URL such as http://127.0.0.1:9090"),
    ],
)
def test_a_start_that_cannot_succeed_says_why(arguments, code, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        serve_all(arguments)
    said = capsys.readouterr()
    assert stopped.value.code == code and message in said.err
    assert said.err.count("\n") == 1 and said.out == ""


def test_a_recording_and_a_live_source_exclude_each_other_and_no_traceback_is_shown(tmp_path):
    recording = make_recording(tmp_path / "recording")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tool_servers.metrics", "--recording", str(recording)),
            *("--prometheus", "http://127.0.0.1:1"),
        ],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
        timeout=120,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == ("tool_servers: --recording and --prometheus exclude each other: leave one out\n")
