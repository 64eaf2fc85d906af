"""Why the standard form does nothing, and what a preface before the answer changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import steerlib as st
from experiments.mera_data import BATCH, DELTA, SITES, Case, total
from steerlib.core.classification import Answers
from steerlib.core.edits import LowRank
from steerlib.evaluation.shards import Shard
from steerlib.methods.answers_on_grid import answers_on_grid
from steerlib.methods.error_probes import ErrorProbe, read_problems
from steerlib.methods.gated_probes import GatedProbe
from steerlib.statistics import Flips

ALPHA = 0.05
_LATE = SITES[2:]
_FEW = (1e-5, 1e-3, 0.05, 0.25)


# --- where do the steps point?


def diagnosis(model: str, task: str, seed: str) -> Shard:
    """Angles, lengths and effects of the steps of four forms, layer by layer."""
    case = Case(model, task, int(seed))
    known = case.known["train"]
    held = read_problems(case.net, case.train, SITES)
    rows = []
    for label, name in ((None, "standard"), ("no", "within label")):
        probes = st.error_probes(
            case.net, case.train, SITES, kind="ridge", label=label, metric="covariance",
            answers=known, seed=case.seed,
        )  # fmt: skip
        for site, probe in probes.items():
            plain = replace(probe, metric=None)
            for metric, one in (("identity", plain), ("covariance", probe)):
                about = _angles(one, held[site], known) | _effect(case, one)
                rows.append({"form": name, "metric": metric, "site": str(site)} | about)
    return {"rows": rows}


def _angles(probe: ErrorProbe, h: Float[Tensor, "n d"], known: Answers) -> dict[str, float]:
    """Cosines of the step with what an answer and a truth look like."""
    step = _step(probe)
    yes, says = known.truth == 0, known.predicted == 0
    directions = {
        "cos_truth": h[yes].mean(0) - h[~yes].mean(0),
        "cos_answer": h[says].mean(0) - h[~says].mean(0),
        # Of the same true label: right minus wrong answers.
        "cos_mended": h[~yes & ~says].mean(0) - h[~yes & says].mean(0),
    }
    return {name: _cosine(step, one) for name, one in directions.items()}


def _step(probe: ErrorProbe) -> Float[Tensor, " d"]:
    """The direction in which an activation is moved."""
    edit = probe.step(ALPHA).terms[0].edit
    assert isinstance(edit, LowRank)
    return edit.write[0]


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def _effect(case: Case, probe: ErrorProbe) -> dict[str, float]:
    """Of wrong answers to test problems: the step's relative length, the error before and after."""
    known = case.known["test"]
    h = read_problems(case.net, case.test, [probe.site])[probe.site]
    step = probe.step(ALPHA)
    after = answers_on_grid(case.net, case.test, [step], batch_size=BATCH)[0]
    edit = step.terms[0].edit
    assert isinstance(edit, LowRank)
    moved = edit.delta(h[:, None], None)[:, 0]  # type: ignore[arg-type]
    length = moved.norm(dim=-1) / h.norm(dim=-1)
    wrong = ~known.correct
    flips = case.flips(after)
    return {
        "length": float(length[wrong].mean()),
        "estimate": float((h @ probe.w + probe.b)[wrong].mean()),
        "before": float(known.log_odds[wrong].mean()),
        "after": float(after.log_odds[wrong].mean()),
        "mended": int(flips.up) / max(1, int(wrong.sum())),
        "broken": int(flips.down) / max(1, int((~wrong).sum())),
    }


# --- a preface before the answer


def exact(model: str, task: str, seed: str) -> Shard:
    """Last prompt token, exact answer position, or all generated tokens."""
    case = Case(model, task, int(seed), preface=False)
    written = {
        name: st.classify_written(case.net, getattr(case, name), batch_size=BATCH)
        for name in ("train", "selection", "test")
    }
    known = {name: answers for name, (answers, _) in written.items()}
    at_exact = {name: problems for name, (_, problems) in written.items()}
    early = st.gated_probes(case.net, case.train, _LATE, answers=known["train"], seed=case.seed)
    late = st.gated_probes(
        case.net, at_exact["train"], _LATE, answers=known["train"], seed=case.seed
    )
    reading = st.last | st.generation
    forms: dict[str, Callable[[Any], st.Intervention]] = {
        "last": lambda s: st.mera(early[s[0]], s[1]),
        "exact": lambda s: st.mera(late[s[0]], s[1]),
        "all generated": lambda s: _along_text(early[s[0]], late[s[0]], s[1], reading),
    }
    bare = {"selection": case.selection, "test": case.test}
    rows = []
    for name, make in forms.items():
        writes = name != "exact"
        own = bare if writes else at_exact
        rows.append({"form": name} | _reported(case.net, own, known, make, writes))
    return {
        "rows": rows,
        "accuracy": known["test"].accuracy,
        "found": float(known["test"].found.float().mean()),
        "quality": _qualities(case, known["train"], at_exact["train"]),
        "harm": _unmatched(case, known["test"]),
    }


def _along_text(
    early: Sequence[GatedProbe], late: Sequence[GatedProbe], alpha: float, at: Any
) -> st.Intervention:
    """Steps that were fitted where the answer is, at every token, gated where the prompt ends."""
    return total(
        [
            step.probe.step(alpha).at(at).when(gate.gate.readout > 0)
            for gate, step in zip(early, late, strict=True)
        ]
    )


def _reported(
    net: st.Model,
    problems: dict[str, list[st.Problem]],
    known: dict[str, Answers],
    make: Callable[[Any], st.Intervention],
    writes: bool,
) -> dict[str, Any]:
    """Calibrated on the selection problems, reported on the test problems."""
    grid = list(product(_LATE, _FEW))
    best: tuple[float, Any] | None = None
    for setting in grid:
        flips = _flips(net, problems["selection"], known["selection"], make(setting), writes)
        safe = flips.lower_bound(DELTA / len(grid)) > 0
        if safe and (best is None or flips.gain > best[0]):
            best = (float(flips.gain), setting)
    if best is None:
        return {"abstains": True, "up": 0, "down": 0, "right": int(known["test"].correct.sum())}
    site, alpha = best[1]
    flips = _flips(net, problems["test"], known["test"], make(best[1]), writes)
    return {
        "abstains": False, "setting": f"{site}: {alpha:g}", "up": int(flips.up),
        "down": int(flips.down), "right": int(flips.right),
    }  # fmt: skip


def _flips(
    net: st.Model,
    problems: list[st.Problem],
    known: Answers,
    intervention: st.Intervention,
    writes: bool,
) -> Flips:
    if writes:
        with st.steer(net, intervention):
            after = st.classify_written(net, problems, batch_size=BATCH)[0]
    else:
        after = answers_on_grid(net, problems, [intervention], batch_size=BATCH)[0]
    return Flips.of(known.correct.numpy(), after.correct.numpy())


def _qualities(case: Case, known: Answers, exact: list[st.Problem]) -> list[dict[str, Any]]:
    """How well the error can be read at the end of the prompt and where the answer is chosen."""
    rows = []
    for name, problems in (("last", case.train), ("exact", exact)):
        probes = st.error_probes(case.net, problems, SITES, answers=known, seed=case.seed)
        for site, probe in probes.items():
            quality = probe.quality
            rows.append({"at": name, "site": str(site), "r2": quality.r2, "auroc": quality.auroc})
    return rows


def _unmatched(case: Case, known: Answers) -> list[dict[str, Any]]:
    """A strong push at every token: how often no label is written, and which error that gives."""
    contrast = st.contrast(case.net, case.train, SITES[2], 100)
    rows = []
    for strength in (0.0, 1.0, 2.0, 4.0, 8.0):
        with st.steer(case.net, contrast.at(st.last | st.generation), strength=strength):
            after = st.classify_written(case.net, case.test, batch_size=BATCH)[0]
        # The released code gives an answer without a label the error 0.
        released = torch.where(after.found, after.error, 0.0)
        rows.append(
            {
                "strength": strength,
                "found": float(after.found.float().mean()),
                "accuracy": after.accuracy,
                "error": float(after.error.mean()),
                "error_released": float(released.mean()),
            }
        )
    return rows
