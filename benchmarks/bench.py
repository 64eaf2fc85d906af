"""Speed of steerlib, as ratios measured in one run: `make bench`.

Prints every figure, records it in `data/results/bench.json` (with `STEERLIB_RECORD=1`, which
`make bench` sets) and renews the table of README.md from that file.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from math import log
from pathlib import Path
from random import Random
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

import steerlib as st
from benchmarks.table import insert
from benchmarks.ties import alone, ties
from benchmarks.timing import Ratio, race
from steerlib import evaluation as ev
from steerlib.core.answers import encode_choices, next_scores
from steerlib.core.capture import positions_and_mask
from steerlib.core.positions import Positions
from steerlib.core.prompts import encode, pad
from steerlib.core.responses import Batch, response_log_p
from steerlib.evaluation.judges import grades
from steerlib.evaluation.sweep import Study, sweep
from steerlib.methods.answers_on_grid import answers_on_grid
from steerlib.methods.bipo import preference_loss
from steerlib.methods.flipping import both_ways
from steerlib.methods.mera import GRID

ROOT = Path(__file__).resolve().parent.parent
BATCH, NEW_TOKENS, TEXTS = 16, 48, 128
# Two runs on one machine differ by less than this; another machine may differ by more.
TOLERANCE = {"ratio": 0.15, "seconds": 5.0, "rate": 1e6, "bytes": 0.0, "count": 3.0, "times": 6.0}
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)
CHILD = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def decoders(model: st.Model, prompts: list[str]) -> dict[str, Callable[[], Any]]:
    """The same greedy tokens, decoded plainly, steered, and by Hugging Face with a bare hook.

    The direction is so short that it changes no token: all three write the same number of them.
    """
    site = st.resid(model.n_layers // 2)
    direction = 1e-6 * torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))

    def plain() -> list[str]:
        return st.generate(model, prompts, max_new_tokens=NEW_TOKENS, chat=False)

    def steered() -> list[str]:
        with st.steer(model, st.Add(site, direction)):
            return plain()

    def bare() -> Tensor:
        return generate_with_bare_hook(model, prompts, site.layer, direction)

    return {"plain": plain, "steered": steered, "bare": bare}


def generate_with_bare_hook(
    model: st.Model, prompts: list[str], layer: int, direction: Tensor
) -> Tensor:
    """What a reader would write without steerlib: one hook and the model's own `generate`."""

    def add(module: object, inputs: object, output: Any) -> Any:
        h = output[0] if isinstance(output, tuple) else output
        return (h + direction, *output[1:]) if isinstance(output, tuple) else h + direction

    ids, attention = pad(model, encode(model, prompts, False))
    mask = torch.ones_like(ids) if attention is None else attention
    handle = model.blocks[layer].register_forward_hook(add)
    try:
        return model.hf.generate(
            ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False
        )
    finally:
        handle.remove()


def padded_batches(model: st.Model, texts: list[str], size: int = 32) -> Iterator[dict[str, Any]]:
    """The inputs that `capture` feeds the model: sorted by length, left-padded."""
    encoded = sorted(encode(model, texts, False), key=len)
    for start in range(0, len(encoded), size):
        ids, attention = pad(model, encoded[start : start + size])
        yield {"input_ids": ids, "use_cache": False, **positions_and_mask(attention)}


class Reached(Exception):  # noqa: N818 (no error, a signal)
    """The layer that a bare forward pass was to reach."""


@torch.no_grad()
def bare_forward(model: st.Model, texts: list[str], layer: int) -> None:
    """Forward passes that stop after a layer and keep nothing."""

    def stop(*_: object) -> None:
        raise Reached

    handle = model.blocks[layer].register_forward_hook(stop)
    try:
        for inputs in padded_batches(model, texts):
            try:
                model.decoder(**inputs)
            except Reached:
                continue
    finally:
        handle.remove()


@torch.no_grad()
def all_hidden_states(model: st.Model, texts: list[str]) -> list[tuple[Tensor, ...]]:
    """The usual way: keep every hidden state of every token, choose afterwards."""
    batches = padded_batches(model, texts)
    return [model.hf(**inputs, output_hidden_states=True).hidden_states for inputs in batches]


def held(tensors: Iterator[Tensor]) -> int:
    """Bytes of the memory behind some tensors: a view keeps all that it was cut from."""
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors}
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())


def child_seconds(statement: str, before: str = "pass", repeats: int = 3) -> float:
    """The time that a statement takes in a fresh process, in the least disturbed of some runs."""
    program = f"{before}; {CHILD.format(statement)}"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", program]
    runs = [
        subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        for _ in range(repeats)
    ]
    return min(float(run.stdout) for run in runs)


def training_rate(tokens: int = 120_000) -> float:
    """Tokens per second of a short training run of the world model."""
    from steerlib.world.train import Recipe, train

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "checkpoint.safetensors")
        progress = train(Recipe(tokens=tokens), seed=0, checkpoint=checkpoint)[2]
    return progress.tokens / progress.seconds


def report(name: str, value: float, kind: str, ratio: Ratio | None = None) -> None:
    """Print one figure and record it."""
    interval = (ratio.low, ratio.high) if ratio else None
    rounds = ratio.rounds if ratio else None
    shown = f"  [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio else ""
    print(f"{name:30} {value:14,.3f}{shown}", flush=True)
    st.record(f"bench.{name}", value, TOLERANCE[kind], interval=interval, n=rounds)


def report_ratio(
    name: str,
    first: Callable[[], Any],
    second: Callable[[], Any],
    rounds: int = 15,
    kind: str = "ratio",
) -> None:
    """Race two contestants, print and record."""
    ratio = race(first, second, rounds)
    report(name, ratio.value, kind, ratio)


def decoding(prompts: list[str]) -> None:
    """Steered against unsteered, engine against engine, steerlib against Hugging Face."""
    runs = {name: decoders(st.load("world", engine=name), prompts) for name in ("hf", "bridge")}
    for name, run in runs.items():
        if run["plain"]() != run["steered"]():
            raise ValueError(f"the direction changed a token on {name}: lengths would differ")
        report_ratio(f"steered_{name}", run["steered"], run["plain"])
    report_ratio("hf_to_bridge", runs["hf"]["plain"], runs["bridge"]["plain"])
    report_ratio("steered_to_bare", runs["hf"]["steered"], runs["hf"]["bare"])


def capturing(texts: list[str]) -> None:
    """One middle layer, last token: against a bare forward pass and against keeping all."""
    model = st.load("world", engine="hf")
    site = st.resid(model.n_layers // 2)

    def capture() -> dict[st.Site, Tensor]:
        return st.capture(model, texts, sites=[site])

    report_ratio("capture_to_bare", capture, lambda: bare_forward(model, texts, site.layer))
    report_ratio("capture_to_hidden", capture, lambda: all_hidden_states(model, texts))
    report("capture_bytes", held(iter(capture().values())), "bytes")
    kept = all_hidden_states(model, texts)
    report("hidden_bytes", held(h for batch in kept for h in batch), "bytes")


def fitting() -> None:
    """Directions from 1,008 texts: seven draws of a concept's training texts."""
    model = st.load("world", engine="hf")
    draws = [st.world.concept("weather", seed).train for seed in range(7)]
    data = SimpleNamespace(
        texts=[text for draw in draws for text in draw.texts],
        labels=[label for draw in draws for label in draw.labels],
    )
    for name in ("diff_means", "pca", "lat", "probe"):
        fit, seconds = getattr(st, name), []
        for _ in range(3):
            start = perf_counter()
            fit(model, data, st.resid(2))
            seconds.append(perf_counter() - start)
        report(f"fit_{name}_seconds", min(seconds), "seconds")


def sweeping(prompts: list[str]) -> None:
    """Strengths and prompts in shared batches against a generate call for each pair of them."""
    model, judge = st.load("world", engine="hf"), ev.world_judge("weather")
    weather = st.diff_means(model, st.world.concept("weather").train, st.resid(2))
    study = Study("weather", [ev.Arm("diff_means", weather, STRENGTHS)], prompts, judge)
    greedy: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "temperature": 0.0}

    def batched() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return sweep(model, [study], folder, progress=False, **greedy)

    def single() -> list[Any]:
        pairs = product(STRENGTHS, prompts)
        texts = ((p, alone(model, p, weather, s, **greedy)) for s, p in pairs)
        return [grades(judge, prompt, text) for prompt, text in texts]

    report("sweep_ties", ties(model, weather, batched(), **greedy), "count")
    report_ratio("sweep_to_single", batched, single, rounds=5, kind="times")


def scaling() -> None:
    """A scalar for each head, MLP and position; both directions of all prompts in one batch."""
    model = st.load("world", engine="hf")
    data = st.world.conflicts(TEXTS, relations=("city",))
    sites = st.components(model)
    start = perf_counter()
    dial = st.activ_scalar(model, data, sites)
    report("fit_scalars_seconds", perf_counter() - start, "seconds")
    asked = encode_choices(model, data[:BATCH])

    def single() -> None:
        for item in asked:
            for sign in (1.0, -1.0):
                with torch.no_grad(), st.steer(model, dial, sign):
                    next_scores(model, [item])

    def batched() -> None:
        with torch.no_grad():
            both_ways(model, asked, dial)

    report_ratio("flip_to_single", batched, single, kind="times")


def calibrating() -> None:
    """MERA's grid: steps that share a prefix, and steps of one form at all tokens of the prompt."""
    model, random = st.load("world", engine="hf"), torch.Generator().manual_seed(0)
    problems = ev.world_problems("verdict", TEXTS)
    spaces = [(st.resid(n), torch.randn(model.d_model, generator=random)) for n in (1, 2, 3)]

    def grid(layers: int, at: Positions) -> list[st.Intervention]:
        made = [[st.HalfSpace(*space, log(1 / alpha - 1)) for space in spaces] for alpha in GRID]
        return [sum(steps[1:layers], steps[0]).at(at) for steps in made]

    def single(steps: list[st.Intervention]) -> None:
        for step in steps:
            with st.steer(model, step):
                st.classify(model, problems)

    for name, steps in (("last", grid(1, st.last)), ("layers", grid(3, st.prompt))):
        report_ratio(
            f"calibrate_{name}",
            partial(answers_on_grid, model, problems, steps),
            partial(single, steps),
            rounds=5,
            kind="times",
        )


def preferring() -> None:
    """A step of BiPO with log-probabilities without steering that are kept, or computed anew."""
    model, rows = st.load("world", engine="hf"), range(12)
    known = st.Pairs.of(model, st.world.trait_pairs("greed", len(rows)))
    vector = torch.zeros(model.d_model, requires_grad=True)
    responses = [response for pair in known.encoded for response in pair]

    def step(signs: tuple[float, ...], kept: bool) -> None:
        reference = known.reference
        if not kept:
            with torch.no_grad():
                log_p, _ = response_log_p(model, Batch.of(model, responses))
            reference = log_p.reshape(-1, 2)
        log_p = known.log_p(st.Add(st.resid(2), vector), rows, signs)
        preference_loss(log_p, reference, None, 0.1).backward()

    for name, signs in (("one", (1.0,)), ("both", (1.0, -1.0))):
        kept, anew = (partial(step, signs, kept) for kept in (True, False))
        report_ratio(f"preference_{name}", kept, anew)


def features() -> None:
    """An SAE from streamed activations, as in the chapter sae, on fewer documents."""
    model = st.load("world", engine="hf")
    documents = [document for _, document in st.world.corpus.balanced(0, 2048)]
    start = perf_counter()
    st.train_sae(model, [document.text for document in documents], st.resid(2))
    seconds = perf_counter() - start
    report("sae_rate", sum(len(d.words) for d in documents) / seconds, "rate")


def values() -> None:
    """Answers of roles to a questionnaire, by the distribution over the answers."""
    model, world, random = st.load("world", engine="hf"), st.world.values, Random(0)
    asked = st.Questionnaire.from_triples(world.questions(), world.LEVELS)
    roles = list(dict.fromkeys(world.role_prompt(world.random_role(random)) for _ in range(100)))
    start = perf_counter()
    st.value_scores(model, asked, roles)
    report("answer_rate", len(roles) * len(asked) / (perf_counter() - start), "rate")


def starting() -> None:
    """Import and load times in fresh processes."""
    load = "steerlib.load('world')"
    report("import_seconds", child_seconds("import steerlib"), "seconds")
    report("first_use_seconds", child_seconds(f"import steerlib; {load}"), "seconds")
    warm = f"import steerlib; {load}"
    report("load_seconds", child_seconds(load, before=warm), "seconds")


def main() -> None:
    """Measure everything and renew the table."""
    st.setup(seed=0)
    prompts = [item.text for item in st.world.instruction_prompts(TEXTS, seed=0)]
    decoding(prompts[:BATCH])
    capturing(prompts)
    fitting()
    sweeping(prompts[:BATCH])
    scaling()
    calibrating()
    preferring()
    features()
    values()
    starting()
    report("training_tokens_per_second", training_rate(), "rate")
    if os.environ.get("STEERLIB_RECORD") == "1":
        results = json.loads((ROOT / "data/results/bench.json").read_text(encoding="utf-8"))
        readme = ROOT / "README.md"
        readme.write_text(insert(readme.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
