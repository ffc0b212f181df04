"""`hf-ess analyze` on the machines of Hugging Face Jobs, through huggingface_hub's own client."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_ess.errors import InvalidInputError, JobError
from hf_ess.hub.answers import LOG_IN, MEANINGS, Meaning, explained
from hf_ess.hub.repositories import known_token

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo

# Debian with uv and Python; uv installs the package and what it needs.
IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"
REPORT_FOLDER = "/tmp/hf_ess_report"
REPOSITORY = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<folder>[\w./-]+))?")
# Linux passes at most 128 KiB as one argument of a command.
MOST_TEXT_BYTES = 100_000

_MEANINGS: Mapping[int, Meaning] = {
    **MEANINGS,
    402: Meaning(
        "jobs need credit, a subscription, or a payment method of the namespace",
        "Look at https://huggingface.co/settings/billing.",
    ),
    403: Meaning(
        "the token may not start jobs (job.write), or its owner not in this namespace",
        "Make a token that may, at https://huggingface.co/settings/tokens, or choose another "
        "--job-namespace.",
    ),
    404: Meaning("the namespace or the job does not exist", "Check --job-namespace."),
}


@dataclass(frozen=True)
class JobRequest:
    """One analysis for a machine of the Hub.

    Attributes:
        flavor: kind of machine, as `hf jobs hardware` lists them.
        arguments: those of `hf-ess analyze`: the model, options, texts.
        package: what uv installs, `hf-ess` from PyPI or for example
            `hf-ess @ git+https://...`.
        output: dataset repository for the report, `user/name` or `user/name/folder`; it is
            made, private, if it does not exist. None keeps nothing but the log.
        timeout: longest run in seconds or such as "90m"; None for the Hub's own limit.
        namespace: user or organisation who pays; None for the owner of the token.

    Raises:
        InvalidInputError: the output is no repository, the timeout no time, or the texts are too
            long for a command.

    Example:
        >>> from hf_ess.hub import JobRequest
        >>> request = JobRequest("cpu-basic", ["org/model", "--text=a b"], "hf-ess")
        >>> request.command[4:]
        ['hf-ess', 'analyze', 'org/model', '--text=a b']
    """

    flavor: str
    arguments: list[str]
    package: str
    output: str | None = None
    timeout: str | None = None
    namespace: str | None = None

    def __post_init__(self) -> None:
        if self.output is not None and not REPOSITORY.fullmatch(self.output):
            raise InvalidInputError(
                f"{self.output!r} is no repository of the Hub.",
                fix="Name a dataset repository, user/name or user/name/folder.",
            )
        if self.timeout is not None and not re.fullmatch(r"\d+(\.\d+)?[smhd]?", self.timeout):
            raise InvalidInputError(
                f"{self.timeout!r} is no time.", fix="Give seconds, or for example 90m, 2h, 1d."
            )
        size = sum(len(argument.encode()) for argument in self.arguments)
        if size > MOST_TEXT_BYTES:
            raise InvalidInputError(
                f"The texts and options take {size} bytes, a job carries {MOST_TEXT_BYTES}.",
                fix="Analyse a part of the texts, or one file per job.",
            )

    @property
    def command(self) -> list[str]:
        """What the machine runs."""
        uv = ["uv", "run", "--with", self.package]
        analysis = ["analyze", *self.arguments]
        if self.output is None:
            return [*uv, "hf-ess", *analysis]
        named = REPOSITORY.fullmatch(self.output)
        assert named is not None, "checked when the request was made"
        folder = named["folder"] or self.arguments[0].replace("/", "--")
        upload = ["hf", "upload", named["repository"], REPORT_FOLDER, folder]
        script = (
            f'hf-ess "$@" --out {REPORT_FOLDER} && '
            f"{shlex.join(upload)} --repo-type dataset --private"
        )
        return [*uv, "sh", "-c", script, "hf-ess", *analysis]


def submit_job(request: JobRequest, api: HfApi, *, device_chosen: bool = True) -> JobInfo:
    """Starts a job and returns what the Hub says of it.

    `hf_ess.hub.follow_job` shows its log.

    The token goes to the job as the secret HF_TOKEN, for gated models and for the report; it is
    in no command, and in no log.

    Args:
        request: the analysis.
        api: the client, which knows the endpoint and the token.
        device_chosen: whether the arguments name a device; on a machine with a GPU they must.

    Raises:
        InvalidInputError: the Hub has no such flavor, or no device is named for its GPU.
        JobError: there is no token, the Hub refused the job, or cannot be reached.
    """
    token = known_token(api)
    if token is None:
        raise JobError("Jobs need a token of the Hub, and there is none.", fix=LOG_IN)
    with _explained("The job was not started"):
        _check_flavor(request.flavor, api.list_jobs_hardware(token=token), device_chosen)
        return api.run_job(
            image=IMAGE,
            command=request.command,
            env={"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            secrets={"HF_TOKEN": token},
            flavor=request.flavor,
            timeout=request.timeout,
            namespace=request.namespace,
            labels={"hf-ess": "analyze"},
            token=token,
        )


def follow_job(job: JobInfo, api: HfApi, show: Callable[[str], None]) -> None:
    """Shows the lines of a job's log until it ends.

    `hf_ess.hub.submit_job` starts one.

    Args:
        job: as `submit_job` gives it.
        api: a client of the Hub with the token of the job's owner.
        show: called with each line.

    Raises:
        JobError: the job failed or was cancelled, or the Hub cannot be reached any more.
    """
    named = {"job_id": job.id, "namespace": job.owner.name}
    with _explained(f"The job {job.id} cannot be followed; it goes on, see {job.url}"):
        for line in api.fetch_job_logs(**named, follow=True):
            show(line)
        ended = api.wait_for_job(**named)
    stage = getattr(ended.status.stage, "value", ended.status.stage)
    if stage != "COMPLETED":
        said = f": {ended.status.message}" if ended.status.message else ""
        raise JobError(
            f"The job {job.id} ended with {stage}{said}.",
            fix=f"Its log says why: {job.url}",
        )


def _check_flavor(flavor: str, hardware: list[Any], device_chosen: bool) -> None:
    known = {machine.name: machine for machine in hardware}
    if flavor not in known:
        raise InvalidInputError(
            f"The Hub has no machine of flavor {flavor!r}.",
            fix=f"Choose one of {', '.join(known)}.",
        )
    if known[flavor].accelerator is not None and not device_chosen:
        raise InvalidInputError(
            f"A machine of flavor {flavor!r} has a GPU, and the analysis would run on its CPU.",
            fix="Give --device cuda (or --device cpu, if that is what you want).",
        )


def _explained(what: str) -> AbstractContextManager[None]:
    again = "Check the connection and try again; `hf jobs ps` lists the jobs that run."
    return explained(what, _MEANINGS, JobError, again)
