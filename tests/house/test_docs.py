"""The pages do not lag: what can be set, typed, refused or linked stands in docs/."""

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer

from coordinator.settings import CoordinatorSettings
from gateway.errors import REFUSALS
from gateway.policy import Policy
from gateway.settings import Settings as GatewaySettings
from specialists.settings import Cloud
from tests.house.test_examples import ROOT
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


@pytest.mark.parametrize("model", [GatewaySettings, CoordinatorSettings, ToolServersSettings, Cloud])
def test_every_setting_is_documented(model):
    shown = page("settings.md")
    assert [name for name in model.model_fields if f"`{name.rstrip('_')}`" not in shown] == []


def test_every_refusal_code_is_documented_and_no_other():
    shown = set(re.findall(r"^\| `(\w+)` \|", page("refusals.md"), re.M))
    assert shown == set(REFUSALS)


def test_the_policies_on_the_page_are_policies(tmp_path):
    blocks = re.findall(r"^```cedar[^\n]*\n(.*?)^```", page("policy.md"), re.M | re.S)
    assert blocks
    (tmp_path / "page.cedar").write_text("\n".join(blocks))
    assert Policy.load(tmp_path, [], unknown="any").digest


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_readme_is_a_persons_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_changelog_is_kept():
    assert re.search(r"^## \[Unreleased\]\n\n### Added\n\n- ", Path(ROOT / "CHANGELOG.md").read_text(), re.M)
