"""How a model does on texts, batch by batch."""

from __future__ import annotations

import torch

from hf_ess.synthetics import SyntheticForCausalLM, accuracy
from hf_ess.synthetics.tasks import NOT_ASKED, Examples


@torch.no_grad()
def tested(model: SyntheticForCausalLM, texts: Examples, batch_size: int) -> tuple[float, float]:
    """Cross entropy and accuracy, both over the asked tokens; the model is left in its mode.

    Args:
        model: anywhere; texts go where it is.
        texts: those of a test set.
        batch_size: texts at a time.

    Example:
        >>> from hf_ess.synthetics import SyntheticConfig, build_model, compression
        >>> model = build_model(SyntheticConfig(["LA"], vocab_size=8, hidden_size=8))
        >>> loss, right = tested(model, compression(4, length=8, vocabulary=8), batch_size=3)
        >>> loss > 0, 0 <= right <= 1
        (True, True)
    """
    loss = right = asked = 0.0
    for ids, labels in zip(*(torch.split(part, batch_size) for part in texts), strict=True):
        ids, labels = ids.to(model.device), labels.to(model.device)
        output = model(input_ids=ids, labels=labels)
        count = int((labels[:, 1:] != NOT_ASKED).sum())
        loss += count * output.loss.item()
        right += count * accuracy(output.logits, labels)
        asked += count
    return loss / asked, right / asked
