"""A small service with real metrics: requests it answered, and how many of them with an error."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, generate_latest


class Service:
    """Answers requests, and fails while it is told to."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "http_requests", "Requests answered.", ["service", "code"], registry=self.registry
        )
        self.failing = False
        self.url = ""

    def serve(self) -> None:
        """One request."""
        self.requests.labels("basket", "500" if self.failing else "200").inc()


@contextmanager
def service() -> Iterator[Service]:
    """The service on loopback, with a request every 50 ms and its metrics at /metrics."""
    one = Service()
    one.requests.labels("basket", "500")
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = generate_latest(one.registry)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    def traffic() -> None:
        while not ended.wait(0.05):
            one.serve()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.url = f"127.0.0.1:{server.server_port}"
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)), threading.Thread(target=traffic)]
    for thread in threads:
        thread.start()
    try:
        yield one
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join()
