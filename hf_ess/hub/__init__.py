"""What asks the Hugging Face Hub for more than a model."""

from hf_ess.hub.jobs import JobRequest, follow_job, submit_job
from hf_ess.hub.reading import read_report, report_from_hub

__all__ = [
    "JobRequest",
    "follow_job",
    "read_report",
    "report_from_hub",
    "submit_job",
]
