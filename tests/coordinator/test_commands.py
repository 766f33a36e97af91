"""The commands of the coordinator: one clear line for what goes wrong, the right exit code, no traceback."""

import json
import resource
import select
import socket
import subprocess
from subprocess import PIPE

import pytest

from coordinator.markdown import markdown
from coordinator.private_gateway import bundled_recording
from coordinator.session import served_recording
from coordinator.settings import CoordinatorSettings
from tests.coordinator.conftest import POINTSMAN, Workspace


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("triage", "nowhere.json"), 2, "no such file"),
        (("triage", "pointsman.toml"), 2, "not JSON"),
        (("triage", "."), 2, "not a recording"),
        (("cases", "show", "INC-NONE"), 2, "no case"),
        (("cases", "report", "INC-NONE"), 2, "no case"),
        (("cases", "resume", "INC-NONE"), 2, "no case"),
        (("chat", "--recording", "nowhere"), 2, "not a recording"),
        (("chat", "--message", " "), 2, "empty"),
        (("triage", "alert.json", "--config", "none.toml"), 2, "no such file"),
    ],
)
def test_bad_input_is_one_line_with_an_exit_code(workspace, arguments, code, word):
    done = workspace.run(*arguments)
    assert done.returncode == code, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("pointsman: ") and word in line


def test_an_error_is_json_when_json_was_asked_for(workspace):
    done = workspace.run("cases", "show", "INC-NONE", "--json")
    assert json.loads(done.stdout)["error"]["code"] == "case_unknown"


def test_an_unknown_setting_names_the_nearest_one(workspace):
    (workspace.folder / "pointsman.toml").write_text("[coordinator]\nconfidense = 0.4\n")
    done = workspace.run("triage", "alert.json")
    assert done.returncode == 2
    assert "'confidence'" in done.stderr and "Traceback" not in done.stderr


def test_a_gateway_elsewhere_needs_a_token(workspace):
    (workspace.folder / "pointsman.toml").write_text('[coordinator]\ngateway_url = "http://127.0.0.1:9"\n')
    done = workspace.run("triage", "alert.json")
    assert done.returncode == 5
    assert "POINTSMAN_TOKEN" in done.stderr


def test_a_gateway_that_does_not_start_shows_its_last_words(workspace):
    (workspace.folder / "mcp.json").write_text("{nonsense")
    done = workspace.run("triage", "alert.json")
    assert done.returncode in (2, 5)
    [*_, line] = done.stderr.splitlines()
    assert line.startswith("pointsman: ") and "mcp.json" in line


def test_no_cases_yet_says_how_to_open_one(workspace):
    assert "pointsman chat" in workspace.run("cases", "list").stdout


def test_triage_prints_a_report_that_show_and_report_find_again(workspace):
    alert = (workspace.folder / "alert.json").read_text()
    done = workspace.run("triage", "-", stdin=alert)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# things break")
    case = workspace.case()
    assert workspace.run("cases", "report", case).stdout.strip() == done.stdout.strip()
    assert "Thing 1 is broken" in workspace.run("cases", "show", case).stdout
    assert "probe: things__look" in done.stderr  # progress names specialist and tool


def test_a_report_says_how_much_of_what_was_said_did_not_stand(workspace, run):
    workspace.use(probe="Forger")
    report = run(lambda runner, opened: runner.start(opened)).report
    assert [(work.specialist, work.dropped) for work in report.work] == [("probe", 1)]
    assert "- probe: 1 left out, since the words do not stand in the call" in markdown(report)
    assert "moon" not in markdown(report)


def test_init_writes_files_that_work(workspace):
    made = workspace.folder / "made"
    assert workspace.run("init", str(made)).returncode == 0
    assert (made / "pointsman.toml").is_file() and list((made / "policy").glob("*.cedar"))
    again = workspace.run("init", str(made))
    assert again.returncode == 2 and "--force" in again.stderr
    checked = Workspace(made).run("doctor", "--json")
    assert json.loads(checked.stdout)["ok"], checked.stdout


def test_a_gateway_that_shows_no_recording_is_not_taken_for_one_that_does(workspace, monkeypatch, caplog):
    made = workspace.folder / "made"
    assert workspace.run("init", str(made)).returncode == 0
    alone = Workspace(made, workspace.started)
    alone.start("gateway", "--port", "0")
    alone.until((alone.home / "gateway.json").exists)
    asked = alone.run("chat", "--recording", str(bundled_recording()), "--message", "what is wrong?")
    assert asked.returncode == 5 and "serves no recording" in asked.stderr
    monkeypatch.chdir(made)
    assert served_recording(CoordinatorSettings(), alone.home, None) is None
    assert "pointsman gateway --recording" in caplog.text
    assert served_recording(CoordinatorSettings(), made / "another", None) == bundled_recording()


def test_doctor_says_what_it_has_seen_while_it_looks_on(workspace):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it is connected to, and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        env = workspace.environment() | {"POINTSMAN_TOKEN": "t", "POINTSMAN_COORDINATOR__GATEWAY_URL": url}
        command = [POINTSMAN, "doctor"]
        with subprocess.Popen(command, cwd=workspace.folder, env=env, stdout=PIPE, text=True) as looking:
            connected, _ = silent.accept()
            told, _, _ = select.select([looking.stdout], [], [], 0)
            assert told and looking.stdout.readline().startswith("ok       python")
            looking.kill()
            connected.close()


def test_doctor_says_what_to_do_about_a_bad_setting(workspace):
    (workspace.folder / "pointsman.toml").write_text("[specialists.logs]\nmode = 'clod'\n")
    done = workspace.run("doctor")
    assert done.returncode == 5
    assert "PROBLEM" in done.stdout and "→" in done.stdout


def test_help_costs_less_than_half_a_second_of_processor(workspace):
    def cost() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        workspace.run("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cost() for _ in range(3)) < 0.5
