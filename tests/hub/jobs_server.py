"""A small Hub that knows jobs, over real HTTP on this machine."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MACHINES = {"cpu-basic": None, "a10g-small": "A10G"}


class JobsServer(ThreadingHTTPServer):
    """Answers as the Hub does; what was asked of it is kept.

    Attributes:
        refusal: None, or status and message with which jobs are refused.
        stages: of the job, one for each time that somebody asks; the last one stays.
        log: lines of the job.
        jobs: the requests for jobs as JSON, with namespace and authorization.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refusal = None
        self.stages = ["COMPLETED"]
        self.message = None
        self.log = ["===== Job started at 2026-01-01 =====", "layer  entropy-ESS", "0  29.75"]
        self.jobs = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def job(self, namespace, stage):
        return {
            "id": "68b1f0",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "dockerImage": self.jobs[-1]["json"]["dockerImage"],
            "owner": {"id": "1", "name": namespace, "type": "user"},
            "status": {"stage": stage, "message": self.message},
        }


class _Handler(BaseHTTPRequestHandler):
    server: JobsServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts == ["api", "whoami-v2"]:
            return self._send({"name": "me", "type": "user", "auth": {}})
        if parts == ["api", "jobs", "hardware"]:
            return self._send([_machine(*machine) for machine in MACHINES.items()])
        if parts[-1] == "logs":
            return self._send_log()
        stages = self.server.stages
        stage = stages.pop(0) if len(stages) > 1 else stages[0]
        return self._send(self.server.job(parts[2], stage))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.refusal is not None:
            status, message = self.server.refusal
            return self._send({"error": message}, status)
        namespace = self.path.rsplit("/", 1)[-1]
        authorization = self.headers["Authorization"]
        self.server.jobs.append(
            {"json": body, "namespace": namespace, "authorization": authorization}
        )
        return self._send(self.server.job(namespace, "SCHEDULING"))

    def _send(self, content, status=200, kind="application/json"):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _send_log(self):
        events = [
            {"timestamp": f"2026-01-01T00:00:{number:02d}Z", "data": line}
            for number, line in enumerate(self.server.log)
        ]
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        self._send(text.encode(), kind="text/event-stream")


def _machine(name, accelerator):
    described = {"type": "gpu", "model": accelerator, "quantity": "1", "vram": "24 GB"}
    return {
        "name": name,
        "prettyName": name,
        "cpu": "2 vCPU",
        "ram": "16 GB",
        "accelerator": described | {"manufacturer": "Nvidia"} if accelerator else None,
        "unitCostMicroUSD": 167,
        "unitCostUSD": 0.000167,
        "unitLabel": "minute",
    }


@contextmanager
def serving():
    server = JobsServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
