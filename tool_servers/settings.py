"""What can be set for the tool servers: the `[tool_servers]` table, overridden by the environment."""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tool_servers.destinations import Destination, literal_secrets
from tool_servers.errors import BadSettings

PREFIX = "POINTSMAN_TOOL_SERVERS__"


def _state_home() -> str:
    return str(Path(os.environ.get("POINTSMAN_HOME") or ".pointsman") / "tools")


PATHS = frozenset(("recording", "state", "logs", "git", "runbooks"))  # in a file: relative to that file


class ToolServersSettings(BaseSettings):
    """Where the data comes from. A recording, when one is served, comes before every live back-end."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    recording: str = Field("", description="Directory of a recorded incident.")
    state: str = Field(default_factory=_state_home, description="Directory for tickets, index and state.")
    prometheus: str = Field("", description="URL of a Prometheus HTTP API, for metrics.")
    service_label: str = Field("service", description="The Prometheus label that names the service.")
    logs: str = Field("", description="Directory of plain or NDJSON log files, for logs.")
    git: str = Field("", description="A git repository, for changes.")
    kubectl: bool = Field(False, description="Ask a real cluster through kubectl, for kubernetes.")
    kube_context: str = Field("", description="The kubectl context; empty = the current one.")
    runbooks: str = Field("", description="Directory that runbooks may be ingested from; empty = none.")
    delivery: dict[str, Destination] = Field({}, description="Where reports may be sent, a table each.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment over what is passed in, which comes from the file."""
        return env_settings, init_settings


def load(config: str = "", overrides: dict[str, Any] | None = None) -> ToolServersSettings:
    """Read pointsman.toml and the environment; `overrides` come from the command line and win."""
    path = Path(config or os.environ.get("POINTSMAN_CONFIG", "") or "pointsman.toml")
    table = _read_table(path, named=bool(config or os.environ.get("POINTSMAN_CONFIG")))
    for name in PATHS & table.keys():
        if table[name] and isinstance(table[name], str):
            table[name] = str(path.absolute().parent / table[name])
    _deliveries(table.get("delivery"), path)
    known = set(ToolServersSettings.model_fields)
    for key in table:
        _check_known(key, known, "[tool_servers]")
    for key in os.environ:
        if key.startswith(PREFIX):
            name = key.removeprefix(PREFIX).lower().partition("__")[0]
            _check_known(name, known, "environment variable " + key)
    try:
        settings = ToolServersSettings(**table)
        return settings.model_copy(update=overrides or {})
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise BadSettings(f"[tool_servers] {field}: {problem['msg']}{_given(problem)}; correct it") from error


def _given(problem: Any) -> str:
    """What was given, but for a destination, which may hold a secret."""
    return "" if problem["loc"][0] == "delivery" else f"; got {problem['input']!r}"


def _deliveries(tables: Any, path: Path) -> None:
    """Destinations of the file: no secret in it, and their directories relative to it."""
    if not isinstance(tables, dict):
        return
    if literal := literal_secrets(tables):
        raise BadSettings(
            f"{path}: tool_servers.delivery.{literal[0]} is a secret and stands in the file: write "
            f"${{file:PATH}} or ${{env:NAME}} there, or set {PREFIX}DELIVERY__"
            f"{literal[0].upper().replace('.', '__')} in the environment"
        )
    for table in tables.values():
        if isinstance(table, dict) and isinstance(table.get("directory"), str):
            table["directory"] = str(path.absolute().parent / table["directory"])


def _check_known(key: str, known: set[str], where: str) -> None:
    if key not in known:
        near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)
        raise BadSettings(f"{where}: unknown setting {key!r}; did you mean {near[0]!r}?")


def _read_table(path: Path, named: bool) -> dict[str, Any]:
    if not path.exists():
        if named:
            raise BadSettings(f"{path}: no such file; name an existing one with --config")
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool_servers", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path}: not TOML: {error}; correct it") from error
    if not isinstance(table, dict):
        raise BadSettings(f"{path}: [tool_servers] is not a table; write it as one")
    return table
