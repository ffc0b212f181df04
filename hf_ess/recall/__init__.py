"""Perplexity on what a text repeats, beside its standard perplexity: no ESS is measured here."""

from hf_ess.recall.measure import recall_perplexity
from hf_ess.recall.result import RecallPerplexity, TokenGroup

__all__ = ["RecallPerplexity", "TokenGroup", "recall_perplexity"]
