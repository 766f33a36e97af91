"""What the servers of one process serve: a recording or live back-ends, the clock, and the state."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tool_servers.errors import BadRecording, Unavailable
from tool_servers.recording import Recording, Recordings
from tool_servers.settings import ToolServersSettings
from tool_servers.toolkit import format_time, parse_time


class World:
    """The recording and its clock (or real time without one), the settings, and where state is kept."""

    def __init__(self, settings: ToolServersSettings) -> None:
        self.settings = settings
        self.state_directory = Path(settings.state)
        self._recordings = Recordings(Path(settings.recording)) if settings.recording else None

    @property
    def recorded(self) -> bool:
        """Whether a recording is served."""
        return self._recordings is not None

    def recording(self) -> Recording:
        """The recording served now."""
        if self._recordings is None:
            raise Unavailable(
                "no recording is served and no live back-end is configured; start with --recording DIR "
                "or set one in the [tool_servers] table of pointsman.toml"
            )
        return self._recordings.current()

    def clock(self) -> float:
        """The moment beyond which nothing is shown."""
        return time.time() if self._recordings is None else parse_time(self.state()["clock"])

    def state(self) -> dict[str, Any]:
        """The state that actions change; fresh for a recording that is served for the first time."""
        recording = self.recording()
        path = self.state_directory / "state.json"
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return _fresh_state(recording)
        except ValueError as error:
            raise BadRecording(f"{path}: not JSON: {error}; remove it to start afresh") from error
        return state if state.get("recording") == _identity(recording) else _fresh_state(recording)

    @contextmanager
    def changing_state(self) -> Iterator[dict[str, Any]]:
        """The state to change; written whole at the end, one writer at a time."""
        self.state_directory.mkdir(parents=True, exist_ok=True)
        path = self.state_directory / "state.json"
        with (self.state_directory / "state.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self.state()
            yield state
            draft = path.with_suffix(".tmp")
            draft.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
            os.replace(draft, path)


def _identity(recording: Recording) -> str:
    return f"{recording.id} {recording.root}"


def _fresh_state(recording: Recording) -> dict[str, Any]:
    services: dict[str, Any] = {name: {} for name in sorted(recording.services)}
    services.update(recording.initial_state.get("services", {}))
    return {
        "recording": _identity(recording),
        "clock": format_time(recording.clock),
        "services": {
            name: {
                "version": service.get("version", ""),
                "previous": list(service.get("previous", [])),
                "replicas": service.get("replicas", 1),
                "restarts": 0,
            }
            for name, service in services.items()
        },
        "silences": [],
        "actions": [],
    }
