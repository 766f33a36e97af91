"""Calls from one service to another, with deadlines and trace context."""

import json
from pathlib import Path

import aiohttp

from kit.telemetry import Telemetry, traceparent


class CallFailed(Exception):
    """Another service did not answer, or answered with an error."""


class Caller:
    """Finds services by name and calls them."""

    def __init__(self, telemetry: Telemetry, run_dir: Path) -> None:
        self.telemetry = telemetry
        self._discovery = run_dir / "discovery.json"
        self._session: aiohttp.ClientSession | None = None

    def _address(self, service: str) -> str:
        port = json.loads(self._discovery.read_text(encoding="utf-8"))[service]
        return f"http://127.0.0.1:{port}"

    async def call(
        self, service: str, method: str, path: str, body: dict | None = None, timeout: float = 2.0
    ) -> tuple[int, dict]:
        """The status and body another service answers with; CallFailed for 5xx, refusal or lateness."""
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))
        with self.telemetry.span(f"{method} {service}", kind="client", peer=service):
            try:
                async with self._session.request(
                    method,
                    self._address(service) + path,
                    json=body,
                    headers={"traceparent": traceparent()},
                    timeout=aiohttp.ClientTimeout(total=timeout),
                ) as response:
                    answer = await response.json()
            except TimeoutError:
                raise CallFailed(f"{service} did not answer within {timeout:g} s") from None
            except aiohttp.ClientError as error:
                raise CallFailed(f"{service} could not be reached: {type(error).__name__}") from error
            if response.status >= 500:
                raise CallFailed(f"{service} answered {response.status}: {answer.get('error', '')}")
            return response.status, answer

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
