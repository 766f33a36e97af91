"""What can be set about specialists, and how a table of pointsman.toml is read.

A `[specialists.NAME]` table switches where a specialist runs; keys of the mode that is not chosen may
stay in the table, so that switching is one line. `[specialists.defaults]` holds what all share.
The environment wins over the file: `POINTSMAN_SPECIALISTS__LOGS__MODE=cloud`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    SecretStr,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from specialists.errors import SettingsError

TABLES = ("gateway", "coordinator", "specialists", "tool_servers")
DEFAULTS = "defaults"
_from_file: ContextVar[Mapping[str, Any] | None] = ContextVar("_from_file", default=None)


def config_path(given: str | Path | None = None) -> Path | None:
    """The settings file: the one given, else POINTSMAN_CONFIG, else ./pointsman.toml if it is there."""
    named = given or os.environ.get("POINTSMAN_CONFIG")
    if named:
        if not Path(named).is_file():
            raise SettingsError(
                f"{named}: no such file; correct --config or POINTSMAN_CONFIG, or `pointsman init`"
            )
        return Path(named)
    usual = Path("pointsman.toml")
    return usual if usual.is_file() else None


def read_table(path: Path | None, name: str) -> dict[str, Any]:
    """One table of the settings file; empty when there is no file or no such table."""
    if path is None:
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read as TOML: {error}; correct the file") from error
    for table in tables:
        if table not in TABLES:
            raise SettingsError(f"{path}: unknown table [{table}]; {nearest(table, TABLES)}")
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: {name} is not a table; write [{name}]")
    return table


def nearest(word: str, known: Iterable[str]) -> str:
    """Advice on a word that is not known: the nearest that is, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


class TableSettings(BaseSettings):
    """Settings that live in one table of pointsman.toml, the environment winning; a base for other packages.

    A subclass names its `table` and sets `env_prefix="POINTSMAN_TABLE__"`.
    """

    model_config = SettingsConfigDict(env_nested_delimiter="__", extra="forbid", frozen=True)
    table: ClassVar[str] = ""
    _source: Path | None = PrivateAttr(default=None)

    @property
    def source(self) -> Path | None:
        """The file these settings came from, if any."""
        return self._source

    @classmethod
    def load(cls, config: str | Path | None = None) -> Self:
        """Read the table and the environment; SettingsError names the place and the nearest known key."""
        path = config_path(config)
        values = cls.from_table(read_table(path, cls.table))
        _refuse_unknown_prefixes()
        cls._refuse_unknown_environment(path)
        token = _from_file.set(values)
        try:
            settings = cls()
        except ValidationError as error:
            raise SettingsError(_told(error, cls, path)) from error
        finally:
            _from_file.reset(token)
        settings._source = path
        return settings

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> dict[str, Any]:
        """The table of the file as values of the fields."""
        return table

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given in code, over the environment, over the file."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, dict(_from_file.get() or {}))

    @classmethod
    def _refuse_unknown_environment(cls, path: Path | None) -> None:
        prefix = str(cls.model_config.get("env_prefix", "")).upper()
        if not prefix.endswith("__"):
            return
        for variable in os.environ:
            if variable.upper().startswith(prefix):
                key = variable[len(prefix) :].lower().partition("__")[0]
                if key not in cls.model_fields:
                    raise SettingsError(
                        f"environment {variable}: unknown key; {nearest(key, cls.model_fields)}"
                    )


def _refuse_unknown_prefixes() -> None:
    """SettingsError for a variable that is written as a setting and belongs to no table."""
    known = [f"POINTSMAN_{table.upper()}__" for table in TABLES]
    for variable in os.environ:
        start, mark, _ = variable.upper().partition("__")
        if mark and start.startswith("POINTSMAN_") and start + mark not in known:
            raise SettingsError(
                f"environment {variable}: no table of settings begins so; {nearest(start + mark, known)}"
            )


class Entry(BaseModel):
    """What every `[specialists.NAME]` table may say."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    class_: str = Field(default="", alias="class", description='an own specialist, as "module:NAME"')


class Local(Entry):
    """The specialist runs in this process."""

    mode: Literal["local"] = "local"


HOSTED: dict[str, tuple[str, ...]] = {
    "compatible": (),
    "openai": ("web_search", "code_interpreter"),
    "foundry": ("web_search", "code_interpreter", "bing"),
}


class Cloud(Entry):
    """A hosted model reasons, with the same tools and the same rules of evidence."""

    mode: Literal["cloud"]
    provider: Literal["compatible", "openai", "foundry"] = Field(
        default="compatible", description="chat completions, the Responses API, or Azure AI Foundry"
    )
    base_url: str = Field(description="the endpoint, e.g. http://127.0.0.1:11434/v1; a Foundry project's URL")
    model: str = Field(description="the model's (or deployment's) name")
    api_key_env: str = Field(default="OPENAI_API_KEY", description="the variable that holds the key")
    hosted: tuple[Literal["web_search", "code_interpreter", "bing"], ...] = Field(
        default=(), description="tools of the provider to offer, where policy permits"
    )
    bing_connection: str = Field(default="", description="foundry: the id of the project's Bing connection")
    timeout: float = Field(default=60.0, gt=0, description="seconds for one answer of the model")
    retries: int = Field(default=2, ge=0, le=10, description="how often to try again on 429 and 5xx")
    max_tool_calls: int = Field(
        default=20, ge=1, le=200, description="tool calls the model may make in a task"
    )
    token_budget: int = Field(
        default=200_000, ge=0, description="tokens this specialist may use in a case; 0: no limit"
    )
    fallback: Literal["none", "local"] = Field(
        default="none", description="who answers when the model cannot"
    )

    @field_validator("hosted", mode="before")
    @classmethod
    def _no_road_past_the_gateway(cls, hosted: Any) -> Any:
        if isinstance(hosted, list | tuple) and "mcp" in hosted:
            raise ValueError(
                "a hosted MCP tool cannot be offered: its results would reach the provider past the rules on "
                "what stays at home; register the server with `pointsman servers add`, and the model gets "
                "its tools through the gateway"
            )
        return hosted

    @model_validator(mode="after")
    def _hosted_fits_provider(self) -> Self:
        able = HOSTED[self.provider]
        if unable := [name for name in self.hosted if name not in able]:
            other = f"it has {', '.join(able)}" if able else "only openai and foundry have any"
            raise ValueError(f"provider {self.provider!r} has no hosted tool {unable[0]!r}: {other}")
        if "bing" in self.hosted and not self.bing_connection:
            raise ValueError(
                "the hosted tool 'bing' needs bing_connection, the id of the project's connection"
            )
        return self

    def key(self) -> SecretStr:
        """The key, from the environment only; many local endpoints need none."""
        return SecretStr(os.environ.get(self.api_key_env, "") or "none")


class Remote(Entry):
    """An A2A agent elsewhere does the work, with our tools through our gateway."""

    mode: Literal["remote"]
    url: str = Field(description="where the agent is, e.g. http://10.0.0.7:8431")
    token_env: str = Field(
        default="POINTSMAN_SPECIALIST_TOKEN", description="the variable that holds the agent's bearer token"
    )
    gateway_url: str = Field(
        default="", description="our gateway's MCP endpoint as the agent reaches it; empty: as we do"
    )
    patience: float = Field(default=5.0, ge=0, description="seconds to keep trying when the agent is lost")

    def token(self) -> SecretStr:
        """The agent's token, from the environment only; empty when there is none."""
        return SecretStr(os.environ.get(self.token_env, ""))


MODES: dict[str, type[Entry]] = {"local": Local, "remote": Remote, "cloud": Cloud}


def _mode_of(value: Any) -> str:
    return str(value.get("mode", "local") if isinstance(value, dict) else getattr(value, "mode", "local"))


Where = Annotated[
    Annotated[Local, Tag("local")] | Annotated[Remote, Tag("remote")] | Annotated[Cloud, Tag("cloud")],
    Discriminator(_mode_of),
]


class SpecialistsSettings(TableSettings):
    """The `[specialists.NAME]` tables."""

    model_config = SettingsConfigDict(env_prefix="POINTSMAN_")
    table: ClassVar[str] = "specialists"
    specialists: dict[str, Where] = {}

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> dict[str, Any]:
        """The whole table is one field."""
        return {"specialists": table}

    @model_validator(mode="before")
    @classmethod
    def _only_the_mode_chosen(cls, values: Any) -> Any:
        """Lay the defaults under every table and leave out what only another mode needs."""
        tables = dict(values.get("specialists") or {}) if isinstance(values, dict) else None
        if tables is None or not all(isinstance(table, dict) for table in tables.values()):
            return values
        defaults = dict(tables.pop(DEFAULTS, {}))
        unknown = {key: defaults.pop(key) for key in set(defaults) - _keys(*MODES.values())}
        chosen = {name: _chosen(defaults | table) for name, table in tables.items()}
        return values | {"specialists": chosen | ({DEFAULTS: unknown} if unknown else {})}

    def of(self, name: str) -> Local | Remote | Cloud:
        """What is set for one specialist; local when nothing is."""
        return self.specialists.get(name, Local())


def _keys(*entries: type[Entry]) -> set[str]:
    return {field.alias or name for entry in entries for name, field in entry.model_fields.items()}


def _chosen(table: dict[str, Any]) -> dict[str, Any]:
    mode = MODES.get(_mode_of(table))
    if mode is None:
        return table
    elsewhere = _keys(*MODES.values()) - _keys(mode)
    return {key: value for key, value in table.items() if key not in elsewhere}


def _told(error: ValidationError, cls: type[TableSettings], path: Path | None) -> str:
    """All problems of a settings table in one line, each with the variable or the file it comes from."""
    known = _names(cls)
    problems: dict[str, list[str]] = {}
    for problem in error.errors():
        place = [str(part) for part in problem["loc"] if part not in MODES]
        if place and place[0] != cls.table:
            place.insert(0, cls.table)
        key = place[-1] if place else cls.table
        why = _why(problem, key, known)
        if variable := _variable([*place, "mode"] if problem["type"] == "union_tag_invalid" else place):
            problems.setdefault(f"environment {variable}", []).append(why)
            continue
        where = f"[{'.'.join(place[:-1])}] {key}" if len(place) > 1 else f"[{key}]"
        problems.setdefault(str(path or "environment"), []).append(f"{where}: {why}")
    return "; ".join(f"{source}: {'; '.join(said)}" for source, said in problems.items())


def _variable(place: list[str]) -> str:
    """The variable that set the key at this place, if one did; for a specialist also through the defaults."""
    here = [place, [*place[:1], DEFAULTS, *place[2:]]] if len(place) > 2 else [place]
    names = [
        "__".join(["POINTSMAN", *parts]).replace("POINTSMAN__", "POINTSMAN_", 1).upper() for parts in here
    ]
    return next((v for name in names for v in os.environ if v.upper() == name), "")


def _why(problem: Any, key: str, known: set[str]) -> str:
    if problem["type"] == "extra_forbidden":
        return f"unknown key; {nearest(key, known)}"
    if problem["type"] == "missing":
        return "is missing; add it"
    if problem["type"] == "union_tag_invalid":
        *most, last = MODES
        return f"mode {problem['ctx']['tag']!r} is not known; use {', '.join(most)} or {last}"
    message = problem["msg"].removeprefix("Value error, ")
    given = "" if isinstance(problem["input"], Mapping) else f", not {problem['input']!r}"
    return f"{message[:1].lower()}{message[1:]}{given}"


def _names(model: type[BaseModel]) -> set[str]:
    """The keys of a model and of the models inside it."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        found.add(field.alias or name)
        for inner in _models(field.annotation):
            found |= _names(inner)
    return found


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
