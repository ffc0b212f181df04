"""What asks the Hugging Face Hub for more than a model."""

from hf_ess.hub.jobs import JobRequest, follow_job, submit_job

__all__ = ["JobRequest", "follow_job", "submit_job"]
