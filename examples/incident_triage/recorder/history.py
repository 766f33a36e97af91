"""The shop's git repository: laid out from patches, some committed while the recording runs."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from recorder.errors import CommandFailed

SHOP = Path(__file__).resolve().parent.parent / "shop"


class Repository:
    """A real git repository with the shop's source and history."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._entries = json.loads((SHOP / "history.json").read_text(encoding="utf-8"))
        self._base = datetime.now(UTC)

    def lay(self) -> str:
        """Commit everything that happened before the recording; returns the newest commit."""
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(SHOP / "base", self.directory, ignore=skip)
        self._git("init", "-q", "-b", "main")
        sha = ""
        for entry in self._entries:
            if "live" not in entry:
                sha = self._commit(entry, self._base - timedelta(days=entry["days_ago"]))
        return sha

    def commit(self, name: str) -> str:
        """Commit one of the patches kept for the recording, now; returns its id."""
        entry = next(entry for entry in self._entries if entry.get("live") == name)
        return self._commit(entry, datetime.now(UTC))

    def check_out(self, sha: str, directory: Path) -> None:
        """Lay the tree of one commit in a directory."""
        self._git("worktree", "add", "--detach", "--force", str(directory), sha)

    def commits(self) -> list[dict]:
        """Every commit with its files and diff, oldest first."""
        found = []
        for sha in self._git("rev-list", "--reverse", "main").split():
            author, when, message = self._git("show", "-s", "--format=%an%x00%aI%x00%B", sha).split("\0")
            files = self._git("show", "--format=", "--name-only", sha).split()
            diff = self._git("show", "--format=", "--patch", sha)
            stamp = datetime.fromisoformat(when).astimezone(UTC).isoformat(timespec="seconds")
            found.append(
                {
                    "sha": sha,
                    "author": author,
                    "timestamp": stamp.replace("+00:00", "Z"),
                    "message": message.strip(),
                    "files": files,
                    "diff": diff,
                }
            )
        return found

    def _commit(self, entry: dict, when: datetime) -> str:
        if "patch" in entry:
            self._git("apply", str(SHOP / "patches" / entry["patch"]))
        self._git("add", "-A")
        message = f"{entry['subject']}\n\n{entry['body']}".strip()
        email = entry["author"].lower().replace(" ", ".") + "@lantern-latch.example"
        stamp = when.isoformat(timespec="seconds")
        identity = {"NAME": entry["author"], "EMAIL": email, "DATE": stamp}
        who = {
            f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in identity.items()
        }
        self._git("commit", "-q", "-m", message, who=who)
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str, who: dict[str, str] | None = None) -> str:
        quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.directory,
            env=os.environ | quiet | (who or {}),
            capture_output=True,
            encoding="utf-8",
        )
        if done.returncode:
            what = " ".join(arguments[:2])
            raise CommandFailed(f"git {what} failed: {done.stderr.strip()}; the patches must fit base/")
        return done.stdout
