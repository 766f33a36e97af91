"""What the commands `hooks send` and `hooks example` do once they are called."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

import httpx2

from coordinator.errors import CoordinatorError, UsageError
from coordinator.hooks.sources import READERS, sign
from coordinator.settings import CoordinatorSettings
from specialists.settings import nearest

EXAMPLES = Path(__file__).parent / "examples"
SECONDS = 10
EVENTS = {"github": "deployment_status"}  # what the example of a kind is, where a header says so


class NotTaken(CoordinatorError):
    """A delivery that was not taken, or that nobody was there to take."""

    code = "hook_not_taken"

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def example(kind: str) -> str:
    """A body as this kind of source sends it."""
    if kind not in READERS:
        raise UsageError(f"no example of {kind!r}: {nearest(kind, READERS)}")
    return (EXAMPLES / f"{kind}.json").read_text(encoding="utf-8")


def run_send(name: str, file: str | None, url: str | None, as_json: bool, config: str | None) -> None:
    """Deliver a body to a hook, signed as its source would sign it, and print what it opened."""
    settings = CoordinatorSettings.load(config)
    hook = settings.hooks.get(name)
    if hook is None:
        known = nearest(name, settings.hooks) if settings.hooks else "none is configured"
        raise UsageError(f"no hook {name!r} in pointsman.toml: {known}; add [coordinator.hooks.{name}]")
    kind = hook.kind_of(name)
    body = _body(file, kind)
    headers = {"Content-Type": "application/json", **sign(kind, body, hook.secret())}
    if kind == "github":
        headers |= {"X-GitHub-Event": EVENTS["github"], "X-GitHub-Delivery": str(uuid.uuid4())}
    where = url or f"http://{settings.host}:{settings.port}"
    answer = _post(f"{where.rstrip('/')}/hooks/{name}", body, headers)
    if as_json:
        print(json.dumps(answer))
        return
    for one in answer["cases"]:
        print(f"{one['case']}  {one['url']}")
    if not answer["cases"]:
        print("taken, and it opens no case")


def _body(file: str | None, kind: str) -> bytes:
    if file is None:
        return example(kind).encode()
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}; name a JSON file, or - for stdin") from None


def _post(url: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    try:
        answer = httpx2.post(url, content=body, headers=headers, timeout=SECONDS, trust_env=False)
    except httpx2.HTTPError as error:
        raise NotTaken(
            f"nobody takes alerts at {url}: {error}; start `pointsman up`, or name its address with --url", 5
        ) from None
    if answer.status_code != 202:
        raise NotTaken(f"not taken (HTTP {answer.status_code}): {answer.text[:500]}", 3)
    return answer.json()
