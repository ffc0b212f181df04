"""How the batches of an analysis are gone through: texts that fail, and batches that are kept."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hf_ess.analysis.checkpoint import Checkpoint
from hf_ess.analysis.gathering import Gathering
from hf_ess.analysis.samples import LeftOut, Sample, nothing_left
from hf_ess.errors import InvalidInputError, MemoryBudgetError, NonFiniteError, ReportError
from hf_ess.progress import texts_done
from model_adapters.weights import non_finite_weights

# What one text can be to blame for.
OF_A_TEXT = (InvalidInputError, NonFiniteError, MemoryBudgetError)


@dataclass(frozen=True)
class Corpus:
    """How the texts of an analysis are handled, beside how each is measured.

    Attributes:
        max_length: tokens of a text that are kept, None for all.
        checkpoint: folder for finished batches, None for none.
        leave_out: whether a text that cannot be analysed is left out instead of ending all.
        left_out: texts that were found to be such before.
    """

    max_length: int | None = None
    checkpoint: Path | None = None
    leave_out: bool = False
    left_out: Sequence[LeftOut] = ()

    @property
    def by_whole_batches(self) -> bool:
        """Whether a batch belongs to one process, who alone knows how it ended."""
        return self.leave_out or self.checkpoint is not None


@dataclass(frozen=True)
class TextsTogether:
    """Texts of one length that run together.

    Attributes:
        batch: number of the batch that they are of.
        numbers: of the texts.
        turns: counts the layers that ran on any text of the batch.
    """

    batch: int
    numbers: list[int]
    turns: Iterator[int] = field(default_factory=count)


class BatchRunner:
    """Runs batches, and puts what they gave into a gathering.

    Args:
        model: that runs.
        batches: numbers of the texts of each.
        run: runs some texts, and adds what is measured to the gathering.
        gathering: of everything.
        corpus: says what is done with a text that fails.
        check: raises what went wrong elsewhere.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[list[int]],
        run: Callable[[TextsTogether], None],
        gathering: Gathering,
        corpus: Corpus,
        check: Callable[[], None],
    ) -> None:
        self.model = model
        self.batches = batches
        self.run = run
        self.gathering = gathering
        self.corpus = corpus
        self.check = check

    def run_batch(self, batch: int) -> None:
        """One batch; a text that fails may be left out, without the others of its batch."""
        self._run(TextsTogether(batch, self.batches[batch]))

    def run_and_keep(self, numbers: Sequence[int], kept: Checkpoint, *, bar: bool) -> None:
        """Batches that are not kept yet; each is written when it is done and no longer in memory.

        At the end all of them are read back, so that it makes no difference when they were made.
        """
        left = [number for number in numbers if not kept.has(number)]
        texts = sum(len(self.batches[number]) for number in numbers)
        with texts_done(texts, bar=bar) as done:
            done(texts - sum(len(self.batches[number]) for number in left))
            for number in left:
                kept.write(number, self._alone(number))
                done(len(self.batches[number]))
        for number in numbers:
            self.gathering.add(self._read(kept, number))

    def _read(self, kept: Checkpoint, number: int) -> Gathering:
        try:
            return kept.read(number)
        except ReportError as error:
            warnings.warn(
                f"Batch {number} in {str(kept.folder)!r} is damaged and is measured anew: "
                f"{error.what}.",
                stacklevel=2,
            )
        again = self._alone(number)
        kept.write(number, again)
        return again

    def _alone(self, number: int) -> Gathering:
        # Models that throw dice throw the same ones, whichever batches this process has run.
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(number)
        parts, refused = len(self.gathering.parts), len(self.gathering.refused)
        self.run_batch(number)
        return self.gathering.taken_since(parts, refused)

    def _run(self, texts: TextsTogether) -> None:
        parts, refused = len(self.gathering.parts), len(self.gathering.refused)
        try:
            self.run(texts)
        except OF_A_TEXT as error:
            self.check()
            if not self.corpus.leave_out or non_finite_weights(self.model)[0]:
                raise
            del self.gathering.parts[parts:], self.gathering.refused[refused:]
            if len(texts.numbers) == 1:
                self.gathering.failed.append((texts.numbers[0], error.what))
                return
            for number in texts.numbers:
                self._run(TextsTogether(texts.batch, [number], texts.turns))


@dataclass(frozen=True)
class KeptTexts:
    """The texts that could be analysed, and what is to be said of the others."""

    samples: list[Sample]
    gathering: Gathering
    left_out: list[LeftOut]

    @classmethod
    def of(
        cls, samples: Sequence[Sample], gathering: Gathering, left_out: Sequence[LeftOut]
    ) -> KeptTexts:
        """Of a gathering of all processes.

        Raises:
            InvalidInputError: none could be analysed.
        """
        failed = dict(gathering.failed)
        numbers = [number for number in range(len(samples)) if number not in failed]
        new: Mapping[int, int] = {number: place for place, number in enumerate(numbers)}
        missing = [LeftOut(samples[number].source, reason) for number, reason in failed.items()]
        if not numbers:
            raise nothing_left([*left_out, *missing])
        kept = [samples[number] for number in numbers]
        return cls(kept, gathering.renumbered(new), [*left_out, *missing])

    def records(self) -> list[dict[str, Any]]:
        """What the report keeps of texts that were left out."""
        return [{"text": one.source, "reason": one.reason} for one in self.left_out]

    def warning(self) -> str:
        """The same in a sentence, empty if there are none."""
        if not self.left_out:
            return ""
        return (
            f"{len(self.left_out)} of {len(self.left_out) + len(self.samples)} texts could not be "
            "analysed and enter nothing; report.provenance['left_out'] names them all. The first: "
            f"{self.left_out[0].sentence}"
        )
