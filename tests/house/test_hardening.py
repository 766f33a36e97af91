"""The page on hardening shows exactly the modes that the tests run."""

import re

from tests.gateway.hostile import modes
from tests.house.test_examples import ROOT

PAGE = (ROOT / "docs" / "hardening.md").read_text()
TABLES = (modes.CALLS, modes.STANDING, modes.STDIO, modes.STDIO_STANDING, modes.CLIENTS)


def test_the_page_and_the_tests_have_the_same_modes_and_outcomes():
    shown = re.findall(r"^\| `([\w-]+)` \| (.+) \| `([^`]+)` \|$", PAGE, re.M)
    assert shown == [(name, *mode) for table in TABLES for name, mode in table.items()]


def test_every_mode_of_a_client_has_a_test():
    text = (ROOT / "tests" / "gateway" / "hostile" / "test_clients.py").read_text()
    named = {
        name for name in modes.CLIENTS if f'"{name}"' in text or f"def test_{name.replace('-', '_')}(" in text
    }
    assert named == set(modes.CLIENTS)
