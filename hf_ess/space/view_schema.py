"""What the page draws, as JSON: the form of a view and of one cell of it."""

from __future__ import annotations

from typing import TypedDict

VIEW_VERSION = 1

Numbers = list[float | None]


class ViewModel(TypedDict):
    """Which model was measured; empty words and None where it is not known."""

    name: str
    revision: str
    type: str
    parameters: int | None
    dtype: str


class ViewLayer(TypedDict):
    """One layer; every list is as long as `positions` of the view, None where not measured.

    `counts` is base64 of little-endian numbers `[P, T]`: the singular values above each threshold,
    summed over the groups and averaged over texts. Divided by `groups` it is the mean per channel.
    """

    index: int
    name: str
    label: str
    mixer: str
    groups: int
    channels: int
    stateSize: int | None
    verified: bool
    residual: float | None
    residualBound: float
    reason: str
    method: str
    halfWidth: float | None
    entropy: Numbers
    counts: str
    countsType: str
    floor: Numbers
    capacity: Numbers
    attainable: Numbers
    groupEntropy: Numbers
    verdict: str


class ViewUnsupported(TypedDict):
    """A mixer that was found and not measured."""

    name: str
    mixer: str
    reason: str


class ViewProof(TypedDict):
    """How many layers are verified, and the largest residual among them."""

    verified: int
    layers: int
    largestResidual: float | None


class View(TypedDict):
    """A report in the form that the page draws without asking again.

    `tokens` are those of a single text, None where there are several or the text is withheld;
    `spectra` says whether cells can be asked for.
    """

    version: int
    key: str | None
    title: str
    model: ViewModel
    scope: str
    relative: bool
    window: list[int] | None
    complete: bool
    notes: list[str]
    length: int
    samples: int
    tokens: list[str] | None
    separators: list[int]
    positions: list[int]
    thresholds: list[float]
    spectra: bool
    tolerances: list[float]
    metrics: list[str]
    layers: list[ViewLayer]
    unsupported: list[ViewUnsupported]
    words: list[str]
    proof: ViewProof


class CellGroup(TypedDict):
    """One group of one layer at one position: its singular values, descending."""

    group: int
    values: list[float]
    entropy: float | None
    errorBound: float | None


class Cell(TypedDict):
    """Every group of one layer at one position of the first text that reaches it."""

    layer: int
    position: int
    groups: list[CellGroup]
