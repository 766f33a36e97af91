"""The pages do not lag: what can be set, typed, refused or linked stands in docs/."""

import ast
import json
import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer

from coordinator.chat import COMMANDS
from coordinator.settings import CoordinatorSettings, Hook, Limits
from gateway.admin import TOOLS
from gateway.errors import REFUSALS
from gateway.policy_cases import run_cases
from gateway.servers_file import ISOLATION, OPENABLE, OURS, OVERRIDES
from gateway.settings import Settings as GatewaySettings
from specialists.settings import Cloud, Remote
from tests.house.test_examples import ROOT
from tool_servers.destinations import Destination
from tool_servers.settings import ToolServersSettings

DOCS = ROOT / "docs"


def page(name):
    return (DOCS / name).read_text()


def leaves(name, command):
    """Every command below one, by its full name, with its options."""
    if hasattr(command, "commands"):
        for each, below in command.commands.items():
            yield from leaves(f"{name} {each}", below)
    else:
        options = {word for p in command.params for word in p.opts if word.startswith("--")}
        yield name, options - {"--help", "--version"}


def commands():
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.callback()(lambda: None)
    for point in entry_points(group="pointsman.commands"):
        for name, added in point.load():
            app.add_typer(added, name=name) if isinstance(added, typer.Typer) else app.command(name)(added)
    return dict(leaves("pointsman", typer.main.get_command(app)))


@pytest.mark.parametrize("name", sorted(commands()))
def test_a_command_and_its_options_are_documented(name):
    sections = dict(
        (m[1].strip(), m[2])
        for m in re.finditer(r"^### (.+)\n((?:(?!^###? ).*\n)*)", page("commands.md"), re.M)
    )
    assert name in sections, f"docs/commands.md has no section '### {name}'"
    assert [option for option in commands()[name] if option not in sections[name]] == []


def test_no_command_is_documented_that_is_not_there():
    assert set(re.findall(r"^### (pointsman .+)$", page("commands.md"), re.M)) == set(commands())


@pytest.mark.parametrize("name", sorted(commands()))
def test_a_synopsis_shows_exactly_the_options_of_its_command(name):
    section = re.search(rf"^### {re.escape(name)}\n\n```\n(.*?)^```", page("commands.md"), re.M | re.S)
    assert section, f"docs/commands.md: '### {name}' does not begin with a synopsis"
    assert set(re.findall(r"--[a-z][a-z-]*", section[1])) == commands()[name]


def rows_of(table):
    """The rows `| `name` | default | … |` below a heading of settings.md."""
    part = page("settings.md").partition(f"## `[{table}]`\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) \|", part, re.M))


def default_of(name, field):
    """A default as the page writes it."""
    if field.is_required():
        return "local" if name == "mode" else "(required)"
    if field.default_factory is not None:
        return "HOME/tools"
    if isinstance(field.default, tuple) and field.default:
        return ", ".join(field.default)
    shown = {"": "empty", "[]": "none", "()": "none", "{}": "none", "None": "empty", str(Limits()): "none"}
    return shown.get(
        str(field.default), str(field.default).lower() if field.default is False else str(field.default)
    )


@pytest.mark.parametrize(
    ("table", "model"),
    [
        ("gateway", GatewaySettings),
        ("coordinator", CoordinatorSettings),
        ("coordinator.limits", Limits),
        ("coordinator.hooks.NAME", Hook),
        ("specialists.NAME", Cloud),
        ("tool_servers", ToolServersSettings),
        ("tool_servers.delivery.NAME", Destination),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_every_setting_is_documented_with_its_default_and_no_other(table, model):
    known = {field.alias or name: default_of(name, field) for name, field in model.model_fields.items()}
    assert rows_of(table) == known


def test_every_setting_of_a_remote_specialist_is_documented_with_its_default_and_no_other():
    part = page("modes.md").partition("## Remote\n")[2]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) \|", part, re.M))
    known = {name: default_of(name, field) for name, field in Remote.model_fields.items()}
    assert rows == {name: shown for name, shown in known.items() if name not in ("mode", "class_")}


def test_every_refusal_code_is_documented_and_no_other():
    shown = re.findall(r"^### (\w+)$", page("refusals.md"), re.M)
    assert sorted(shown) == sorted(REFUSALS)


def test_every_number_of_a_protocol_error_is_documented_and_no_other():
    used = {n for file in (ROOT / "gateway").glob("*.py") for n in re.findall(r"-32\d{3}", file.read_text())}
    assert set(re.findall(r"^\| (-32\d{3}) \|", page("refusals.md"), re.M)) == used


def test_every_admin_tool_is_named_and_every_key_of_the_servers_file():
    words = set(re.findall(r"`([^`\s]+)`", page("gateway.md")))
    assert set(TOOLS) - words == set()
    assert (OURS | OVERRIDES | {*OPENABLE, *ISOLATION}) - words == set()


def test_every_command_of_the_chat_is_named():
    assert [name for name in COMMANDS if name not in page("chat.md")] == []


def test_the_policies_on_the_page_pass_the_cases_on_the_page(tmp_path):
    blocks = re.findall(r"^```cedar[^\n]*\n(.*?)^```", page("policy.md"), re.M | re.S)
    cases = re.findall(r"^```yaml\n(.*?)^```", page("policy.md"), re.M | re.S)
    assert len(blocks) >= 3 and len(cases) == 1
    (tmp_path / "page.cedar").write_text("\n".join(blocks))
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "page.yaml").write_text(cases[0])
    outcomes = run_cases(tmp_path, [])
    assert outcomes and [(each.name, each.got) for each in outcomes if not each.passed] == []


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda p: p.name)
def test_the_code_on_a_page_reads(path):
    text = path.read_text()
    for code in re.findall(r"^```python[^\n]*\n(.*?)^```", text, re.M | re.S):
        compile(code, str(path), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for code in re.findall(r"^```json\n(.*?)^```", text, re.M | re.S):
        json.loads(code)
    for code in re.findall(r"^```toml\n(.*?)^```", text, re.M | re.S):
        tomllib.loads(code)


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda p: p.name)
def test_lines_fit_a_screen(path):
    lines = enumerate(path.read_text().splitlines(), 1)
    assert [n for n, line in lines if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_readme_is_a_persons_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_changelog_is_kept():
    assert re.search(r"^## \[Unreleased\]\n\n### Added\n\n- ", Path(ROOT / "CHANGELOG.md").read_text(), re.M)
