"""The HTTP door: `POST /hooks/NAME` takes alerts in, `GET /cases/ID` tells what became of one."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from coordinator.errors import CaseUnknown
from coordinator.hooks.reception import MOST_BYTES, HookRefused, Reception

BODY_SECONDS = 20
log = logging.getLogger("coordinator.hooks")


def door(reception: Reception, base: str, may_see: Callable[[str, str], Awaitable[bool]]) -> Starlette:
    """The application. `base` is the address it is reached at; `may_see(token, case)` asks the gateway."""

    async def hooks(request: Request) -> Response:
        source = request.path_params["source"]
        if (refused := _stranger(request)) is not None:
            return refused
        try:
            raw = await _body(request)
            cases = await reception.take(source, dict(request.headers), raw)
        except HookRefused as error:
            reception.refused(source, error)
            log.warning("hook %r refused: %s", source[:100], error)
            return JSONResponse({"error": {"code": error.code, "message": str(error)}}, error.status)
        except sqlite3.Error as error:
            log.error("hook %r: the delivery could not be kept: %s", source[:100], error)
            return JSONResponse({"error": {"message": f"it could not be kept ({error}): send it again"}}, 503)
        shown = [{"case": case, "url": f"{base}/cases/{case}"} for case in cases]
        return JSONResponse({"cases": shown}, 202)

    async def case(request: Request) -> Response:
        token = request.headers.get("authorization", "")[7:]
        id_ = request.path_params["case"].upper()
        if not token or not await may_see(token, id_):
            return JSONResponse({"error": {"message": "a gateway token that may see cases is needed"}}, 401)
        try:
            row = reception.index.get(id_)
        except CaseUnknown as error:
            return JSONResponse({"error": {"code": error.code, "message": str(error)}}, 404)
        report = reception.index.report(id_)
        alerts = [
            {"title": m.alert.title, "status": m.status, "times": m.times, "joined": m.joined}
            for m in reception.inbox.members(id_)
        ]
        told = row.model_dump(mode="json", exclude={"recording"})
        return JSONResponse(
            {**told, "alerts": alerts, "report": report.model_dump(mode="json") if report else None}
        )

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(
        routes=[
            Route("/hooks/{source}", hooks, methods=["POST"]),
            Route("/cases/{case}", case),
            Route("/healthz", healthz),
        ]
    )


def _stranger(request: Request) -> Response | None:
    """A page in somebody's browser has no business here."""
    if request.headers.get("origin"):
        return JSONResponse({"error": {"message": "requests of web pages are not taken"}}, 403)
    return None


async def _body(request: Request) -> bytes:
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > MOST_BYTES:
        raise HookRefused(f"{announced} bytes are more than the {MOST_BYTES} taken", 413)
    raw = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                raw += part
                if len(raw) > MOST_BYTES:
                    raise HookRefused(f"more than the {MOST_BYTES} bytes taken", 413)
    except TimeoutError:
        raise HookRefused(f"the body did not arrive within {BODY_SECONDS} s", 408) from None
    return bytes(raw)
