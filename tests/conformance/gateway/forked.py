"""The fixture over stdio, loaded once and forked for each process that is asked for.

    python forked.py --serve SOCKET        loads the fixture and waits; prints a line once it does
    python -I -S forked.py SOCKET          such a process: its stdin, stdout and stderr are a fork's

A server for each session costs 0.7 s of imports; a fork costs milliseconds. The gateway sees the same:
a process of its own for each session, which ends with its stdin.
"""

import array
import os
import signal
import socket
import sys


def ask(place: str) -> None:
    """Give our streams to a fork and end when it ends."""
    with socket.socket(socket.AF_UNIX) as fork:
        fork.connect(place)
        streams = array.array("i", [0, 1, 2])
        fork.sendmsg([b"-"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        for stream in (0, 1):
            os.close(stream)
        fork.recv(1)


def serve(place: str) -> None:
    """Fork the loaded fixture for everybody who asks."""
    import asyncio

    from fixture_server import build, stdio

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        listening.listen(64)
        print("ready", flush=True)
        while True:
            asking, _ = listening.accept()
            _, streams, _, _ = socket.recv_fds(asking, 1, 3)
            if os.fork() == 0:
                listening.close()
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                    os.close(stream)
                asyncio.run(stdio(build()))
                os._exit(0)
            for held in (asking.detach(), *streams):
                os.close(held)


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1] == "--serve" else ask(sys.argv[1])
