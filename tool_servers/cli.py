"""How to start the tool servers: `python -m tool_servers` for all, `python -m tool_servers.NAME` for one."""

from __future__ import annotations

import argparse
import gc
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tool_servers.world import World

_LIVE = {
    "metrics": ("prometheus", "service_label"),
    "logs": ("logs",),
    "changes": ("git",),
    "kubernetes": ("kubectl", "kube_context"),
    "runbooks": ("runbooks",),
}


def serve_all(arguments: list[str] | None = None) -> None:
    """Serve all servers, or those named, in one process over HTTP, at /NAME/mcp."""
    _guard(_serve_all, arguments)


def serve_one(name: str, arguments: list[str] | None = None) -> None:
    """Serve one server, on stdio unless HTTP is asked for."""
    _guard(lambda given: _serve_one(name, given), arguments)


def _guard(serve: Any, arguments: list[str] | None) -> None:
    gc.set_threshold(20_000, 20, 50)  # loading modules makes much and throws nothing away
    from tool_servers.errors import ToolServerError

    try:
        serve(arguments)
    except ToolServerError as error:
        print(f"tool_servers: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _serve_all(arguments: list[str] | None) -> None:
    parser = _parser("tool_servers", "Serve all tool servers over HTTP on loopback, NAME at /NAME/mcp.")
    parser.add_argument("--only", default="", metavar="A,B", help="only these servers")
    _add_http(parser)
    _add_live(parser, tuple(_LIVE))
    options = parser.parse_args(arguments)
    from tool_servers import access_log, serving
    from tool_servers.errors import NotFound

    names = [name for name in options.only.split(",") if name] or list(serving.NAMES)
    for name in names:
        if name not in serving.NAMES:
            raise NotFound("--only", name, serving.NAMES, "server")
    world = _world(options)
    access_log.write_to(world.state_directory / "access.log")
    servers = {name: serving.build(name, world) for name in names}
    serving.serve_http(servers, options.port, options.ready_fd, with_parent=True)


def _serve_one(name: str, arguments: list[str] | None) -> None:
    parser = _parser(f"tool_servers.{name}", f"Serve the {name} tool server.")
    transport = parser.add_mutually_exclusive_group()
    transport.add_argument("--stdio", action="store_true", help="serve on stdin and stdout (the default)")
    transport.add_argument("--http", action="store_true", help=f"serve over HTTP at /{name}/mcp")
    _add_http(parser)
    _add_live(parser, (name,))
    options = parser.parse_args(arguments)
    from tool_servers import serving

    server = serving.build(name, _world(options))
    if options.http:
        serving.serve_http({name: server}, options.port, options.ready_fd, options.ready_fd is not None)
    else:
        serving.serve_stdio(server)


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("--recording", metavar="DIR", help="serve this recorded incident")
    parser.add_argument("--state", metavar="DIR", help="keep tickets, index and state here")
    parser.add_argument("--config", default="", metavar="FILE", help="read this pointsman.toml")
    return parser


def _add_http(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=0, help="port for HTTP; 0 = any free one")
    parser.add_argument(
        "--ready-fd", type=int, metavar="N", help='write {"url": …} here when ready, not to stdout'
    )


def _add_live(parser: argparse.ArgumentParser, names: tuple[str, ...]) -> None:
    if "metrics" in names:
        parser.add_argument("--prometheus", metavar="URL", help="read metrics from this Prometheus")
        parser.add_argument("--service-label", metavar="L", help="its label that names the service")
    if "logs" in names:
        parser.add_argument("--dir", "--logs", dest="logs", metavar="DIR", help="read log files in here")
    if "changes" in names:
        parser.add_argument("--git", metavar="REPO", help="read commits of this repository")
    if "kubernetes" in names:
        parser.add_argument("--kubectl", action="store_true", default=None, help="ask a real cluster")
        parser.add_argument("--context", dest="kube_context", metavar="C", help="the kubectl context")
    if "runbooks" in names:
        parser.add_argument("--runbooks", metavar="DIR", help="runbooks may be ingested from in here")


def _world(options: argparse.Namespace) -> World:
    from tool_servers.errors import BadSettings
    from tool_servers.settings import ToolServersSettings, load
    from tool_servers.world import World

    given = {
        key: value
        for key, value in vars(options).items()
        if value is not None and key in ToolServersSettings.model_fields
    }
    live = [key for key in ("prometheus", "logs", "git", "kubectl") if given.get(key)]
    if given.get("recording") and live:
        raise BadSettings(f"--recording and --{live[0]} exclude each other: leave one out")
    world = World(load(options.config, given))
    if world.recorded:
        world.recording()
    return world
