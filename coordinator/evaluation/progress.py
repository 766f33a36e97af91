"""The progress bar of an evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable

from coordinator.evaluation.cases import Row


class Progress:
    """A progress bar on standard error, drawn only on a terminal."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._right = self._done = 0
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not os.isatty(2),
            transient=True,
        )
        self._task = self._bar.add_task("A@1  –", total=total)

    def __enter__(self) -> Callable[[Row], None]:
        self._bar.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _tell(self, row: Row) -> None:
        self._done += 1
        self._right += row.rank == 1
        share = self._right / self._done
        self._bar.update(self._task, advance=1, description=f"A@1 {share:.3f}  {row.case}")
