"""The examples are programs that check themselves; these run them, and hold the recipes to their words."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
RECIPES = {
    "own_tool_server": "add-a-tool-server.md",
    "own_specialist": "add-a-specialist.md",
    "own_policy": "add-a-policy.md",
    "local_to_cloud": "modes.md",
    "workflows": "workflows.md",
}
QUOTED = re.compile(r"^```\w+ (examples/\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_example_of_ones_own_has_a_recipe():
    found = {path.parent.name for path in EXAMPLES.glob("*/run.py")}
    assert found == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_an_example_does_what_it_says(name, tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / name / "run.py"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() and list(tmp_path.iterdir()) == []  # it says what it did and leaves nothing


@pytest.mark.parametrize("name", RECIPES)
def test_an_example_and_its_recipe_name_each_other(name):
    recipe = (ROOT / "docs" / RECIPES[name]).read_text()
    readme = (EXAMPLES / name / "README.md").read_text()
    assert f"examples/{name}" in recipe
    assert f"docs/{RECIPES[name]}" in readme


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_what_a_page_quotes_from_an_example_stands_in_it(page):
    quoted = QUOTED.findall(page.read_text())
    missing = [file for file, words in quoted if words.strip("\n") not in (ROOT / file).read_text()]
    assert missing == []
    if page.name in RECIPES.values():
        assert quoted, f"{page.name} shows nothing of its example"
