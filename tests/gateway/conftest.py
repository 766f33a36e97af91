"""A tool server of the tests, and both databases for the tests of what is kept in them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import own_schema, run_name, start_server
from tests.gateway.records import PLACES
from tests.gateway.world import FakeServer, fake_server


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeServer]:
    """A tool server of the test's own, which does as it is told."""
    with fake_server(tmp_path / "fake") as running:
        yield running


@pytest.fixture(scope="session")
def postgres_server() -> Any:
    """One PostgreSQL server for the whole run."""
    return start_server(run_name())


@pytest.fixture
def postgres_url(postgres_server: Any) -> str:
    """A database of its own."""
    return own_schema(postgres_server.get_uri())


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """Where a store may lie."""
    return tmp_path / "s.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture(params=["sqlite", "postgres"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A home whose records are in a file of its own, or in PostgreSQL."""
    found = tmp_path / "home"
    if request.param == "postgres":
        PLACES[found] = request.getfixturevalue("postgres_url")
    yield found
    PLACES.pop(found, None)


BOTH = ("test_approvals", "test_tokens")  # whose tests keep their records in `tmp_path`


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what keeps records on both databases."""
    if metafunc.module.__name__.rpartition(".")[2] in BOTH and "tmp_path" in metafunc.fixturenames:
        metafunc.fixturenames.append("records_in")
        metafunc.parametrize("records_in", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def records_in(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Keep the records of `tmp_path` in this database."""
    if request.param == "postgres":
        PLACES[tmp_path] = request.getfixturevalue("postgres_url")
    yield
    PLACES.pop(tmp_path, None)
