"""Changes read from a real git repository; its tags stand for deploys."""

from __future__ import annotations

import re
from pathlib import Path

from tool_servers.errors import BadInput, NotFound, NotOffered, Unavailable
from tool_servers.live.process import run
from tool_servers.toolkit import format_time
from tool_servers.types import Commit, Deploy, Flag

NEWEST = 5000  # commits read in one go
_UNIT, _RECORD = "\x1f", "\x1e"
_FORMAT = f"{_RECORD}%H{_UNIT}%an{_UNIT}%ct{_UNIT}%B{_UNIT}"
_TAG = re.compile(r"(?:(?P<service>[\w./-]+?)(?:/|@|-(?=v?\d)))?(?P<version>v?\d[\w.+-]*)$")


class Git:
    """A repository on disk, read through the git program."""

    def __init__(self, repository: str) -> None:
        self._repository = Path(repository)
        if not self._repository.is_dir():
            raise Unavailable(f"--git {repository}: no such directory; name a git repository")

    def commits(self, start: float, end: float, path: str) -> list[Commit]:
        """The commits of a window that touch a path, newest first."""
        between = [f"--until=@{int(end)}"]
        if start > 0:
            between.append(f"--since=@{int(start)}")
        where = ["--", path.lstrip("/")] if path else []
        text = self._git("log", f"-{NEWEST}", f"--format={_FORMAT}", "--name-only", *between, *where)
        return [_commit(record) for record in text.split(_RECORD)[1:]]

    def commit(self, sha: str, before: float) -> Commit:
        """One commit with its diff."""
        try:
            full = self._git("rev-parse", "--verify", "--quiet", f"{sha}^{{commit}}").strip()
        except NotOffered:
            raise NotFound(
                "sha", sha, (one.sha[:12] for one in self.commits(0, before, "")), "commit"
            ) from None
        commit = _commit(self._git("show", f"--format={_FORMAT}", "--name-only", full).split(_RECORD)[1])
        commit.diff = self._git("show", "--format=", "--patch", "--no-ext-diff", "--no-textconv", full)
        return commit

    def deploys(self, start: float, end: float) -> list[Deploy]:
        """The tags of a window, newest first: SERVICE/VERSION, SERVICE@VERSION, or VERSION alone."""
        fields = _UNIT.join(
            ("%(refname:short)", "%(creatordate:unix)", "%(objectname)", "%(*objectname)", "%(taggername)")
        )
        rows = self._git("for-each-ref", "--sort=creatordate", f"--format={fields}", "refs/tags").splitlines()
        latest: dict[str, str] = {}
        deploys = []
        for row in rows:
            tag, stamp, commit, tagged, actor = row.split(_UNIT)
            match = _TAG.fullmatch(tag)
            service, version = (match["service"] or "", match["version"]) if match else ("", tag)
            service = service or self._repository.resolve().name
            if start <= int(stamp) <= end:
                deploys.append(
                    Deploy(
                        timestamp=format_time(int(stamp)),
                        service=service,
                        version=version,
                        previous=latest.get(service, ""),
                        commit=tagged or commit,
                        actor=actor,
                    )
                )
            latest[service] = version
        return deploys[::-1]

    def flags(self, start: float, end: float) -> list[Flag]:
        """A repository knows no flags."""
        raise NotOffered("flags: a git repository records none; ask the system that keeps your flags")

    def _git(self, *arguments: str) -> str:
        command = ("git", "-C", str(self._repository), "--no-pager", *arguments)
        return run(command, "install git on the machine that runs this server")


def _commit(record: str) -> Commit:
    parts = record.split(_UNIT)
    if len(parts) != 5:
        raise BadInput("sha", record[:40], "a commit that git can show")
    sha, author, stamp, message, files = parts
    return Commit(
        sha=sha,
        author=author,
        timestamp=format_time(int(stamp)),
        message=message.strip(),
        files=[name for name in files.splitlines() if name],
    )
