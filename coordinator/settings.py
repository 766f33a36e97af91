"""What can be set about the coordinator: the `[coordinator]` table of pointsman.toml."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from coordinator.gates import Thresholds
from specialists.settings import TableSettings


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
