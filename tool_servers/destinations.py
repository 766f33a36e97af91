"""Where reports may be sent: the `[tool_servers.delivery.NAME]` tables, whose secrets come by reference."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tool_servers.errors import Unavailable

REFERENCE = re.compile(r"\$\{(env|file):([^}]+)\}")
NEEDS = {
    "files": ("directory",),
    "webhook": ("url", "secret"),
    "email": ("url", "sender", "to"),
    "chat": ("url",),
}
URLS = {"webhook": ("http", "https"), "chat": ("http", "https"), "email": ("smtp", "smtps")}


class Destination(BaseModel):
    """One place that the operator has named; a caller knows its name only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["files", "webhook", "email", "chat"] = Field(description="What is sent there, and how.")
    directory: str = Field("", description="files: the directory to write into.")
    formats: tuple[Literal["md", "html", "pdf"], ...] = Field(
        ("md", "html"), description="files: what to write; pdf needs the extra `pdf`."
    )
    url: str = Field("", description="webhook, chat: where to POST; email: smtp://HOST:PORT or smtps://…")
    secret: str = Field("", description="webhook: the key that signs; email: the password of `user`.")
    user: str = Field("", description="email: who logs in; empty = nobody.")
    sender: str = Field("", description="email: the From address.")
    to: tuple[str, ...] = Field((), description="email: the addresses it goes to.")

    @model_validator(mode="after")
    def _complete(self) -> Destination:
        missing = [name for name in NEEDS[self.kind] if not getattr(self, name)]
        if missing:
            raise ValueError(f"a destination of kind {self.kind} needs {' and '.join(missing)}")
        schemes = URLS.get(self.kind, ())
        if schemes and not self.url.startswith(("${", *(f"{scheme}://" for scheme in schemes))):
            raise ValueError(f"the url of a destination of kind {self.kind} begins with {schemes[0]}://")
        return self

    def resolved(self, field: str) -> str:
        """A field's value, whatever it refers to read now; Unavailable when it cannot be."""
        return resolve(str(getattr(self, field)), field)


def resolve(text: str, field: str) -> str:
    """A text with `${env:NAME}` and `${file:PATH}` replaced by what they stand for."""

    def value(match: re.Match[str]) -> str:
        where, name = match.groups()
        if where == "env":
            if (found := os.environ.get(name)) is None:
                raise Unavailable(f"{field}: {name} is not set in the environment of the delivery server")
            return found
        try:
            return Path(name).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Unavailable(f"{field}: cannot read {name}: {error.strerror}") from None

    return REFERENCE.sub(value, text)


def literal_secrets(tables: dict[str, Any]) -> list[str]:
    """The secrets that stand in a settings file themselves, where a reference belongs."""
    found = []
    for name, table in tables.items():
        if not isinstance(table, dict):
            continue
        secret = ["secret", "url"] if table.get("kind") == "chat" else ["secret"]
        found += [
            f"{name}.{key}" for key in secret if table.get(key) and not REFERENCE.fullmatch(str(table[key]))
        ]
    return found
