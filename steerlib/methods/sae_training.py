r"""Learn a sparse autoencoder from a stream of activations, a chunk of texts at a time.

Chapter: sae. Activations are centred and divided by one number, x = (h - mu) / s, so that learning
rates and penalties mean the same at every site; at the end both are folded into the parameters.
`sae_learner` says what a step minimizes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from steerlib.core.capture import pooling, stream
from steerlib.core.checkpoints import Checkpoint
from steerlib.core.interventions import Origin
from steerlib.core.model import Model
from steerlib.core.positions import prompt
from steerlib.core.prompts import Prompt
from steerlib.core.sites import Site, as_site, width
from steerlib.methods.sae import SAE
from steerlib.methods.sae_learner import Learner, SAEPlan


def train_sae(
    model: Model,
    texts: Sequence[Prompt],
    site: Site | str,
    plan: SAEPlan | None = None,
    *,
    chat: bool | None = False,
    checkpoint: str | Path | None = None,
    batch_size: int = 64,
) -> SAE:
    """An SAE of the activations of all tokens of texts, BOS left out.

    Activations are never held all at once: `plan.chunk` texts are read, their tokens mixed, and
    the SAE takes its steps on them.

    Args:
        texts: what is read; mix them so that no kind of text is rare.
        site: where.
        plan: what is learned, and how (default: `SAEPlan()`, TopK).
        chat: False reads strings as they are, None or True by the chat template.
        checkpoint: a safetensors file, written after each chunk; a run of the same plan, texts and
            model goes on from it.
        batch_size: texts that the model reads at once.

    Returns:
        The SAE in the model's raw basis, decoder rows of length 1.

    Raises:
        ValueError: no texts; a site that the model has not; a checkpoint of another fit.
        FloatingPointError: the loss is not finite: the learning rate is too high.

    Source: Gao et al. 2024, sections 2 and A.1 (TopK, auxiliary loss); Rajamanoharan et al. 2024
    (JumpReLU), equations 11 and 12; Bricken et al. 2023 (dead ReLU features start anew); Bussmann
    et al. 2025 (nested sizes). Chapter: sae.

    Example:
        >>> sae = st.train_sae(model, texts, st.resid(2), st.SAEPlan(n=256, k=8))
    """
    plan, where = plan or SAEPlan(), as_site(site)
    if isinstance(texts, str) or not len(texts):
        raise ValueError(f"needed is a list of texts, got {texts!r}")
    read = _Reader(model, list(texts), where, chat, batch_size)
    run = _Run(Learner(width(model, where), plan, model.device), read, checkpoint)
    chunks = [rows for epoch in range(plan.epochs) for rows in _chunks(len(texts), plan, epoch)]
    with tqdm(total=len(chunks), initial=run.done, desc="sae", delay=2, leave=False) as bar:
        for number in range(run.done, len(chunks)):
            error = run.advance(chunks[number], number, len(chunks))
            bar.set_postfix(error=f"{error:.3f}", refresh=False)
            bar.update()
    origin = Origin(model.id, model.revision, f"sae {plan.activation}", plan.seed)
    return run.learner.sae(where, run.centre, float(run.scale), origin)


def _chunks(n: int, plan: SAEPlan, epoch: int) -> Iterator[list[int]]:
    """The texts of one epoch in an order of their own, a chunk at a time."""
    order = list(range(n))
    Random(f"{plan.seed}-{epoch}").shuffle(order)
    for start in range(0, n, plan.chunk):
        yield order[start : start + plan.chunk]


@dataclass(frozen=True)
class _Reader:
    """Reads the activations of some of the texts."""

    model: Model
    texts: list[Prompt]
    site: Site
    chat: bool | None
    batch_size: int

    def rows(self, numbers: list[int]) -> Float[Tensor, "tokens d"]:
        """All tokens of these texts, in no order that matters."""
        batches = stream(
            self.model, [self.texts[n] for n in numbers], [self.site], pooling(None),
            at=prompt, chat=self.chat, batch_size=self.batch_size,
        )  # fmt: skip
        return torch.cat([row for _, taken in batches for row in taken[self.site]])

    @property
    def identity(self) -> str:
        """What the activations depend on."""
        digest = hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()
        return f"{self.model.revision} {self.site} {self.chat} {len(self.texts)} {digest}"


class _Run:
    """A learner with the centre and the scale of its activations, chunk by chunk, in one file."""

    def __init__(self, learner: Learner, read: _Reader, path: str | Path | None) -> None:
        self.learner, self.read = learner, read
        identity = json.dumps({"plan": asdict(learner.plan), "about": read.identity})
        self.file = Checkpoint(path, identity, learner.parameters, learner.optimizer)
        self.centre, self.scale, self.done = torch.zeros(0), torch.ones(()), 0
        if (found := self.file.load(("centre", "scale", "silent"))) is not None:
            facts, tensors = found
            self.centre, self.scale, self.done = (
                tensors["centre"],
                tensors["scale"],
                int(facts["done"]),
            )
            learner.silent.copy_(tensors["silent"])

    def advance(self, numbers: list[int], chunk: int, chunks: int) -> float:
        """The steps of one chunk; returns its mean error per number of x."""
        rows, plan = self.read.rows(numbers), self.learner.plan
        if not self.done:
            self.centre = rows.mean(0)
            self.scale = (rows - self.centre).square().mean().sqrt()
            # What a mean rounds off is no spread.
            if not self.scale > 1e-6 * rows.abs().mean():
                raise ValueError(f"all activations at {self.read.site} are the same")
        random = torch.Generator().manual_seed(plan.seed * 1_000_003 + chunk)
        mixed = rows[torch.randperm(len(rows), generator=random)]
        parts = mixed.chunk(-(-len(mixed) // plan.batch_size))
        errors = []
        for number, part in enumerate(parts):
            x = ((part - self.centre) / self.scale).to(self.read.model.device)
            errors.append(self.learner.step(x, (chunk + number / len(parts)) / chunks))
            if not math.isfinite(errors[-1]):
                raise FloatingPointError(
                    f"the loss of the SAE is {errors[-1]} in chunk {chunk}; lower lr={plan.lr}"
                )
        self.done = chunk + 1
        more = {"centre": self.centre, "scale": self.scale, "silent": self.learner.silent}
        self.file.save({"done": str(self.done)}, more)
        return sum(errors) / len(errors) / rows.shape[1]
