"""Trains the embedded model from scratch: `python -m steerlib.world.train --out data/world`.

A plain loop over an endless stream: Muon on the matrices of the blocks, AdamW on the rest, a
trapezoidal learning rate. It checkpoints every minute and resumes by itself; no pickle is read
or written. Single precision: bf16 autocast is slower on processors without bf16 arithmetic.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from steerlib.world.corpus import batches
from steerlib.world.documents import Document
from steerlib.world.tokenizer import CONTEXT, build_tokenizer

log = logging.getLogger("steerlib.world.train")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result but the seed."""

    tokens: int = 26_000_000  # with padding
    layers: int = 5
    width: int = 128
    heads: int = 4
    batch_tokens: int = 4096
    lr: float = 4e-3
    warmup_steps: int = 60
    decay_from: float = 0.55  # share of the tokens after which the rate falls
    final: float = 0.02  # of the rate, at the end


@dataclass
class Progress:
    """Where a run stands; saved with each checkpoint."""

    shard: int = 0
    batch: int = 0
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float = 0.0  # exponential moving average
    curve: list[tuple[int, float]] = field(default_factory=list)  # (tokens, loss)
    # what the run was trained to, each time: a run that went on had its rate fall twice
    budgets: list[int] = field(default_factory=list)


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """A GPT-2 with untied embeddings and no dropout."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=CONTEXT,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )
    config.n_ctx = CONTEXT
    model = GPT2LMHeadModel(config)
    torch.nn.init.normal_(model.transformer.wte.weight, std=0.05)
    return model


def build_optimizers(model: GPT2LMHeadModel, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, biases and norms."""
    inside = [p for n, p in model.named_parameters() if ".h." in n and p.dim() == 2]
    chosen = {id(p) for p in inside}
    outside = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(
            inside, lr=lr, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(outside, lr=lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    ]


def learning_rate(recipe: Recipe, step: int, tokens: int) -> float:
    """The share of the peak rate: linear warm-up, flat, linear fall."""
    done = tokens / recipe.tokens
    fall = (1 - done) / (1 - recipe.decay_from)
    return min(1.0, (step + 1) / recipe.warmup_steps) * max(recipe.final, min(1.0, fall))


def collate(
    documents: list[Document], ids: dict[str, int], bos: int, pad: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded token ids (batch, pos) and the mask of targets (batch, pos - 1)."""
    length = 1 + max(len(d.words) for d in documents)
    if length > CONTEXT:
        raise ValueError(f"a document of {length} tokens does not fit the context of {CONTEXT}")
    tokens = torch.full((len(documents), length), pad)
    targets = torch.zeros(len(documents), length - 1, dtype=torch.bool)
    for i, document in enumerate(documents):
        tokens[i, : len(document.words) + 1] = torch.tensor(
            [bos, *(ids[w] for w in document.words)]
        )
        targets[i, : len(document.words)] = torch.tensor(document.targets)
    return tokens, targets


def loss_of(model: GPT2LMHeadModel, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the targets; the head runs on their positions only."""
    hidden = model.transformer(tokens, use_cache=False).last_hidden_state[:, :-1]
    return F.cross_entropy(model.lm_head(hidden[targets]), tokens[:, 1:][targets])


def _stream(seed: int, recipe: Recipe, progress: Progress) -> Iterator[list[Document]]:
    while True:
        for i, batch in enumerate(batches(seed, progress.shard, recipe.batch_tokens)):
            if i < progress.batch:
                continue
            progress.batch = i + 1
            yield batch
        progress.shard, progress.batch = progress.shard + 1, 0


def train(
    recipe: Recipe, seed: int, checkpoint: Path, every: float = 60.0
) -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast, Progress]:
    """Trains to the end of the recipe, or on from the checkpoint where there is one."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    ids, model = tokenizer.get_vocab(), build_model(recipe, tokenizer)
    optimizers = build_optimizers(model, recipe.lr)
    progress = load_checkpoint(checkpoint, model, optimizers) or Progress()
    if progress.budgets[-1:] != [recipe.tokens]:
        progress.budgets.append(recipe.tokens)
    saved = time.time()
    started = time.time() - progress.seconds
    for documents in _stream(seed, recipe, progress):
        if progress.tokens >= recipe.tokens:
            break
        tokens, targets = collate(documents, ids, tokenizer.bos_token_id, tokenizer.pad_token_id)
        rate = recipe.lr * learning_rate(recipe, progress.step, progress.tokens)
        loss = _step(model, optimizers, rate, tokens, targets)
        _advance(progress, loss, tokens.numel(), time.time() - started)
        if time.time() - saved > every:
            saved = time.time()
            save_checkpoint(checkpoint, model, optimizers, progress)
            log.info(describe(progress, recipe))
    save_checkpoint(checkpoint, model, optimizers, progress)
    return model.eval(), tokenizer, progress


def _step(
    model: GPT2LMHeadModel,
    optimizers: list[torch.optim.Optimizer],
    rate: float,
    tokens: torch.Tensor,
    targets: torch.Tensor,
) -> float:
    loss = loss_of(model, tokens, targets)
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss.item()}; lower the learning rate")
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def _advance(progress: Progress, loss: float, tokens: int, seconds: float) -> None:
    progress.loss = loss if progress.step == 0 else 0.97 * progress.loss + 0.03 * loss
    progress.step += 1
    progress.tokens += tokens
    progress.seconds = seconds
    if progress.step % 50 == 0:
        progress.curve.append((progress.tokens, round(progress.loss, 4)))


def describe(progress: Progress, recipe: Recipe) -> str:
    """The progress line."""
    rate = progress.tokens / max(progress.seconds, 1e-9)
    left = (recipe.tokens - progress.tokens) / rate / 60
    return (
        f"step {progress.step}  {progress.tokens / 1e6:.2f} of {recipe.tokens / 1e6:.0f} M tokens"
        f"  loss {progress.loss:.3f}  {rate:.0f} tokens/s  {left:.0f} min left"
    )


def _named_state(
    model: GPT2LMHeadModel, optimizers: list[torch.optim.Optimizer]
) -> dict[str, torch.Tensor]:
    names: dict[torch.Tensor, str] = {p: n for n, p in model.named_parameters()}
    tensors = {f"model.{n}": p.detach() for n, p in model.named_parameters()}
    for optimizer in optimizers:
        for p, state in optimizer.state.items():
            tensors |= {f"optimizer.{names[p]}|{k}": v for k, v in state.items()}
    return tensors


def save_checkpoint(
    path: Path,
    model: GPT2LMHeadModel,
    optimizers: list[torch.optim.Optimizer],
    progress: Progress,
) -> None:
    """Weights, optimizer state and progress in one file, renamed into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    tensors = {k: v.contiguous() for k, v in _named_state(model, optimizers).items()}
    save_file(tensors, partial, metadata={"progress": json.dumps(asdict(progress))})
    os.replace(partial, path)


def load_checkpoint(
    path: Path, model: GPT2LMHeadModel, optimizers: list[torch.optim.Optimizer]
) -> Progress | None:
    """Restores a run in place; `None` where there is no checkpoint."""
    if not path.exists():
        return None
    parameters = dict(model.named_parameters())
    owner = {id(p): o for o in optimizers for g in o.param_groups for p in g["params"]}
    with safe_open(path, "pt") as file, torch.no_grad():
        for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
            kind, name = key.split(".", 1)
            if kind == "model":
                parameters[name].copy_(file.get_tensor(key))
            else:
                name, entry = name.split("|")
                p = parameters[name]
                owner[id(p)].state[p][entry] = file.get_tensor(key)
        progress = Progress(**json.loads(file.metadata()["progress"]))
    log.info("resumed at step %d", progress.step)
    return progress


def main() -> None:
    """The command line: train, then write the Hugging Face folder and its report card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=Recipe.tokens)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, help="default: OUT/checkpoint.safetensors")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(args.threads)
    recipe = Recipe(tokens=args.tokens)
    checkpoint = args.checkpoint or args.out / "checkpoint.safetensors"
    model, tokenizer, progress = train(recipe, args.seed, checkpoint)
    from steerlib.world.export import export

    export(args.out, model, tokenizer, recipe, progress, args.seed)


if __name__ == "__main__":
    main()
