"""What a stream of server-sent events tells, however it is cut into pieces."""

import pytest

from specialists.http import events

pytestmark = pytest.mark.anyio
TOLD = ': ping\n\ndata: {"é": 1}\n\nevent: error\ndata:first\ndata: second\nid: 7\n\ndata: cut off'


async def pieces(body, size):
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_events_are_the_same_however_the_stream_is_cut_and_its_lines_end(end, size):
    body = TOLD.replace("\n", end).encode()
    told = [event async for event in events(pieces(body, size))]
    assert told == [("message", '{"é": 1}'), ("error", "first\nsecond")]
