"""How much one subject may do at once, in a minute, and in a run."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import Refusal
from gateway.settings import Settings
from gateway.types import Call, Subject

REMEMBERED = 10_000


class Limits:
    """Counts calls in memory; a restart starts the counts again."""

    def __init__(self, settings: Settings) -> None:
        self._at_once = settings.max_concurrent
        self._a_minute = settings.max_per_minute
        self._a_run = settings.max_per_run
        self._running: dict[str, int] = {}
        self._minute: OrderedDict[str, tuple[float, float]] = OrderedDict()  # subject → (left, when)
        self._runs: OrderedDict[str, int] = OrderedDict()

    @contextmanager
    def admit(self, subject: Subject) -> Iterator[None]:
        """Let a call in, or refuse it because the subject has too many under way or too many behind it."""
        running = self._running.get(subject.id, 0)
        if running >= self._at_once:
            raise Refusal(
                "limit_exceeded",
                f"{subject.id} has {running} calls in flight, as many as it may: wait for one to end",
                retry_after=1,
            )
        if self._a_minute:
            self._rate(subject)
        self._running[subject.id] = running + 1
        try:
            yield
        finally:
            left = self._running[subject.id] - 1
            if left:
                self._running[subject.id] = left
            else:
                del self._running[subject.id]

    def _rate(self, subject: Subject) -> None:
        moment = time.monotonic()
        left, then = self._minute.pop(subject.id, (float(self._a_minute), moment))
        left = min(float(self._a_minute), left + (moment - then) * self._a_minute / 60)
        self._minute[subject.id] = (left - 1 if left >= 1 else left, moment)
        if len(self._minute) > REMEMBERED:
            self._minute.popitem(last=False)
        if left < 1:
            wait = round((1 - left) * 60 / self._a_minute, 1)
            raise Refusal(
                "limit_exceeded",
                f"{subject.id} has made its {self._a_minute} calls of this minute: wait {wait} s",
                retry_after=wait,
            )

    def spend(self, call: Call) -> None:
        """Take one call out of the run's budget."""
        run = call.subject.run
        if not self._a_run or not run:
            return
        spent = self._runs.pop(run, 0)
        self._runs[run] = min(spent + 1, self._a_run)
        if len(self._runs) > REMEMBERED:
            self._runs.popitem(last=False)
        if spent >= self._a_run:
            raise Refusal(
                "limit_exceeded", f"run {run} has made its {self._a_run} calls: finish with what is known"
            )
