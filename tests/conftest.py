"""What the tests of every package share."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The loop that tests marked `anyio` run in."""
    return "asyncio"
