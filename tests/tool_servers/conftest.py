"""A recording and a world for the tests of the tool servers."""

from pathlib import Path

import pytest

from tests.tool_servers.making import a_world, make_recording
from tool_servers.world import World


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty directory, so that no file of this machine's user is read."""
    empty = tmp_path / "elsewhere"
    empty.mkdir()
    monkeypatch.chdir(empty)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return make_recording(tmp_path / "recording")


@pytest.fixture
def world(recording: Path, tmp_path: Path) -> World:
    return a_world(tmp_path / "state", recording=str(recording))
