"""Where batched and single decoding differ: an exact tie of two tokens, or a mistake?

Padding and batching change the order of float sums. That may decide between two tokens whose
logits are equal in all but the last bits, and nothing else.
"""

from typing import Any

import torch

import steerlib as st

TIE = 1e-4


def alone(
    model: st.Model, prompt: str, intervention: st.Intervention, strength: float, **options: Any
) -> str:
    """One answer by a generate call of its own."""
    with st.steer(model, intervention, strength=strength):
        return st.generate(model, prompt, **options)


def gap(
    model: st.Model,
    prompt: str,
    intervention: st.Intervention,
    strength: float,
    other: str,
    **options: Any,
) -> float:
    """Top-2 gap of the logits where the greedy answer and another text part; inf if they do not."""
    steps: list[torch.Tensor] = []
    handle = model.hf.register_forward_hook(
        lambda module, inputs, output: steps.append(output.logits[0, -1].float())
    )
    try:
        alone(model, prompt, intervention, strength, **options)
    finally:
        handle.remove()
    tokens = [int(scores.argmax()) for scores in steps]
    for step, scores in enumerate(steps):
        written = model.tokenizer.decode(tokens[: step + 1], skip_special_tokens=True)
        # The end of a text is a token too: then the other one goes on.
        ended = tokens[step] in model.eos_ids and other != written
        if ended or not other.startswith(written):
            top = scores.topk(2).values
            return float(top[0] - top[1])
    return float("inf")


def ties(model: st.Model, intervention: st.Intervention, table: Any, **options: Any) -> int:
    """How many rows of a table differ from a call of their own, each by a tie.

    Raises:
        ValueError: a row differs although no two tokens tie.
    """
    found = 0
    for prompt, strength, text in zip(table.prompt, table.strength, table.text, strict=True):
        asked = (model, prompt, intervention, strength)
        if alone(*asked, **options) == text:
            continue
        if (width := gap(*asked, text, **options)) >= TIE:
            raise ValueError(f"{prompt!r} at {strength} differs at a top-2 gap of {width:.3g}")
        found += 1
    return found
