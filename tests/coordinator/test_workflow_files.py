"""What is wrong with a workflow file is said with its place; pictures and differences tell what it does."""

import json

import jsonschema
import pytest
import yaml

from coordinator.trigger import from_question
from coordinator.triggers.events import routes
from coordinator.workflows.commands import schema
from coordinator.workflows.difference import differences
from coordinator.workflows.library import SHIPPED, Library
from coordinator.workflows.picture import mermaid, svg, text
from coordinator.workflows.reading import WorkflowInvalid, read_file, read_text

GOOD = """\
id: pay
name: Pay
owner: accounts
inputs: {file: string}
triggers:
  - folder: inbox
    inputs: {file: event.name}
steps:
  - id: extract
    tool: documents__extract
    arguments: {path: inputs.file}
    outputs: {total: number, supplier: string}
  - id: match
    tool: erp__find
    arguments: {name: extract.supplier, least: extract.total + 1.0}
  - id: told
    deliver: report
"""


def problems(text):
    with pytest.raises(WorkflowInvalid) as wrong:
        read_text(text, "pay.yaml")
    return [(p.line, p.column, p.text) for p in wrong.value.problems]


def test_a_good_file_is_read_and_its_text_is_its_version():
    source = read_text(GOOD, "pay.yaml")
    assert [step.kind for step in source.workflow.steps] == ["tool", "tool", "deliver"]
    assert source.version != read_text(GOOD + "# a word\n", "pay.yaml").version


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "says"),
    [
        ("    tool: erp__find", "    tol: erp__find", 13, 5, "a step is one of: specialist, tool, gate"),
        ("arguments: {name", "argments: {name", 15, 5, "did you mean `arguments`?"),
        ("extract.supplier,", "extract.suplier,", 15, 30, "did you mean `extract.supplier`?"),
        ("extract.total + 1.0", "extract.total + 1", 15, 62, "a number is compared with a number"),
        (
            "  - id: match",
            "  - id: match\n    after: [extrat]",
            14,
            13,
            "no step `extrat`: did you mean `extract`?",
        ),
        ("  - id: match", "  - id: match\n    after: []", 16, 30, "`extract` is not done before this"),
        ("  - id: extract", "  - id: extract\n    after: [match]", 10, 12, "a circle"),
        ("  - id: told", "  - id: told\n    when: 1 > 2", 17, 11, "never reached"),
        (
            "inputs: {file: event.name}",
            "inputs: {fil: event.name}",
            7,
            19,
            "no input `fil`: did you mean `file`?",
        ),
        ("owner: accounts\n", "", 1, 1, "`owner` is missing"),
        ("name: Pay", "name: Pay\nname: Pay", 3, 1, "`name` stands here twice"),
        ("total: number", "total: numbr", 12, 22, "numbr"),
        ("id: told", "id: match", 16, 9, "two steps `match`"),
        (
            "    deliver: report",
            "    gate: volume\n    value: extract.total",
            17,
            11,
            "needs one of: least, most",
        ),
        ("    deliver: report", "    gate: volum\n", 17, 11, "did you mean volume?"),
        ("path: inputs.file", "path: &a inputs.file, more: *a", 11, 1, "alias"),
        ("steps:", "steps: [", 9, 1, "no valid YAML"),
        ("folder: inbox", "schedule: 61 7 * * *", 6, 15, "'61 7 * * *' is no cron expression: write minute"),
        ("folder: inbox", "schedule: 0 7 * * *\n    timezone: Europe/Berln", 7, 15, "no time zone"),
        ("name: Pay", "name: Pay\npriority: urgent", 3, 11, "'urgent' is not one of 'critical', 'high'"),
        ("name: Pay", "name: Pay\nlimits: {at_once: 0}", 3, 19, "greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(old, new, line, column, says):
    found = problems(GOOD.replace(old, new, 1))
    assert any(says in told for _, _, told in found), found
    places = [(at, where) for at, where, told in found if says in told]
    assert places[0][0] == line
    assert column == 1 or places[0][1] == column, places


def test_every_shipped_file_is_fine_and_editors_agree():
    for path in SHIPPED.glob("*.yaml"):
        assert read_file(path).workflow.id == path.stem
        jsonschema.validate(yaml.safe_load(path.read_text()), json.loads(json.dumps(schema())))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**yaml.safe_load(GOOD), "stepz": []}, schema())


def test_a_workflow_is_told_and_drawn():
    workflow = read_text(GOOD.replace("Pay", "Pay <b>"), "pay.yaml").workflow
    assert "2. match: tool erp__find; after extract" in text(workflow)
    assert "extract --> match" in mermaid(workflow)
    assert (
        svg(workflow).startswith("<svg") and "<b>" not in svg(workflow) and svg(workflow).count("<rect") == 3
    )


def test_a_change_is_told_in_sentences():
    old = read_text(GOOD, "pay.yaml").workflow
    changed = GOOD.replace("erp__find", "erp__look").replace(
        "  - id: told", "  - {id: big, gate: volume, value: extract.total, most: 100}\n  - id: told"
    )
    assert differences(old, read_text(changed, "pay.yaml").workflow) == [
        "The step big is new: gate volume; after match; else a person decides.",
        "At match, the tool was erp__find and is erp__look.",
        "At told, what it waits for was match and is big.",
    ]
    assert differences(old, old) == []
    limited = read_text(
        GOOD.replace("name: Pay", "name: Pay\npriority: high\nlimits: {at_once: 4}"), "pay.yaml"
    ).workflow
    assert differences(old, limited) == [
        "The priority of its cases was by severity and is high.",
        "The number of its cases that run at once was any number and is 4.",
    ]
    assert "priority: high\n  at once: 4 cases" in text(limited)


def test_an_event_opens_the_workflow_that_wants_it(tmp_path):
    wants = GOOD.replace(
        "  - folder: inbox\n    inputs: {file: event.name}",
        "  - event: disks\n    when: event.labels.severity == 'bad'\n    inputs: {file: event.labels.file}",
    )
    (tmp_path / "pay.yaml").write_text(wants)
    route, opened = routes(Library(tmp_path)), from_question("what is it?")
    event = {"labels": {"severity": "bad", "file": "a.pdf"}}
    found = route(opened, "disks", event)
    assert (found.workflow, found.inputs) == ("pay", {"file": "a.pdf"})
    assert route(opened, "other", event).workflow == "incident-triage"
    assert route(opened, "disks", {"labels": {"severity": "good"}}).workflow == "incident-triage"
    assert route(opened, "disks", {}).workflow == "incident-triage"  # it cannot be told: not lost
