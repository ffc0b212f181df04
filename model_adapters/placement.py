"""Where a model that is loaded by name goes: one device, or a map from its parts to several."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from hf_ess.errors import InvalidInputError, InvalidTypeError

DeviceMap = str | Mapping[str, int | str | torch.device]
OFFLOADED = ("cpu", "disk")
STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")


def checked_device(device: torch.device | str | None) -> torch.device:
    """The device, if this machine has it.

    Raises:
        InvalidInputError: it has not.
    """
    try:
        chosen = torch.device(device or "cpu")
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InvalidInputError(
            f"The device {str(device)!r} cannot be used: {str(error).splitlines()[0]}",
            fix="Use cpu, or a device that torch lists on this machine.",
        ) from error
    return chosen


def checked_placement(
    device: torch.device | str | None,
    device_map: DeviceMap | None,
    max_memory: Mapping[int | str, int | str] | None,
    offload_folder: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    """The arguments of `from_pretrained` that place a model; none for a whole one on one device.

    Raises:
        InvalidInputError: a device map beside a device, what only a device map uses without one,
            or a device map that names nothing that this machine has.
        InvalidTypeError: a device map that is neither a name nor a mapping.

    Example:
        >>> from model_adapters.placement import checked_placement
        >>> checked_placement(None, "disk", None, None)
        {'device_map': {'': 'disk'}}
    """
    extra = {"max_memory": max_memory, "offload_folder": offload_folder}
    given = {name: value for name, value in extra.items() if value is not None}
    if device_map is None:
        if given:
            raise InvalidInputError(
                f"{' and '.join(given)} needs a device map.", fix='Pass device_map="auto".'
            )
        return {}
    if device is not None:
        raise InvalidInputError(
            f"device={str(device)!r} and device_map={device_map!r} exclude each other.",
            causes=["a device is for the whole model, a device map for its parts"],
            fix="Leave one of the two out.",
        )
    if max_memory is not None and device_map not in STRATEGIES:
        raise InvalidInputError(
            f"max_memory says nothing to device_map={device_map!r}, which names every place.",
            fix=f"Use one of {', '.join(STRATEGIES)}, or leave max_memory out.",
        )
    return {"device_map": _checked_map(device_map)} | given


def _checked_map(device_map: DeviceMap) -> Any:
    if isinstance(device_map, str):
        return device_map if device_map in STRATEGIES else {"": _checked_place(device_map)}
    if not isinstance(device_map, Mapping):
        raise InvalidTypeError(
            f"device_map must be a name or a mapping, got {type(device_map).__name__}."
        )
    return {name: _checked_place(place) for name, place in device_map.items()}


def _checked_place(place: Any) -> Any:
    if place in OFFLOADED:
        return place
    try:
        chosen = torch.device(place)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InvalidInputError(
            f"The device map names {place!r}, which cannot be used: "
            f"{(str(error).splitlines() or [''])[0]}",
            fix=f"Use one of {', '.join((*STRATEGIES, *OFFLOADED))}, or a device of this machine.",
        ) from error
    return place
