"""The other end of a request: who asks, in which era, and the way back while the request runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from gateway.errors import MethodNotFound
from gateway.types import Subject
from gateway.wire import LEGACY, MODERN

if TYPE_CHECKING:
    from gateway.sessions import Session

Era = Literal["modern", "legacy"]
NO_HEADERS: dict[str, str] = {}
NOTHING: dict[str, Any] = {}


class Caller:
    """One request's caller; this plain one has no way back, as commands of this process need none."""

    __slots__ = (
        "capabilities",
        "endpoint",
        "era",
        "headers",
        "info",
        "request_id",
        "session",
        "subject",
        "version",
    )

    def __init__(
        self,
        subject: Subject,
        era: Era = "modern",
        *,
        version: str = "",
        capabilities: dict[str, Any] = NOTHING,
        info: dict[str, Any] | None = None,
        endpoint: str = "",
        session: Session | None = None,
        headers: dict[str, str] = NO_HEADERS,
        request_id: str | int | None = None,
    ) -> None:
        self.subject = subject
        self.era: Era = era
        self.version = version or (MODERN if era == "modern" else LEGACY[0])
        self.capabilities = capabilities
        self.info = info
        self.endpoint = endpoint  # "" for /mcp, else the server's name
        self.session = session
        self.headers = headers  # the caller's Mcp-Param-* headers, lower case
        self.request_id = request_id

    async def notify(self, message: dict[str, Any]) -> None:
        """Pass a notification back while the request runs."""

    async def ask(self, method: str, params: dict[str, Any] | None) -> dict[str, Any]:
        """Put a question of the server to the caller's client; its result."""
        raise MethodNotFound(f"{method} refused: this caller cannot be asked anything while its request runs")
