"""What the commands `workflows …` do once they are called."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from coordinator.errors import UsageError
from coordinator.settings import CoordinatorSettings
from coordinator.types import Trigger
from coordinator.workflows import expressions
from coordinator.workflows.difference import differences
from coordinator.workflows.library import Library
from coordinator.workflows.model import Workflow
from coordinator.workflows.picture import mermaid, svg, text
from coordinator.workflows.reading import Source, WorkflowInvalid, read_file

PICTURES = {"text": text, "mermaid": mermaid, "svg": svg}


def library(config: str | None) -> Library:
    """The workflows that the settings name."""
    return Library(CoordinatorSettings.load(config).workflow_folder(config))


def found(name: str, config: str | None) -> Source:
    """A workflow by its id or its file."""
    return read_file(Path(name)) if name.endswith((".yaml", ".yml")) else library(config).get(name)


def run_list(as_json: bool, config: str | None) -> None:
    """Print the workflows there are."""
    rows = [_row(name, path, config) for name, path in library(config).files().items()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        told = (
            row["problem"]
            or f"{row['steps']} steps, {', '.join(row['triggers']) or 'by hand'}; {row['owner']}"
        )
        print(f"{row['id']:<24} {row['version']:<12} {row['name']}  ({told})")


def _row(name: str, path: Path, config: str | None) -> dict[str, Any]:
    empty = {
        "id": name,
        "version": "",
        "name": "",
        "owner": "",
        "steps": 0,
        "triggers": [],
        "file": str(path),
    }
    try:
        source = library(config).get(name)
    except WorkflowInvalid as error:
        return {**empty, "problem": f"{len(error.problems)} problems: pointsman workflows check {name}"}
    workflow = source.workflow
    told = {"version": source.version, "name": workflow.name, "owner": workflow.owner}
    triggers = [_trigger_kind(trigger) for trigger in workflow.triggers]
    return {**empty, **told, "steps": len(workflow.steps), "triggers": triggers, "problem": ""}


def _trigger_kind(trigger: Any) -> str:
    return next(name for name in type(trigger).model_fields if name not in ("inputs", "title", "when"))


def run_check(names: list[str], as_json: bool, config: str | None) -> int:
    """Print what is wrong with workflows; 1 if anything is."""
    results: list[dict[str, Any]] = []
    for name in names or list(library(config).files()):
        try:
            source = found(name, config)
            results.append({"file": source.name, "ok": True, "version": source.version, "problems": []})
        except WorkflowInvalid as error:
            problems = [{"line": p.line, "column": p.column, "text": p.text} for p in error.problems]
            results.append({"file": error.source, "ok": False, "version": "", "problems": problems})
    if as_json:
        print(json.dumps(results, indent=2))
    else:
        for result in results:
            for p in result["problems"]:
                print(f"{result['file']}:{p['line']}:{p['column']}: {p['text']}")
            if result["ok"]:
                print(f"{result['file']}: fine, version {result['version']}")
    return 0 if all(result["ok"] for result in results) else 1


def run_show(name: str, as_: str, as_json: bool, config: str | None) -> None:
    """Print a workflow in words or as a picture."""
    source = found(name, config)
    if as_json:
        print(source.workflow.model_dump_json(indent=2, exclude_defaults=True, by_alias=True))
        return
    if as_ not in PICTURES:
        raise UsageError(f"--as {as_!r}: choose {', '.join(PICTURES)}")
    print(PICTURES[as_](source.workflow))


def run_diff(old: str, new: str, as_json: bool, config: str | None) -> None:
    """Print what a change changes, in sentences."""
    said = differences(found(old, config).workflow, found(new, config).workflow)
    print(json.dumps(said, indent=2) if as_json else "\n".join(said) or "no difference in what is done")


def run_schema() -> None:
    """Print the JSON Schema of workflow files."""
    print(json.dumps(schema(), indent=2))


def schema() -> dict[str, Any]:
    """The JSON Schema of workflow files, as editors read it."""
    made = Workflow.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "pointsman-workflow.schema.json",
        **made,
        "title": "Pointsman workflow",
    }


def run_run(name: str, given: list[str], as_json: bool, config: str | None) -> int:
    """Open a case of a workflow by hand and print what it came to."""
    from coordinator.commands import code_of, print_result
    from coordinator.progress import Lines, silent
    from coordinator.session import open_session

    source = library(config).get(name)
    trigger = by_hand(source.workflow, dict(_pair(each) for each in given))

    async def run() -> Any:
        async with open_session(config, tell=silent if as_json else Lines()) as session:
            return await session.runner.start(trigger)

    result = asyncio.run(run())
    print_result(result, as_json)
    return code_of(result)


def _pair(told: str) -> tuple[str, str]:
    name, sign, value = told.partition("=")
    if not sign or not name:
        raise UsageError(f"--input {told!r}: write NAME=VALUE, such as file=inbox/1017.pdf")
    return name, value


def by_hand(workflow: Workflow, given: dict[str, Any]) -> Trigger:
    """What opens a case by hand; UsageError for an input that is missing, unknown or of another type."""
    unknown = sorted(set(given) - set(workflow.inputs))
    if unknown:
        there = ", ".join(workflow.inputs) or "none"
        raise UsageError(f"{workflow.id} has no input {unknown[0]!r}: its inputs are {there}")
    inputs = {}
    for name, each in workflow.inputs.items():
        if name in given:
            inputs[name] = _typed(name, given[name], each.type)
        elif each.required and each.default is None:
            raise UsageError(f"{workflow.id} needs the input {name}: add --input {name}=VALUE")
    about = ", ".join(f"{name} {value}" for name, value in inputs.items())
    title = f"{workflow.name}: {about}" if about else workflow.name
    return Trigger(
        kind="manual", title=title[:200], question=workflow.description or workflow.name,
        workflow=workflow.id, inputs=inputs,
    )  # fmt: skip


def _typed(name: str, value: Any, kind: str) -> Any:
    told = value
    if kind != "string" and isinstance(value, str) and kind != "time":
        try:
            told = json.loads(value)
        except ValueError:
            told = value
    try:
        return expressions.as_type(told, kind)
    except ValueError as error:
        raise UsageError(f"the input {name}: {error}") from None


def run_simulate(file: str, limit: int, as_json: bool, config: str | None) -> None:
    """Print which past cases would have gone otherwise by a changed file."""
    from coordinator.session import open_session
    from coordinator.workflows.simulation import simulate

    source = found(file, config)

    async def run() -> Any:
        async with open_session(config) as session, session.runner.gateway("") as gateway:
            return await simulate(source, gateway, limit)

    told = asyncio.run(run())
    print(json.dumps(told.as_data(), indent=2) if as_json else told.as_text())
