"""What asks the Hugging Face Hub for more than a model."""

from hf_ess.versions import require_supported

require_supported("huggingface_hub")

from hf_ess.hub.card_addition import section_with_marks
from hf_ess.hub.jobs import JobRequest, follow_job, submit_job
from hf_ess.hub.push import PushResult, push_report
from hf_ess.hub.reading import read_report, report_from_hub

__all__ = [
    "JobRequest",
    "PushResult",
    "follow_job",
    "push_report",
    "read_report",
    "report_from_hub",
    "section_with_marks",
    "submit_job",
]
