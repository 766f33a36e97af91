"""The promises of the layout: what lies where, what imports what, what must not stand in the repository."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("coordinator", "gateway", "specialists", "tool_servers")
TOP = {
    "pyproject.toml",
    "README.md",
    *PACKAGES,
    "tests",
    "examples",
    "docs",
    "scripts",
    "benchmarks",
    "CHANGELOG.md",
    "LICENSE",
    "constraints.txt",
    ".ci",
    ".gitignore",
}


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: nothing tracked to look at")
    return listed.stdout.splitlines()


def test_the_top_level_is_exactly_what_was_agreed():
    assert {path.split("/")[0] for path in tracked()} == TOP


@pytest.mark.parametrize("name", PACKAGES)
def test_the_four_package_names_are_ours(name):
    found = importlib.import_module(name).__file__
    assert found and Path(found).resolve().is_relative_to(ROOT), (
        f"{name} is imported from {found}: another distribution of that name is installed; "
        "install pointsman in an environment of its own"
    )


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("door", ["types", "errors", "settings", "cli"])
def test_every_package_has_the_same_doors(package, door):
    assert (ROOT / package / f"{door}.py").is_file()


def test_only_the_coordinator_imports_another_package_of_ours():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_no_path_of_one_machine_stands_in_the_repository():
    place = re.compile(r"(?:^|[^\w.])/(?:root|home|work|opt|tmp|Users)/[A-Za-z]")
    found = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path in tracked()
        if path.endswith((".py", ".md", ".toml", ".txt", ".json", ".yaml", ".cedar", ".sh"))
        or "/" not in path
        if path != "tests/house/test_layout.py"
        for number, line in enumerate((ROOT / path).read_text(errors="replace").splitlines(), 1)
        if place.search(line)
    ]
    assert found == []


def test_constraints_hold_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text().split("\n")
    assert [
        line for line in lines if line and not re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.!+]+", line)
    ] == []


def test_every_dependency_is_pinned():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=; ]", each)[0].lower().replace("_", "-") for each in wanted}
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert names - pinned == set()


def test_nothing_of_the_repository_is_larger_than_three_megabytes():
    assert [path for path in tracked() if (ROOT / path).stat().st_size > 3_000_000] == []
