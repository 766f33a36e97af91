"""The actions server: roll back, restart, scale, silence; on a recording they act on its state and say so."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.types import CallToolResult, ToolAnnotations
from pydantic import Field

from tool_servers.errors import BadInput, NotFound
from tool_servers.recording import Recording
from tool_servers.toolkit import DESTROYS, READ, Service, ToolServer, format_time, parse_time, reply
from tool_servers.types import ActionDone, ActionStatus
from tool_servers.world import World

SCALES = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)
ACTED_ON = "the state of the recording"

Target = Annotated[str, Field(description="The service to act on.", min_length=1, max_length=200)]
Version = Annotated[
    str, Field(description="A version that ran before; empty = the last one.", max_length=200)
]
Replicas = Annotated[int, Field(ge=0, le=1000, description="How many replicas shall run.")]
Alert = Annotated[str, Field(description="Name of the alert.", min_length=1, max_length=300)]
Minutes = Annotated[int, Field(ge=1, le=10_080, description="For how long.")]


def build(world: World) -> ToolServer:
    """The actions server for a world."""
    server = ToolServer("actions", "Actions on running services; each but `status` changes the world.")

    @server.tool(annotations=DESTROYS)
    def rollback(service: Target, to_version: Version = "") -> Annotated[CallToolResult, ActionDone]:
        """Put a service back to a version that ran before."""
        with world.changing_state() as state:
            one = _service(state, service)
            version = _rollback_version(one, to_version)
            before, one["version"] = one["version"], version
            one["previous"] = [before, *(name for name in one["previous"] if name != version)]
            return _done(
                world, state, "rollback", service, f"version {before}", f"version {version}", version
            )

    @server.tool(annotations=DESTROYS)
    def restart(service: Target) -> Annotated[CallToolResult, ActionDone]:
        """Restart every replica of a service."""
        with world.changing_state() as state:
            one = _service(state, service)
            one["restarts"] += 1
            before, after = f"{one['restarts'] - 1} restarts", f"{one['restarts']} restarts"
            return _done(world, state, "restart", service, before, after)

    @server.tool(annotations=SCALES)
    def scale(service: Target, replicas: Replicas) -> Annotated[CallToolResult, ActionDone]:
        """Set how many replicas of a service run."""
        with world.changing_state() as state:
            one = _service(state, service)
            before, one["replicas"] = one["replicas"], replicas
            return _done(world, state, "scale", service, f"{before} replicas", f"{replicas} replicas")

    @server.tool(annotations=DESTROYS)
    def silence(alert: Alert, minutes: Minutes) -> Annotated[CallToolResult, ActionDone]:
        """Mute an alert for some minutes."""
        with world.changing_state() as state:
            until = format_time(parse_time(state["clock"]) + minutes * 60)
            before = next(
                (f"muted until {one['until']}" for one in state["silences"] if one["alert"] == alert), ""
            )
            state["silences"] = [one for one in state["silences"] if one["alert"] != alert]
            state["silences"].append({"alert": alert, "until": until})
            return _done(world, state, "silence", alert, before or "not muted", f"muted until {until}")

    @server.tool(annotations=READ)
    def status(service: Service = "") -> Annotated[CallToolResult, ActionStatus]:
        """Show versions, replicas, silences and the actions done so far; changes nothing."""
        state = world.state()
        if service:
            _service(state, service)
        found = ActionStatus.model_validate(
            {
                "clock": state["clock"],
                "services": [
                    {"service": name, **one}
                    for name, one in state["services"].items()
                    if service in ("", name)
                ],
                "silences": state["silences"],
                "actions": state["actions"],
            }
        )
        return reply(_status_text(found), found)

    return server


def _service(state: dict[str, Any], service: str) -> dict[str, Any]:
    if service not in state["services"]:
        raise NotFound("service", service, state["services"], "service")
    return state["services"][service]


def _rollback_version(one: dict[str, Any], to_version: str) -> str:
    previous: list[str] = one["previous"]
    if not previous:
        raise BadInput("service", one["version"], "a service that has run another version before")
    if not to_version:
        return previous[0]
    if to_version not in previous:
        raise BadInput("to_version", to_version, f"one of {', '.join(previous)}")
    return to_version


def _done(
    world: World, state: dict[str, Any], action: str, target: str, before: str, after: str, version: str = ""
) -> CallToolResult:
    """Record the action; the one that really ended the incident also moves the clock to its end."""
    recording = world.recording()
    stood = state["clock"]
    if _recovers(recording, action, target, version):
        state["clock"] = format_time(max(recording.ended, parse_time(stood)))
        note = f"The recording goes on until {state['clock']}: look again whether the service recovered."
    else:
        note = f"The recording holds nothing after {stood}: what this would have led to cannot be seen."
    done = ActionDone(
        action=action,
        target=target,
        before=before,
        after=after,
        acted_on=ACTED_ON,
        clock=state["clock"],
        note=note,
    )
    state["actions"].append(done.model_dump())
    text = f"{action} {target}: {before} -> {after}\nActed on {ACTED_ON}; no real system was touched.\n{note}"
    return reply(text, done)


def _recovers(recording: Recording, action: str, target: str, version: str) -> bool:
    recovery = recording.about.get("recovery") or {}
    wanted = recovery.get("to_version") or version
    return (recovery.get("action"), recovery.get("service"), wanted) == (action, target, version)


def _status_text(status: ActionStatus) -> str:
    lines = [f"clock {status.clock}; {len(status.services)} services (state of the recording)"]
    for one in status.services:
        before = f" before: {', '.join(one.previous)}" if one.previous else ""
        lines.append(
            f"{one.service} version {one.version or '-'} replicas {one.replicas} "
            f"restarts {one.restarts}{before}"
        )
    lines += [f"silence {one.alert} until {one.until}" for one in status.silences]
    lines += [f"done {one.action} {one.target}: {one.before} -> {one.after}" for one in status.actions]
    return "\n".join(lines)


if __name__ == "__main__":
    from tool_servers.cli import serve_one

    serve_one("actions")
