"""HTTP servers on this machine, for clients that should believe in a Hub."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer


class LocalServer(ThreadingHTTPServer):
    """On a free port; each connection has its thread."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class QuietAnswers:
    """What a handler of requests has in common with others: no log, and answers with lengths."""

    def log_message(self, *_):
        pass

    def send_answer(self, content, status=200, kind="application/json", headers=()):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_head(len(data), status, kind, headers)
        if self.command != "HEAD":
            self.wfile.write(data)

    def send_head(self, length, status, kind, headers):
        self.send_response(status)
        sent = {"Content-Type": kind, "Content-Length": str(length)} | dict(headers)
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serving(server):
    """Serves in a thread until the block ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
