"""The file trigger: each file of a watched folder opens one case; its content is kept."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from fnmatch import fnmatchcase
from pathlib import Path

from watchfiles import awatch

from coordinator.errors import CoordinatorError
from coordinator.triggers.blobs import Blobs
from coordinator.triggers.mail import MOST_BYTES, Refused
from coordinator.triggers.opening import Opener
from coordinator.workflows.expressions import ExpressionFailed
from coordinator.workflows.model import FolderTrigger
from specialists.errors import SpecialistsError

log = logging.getLogger("coordinator.triggers")
SETTLE_SECONDS = 0.3  # a file that nobody has written to for so long is whole
AGAIN_SECONDS = 30.0


class FolderWatch:
    """Looks into one folder whenever something changes in it."""

    def __init__(self, opener: Opener, blobs: Blobs, refused: Refused, base: Path) -> None:
        assert isinstance(opener.trigger, FolderTrigger)
        self.folder, self.pattern = base / opener.trigger.folder, opener.trigger.pattern
        self._opener, self._blobs, self._refused = opener, blobs, refused
        self._seen: dict[Path, tuple[int, int, int]] = {}

    async def run(self) -> None:
        """Go on looking: at every change, and now and then in case one was not told."""
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                await self.look()
                changes = awatch(self.folder, recursive=False, step=50, yield_on_timeout=True,
                                 rust_timeout=int(AGAIN_SECONDS * 1000), stop_event=None)  # fmt: skip
                async for _ in changes:
                    await self.look()
            except (CoordinatorError, SpecialistsError, OSError) as error:
                log.warning("%s: folder not read, tried again: %s", self._opener.workflow.id, error)
            await asyncio.sleep(AGAIN_SECONDS)

    async def look(self) -> list[str]:
        """Open a case for each file that has none; the cases of files that are new or changed."""
        cases: list[str] = []
        while waiting := [path for path in self._files() if self._seen.get(path) != _state(path)]:
            ready = [path for path in waiting if _age(path) >= SETTLE_SECONDS]
            for path in ready:
                before = _state(path)
                cases += await self._take(path)
                if before is not None:
                    self._seen[path] = before
            if len(ready) < len(waiting):
                await asyncio.sleep(SETTLE_SECONDS / 2)
        return cases

    def _files(self) -> list[Path]:
        found = []
        for entry in os.scandir(self.folder):
            wanted = fnmatchcase(entry.name, self.pattern) and not entry.name.startswith(".")
            if wanted and entry.is_file(follow_symlinks=False):
                found.append(Path(entry.path))
        return sorted(found)

    async def _take(self, path: Path) -> list[str]:
        """The case of one file; what cannot become one is told to the ledger and passed over."""
        try:
            event = self._blobs.keep(await asyncio.to_thread(_read, path), path.name)
            event |= {"source": str(path), "folder": str(self.folder)}
            if not self._opener.wanted(event):
                return []
            title = f"{self._opener.workflow.name}: {path.name}"
            return [self._opener.open("file", event, title, f"{path.name} {event['digest']}")]
        except FileNotFoundError:  # gone again
            return []
        except (ExpressionFailed, ValueError, OSError) as error:
            await self._refused(f"folder {self.folder}", f"{path.name}: {error}")
            return []


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no regular file")
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than the {MOST_BYTES} bytes taken")
    return content


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _age(path: Path) -> float:
    """Seconds since somebody wrote to it; a time in the future counts as whole."""

    try:
        age = time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return SETTLE_SECONDS
    return age if age >= 0 else SETTLE_SECONDS
