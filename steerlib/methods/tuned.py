"""Fine-tuned copies of a model, which steering is compared with: LoRA and full fine-tuning.

Chapter: axbench. They change weights instead of activations, so they are no interventions: a copy
meets the evaluation as another model.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from steerlib.core.fitting import History, Plan, Step, fit
from steerlib.core.interventions import Origin
from steerlib.core.model import Model, wrap
from steerlib.core.responses import Encoded, about_fit, mean_loss
from steerlib.core.session import sessions
from steerlib.core.sites import Site, resolve
from steerlib.methods.reft import Labelled, encode_positives


@dataclass(frozen=True, eq=False)
class Tuned:
    """A fine-tuned copy of a model, frozen.

    `model.module.save_pretrained(folder)` writes it: an adapter, or the whole model.

    Args:
        model: the copy (engine "hf"), with a revision of its own.
        origin: the model that was copied, and how it was tuned.
        history: the loss of each step.
    """

    model: Model
    origin: Origin
    history: History


def lora(
    model: Model,
    dialogues: Sequence[Labelled],
    *,
    rank: int = 4,
    alpha: float = 32.0,
    dropout: float = 0.05,
    layers: Sequence[int] | None = None,
    plan: Plan | None = None,
    chat: bool | None = None,
    checkpoint: str | None = None,
) -> Tuned:
    r"""A copy whose attention outputs have low-rank changes that make the concept likely.

    W <- W + alpha / sqrt(r) B A at the output projection of the attention, A (r, d_in) and
    B (d_out, r), with loss = - mean over dialogues of log p(y | x) / |y|, over those with label
    True. B starts at 0. The copy shares the weights of the model, which do not change.

    Args:
        rank: r.
        alpha: the scale; it is divided by sqrt(r) (rsLoRA).
        dropout: the share of the adapter's inputs that are set to 0 while it learns.
        layers: the blocks; default: all.
        plan: default: 12 epochs in batches of 18 at a learning rate of 5e-3, for small models.
        checkpoint: a file that is written after each epoch; a fit of the same dialogues and
            choices that was stopped goes on from it.

    Raises:
        ImportError: peft is not installed;
        ValueError: no dialogue with label True, no such layer, a rank that does not fit, a dropout
            outside [0, 1), a bridge, a model with an adapter, or one that is being steered;
        FloatingPointError: the fit diverged.

    Source: AxBench (Wu et al. 2025), section 3.2: this rank, scale and dropout at four layers, 24
    epochs in batches of 18 at a rate of 9e-4; rsLoRA: Kalajdzievski 2023. Chapter: axbench.

    Example:
        >>> import peft
        >>> base = st.load("world", engine="hf")
        >>> tuned = st.lora(base, st.world.dialogues("weather", 24))
        >>> tuned.model.module.save_pretrained("weather-lora")
        >>> fresh = st.load("world", engine="hf").module
        >>> again = peft.PeftModel.from_pretrained(fresh, "weather-lora").eval()
        >>> st.wrap(again, base.tokenizer).revision == tuned.model.revision
        True
    """
    peft, plan = _peft(), plan or Plan(epochs=12, batch_size=18, lr=5e-3)
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout lies in [0, 1), got {dropout}")
    _check(model, "lora")
    chosen = range(model.n_layers) if layers is None else layers
    encoded = encode_positives(model, dialogues, chat, "lora")
    network = _sharing_copy(model.module)
    targets = _targets(replace(model, module=network), chosen, rank)
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        use_rslora=True,
        target_modules=list(targets),
        # GPT-2 keeps its matrices transposed.
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in targets.values()),
        task_type="CAUSAL_LM",
    )
    adapted = _with_adapter(network, config, plan.seed)
    return _learn(model, adapted, encoded, plan, checkpoint, "lora", alpha, dropout)


def full_finetune(
    model: Model,
    dialogues: Sequence[Labelled],
    *,
    plan: Plan | None = None,
    chat: bool | None = None,
    checkpoint: str | None = None,
) -> Tuned:
    """A copy of which all weights have learned to make the concept likely.

    loss = - mean over dialogues of log p(y | x) / |y|, over those with label True. It needs the
    memory of four models in the model's dtype; in bfloat16 small steps are lost in rounding.

    Args:
        plan: default: 8 epochs in batches of 18 at a learning rate of 1e-3, for small models.
        checkpoint: a file that is written after each epoch; a fit of the same dialogues and
            choices that was stopped goes on from it.

    Raises:
        ValueError: no dialogue with label True, a bridge, a model with an adapter, or one that is
            being steered;
        FloatingPointError: the fit diverged.

    Source: AxBench (Wu et al. 2025), section 3.2, SFT: 8 epochs in batches of 18 at a rate of 4e-5.
    Chapter: axbench.

    Example:
        >>> base = st.load("world", engine="hf")
        >>> tuned = st.full_finetune(base, st.world.dialogues("weather", 24))
        >>> st.generate(tuned.model, "tell me about the dog .", seed=0)
        >>> tuned.model.module.save_pretrained("weather-model")
        >>> again = st.wrap(type(base.module).from_pretrained("weather-model"), base.tokenizer)
        >>> again.revision == tuned.model.revision
        True
    """
    plan = plan or Plan(epochs=8, batch_size=18, lr=1e-3)
    _check(model, "full_finetune")
    encoded = encode_positives(model, dialogues, chat, "full_finetune")
    network = copy.deepcopy(model.module).requires_grad_(True)
    return _learn(model, network, encoded, plan, checkpoint, "full_finetune")


def _learn(
    model: Model,
    network: Any,
    encoded: list[Encoded],
    plan: Plan,
    checkpoint: str | None,
    how: str,
    *choices: float,
) -> Tuned:
    """Fit those parameters of a copy that take a gradient, and freeze it."""
    learner = replace(model, module=network.train())
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}

    def loss(rows: list[int], step: Step) -> Tensor:
        with _seeded(int(torch.randint(2**62, (), generator=step.random))):
            return mean_loss(learner, [encoded[row] for row in rows], trains=True)

    about = about_fit(model, encoded, how, *choices)
    history = fit(
        parameters, loss, len(encoded), plan, checkpoint=checkpoint, about=about, name=how
    )
    network.zero_grad()
    network.eval().requires_grad_(False)
    origin = Origin(model.id, model.revision, how, plan.seed)
    return Tuned(wrap(network, model.tokenizer, id=f"{model.id} + {how}"), origin, history)


def _check(model: Model, how: str) -> None:
    """Raise a ValueError for a model that cannot be copied as it is."""
    if model.engine == "bridge":
        raise ValueError(
            f"{how} needs the plain Hugging Face model, got the bridge of {model.id}: load it with "
            f'st.load({model.id!r}, engine="hf")'
        )
    if model.hf is not model.runner:
        raise ValueError(
            f"{model.id} has an adapter already: wrap model.module.merge_and_unload(), then {how}"
        )
    if sessions(model):
        raise ValueError(f"{model.id} is being steered: call {how} outside of st.steer")


def _sharing_copy(network: nn.Module) -> Any:
    """A copy with modules of its own and the same weights, frozen in the copy only."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    memo |= {id(buffer): buffer for buffer in network.buffers()}
    return copy.deepcopy(network, memo)


def _with_adapter(network: Any, config: Any, seed: int) -> Any:
    """The network with an adapter that starts from random numbers of a seed."""
    with _seeded(seed), warnings.catch_warnings():
        # peft asks transformers for a name that the latter is about to rename.
        warnings.simplefilter("ignore", FutureWarning)
        return _peft().get_peft_model(network, config)


def _targets(model: Model, layers: Sequence[int], rank: int) -> dict[str, nn.Module]:
    """The output projections of the attention in some blocks, by their full names."""
    if not layers:
        raise ValueError("lora needs at least one layer, got none")
    names = {id(module): name for name, module in model.module.named_modules()}
    modules: list[Any] = [resolve(model, Site("head", layer)).module for layer in layers]
    largest = min(min(module.weight.shape) for module in modules)
    if not 1 <= rank <= largest:
        raise ValueError(f"the rank lies between 1 and {largest}, got {rank}")
    return {names[id(module)]: module for module in modules}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers from a seed, for what takes no generator; the caller's go on as before."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _peft() -> ModuleType:
    try:
        import peft
    except ImportError as error:
        raise ImportError("lora is made by the library peft: pip install peft") from error
    return peft
