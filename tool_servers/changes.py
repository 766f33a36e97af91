"""The changes server: commits, deploys and flags, recorded or read from a real git repository."""

from __future__ import annotations

from typing import Annotated, Protocol

from mcp.types import CallToolResult
from pydantic import Field

from tool_servers.errors import BadInput, NotFound
from tool_servers.toolkit import (
    READ,
    TEXT_LIMIT,
    Cursor,
    End,
    Limit,
    Service,
    Start,
    ToolServer,
    clip,
    format_time,
    listing,
    page,
    parse_time,
    reply,
    window,
)
from tool_servers.types import Commit, Commits, Deploy, Deploys, Flag, Flags
from tool_servers.world import World

Path = Annotated[str, Field(description="Only commits that touch this file or folder.", max_length=500)]
Sha = Annotated[str, Field(description="A commit id, or at least its first 4 characters.", max_length=64)]


class Source(Protocol):
    """Where changes come from; each list is newest first."""

    def commits(self, start: float, end: float, path: str) -> list[Commit]:
        """The commits of a window, without their diffs."""
        ...

    def commit(self, sha: str, before: float) -> Commit:
        """One commit with its diff."""
        ...

    def deploys(self, start: float, end: float) -> list[Deploy]:
        """The deploys of a window."""
        ...

    def flags(self, start: float, end: float) -> list[Flag]:
        """The flag changes of a window."""
        ...


def build(world: World) -> ToolServer:
    """The changes server for a world."""
    server = ToolServer("changes", "What people changed: commits, deploys, feature flags.")
    source = _source(world)

    @server.tool(annotations=READ)
    def commits(
        start: Start = "", end: End = "", path: Path = "", limit: Limit = 50, cursor: Cursor = ""
    ) -> Annotated[CallToolResult, Commits]:
        """List commits, newest first; `commit` shows the diff of one."""
        rows = source.commits(*window(start, end, world.clock()), path)
        chosen, lines, after = page(rows, limit, cursor, ["commits", start, end, path], commit_text)
        return reply(
            listing(f"{len(rows)} commits", lines, after), Commits(commits=chosen, next_cursor=after)
        )

    @server.tool(annotations=READ)
    def commit(sha: Sha) -> Annotated[CallToolResult, Commit]:
        """Show one commit: author, time, message, files and diff."""
        if len(sha) < 4 or not all(letter in "0123456789abcdef" for letter in sha.lower()):
            raise BadInput("sha", sha, "4 to 64 hexadecimal digits of a commit id")
        one = source.commit(sha.lower(), world.clock())
        one.diff = clip(one.diff, TEXT_LIMIT - 10_000)
        header = f"commit {one.sha}\nAuthor: {one.author}\nDate:   {one.timestamp}"
        files = "\n".join(f"  {name}" for name in one.files)
        return reply(f"{header}\n\n{one.message}\n\nFiles:\n{files}\n\n{one.diff}", one)

    @server.tool(annotations=READ)
    def deploys(
        start: Start = "", end: End = "", service: Service = "", limit: Limit = 50, cursor: Cursor = ""
    ) -> Annotated[CallToolResult, Deploys]:
        """List deploys, newest first: what version of which service went live, when and by whom."""
        rows = source.deploys(*window(start, end, world.clock()))
        rows = [row for row in rows if service in ("", row.service)]
        chosen, lines, after = page(rows, limit, cursor, ["deploys", start, end, service], _deploy_text)
        return reply(
            listing(f"{len(rows)} deploys", lines, after), Deploys(deploys=chosen, next_cursor=after)
        )

    @server.tool(annotations=READ)
    def flags(
        start: Start = "", end: End = "", limit: Limit = 50, cursor: Cursor = ""
    ) -> Annotated[CallToolResult, Flags]:
        """List changes of feature flags and configuration, newest first."""
        rows = source.flags(*window(start, end, world.clock()))
        chosen, lines, after = page(rows, limit, cursor, ["flags", start, end], _flag_text)
        header = f"{len(rows)} flag changes"
        return reply(listing(header, lines, after), Flags(flags=chosen, next_cursor=after))

    return server


def _source(world: World) -> Source:
    if world.settings.git and not world.recorded:
        from tool_servers.live.git import Git

        return Git(world.settings.git)
    return RecordedChanges(world)


class RecordedChanges:
    """The changes of the recording."""

    def __init__(self, world: World) -> None:
        self._world = world

    def commits(self, start: float, end: float, path: str) -> list[Commit]:
        """The recorded commits of a window that touch a path."""
        rows = [Commit.model_validate(row | {"diff": ""}) for row in self._between("commits", start, end)]
        folder = path.strip("/")
        return [
            row
            for row in rows
            if not folder or any(name == folder or name.startswith(f"{folder}/") for name in row.files)
        ]

    def commit(self, sha: str, before: float) -> Commit:
        """The recorded commit whose id begins with `sha`."""
        rows = self._between("commits", float("-inf"), before)
        found = [row for row in rows if row["sha"].startswith(sha)]
        if not found:
            raise NotFound("sha", sha, {row["sha"][:12] for row in rows}, "commit")
        if len(found) > 1:
            raise BadInput("sha", sha, "more digits: it fits " + ", ".join(row["sha"][:12] for row in found))
        return Commit.model_validate(found[0] | {"diff": found[0].get("diff") or ""})

    def deploys(self, start: float, end: float) -> list[Deploy]:
        """The recorded deploys of a window."""
        return [Deploy.model_validate(_without_null(row)) for row in self._between("deploys", start, end)]

    def flags(self, start: float, end: float) -> list[Flag]:
        """The recorded flag changes of a window."""
        return [Flag.model_validate(_without_null(row)) for row in self._between("flags", start, end)]

    def _between(self, kind: str, start: float, end: float) -> list[dict]:
        rows = [(parse_time(row["timestamp"]), row) for row in self._world.recording().changes(kind)]
        rows = sorted((pair for pair in rows if start <= pair[0] <= end), key=lambda pair: -pair[0])
        return [row | {"timestamp": format_time(time)} for time, row in rows]


def _without_null(row: dict) -> dict:
    return {key: value for key, value in row.items() if value is not None}


def commit_text(commit: Commit) -> str:
    """A commit on one line."""
    subject = commit.message.partition("\n")[0]
    files = ", ".join(commit.files[:8]) + (" …" if len(commit.files) > 8 else "")
    return f"{commit.timestamp} {commit.sha[:12]} {commit.author}: {subject} [{files}]"


def _deploy_text(deploy: Deploy) -> str:
    previous = f" (before: {deploy.previous})" if deploy.previous else ""
    commit = f" commit {deploy.commit}" if deploy.commit else ""
    actor = f" by {deploy.actor}" if deploy.actor else ""
    return f"{deploy.timestamp} {deploy.service} {deploy.version}{previous}{commit}{actor}"


def _flag_text(flag: Flag) -> str:
    actor = f" by {flag.actor}" if flag.actor else ""
    return f"{flag.timestamp} {flag.flag} {flag.service or '-'} {flag.change}{actor}"


if __name__ == "__main__":
    from tool_servers.cli import serve_one

    serve_one("changes")
