"""The command `pointsman`: its own commands, the other packages', and the one place errors are printed."""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from coordinator.evaluate import commands as evaluate_commands

GROUP = "pointsman.commands"

Config = Annotated[str | None, typer.Option("--config", help="settings file (default: ./pointsman.toml)")]
Reason = Annotated[str, typer.Option("--reason", help="why, for the ledger")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


class Command(NamedTuple):
    """One entry of a package's `commands`: its name, and a typer app or a function."""

    name: str
    app: typer.Typer | Callable[..., Any]


cases_app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    help="List, show, watch, steer and record cases.",
)


def init(
    directory: Annotated[str, typer.Argument(help="where to write")] = ".",
    force: Annotated[bool, typer.Option("--force", help="overwrite what is there")] = False,
    as_json: AsJson = False,
) -> None:
    """Write pointsman.toml, mcp.json and policy/, commented and working."""
    from coordinator.init import write_files

    written = write_files(directory, force)
    _print({"written": written}, as_json, "\n".join(f"wrote {path}" for path in written))


def chat(
    message: Annotated[str | None, typer.Option("--message", "-m", help="one message, then leave")] = None,
    recording: Annotated[str | None, typer.Option("--recording", help="a recorded incident to open")] = None,
    case: Annotated[str | None, typer.Option("--case", help="go on with this case")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Talk with the incident triage copilot."""
    from coordinator.chat import run_chat

    raise typer.Exit(
        run_chat(message=message, recording=recording, case=case, as_json=as_json, config=config)
    )


def triage(
    source: Annotated[str, typer.Argument(help="an alert's JSON file, a recording's directory, or -")],
    as_json: AsJson = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown (the default)")] = False,
    config: Config = None,
) -> None:
    """Take one alert or recorded incident from trigger to report."""
    from coordinator.commands import run_triage

    if as_json and as_markdown:
        raise typer.BadParameter("choose --json or --markdown, not both")
    raise typer.Exit(run_triage(source, as_json=as_json, config=config))


hooks_app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    help="Try the doors by which alerts open cases.",
)


def up(
    host: Annotated[str | None, typer.Option("--host", help="where to listen for alerts")] = None,
    port: Annotated[int | None, typer.Option("--port", help="and the port; 0 takes a free one")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Run gateway and coordinator together; alerts open cases by themselves."""
    from coordinator.up import run_up

    raise typer.Exit(run_up(host=host, port=port, as_json=as_json, config=config))


def worker(
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=32, help="cases at the same time (default: as set)")
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Run cases of the PostgreSQL database that several processes share: pointsman worker --workers 4."""
    from coordinator.worker import run_worker

    raise typer.Exit(run_worker(workers=workers, as_json=as_json, config=config))


@hooks_app.command("send")
def send_hook(
    name: Annotated[str, typer.Argument(help="a hook of pointsman.toml, such as alertmanager")],
    file: Annotated[
        str | None, typer.Option("--file", help="the body, or - for stdin (default: the example)")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="where `pointsman up` listens")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Deliver a body to a hook, signed as its source would: pointsman hooks send alertmanager."""
    from coordinator.hooks.commands import run_send

    run_send(name, file, url, as_json, config)


@hooks_app.command("example")
def example_hook(
    kind: Annotated[
        str, typer.Argument(help="alertmanager, grafana, pagerduty, github, cloudevents, generic")
    ],
) -> None:
    """Print a body as this kind of source sends it."""
    from coordinator.hooks.commands import example

    print(example(kind).rstrip())


workflows_app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    help="The workflow files: check, draw, run, compare and simulate them.",
)


@workflows_app.command("list")
def list_workflows(as_json: AsJson = False, config: Config = None) -> None:
    """The workflows there are: the folder's own, and those that are shipped."""
    from coordinator.workflows.commands import run_list

    run_list(as_json, config)


@workflows_app.command("check")
def check_workflow(
    names: Annotated[list[str] | None, typer.Argument(help="ids or files; left out: all there are")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Say what is wrong with workflow files: file, line, column, and what to write instead.

    Example: pointsman workflows check workflows/invoice-triage.yaml
    """
    from coordinator.workflows.commands import run_check

    raise typer.Exit(run_check(names or [], as_json, config))


@workflows_app.command("show")
def show_workflow(
    name: Annotated[str, typer.Argument(help="an id or a file")],
    as_: Annotated[str, typer.Option("--as", help="text, mermaid or svg")] = "text",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Tell a workflow in words, or draw it: pointsman workflows show incident-triage --as mermaid."""
    from coordinator.workflows.commands import run_show

    run_show(name, as_, as_json, config)


@workflows_app.command("run")
def run_workflow(
    name: Annotated[str, typer.Argument(help="an id")],
    given: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="NAME=VALUE, an input of the workflow")
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Open a case by hand and take it as far as it goes.

    Example: pointsman workflows run invoice-triage --input file=inbox/1017.pdf
    """
    from coordinator.workflows.commands import run_run

    raise typer.Exit(run_run(name, given or [], as_json, config))


@workflows_app.command("diff")
def diff_workflows(
    old: Annotated[str, typer.Argument(help="an id or a file")],
    new: Annotated[str, typer.Argument(help="an id or a file")],
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Say in sentences what a change changes."""
    from coordinator.workflows.commands import run_diff

    run_diff(old, new, as_json, config)


@workflows_app.command("simulate")
def simulate_workflow(
    file: Annotated[str, typer.Argument(help="the changed file")],
    limit: Annotated[int, typer.Option(min=1, help="at most so many past cases, the latest first")] = 500,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Run a changed file over past cases of the ledger and say which would have ended otherwise."""
    from coordinator.workflows.commands import run_simulate

    run_simulate(file, limit, as_json, config)


@workflows_app.command("schema")
def workflow_schema() -> None:
    """Print the JSON Schema of workflow files, for editors."""
    from coordinator.workflows.commands import run_schema

    run_schema()


@cases_app.command("list")
def list_cases(
    limit: Annotated[int, typer.Option(min=1)] = 20, as_json: AsJson = False, config: Config = None
) -> None:
    """The latest cases of this home."""
    from coordinator.commands import run_list

    run_list(limit, as_json, config)


@cases_app.command("show")
def show_case(case: str, as_json: AsJson = False, config: Config = None) -> None:
    """Where a case stands: specialists, hypotheses, what it waits for."""
    from coordinator.commands import run_show

    run_show(case, as_json, config)


@cases_app.command("resume")
def resume_case(case: str, as_json: AsJson = False, config: Config = None) -> None:
    """Go on with a case that stopped or waited; what had finished is not repeated."""
    from coordinator.commands import run_resume

    raise typer.Exit(run_resume(case, as_json, config))


@cases_app.command("watch")
def watch_cases(
    case: Annotated[str | None, typer.Argument(help="one case; without it all of them")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Print what becomes of a case until it ends or waits; exits as it ended."""
    from coordinator.steering import run_watch

    raise typer.Exit(run_watch(case, as_json, config))


@cases_app.command("cancel")
def cancel_case(case: str, reason: Reason = "", as_json: AsJson = False, config: Config = None) -> None:
    """End a case where it is: pointsman cases cancel INC-5N283A --reason "known, being mended"."""
    from coordinator.steering import run_cancel

    run_cancel(case, reason, as_json, config)


@cases_app.command("pause")
def pause_case(case: str, reason: Reason = "", as_json: AsJson = False, config: Config = None) -> None:
    """Stop a case at the end of its step; `cases retry` has it go on."""
    from coordinator.steering import run_pause

    run_pause(case, reason, as_json, config)


@cases_app.command("retry")
def retry_case(
    case: str,
    step: Annotated[
        str, typer.Option("--from", help="a step; it and what stands after it are done again")
    ] = "",
    reason: Reason = "",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Have a case that failed or ended go on, its calls made anew: pointsman cases retry ID --from STEP."""
    from coordinator.steering import run_retry

    run_retry(case, step, reason, as_json, config)


@cases_app.command("backfill")
def backfill_cases(
    workflow: Annotated[str, typer.Argument(help="a workflow of ./workflows with a schedule")],
    since: Annotated[str, typer.Option("--since", help="the first moment, such as 2026-01-01T00:00:00Z")],
    until: Annotated[str, typer.Option("--until", help="the last moment (default: now)")] = "",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Open cases for a schedule's past times: pointsman cases backfill nightly --since 2026-01-01."""
    from coordinator.steering import run_backfill

    run_backfill(workflow, since, until, as_json, config)


@cases_app.command("report")
def report_case(case: str, as_json: AsJson = False, config: Config = None) -> None:
    """Print the report of a case."""
    from coordinator.commands import run_report

    run_report(case, as_json, config)


@cases_app.command("deliver")
def deliver_case(
    case: str,
    to: Annotated[list[str] | None, typer.Option("--to", help="there only; may be given again")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Send the reports of a case again, such as: pointsman cases deliver INC-5N283A --to owners"""
    from coordinator.commands import run_deliver

    raise typer.Exit(run_deliver(case, to or [], as_json, config))


@cases_app.command("verify")
def verify_case(
    target: Annotated[str, typer.Argument(help="a case, or the file of a delivered report")],
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Prove a report against the ledger, such as: pointsman cases verify reports/INC-7QX2MV.html"""
    from coordinator.commands import run_verify

    raise typer.Exit(run_verify(target, as_json, config))


@cases_app.command("record")
def record_case(
    case: str,
    directory: Annotated[Path, typer.Argument(help="a new directory for the recording")],
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Write what a case's tools answered as a recording, to be triaged again as a test."""
    from coordinator.recording import run_record

    run_record(case, directory, as_json, config)


def doctor(as_json: AsJson = False, config: Config = None) -> None:
    """Look at everything Pointsman needs, and say what to do about what is missing."""
    from coordinator.doctor import run_doctor

    raise typer.Exit(run_doctor(as_json, config))


commands: list[Command] = [
    Command("init", init),
    Command("chat", chat),
    Command("triage", triage),
    Command("up", up),
    Command("worker", worker),
    Command("cases", cases_app),
    Command("hooks", hooks_app),
    Command("workflows", workflows_app),
    Command("doctor", doctor),
    *(Command(name, app) for name, app in evaluate_commands),
]


def build() -> typer.Typer:
    """The whole command line, from what every package contributes."""
    app = typer.Typer(
        name="pointsman",
        rich_markup_mode=None,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    entries = sorted(entry_points(group=GROUP), key=lambda e: (e.name != "coordinator", e.name))
    for name, command in (item for entry in entries for item in entry.load()):
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def main() -> None:
    """Run the command line; every error of ours is one line and an exit code."""
    gc.set_threshold(20_000, 20, 50)  # loading modules makes much and throws nothing away
    try:
        build()()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our output left
        sys.exit(1)
    except Exception as error:
        sys.exit(_tell(error))


def _tell(error: BaseException) -> int:
    """Print an error in one line; its exit code."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    code = str(getattr(error, "code", "internal"))
    exit_code = getattr(error, "exit_code", None)
    message = " ".join(str(error).split()) or type(error).__name__
    if os.environ.get("POINTSMAN_DEBUG"):
        traceback.print_exception(error)
    if exit_code is None:
        message = (
            f"unexpected {type(error).__name__}: {message}; this is a mistake in Pointsman: "
            "set POINTSMAN_DEBUG=1 to see where, and report it"
        )
    if "--json" in sys.argv:
        print(json.dumps({"error": {"code": code, "message": message}}))
    else:
        print(f"pointsman: {message}", file=sys.stderr)
    return exit_code if isinstance(exit_code, int) else 1


def _version(asked: bool) -> None:
    if asked:
        print(f"pointsman {version('pointsman')}")
        raise typer.Exit


def _options(
    _: Annotated[
        bool, typer.Option("--version", help="print the version", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Incident triage by agents whose every tool call is decided, recorded and cited."""


def _print(value: Any, as_json: bool, text: str) -> None:
    print(json.dumps(value, indent=2) if as_json else text)
