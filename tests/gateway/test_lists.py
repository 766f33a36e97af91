"""The merged lists: how long a client may keep them, and for whom."""

import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.caller import Caller
from gateway.methods import TTL_MS
from tests.gateway.world import LOGS, POLICY, app_with

pytestmark = pytest.mark.anyio
READS = POLICY + '@id("reads") permit (principal in Role::"specialist", action in Action::"read", resource);'
SERVER = """
import json, sys
NAME, TTL = sys.argv[1], json.loads(sys.argv[2])
KEPT = {{"ttlMs": TTL, "cacheScope": "public"}} if TTL is not None else {{}}
OFFERS = {{"tools": {{}}, "resources": {{}}}}
LISTS = {{
    "tools/list": {{"tools": [{{"name": "look", "inputSchema": {{"type": "object"}},
                                "annotations": {{"readOnlyHint": True}}}}]}},
    "resources/list": {{"resources": [{{"uri": f"note://{{NAME}}", "name": NAME}}]}},
    "resources/templates/list": {{"resourceTemplates": []}},
    "resources/read": {{"contents": [{{"uri": f"note://{{NAME}}", "text": NAME}}]}},
}}
for line in sys.stdin:
    m = json.loads(line); method, number = m.get("method"), m.get("id")
    def say(**told): print(json.dumps({{"jsonrpc": "2.0", "id": number, **told}}), flush=True)
    if number is None: continue
    if method == {hello!r}: say(result={welcome})
    elif method in LISTS: say(result={{**LISTS[method], **KEPT}})
    else: say(error={{"code": -32601, "message": "no"}})
"""
NEW = {
    "hello": "server/discover",
    "welcome": '{"supportedVersions": ["2026-07-28"], "capabilities": OFFERS, "resultType": "complete"}',
}
OLD = {
    "hello": "initialize",
    "welcome": '{"protocolVersion": "2025-11-25", "capabilities": OFFERS, "serverInfo": {"name": NAME, '
    '"version": "1"}}',
}


def entry(directory: Path, name: str, era: dict[str, str], ttl: str) -> dict[str, Any]:
    path = directory / f"{name}.py"
    path.write_text(SERVER.format(**era))
    return {"command": sys.executable, "args": [str(path), name, ttl], "pointsman": {"pin": "trust"}}


@pytest.mark.parametrize(
    "ttls, kept",
    [(["700", "90000"], 700), (["90000", "80000"], TTL_MS), (["90000", "0"], 0), (["null", "3000"], 3_000)],
)
async def test_a_list_is_kept_as_long_as_the_shortest_of_its_servers_allows_and_by_nobody_else(
    tmp_path: Path, ttls: list[str], kept: int
) -> None:
    servers = {
        f"s{n}": entry(tmp_path, f"s{n}", OLD if ttl == "null" else NEW, ttl) for n, ttl in enumerate(ttls)
    }
    async with app_with(tmp_path, servers, READS) as app:
        new, old = Caller(LOGS), Caller(LOGS, "legacy")
        for method, field in (("tools/list", "tools"), ("resources/list", "resources")):
            told = await app.methods.answer(new, method, {})
            assert kept - 500 <= told["ttlMs"] <= kept, method  # what is passed on may be a moment old
            assert told["cacheScope"] == "private", method
            assert len(told[field]) == 2, method
            plain = await app.methods.answer(old, method, {})
            assert len(plain[field]) == 2 and not {"ttlMs", "cacheScope", "resultType"} & set(plain), method
        own = await app.methods.answer(Caller(LOGS, endpoint="s1"), "resources/list", {})
        assert (own["ttlMs"], own["cacheScope"]) == (min(int(ttls[1]), TTL_MS), "private")
        read = await app.methods.answer(new, "resources/read", {"uri": "note://s1"})
        assert (read["ttlMs"], read["cacheScope"]) == (int(ttls[1]), "private")
        old_read = await app.methods.answer(old, "resources/read", {"uri": "note://s1"})
        assert old_read["contents"][0]["text"] == "s1" and "ttlMs" not in old_read
