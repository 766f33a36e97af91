"""Answers that their callers do not take: they lie in memory, so nobody may let too much of them lie."""

from __future__ import annotations

from typing import Protocol

LARGE = 65_536  # bytes of an answer that wait, from which on they are counted
MOST = 67_108_864  # bytes that may wait for one subject before it has to read some


class Connection(Protocol):
    """A connection to a caller."""

    @property
    def unread(self) -> int:
        """Bytes that wait to be taken; 0 when it is closed."""
        ...


class Unread:
    """What each subject has not read yet."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[Connection]] = {}

    def add(self, subject: str, connection: Connection) -> None:
        """Count what waits on this connection, until it has been taken."""
        self._waiting.setdefault(subject, set()).add(connection)

    def size(self, subject: str) -> int:
        """The bytes that wait for this subject."""
        waiting = self._waiting.get(subject)
        if waiting is None:
            return 0
        sizes = {connection: connection.unread for connection in waiting}
        left = {connection for connection, size in sizes.items() if size}
        if left:
            self._waiting[subject] = left
        else:
            del self._waiting[subject]
        return sum(sizes.values())
