"""A stub Hub over real HTTP on this machine, for the real `huggingface_hub` client.

It keeps repositories with their commits, branches, pull requests and large files, knows users by
their tokens, and does what a test says goes wrong (`stub_faults`).
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from hub.local_server import LocalServer, QuietAnswers
from hub.stub_api import RefusalError, answer
from hub.stub_faults import ANSWERING, LANDED, UNREAD, Faults
from hub.stub_repos import Repo

KEPT_BODY_BYTES = 1 << 20


@dataclass(frozen=True)
class User:
    """Who a token stands for, and what it may do: "read", "write" or "fineGrained".

    A fine-grained token may write to the repositories in `scopes`, and read everything else that
    its user may.
    """

    name: str
    token: str = field(repr=False)
    role: str = "write"
    orgs: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()

    @property
    def namespaces(self):
        return {self.name, *self.orgs}

    def may_change(self, repo_id):
        return self.role == "write" or (self.role == "fineGrained" and repo_id in self.scopes)


@dataclass
class Request:
    """One request as it came, and the status of its answer; None where there was no answer.

    Attributes:
        at: seconds of `time.monotonic`.
        user: None where no valid token came along.
        body: None where it was long, once it is answered.
    """

    method: str
    target: str
    authorization: str | None
    at: float
    user: User | None = None
    range: str | None = None
    body: bytes | None = b""
    status: int | None = None

    @property
    def path(self):
        return urlsplit(self.target).path

    @property
    def query(self):
        return parse_qs(urlsplit(self.target).query)

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def form(self):
        return parse_qs(self.body.decode())


class StubHub(Faults, LocalServer):
    """Answers as the Hub does.

    Attributes:
        repos: by path: `me/model`, `datasets/me/data`, `spaces/me/space`.
        objects: large files by their SHA-256, of every repository.
        requests: all that came, in the order in which they came.
        delay: seconds that each request takes at least, so that writers meet.
        xet: None, or a `XetStorage`, for clients that upload with `hf_xet`.
        troubles: exceptions inside of the stub; a test that ends with one has found a bug here.
    """

    def __init__(self):
        Faults.__init__(self)
        LocalServer.__init__(self, _Handler)
        self.repos, self.objects, self.users = {}, {}, {}
        self.requests, self.troubles = [], []
        self.delay, self.xet = 0.0, None
        self.lock = threading.RLock()
        self.closing = threading.Event()

    @property
    def storage_url(self):
        """Where large files lie: for a client that is another host, which gets no token."""
        return f"http://localhost:{self.server_port}"

    def user(self, name, *, role="write", orgs=(), scopes=(), token=None):
        token = token or f"hf_{name}_{role}_{len(self.users)}_secret"
        self.users[token] = User(name, token, role, tuple(orgs), tuple(scopes))
        return self.users[token]

    def repo(self, repo_id, files=None, *, repo_type="model", private=False, gated=False):
        """Makes a repository with one commit of the given files (text or bytes)."""
        repo = Repo(repo_id, repo_type, private=private, gated=gated)
        with self.lock:
            self.repos[repo.path] = repo
        for path, content in (files or {}).items():
            repo.write(path, content.encode() if isinstance(content, str) else content)
        return repo

    def object(self, sha256, size=None):
        """A large file that was uploaded, or that is in a repository; None for others."""
        if self.xet and size is not None and (content := self.xet.content(sha256, size)):
            return content
        with self.lock:
            committed = (
                file.content
                for repo in self.repos.values()
                for commit in reversed(repo.commits)
                for file in commit.files.values()
                if file.lfs and file.sha256 == sha256
            )
            return self.objects.get(sha256) or next(committed, None)

    def asked(self, method, path=""):
        """The requests of a method whose path contains something."""
        return [each for each in self.requests if each.method == method and path in each.target]

    def environment(self, user=None, **more):
        """Variables with which another process uses this Hub, and nothing of its own."""
        token = {"HF_TOKEN": user.token} if user else {}
        offline = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        return os.environ | offline | {"HF_ENDPOINT": self.url} | token | more

    def shutdown(self):
        self.closing.set()
        super().shutdown()

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the tests."""


class _DroppedError(Exception):
    """The connection ends here."""


class _Handler(QuietAnswers, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One packet per answer: with the default, waiting for acknowledgements takes 40 ms each.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: StubHub

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (_DroppedError, ConnectionError):
            self.close_connection = True

    def _respond(self):
        hub = self.server
        authorization = self.headers.get("Authorization")
        request = Request(self.command, self.path, authorization, time.monotonic())
        request.range = self.headers.get("Range")
        request.user = hub.users.get((authorization or "").removeprefix("Bearer "))
        with hub.lock:
            hub.requests.append(request)
        fault = hub.meet(request)
        if fault is not None and fault.drop == UNREAD:
            raise _DroppedError
        request.body = self._read_body()
        self._wait(hub.delay)
        if fault is not None and not fault.late:
            self._wait(fault.stall)
        if fault is not None and fault.status is not None:
            reply = RefusalError(fault.status, fault.message, headers=fault.headers).reply
        else:
            reply = self._answer(request)
        if len(request.body) > KEPT_BODY_BYTES:
            request.body = None
        if fault is not None and fault.late:
            self._wait(fault.stall)
        if fault is not None and fault.drop == LANDED:
            raise _DroppedError
        request.status = reply.status
        if fault is not None and fault.drop == ANSWERING:
            self._send_half(reply)
        self.send_answer(reply.content, reply.status, reply.kind, reply.headers)
        self.wfile.flush()

    def do_GET(self):
        self._respond()

    def do_HEAD(self):
        self._respond()

    def do_POST(self):
        self._respond()

    def do_PUT(self):
        self._respond()

    def _answer(self, request):
        try:
            return answer(self.server, request)
        except RefusalError as refusal:
            return refusal.reply
        except Exception as error:
            self.server.troubles.append(error)
            return RefusalError(500, f"The stub broke: {error!r}").reply

    def _wait(self, seconds):
        if seconds and self.server.closing.wait(seconds):
            raise _DroppedError

    def _read_body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send_half(self, reply):
        data = (
            reply.content
            if isinstance(reply.content, bytes)
            else json.dumps(reply.content).encode()
        )
        self.send_head(len(data), reply.status, reply.kind, reply.headers)
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        raise _DroppedError
