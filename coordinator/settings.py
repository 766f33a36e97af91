"""What can be set about the coordinator: the `[coordinator]` table of pointsman.toml."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import SettingsConfigDict

from coordinator.gates import Thresholds
from specialists.errors import SettingsError
from specialists.settings import TableSettings, config_path

HookKind = Literal["alertmanager", "grafana", "pagerduty", "github", "cloudevents", "generic"]
SHORTEST_SECRET = 16


class Hook(BaseModel):
    """One `[coordinator.hooks.NAME]` table: who may send to `POST /hooks/NAME`, and how it proves it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: HookKind | None = Field(
        default=None, description="what the source sends; empty: as the table is named"
    )
    secret_env: str = Field(
        description="the variable that holds the bearer token, or the key of the signature"
    )
    mapping: dict[str, str] = Field(
        default={}, description='where the fields of a generic body are, such as title = "event.name"'
    )

    def kind_of(self, name: str) -> str:
        """What is sent to the hook of this name."""
        if self.kind is None and name not in get_args(HookKind):
            raise SettingsError(
                f"[coordinator.hooks.{name}] needs a kind: one of {', '.join(get_args(HookKind))}"
            )
        return self.kind or name

    def secret(self) -> str:
        """The secret, from the environment only."""
        secret = os.environ.get(self.secret_env, "")
        if len(secret) < SHORTEST_SECRET:
            problem = "is not set" if not secret else f"has fewer than {SHORTEST_SECRET} characters"
            raise SettingsError(f"{self.secret_env}, the secret of a hook, {problem}: export it first")
        return secret


class Limits(BaseModel):
    """The `[coordinator.limits]` table: how many cases may run at once, over all workers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workflow: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="by workflow, such as invoice-triage = 4"
    )
    tenant: int = Field(default=0, ge=0, description="of one tenant in one workflow; 0: no limit")


class CoordinatorSettings(TableSettings):
    """The `[coordinator]` table; the environment (`POINTSMAN_COORDINATOR__…`) wins over the file."""

    model_config = SettingsConfigDict(env_prefix="POINTSMAN_COORDINATOR__")
    table: ClassVar[str] = "coordinator"

    gateway_url: str = Field(
        default="", description="an MCP gateway that runs elsewhere; its token comes from POINTSMAN_TOKEN"
    )
    recording: str = Field(
        default="", description="the recorded incident to open when no tool servers are configured"
    )
    login: str = Field(default="", description="who you are in the ledger; the login name when empty")
    specialist_seconds: float = Field(default=60.0, gt=0, description="deadline of one specialist")
    confidence: float = Field(
        default=0.5, ge=0, le=1, description="gate: the best cause is at least this sure"
    )
    margin: float = Field(
        default=0.05, ge=0, le=1, description="gate: and this much ahead of a rival elsewhere"
    )
    freshness_minutes: float = Field(
        default=15, gt=0, description="gate: the newest data is at most this old"
    )
    host: str = Field(default="127.0.0.1", description="where `pointsman up` listens for alerts")
    port: int = Field(default=8421, ge=0, le=65535, description="and its port; 0 takes a free one")
    workers: int = Field(
        default=2, ge=0, le=32, description="cases that one process runs at the same time; 0: up runs none"
    )
    database: str = Field(
        default="", description="postgres:// URL for cases, checkpoints and queues; empty: files in HOME"
    )
    lease_seconds: float = Field(
        default=15, ge=1, description="after so long without a sign of life a worker's cases go to others"
    )
    limits: Limits = Field(
        default=Limits(), description="how many cases run at once, of all workers together"
    )
    gather_seconds: float = Field(
        default=10, ge=0, description="how long a case that an alert has opened waits for further ones"
    )
    deliver_to: tuple[str, ...] = Field(
        default=(), description="where reports go: tickets, and names of [tool_servers.delivery]"
    )
    workflows: str = Field(
        default="workflows", description="the folder of workflow files, beside pointsman.toml"
    )
    hooks: dict[str, Hook] = Field(default={}, description="who may deliver alerts")

    def workflow_folder(self, config: str | None) -> Path:
        """Where the workflow files are."""
        path = config_path(config)
        return (path.absolute().parent if path else Path()) / self.workflows

    def thresholds(self) -> Thresholds:
        """From where on the gates are satisfied."""
        return Thresholds(
            confidence=self.confidence,
            margin=self.margin,
            freshness=timedelta(minutes=self.freshness_minutes),
        )


def home() -> Path:
    """Where state is kept: POINTSMAN_HOME, else ./.pointsman."""
    return Path(os.environ.get("POINTSMAN_HOME") or ".pointsman").expanduser().resolve()
