"""`.eval_results/hf_ess.yaml`: the result under a benchmark dataset that the user names."""

from __future__ import annotations

from typing import Any

import yaml

from hf_ess.errors import HubError
from hf_ess.report import ESSReport

EVALUATION_PATH = ".eval_results/hf_ess.yaml"
DIGITS = 4
NOTES = "entropy-ESS per channel, averaged over layers, texts and positions"


def with_evaluation(
    before: bytes | None, report: ESSReport, repo_id: str, dataset_id: str, task_id: str
) -> bytes:
    """The file with an entry for this report, beside those for other benchmarks.

    Args:
        before: the file as it is in the repository, None if there is none.
        report: its average entropy-ESS is the value.
        repo_id: the repository of the model.
        dataset_id: a dataset that the Hub knows as a benchmark.
        task_id: a task of that benchmark.

    Raises:
        HubError: the file in the repository holds something else.
        ReportError: the report has no verified layer.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entry = EvalResultEntry(
        dataset_id=dataset_id,
        task_id=task_id,
        value=round(report.average_ess(), DIGITS),
        source_url=f"https://huggingface.co/{repo_id}",
        source_name="hf_ess",
        notes=NOTES,
    )
    (ours,) = eval_result_entries_to_yaml([entry])
    entries = [] if before is None else _entries(before)
    if before is not None and ours in entries:
        return before
    others = [each for each in entries if _subject(each) != _subject(ours)]
    return bytes(yaml.safe_dump([*others, ours], sort_keys=False, encoding="utf-8"))


def _entries(content: bytes) -> list[Any]:
    try:
        entries = yaml.safe_load(content)
    except yaml.YAMLError:
        entries = None
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise HubError(
            f"Nothing was pushed: {EVALUATION_PATH} in the repository is no list of results.",
            fix="Repair or delete that file, or push without a benchmark.",
        )
    return entries


def _subject(entry: dict[str, Any]) -> tuple[Any, Any]:
    dataset = entry.get("dataset")
    named = dataset if isinstance(dataset, dict) else {}
    return named.get("id"), named.get("task_id")
