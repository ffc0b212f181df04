"""A small Hub that knows jobs, over real HTTP on this machine."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler

from hub.local_server import LocalServer, QuietAnswers

MACHINES = {"cpu-basic": None, "a10g-small": "A10G"}


class JobsServer(LocalServer):
    """Answers as the Hub does; what was asked of it is kept.

    Attributes:
        refusal: None, or status and message with which jobs are refused.
        stages: of the job, one for each time that somebody asks; the last one stays.
        log: lines of the job.
        jobs: the requests for jobs as JSON, with namespace and authorization.
    """

    def __init__(self):
        super().__init__(_Handler)
        self.refusal = None
        self.stages = ["COMPLETED"]
        self.message = None
        self.log = ["===== Job started at 2026-01-01 =====", "layer  entropy-ESS", "0  29.75"]
        self.jobs = []

    def job(self, namespace, stage):
        return {
            "id": "68b1f0",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "dockerImage": self.jobs[-1]["json"]["dockerImage"],
            "owner": {"id": "1", "name": namespace, "type": "user"},
            "status": {"stage": stage, "message": self.message},
        }


class _Handler(QuietAnswers, BaseHTTPRequestHandler):
    server: JobsServer

    def do_GET(self):
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts == ["api", "whoami-v2"]:
            return self.send_answer({"name": "me", "type": "user", "auth": {}})
        if parts == ["api", "jobs", "hardware"]:
            return self.send_answer([_machine(*machine) for machine in MACHINES.items()])
        if parts[-1] == "logs":
            return self._send_log()
        stages = self.server.stages
        stage = stages.pop(0) if len(stages) > 1 else stages[0]
        return self.send_answer(self.server.job(parts[2], stage))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.refusal is not None:
            status, message = self.server.refusal
            return self.send_answer({"error": message}, status)
        namespace = self.path.rsplit("/", 1)[-1]
        authorization = self.headers["Authorization"]
        self.server.jobs.append(
            {"json": body, "namespace": namespace, "authorization": authorization}
        )
        return self.send_answer(self.server.job(namespace, "SCHEDULING"))

    def _send_log(self):
        events = [
            {"timestamp": f"2026-01-01T00:00:{number:02d}Z", "data": line}
            for number, line in enumerate(self.server.log)
        ]
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        self.send_answer(text.encode(), kind="text/event-stream")


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
