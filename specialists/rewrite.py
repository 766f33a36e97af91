"""Writes one specialist's table into the settings file, comments and everything else kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from specialists.errors import SettingsError
from specialists.roster import Roster
from specialists.settings import SpecialistsSettings, config_path


def set_table(config: str | None, name: str, changes: dict[str, Any]) -> Path:
    """Set keys of `[specialists.NAME]`; the file is only replaced if the result is valid."""
    path = config_path(config) or Path("pointsman.toml")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    try:
        document = tomlkit.parse(text)
        tables = _table(document, "specialists", super_table=True)
        table = _table(tables, name)
    except (TOMLKitError, TypeError) as error:
        raise SettingsError(f"{path}: cannot be read as TOML: {error}; correct the file") from error
    for key, value in changes.items():
        table[key] = value
    _replace(path, tomlkit.dumps(document))
    return path


def _table(parent: Any, name: str, super_table: bool = False) -> Any:
    if name not in parent:
        parent[name] = tomlkit.table(super_table)
    if not isinstance(parent[name], dict):
        raise TypeError(f"{name} is not a table")
    return parent[name]


def _replace(path: Path, text: str) -> None:
    """Put the text in place at once, after it was loaded as settings from beside the file."""
    descriptor, draft = tempfile.mkstemp(dir=path.resolve().parent, prefix=f".{path.name}.", suffix=".draft")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
        try:
            Roster.from_settings(SpecialistsSettings.load(draft))
        except SettingsError as error:
            raise SettingsError(f"not written: {str(error).replace(draft, str(path))}") from error
        if path.exists():
            os.chmod(draft, path.stat().st_mode & 0o777)
        os.replace(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)
