"""`hf_ess.recall_perplexity`: a causal language model and texts in, perplexities out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from hf_ess.analysis.model_checks import (
    check_model,
    check_token_ids,
    context_length,
    evaluation_mode,
)
from hf_ess.analysis.named_models import model_and_tokenizer
from hf_ess.analysis.provenance import library_versions, model_provenance
from hf_ess.analysis.samples import Sample, check_inputs, samples_from
from hf_ess.arguments import check_whole
from hf_ess.errors import InvalidInputError
from hf_ess.progress import progress_bar
from hf_ess.recall.bigrams import Integers, bigram_keys, counts_in, earlier_bigrams
from hf_ess.recall.result import STRETCH, RecallPerplexity, ScoredTokens
from hf_ess.recall.scoring import TokenScorer
from hf_ess.recall.windows import Window, Windowing, batches_of_one_shape
from hf_ess.report.text import counted

DEFAULT_MEMORY_BUDGET = 2**27
SHOWN_SPECIAL = 5


def recall_perplexity(
    model: nn.Module | str | os.PathLike[str],
    inputs: Any,
    tokenizer: Any | None = None,
    *,
    window: int | None = None,
    stride: int | None = None,
    exclude_common: int | None = None,
    corpus: Any | None = None,
    batch_size: int = 1,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    progress: bool = True,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> RecallPerplexity:
    """Perplexity on recall tokens, on all others, and on both together.

    A recall token is the second token of a bigram that occurred before in the same context: who
    remembers the context can tell it. The context is what the model sees: the text, or the window.
    No ESS is measured. The model is left as it was.

    Source: Arora et al., "Zoology: Measuring and Improving Recall in Efficient Language Models",
    ICLR 2024, section 3 (associative recall hits); Parnichkun et al., ICML 2025, figure 9b.
    Arora et al. count a bigram as a hit only if training showed it at most 1250 times, so that
    the model cannot know it by heart; here that is left to `exclude_common`, and `corpus` stands
    in for the training data.

    Args:
        model: a loaded model, or a Hub id, a local folder, or the path of a `.gguf` file.
        inputs: str, list of str, LongTensor `[B, L]` (or `[L]`), or a BatchEncoding; padding is
            removed. The first token of a text is context only.
        tokenizer: needed for text if the model is given as an object. Its special tokens are
            scored where they stand in a text, but no bigram with one is recall.
        window: tokens of one context; by default what the model was made for, if that is known.
            Shorter texts stay whole.
        stride: tokens from one window to the next, by default half a window. Each token is scored
            once; beyond the first window it has at least `window - stride` tokens of context.
        exclude_common: bigrams that occur more often than this in the corpus are not recall, and
            their tokens count among the others.
        corpus: texts, in the forms of `inputs`.
        batch_size: windows of one length that run together.
        memory_budget: bytes that logits may take at once, where the model knows
            `logits_to_keep`; other models give the logits of a whole window.
        progress: show a progress bar on stderr.
        dtype: of a model given by name; the checkpoint's own by default. Losses are float64.
        device: where a model given by name goes.
        revision: branch, tag or commit of a Hub id.
        trust_remote_code: run Python code that comes with a checkpoint; off unless asked for.

    Returns:
        The perplexities: `.all`, `.recall`, `.others`, `.by_occurrences`, `.by_distance`,
        `.summary()`, `.to_dict()`; `.scored` holds every token.

    Raises:
        InvalidInputError, InvalidTypeError: an argument cannot be used, or a text has fewer than
            two tokens.
        UnsupportedModelError: no causal language model with logits.
        NotCausalError: the prediction of a token depends on that token.
        ModelLoadError: the model cannot be loaded.
        NonFiniteError: logits are NaN or infinite.

    Example:
        >>> import torch, hf_ess
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        ...                      num_attention_heads=2, vocab_size=64)
        >>> model = LlamaForCausalLM(config).eval()
        >>> ids = torch.tensor([[3, 4, 9, 3, 4, 7]])
        >>> result = hf_ess.recall_perplexity(model, ids, progress=False)
        >>> result.recall.tokens, result.others.tokens, result.scored.distances.tolist()
        (1, 4, [0, 0, 0, 3, 0])
    """
    check_whole("batch_size", batch_size, least=1)
    check_whole("memory_budget", memory_budget, least=1)
    for name, number, least in (
        ("window", window, 2),
        ("stride", stride, 1),
        ("exclude_common", exclude_common, 0),
    ):
        if number is not None:
            check_whole(name, number, least)
    if (exclude_common is None) != (corpus is None):
        raise InvalidInputError(
            "exclude_common and corpus need each other: how common a bigram is, is counted in the "
            "corpus.",
            fix="Give both, or neither.",
        )
    check_inputs(inputs)
    model, tokenizer = model_and_tokenizer(
        model,
        tokenizer,
        dtype=dtype,
        device=device,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    check_model(model)
    samples = samples_from(inputs, tokenizer)
    check_token_ids(model, [sample.ids for sample in samples])
    cut = Windowing.chosen(window, stride, context_length(model))
    common = None if exclude_common is None else Corpus.of(corpus, tokenizer, exclude_common)
    run = _Run(model, samples, cut, _special_ids(tokenizer), common)
    with evaluation_mode(model), torch.no_grad():
        scored = run.scored(TokenScorer(model, memory_budget), batch_size, progress)
    return RecallPerplexity(scored, run.settings(), run.notes(scored, tokenizer))


@dataclass(frozen=True)
class Corpus:
    """Where common bigrams are counted: texts `[L]` each, and above which count they are common."""

    texts: Sequence[Integers]
    most: int

    @classmethod
    def of(cls, corpus: Any, tokenizer: Any | None, most: int) -> Corpus:
        """A corpus in any form of inputs."""
        return cls([sample.ids.numpy() for sample in samples_from(corpus, tokenizer)], most)

    @property
    def tokens(self) -> int:
        """How long it is."""
        return sum(map(len, self.texts))


class _Run:
    """What one call measures, and what it says about it."""

    def __init__(
        self,
        model: nn.Module,
        samples: Sequence[Sample],
        cut: Windowing,
        special: Integers,
        corpus: Corpus | None,
    ) -> None:
        self.model = model
        self.samples = samples
        self.cut = cut
        self.special = special
        self.corpus = corpus
        self.windows = [
            window
            for number, sample in enumerate(samples)
            for window in cut.of_text(number, sample.length)
        ]

    def scored(self, scorer: TokenScorer, batch_size: int, progress: bool) -> ScoredTokens:
        """Runs the model on all windows."""
        scorer.check(max(self.samples, key=lambda sample: sample.length).ids)
        losses: dict[Window, Any] = {}
        batches = list(batches_of_one_shape(self.windows, batch_size))
        with progress_bar(len(self.windows), "Scoring", enabled=progress, unit="window") as bar:
            for batch in batches:
                ids = torch.stack([self._ids(window) for window in batch])
                found = scorer.losses(ids, batch[0].shape[1]).numpy()
                losses.update(zip(batch, found, strict=True))
                bar.update(len(batch))
        parts = [self._repeats(window) for window in self.windows]
        occurrences, distances = (np.concatenate(part) for part in zip(*parts, strict=True))
        places = [np.arange(window.scored_from, window.stop) for window in self.windows]
        texts = [np.full(len(x), w.text) for w, x in zip(self.windows, places, strict=True)]
        return ScoredTokens(
            losses=np.concatenate([losses[window] for window in self.windows]),
            texts=np.concatenate(texts),
            positions=np.concatenate(places),
            occurrences=occurrences,
            distances=distances,
            common=self._common(),
        )

    def settings(self) -> dict[str, Any]:
        """What the numbers depend on."""
        corpus = self.corpus
        return {
            **model_provenance(self.model),
            "versions": library_versions(),
            "texts": len(self.samples),
            "text_tokens": sum(sample.length for sample in self.samples),
            "windows": len(self.windows),
            "window": self.cut.window,
            "stride": self.cut.stride,
            "exclude_common": None if corpus is None else corpus.most,
            "corpus_tokens": None if corpus is None else corpus.tokens,
            "tokens_per_stretch": STRETCH,
        }

    def notes(self, scored: ScoredTokens, tokenizer: Any | None) -> tuple[str, ...]:
        """What the reader has to know besides the numbers."""
        notes = [
            "Recall: the second token of a bigram that occurred before in the same context.",
            f"Standard errors are over stretches of {STRETCH} tokens.",
            "The first token of each text is context only.",
        ]
        if len(self.windows) > len(self.samples) and self.cut.window and self.cut.stride:
            notes.append(
                f"Windows of {self.cut.window} tokens, {self.cut.stride} apart: each token is "
                f"scored once, after the first window with at least "
                f"{self.cut.window - self.cut.stride} tokens of context."
            )
        if self.corpus is not None:
            left_out = int((scored.common & (scored.occurrences > 0)).sum())
            notes.append(
                f"Not recall: {counted(left_out, 'token')} of bigrams that occur more than "
                f"{self.corpus.most} times in a corpus of {self.corpus.tokens} tokens."
            )
        return (*notes, self._special_note(tokenizer))

    def _special_note(self, tokenizer: Any | None) -> str:
        if tokenizer is None:
            return "Without a tokenizer no special token is known: each counts as any other."
        present = np.concatenate([sample.ids.numpy() for sample in self.samples])
        found = np.intersect1d(present, self.special)
        if not len(found):
            return "The texts hold no special tokens."
        names = [str(tokenizer.convert_ids_to_tokens(int(token))) for token in found]
        more = ", ..." if len(names) > SHOWN_SPECIAL else ""
        return (
            f"Special tokens ({', '.join(names[:SHOWN_SPECIAL])}{more}) are scored where they do "
            "not begin a text; bigrams with them are never recall."
        )

    def _ids(self, window: Window) -> torch.Tensor:
        return self.samples[window.text].ids[window.start : window.stop]

    def _repeats(self, window: Window) -> tuple[Integers, Integers]:
        ids = self._ids(window).numpy()
        is_special = np.isin(ids, self.special)
        counts, distances = earlier_bigrams(ids)
        formal = is_special | np.r_[False, is_special[:-1]]
        counts[formal] = distances[formal] = 0
        first = window.shape[1]
        return counts[first:], distances[first:]

    def _common(self) -> Any:
        texts = [sample.ids.numpy() for sample in self.samples]
        if self.corpus is None:
            return np.zeros(sum(len(ids) - 1 for ids in texts), dtype=bool)
        size = 1 + max(int(ids.max()) for ids in (*texts, *self.corpus.texts))
        keys = np.concatenate([bigram_keys(ids, size) for ids in texts])
        return counts_in(self.corpus.texts, keys, size) > self.corpus.most


def _special_ids(tokenizer: Any | None) -> Integers:
    return np.array(getattr(tokenizer, "all_special_ids", []), dtype=np.int64)
