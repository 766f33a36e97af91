"""A hostile MCP server over stdio: `python stdio_peer.py MODE`. It speaks the old era, on bare pipes."""

import json
import os
import signal
import sys
import time
from typing import Any

MODE = sys.argv[1]
OK = {"content": [{"type": "text", "text": "ok"}]}
NOTE = {"method": "notifications/message", "params": {"level": "info", "data": "x"}}


def write(text: str | bytes) -> None:
    """Put this on stdout as it is."""
    sys.stdout.buffer.write(text.encode() if isinstance(text, str) else text)
    sys.stdout.buffer.flush()


def say(**message: Any) -> None:
    write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")


def ever(line: str, often: int = 200) -> None:
    """Write this line without end."""
    while True:
        write(line * often)


def silence() -> None:
    while True:
        time.sleep(60)


def called(number: int) -> None:  # noqa: C901 (a table of modes)
    """The sickness, in the middle of call `number`."""
    answer = json.dumps({"jsonrpc": "2.0", "id": number, "result": OK})
    match MODE:
        case "stdio-hang" | "stdio-deaf":
            silence()
        case "stdio-dies":
            sys.exit(4)
        case "stdio-killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stdio-closes":
            os.close(1)
            silence()
        case "stdio-junk":
            write("Traceback (most recent call last):\n")
        case "stdio-bytes":
            write(b'{"jsonrpc":"2.0","id":1,"result":{"a":"\xff\xfe"}}\n')
        case "stdio-duplicate-key":
            write(answer.replace('"result"', '"result": {}, "result"') + "\n")
        case "stdio-nan":
            write(answer.replace('"ok"', "NaN") + "\n")
        case "stdio-deep":
            write(answer.replace('"ok"', "[" * 5_000 + "]" * 5_000) + "\n")
        case "stdio-scalar":
            write("5\n")
        case "stdio-half-line":
            write(answer[:20])
            silence()
        case "stdio-long-line":
            ever("x" * 65_536, 1)
        case "stdio-blank-flood":
            ever("\n", 20_000)
        case "stdio-notification-flood":
            ever(json.dumps({"jsonrpc": "2.0", **NOTE}) + "\n")
        case "stdio-answer-flood":
            ever('{"jsonrpc":"2.0","id":0,"result":{}}\n')
        case "stdio-question-flood":
            ever('{"jsonrpc":"2.0","id":"q","method":"roots/list"}\n')
        case "stdio-noise":
            if os.fork() == 0:
                while True:
                    os.write(2, b"noise " * 10_000)
            say(id=number, result=OK)
        case "stdio-wrong-ids":
            for other in (number + 1, str(number), float(number), True, None):
                say(id=other, result=OK)
        case "stdio-twice":
            write(answer + "\n" + answer.replace('"ok"', '"poison"') + "\n")
        case "stdio-odd-notifications":
            say(method=["x"], params=[1])
        case "stdio-odd-tokens":
            for token in ({}, [1], None, True, number + 1, str(number)):
                say(method="notifications/progress", params={"progressToken": token, "progress": 1})
            say(id=number, result=OK)
        case "stdio-asks":
            say(id="q", method="elicitation/create", params={"message": "password?", "requestedSchema": {}})
            told = json.loads(sys.stdin.readline()).get("error", {"code": 0, "message": "answered"})
            say(id=number, result={"content": [{"type": "text", "text": json.dumps(told)}]})
        case "stdio-result-odd":
            say(id=number, result="ok")
        case "stdio-error-odd":
            say(id=number, error={"code": "x", "message": ["a"]})
        case "stdio-large":
            say(id=number, result={"content": [{"type": "text", "text": "x" * 3_000_000}]})
        case _:
            say(id=number, result=OK)


def main() -> None:
    if MODE == "stdio-dies-at-start":
        sys.exit("no configuration found")
    if MODE == "stdio-silent":
        silence()
    for line in sys.stdin:
        message = json.loads(line)
        number, method = message.get("id"), message.get("method")
        if number is None:
            continue
        if method == "initialize" and MODE == "stdio-hello-odd":
            say(id=number, result={"protocolVersion": 5, "capabilities": ["tools"]})
        elif method == "initialize":
            told = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}}
            say(id=number, result={**told, "serverInfo": {"name": "peer", "version": "1"}})
        elif method == "tools/list" and MODE == "stdio-list-hang":
            silence()
        elif method == "tools/list":
            tool = {"name": "go", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
            say(id=number, result={"tools": [tool]})
        elif method == "tools/call":
            called(number)
        else:
            say(id=number, error={"code": -32601, "message": "no"})


if __name__ == "__main__":
    main()
