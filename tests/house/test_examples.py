"""The examples are programs that check themselves; these run them, and hold the recipes to their words."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.openai_server import serving

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
RECIPES = {
    "own_tool_server": "add-a-tool-server.md",
    "own_specialist": "add-a-specialist.md",
    "own_policy": "add-a-policy.md",
    "local_to_cloud": "modes.md",
    "workflows": "workflows.md",
}
# What a model does in examples/local_to_cloud: look for deadlocks, and blame them.
LOOK = {"name": "logs__search", "arguments": {"text": "deadlock detected", "limit": 100}}
CAUSE = {"category": "saturation", "object": "service/ledger", "label": "deadlocks", "confidence": 0.8}
STANDS = {
    "statement": "Ledger deadlocks.",
    "evidence": [{"call": "{{call:0}}", "quote": "{{line:0:deadlock}}"}],
}
SAID = {"status": "found", "summary": "Deadlocks.", "causes": [CAUSE | STANDS]}
QUOTED = re.compile(r"^```\w+ (examples/\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_example_of_ones_own_has_a_recipe():
    found = {path.parent.name for path in EXAMPLES.glob("*/run.py")}
    assert found == set(RECIPES)


@contextmanager
def arguments(name):
    """What an example's run.py is given besides: an endpoint and a model, where it can use them."""
    if name != "local_to_cloud":
        yield []
        return
    with serving({"turns": [{"tool_calls": [LOOK]}, {"answer": SAID}]}) as (url, model):
        yield [url, "scripted"]
    assert [len(request["messages"]) for request in model.requests] == [2, 4]


@pytest.mark.parametrize("name", RECIPES)
def test_an_example_does_what_it_says(name, tmp_path):
    with arguments(name) as given:
        does_what_it_says(name, tmp_path, given)


def does_what_it_says(name, tmp_path, given):
    done = subprocess.run(
        [sys.executable, EXAMPLES / name / "run.py", *given],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=280,
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
