"""The workflows there are: the files of the operator's folder, over those that are shipped."""

from __future__ import annotations

import difflib
from pathlib import Path

from coordinator.errors import UsageError
from coordinator.workflows.reading import Problem, Source, WorkflowInvalid, read_file

SHIPPED = Path(__file__).with_name("files")


class Library:
    """Finds workflows by id; a file is read again whenever it has changed, so no process needs a restart."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def files(self) -> dict[str, Path]:
        """The file of each workflow, by id; the operator's own come before the shipped ones."""
        found: dict[str, Path] = {}
        for folder in (SHIPPED, self.folder):
            if folder and folder.is_dir():
                found |= {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        return found

    def get(self, name: str) -> Source:
        """A workflow by its id, as its file is now; UsageError if there is none, WorkflowInvalid if wrong."""
        files = self.files()
        if name not in files:
            near = difflib.get_close_matches(name, files, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(files)}"
            raise UsageError(f"no workflow {name!r}: {hint} (see `pointsman workflows list`)")
        source = read_file(files[name])
        if source.workflow.id != name:
            place = source.mark("id")
            text = f"the id is `{source.workflow.id}`, but the file is called {name}.yaml: make them equal"
            raise WorkflowInvalid(source.name, [Problem(*place, text)])
        return source

    def all(self) -> list[Source]:
        """Every workflow; WorkflowInvalid for the first that is wrong."""
        return [self.get(name) for name in self.files()]
