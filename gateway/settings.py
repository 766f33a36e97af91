"""What can be set: the table `[gateway]` of pointsman.toml, and POINTSMAN_GATEWAY__NAME over it."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.errors import UsageError

PREFIX = "POINTSMAN_GATEWAY__"
MB = 1_048_576
PATHS = frozenset(("servers", "policy", "recording", "checkpoints", "jwt_jwks"))  # in a file: relative to it


class Settings(BaseSettings):
    """Every setting of the gateway, with its default."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8420, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    servers: str = Field(
        "", description="the mcp.json; empty: ./mcp.json, else HOME/mcp.json, else the bundled one"
    )
    policy: str = Field("", description="directory of Cedar policies; empty: ./policy, else the bundled one")
    recording: str = Field("", description="directory of a recorded incident for the bundled tool servers")
    environment: str = Field("local", description="name of this environment, as policies see it")
    allowed_hosts: list[str] = Field([], description="names a Host header may carry beside the loopback ones")
    allowed_origins: list[str] = Field([], description="origins a browser may call from; loopback is allowed")
    url: str = Field(
        "",
        pattern=r"^(https?://[^/?#\s\"\\]+(/[^?#\s\"\\]*)?)?$",
        description="the address callers know this gateway by; empty: the one it listens on",
    )
    jwt_issuer: str = Field("", description="whose JWTs are taken, exactly as in `iss`; empty: nobody's")
    jwt_jwks: str = Field("", description="the issuer's public keys: a JWKS URL or file")
    jwt_audience: str = Field("", description="whom a JWT may be for (`aud`), beside this gateway's address")
    jwt_scopes: str = Field(
        "", pattern=r"^[\x20\x21\x23-\x5b\x5d-\x7e]*$", description="scopes a JWT must have, all of them"
    )
    jwt_subject: str = Field("sub", min_length=1, description="the claim that names the subject")
    jwt_roles: str = Field(
        "roles", min_length=1, description="the claim that holds its roles; a.b for nested"
    )
    max_body_bytes: int = Field(MB, ge=1024, description="largest request body")
    max_result_bytes: int = Field(16 * MB, ge=1024, description="largest answer of a tool server")
    call_seconds: float = Field(
        30, gt=0, description="deadline of a call, unless the server's entry sets one"
    )
    connect_seconds: float = Field(10, gt=0, description="deadline of reaching a tool server")
    max_concurrent: int = Field(256, ge=1, description="calls of one subject in flight at once")
    max_per_minute: int = Field(0, ge=0, description="calls of one subject a minute; 0: no limit")
    max_per_case: int = Field(0, ge=0, description="calls of one case altogether; 0: no limit")
    max_sessions: int = Field(10_000, ge=1, description="legacy sessions held open at once")
    session_idle_seconds: float = Field(
        1800, gt=0, description="after which an unused legacy session is closed"
    )
    approval_seconds: float = Field(3600, gt=0, description="how long an approval waits before it expires")
    database: str = Field(
        "", description="postgres:// URL for ledger, approvals, tokens, pins; empty: HOME/ledger.db"
    )
    durability: str = Field(
        "full", pattern="^(full|async)$", description="full: fsync; async: may lose a second"
    )
    checkpoints: str = Field("", description="directory for signed ledger checkpoints; empty: XDG_STATE_HOME")
    checkpoint_key: str = Field(
        "", description="Ed25519 key (PEM) that signs them, by reference; empty: one made beside them"
    )
    checkpoints_also: str = Field(
        "", pattern="^(stdout|syslog|)$", description="stdout or syslog: tell every checkpoint there too"
    )

    _source: str = PrivateAttr("")

    @property
    def source(self) -> str:
        """The pointsman.toml that was read; empty when there was none."""
        return self._source

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: Any,
        init_settings: Any,
        env_settings: Any,
        dotenv_settings: Any,
        file_secret_settings: Any,
    ) -> Any:
        """The environment wins over the file."""
        return env_settings, init_settings


def home() -> Path:
    """The directory that holds the gateway's state."""
    return Path(os.environ.get("POINTSMAN_HOME") or ".pointsman").absolute()


def config_file(given: str | None = None) -> Path | None:
    """The pointsman.toml in force: the one given, POINTSMAN_CONFIG, or the one in this directory."""
    named = given or os.environ.get("POINTSMAN_CONFIG")
    if named:
        if not Path(named).is_file():
            raise UsageError(f"cannot read {named}: there is no such file; name a pointsman.toml that exists")
        return Path(named)
    return Path("pointsman.toml") if Path("pointsman.toml").is_file() else None


def load(given: str | None = None, **over: Any) -> Settings:
    """The settings from file and environment, with `over` (options of a command) on top."""
    path = config_file(given)
    table = _table(path) if path else {}
    for name in PATHS & table.keys():
        if path and table[name] and isinstance(table[name], str) and "://" not in table[name]:
            table[name] = str(path.absolute().parent / table[name])
    _known(table, f"{path} [gateway]")
    _known((k.removeprefix(PREFIX).lower() for k in os.environ if k.startswith(PREFIX)), "the environment")
    try:
        settings = Settings(**table)
        if over := {k: v for k, v in over.items() if v is not None}:
            settings = Settings.model_validate({**settings.model_dump(), **over})
            settings = settings.model_copy(update=over)
        settings._source = str(path.absolute()) if path else ""
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"setting gateway.{name} refused: {first['msg']}; correct it in {path or 'the environment'}"
        ) from None
    settings._source = str(path.absolute()) if path else ""
    return settings


def _table(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}; correct that line") from None
    table = document.get("gateway", {})
    if not isinstance(table, dict):
        raise UsageError(f"cannot read {path}: gateway is not a table; write [gateway]")
    return table


def _known(names: Iterable[str], where: str) -> None:
    for name in names:
        if name not in Settings.model_fields:
            near = difflib.get_close_matches(name, Settings.model_fields, 1, 0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(Settings.model_fields)}"
            raise UsageError(f"unknown setting {name!r} in {where}: {hint}")
