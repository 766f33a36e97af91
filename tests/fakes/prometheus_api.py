"""A small Prometheus HTTP API: every expression over time is one series that ends in the value of now."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class Api:
    """What it answers, and what it was asked."""

    url: str = ""
    value: float = 0.0
    asked: list[str] = field(default_factory=list)


@contextmanager
def prometheus() -> Iterator[Api]:
    """The API on loopback."""
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            api.asked += parse_qs(urlsplit(self.path).query).get("query", [])
            now = time.time()
            row = {"metric": {}, "values": [[now - 60, "0"], [now, str(api.value)]]}
            told = {"status": "success", "data": {"resultType": "matrix", "result": [row]}}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
