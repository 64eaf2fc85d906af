"""MERA on the world: which forms gain, which do harm, and when they abstain. `make experiments`.

One shard per model, task and seed, so that a run that was killed loses one of them; `-j 2` shares
them between two processes.

* `table`: each arm on each task, chosen or calibrated on one split and reported on another;
* `bias`: a bias on one class of the answer, chosen or calibrated in the same way;
* `diagnosis`: where the steps of each form point, how long they are, what they do to the margin;
* `exact`: steering at the last token of the prompt, at the exact answer position and at all
  generated tokens, where a preface comes before the answer.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from itertools import product

import numpy as np

import steerlib as st
from experiments import mera_claims, mera_figures
from experiments.mera_arms import Outcome, arms
from experiments.mera_data import (
    BATCH,
    CONFIRMING,
    DELTA,
    FOLDER,
    MODELS,
    ONE_SIDED,
    SEEDS,
    TASKS,
    Case,
    load,
)
from experiments.mera_diagnosis import diagnosis, exact
from experiments.parts import Part, compute
from steerlib.evaluation.shards import Shard
from steerlib.statistics import Flips

BIASES = tuple(sign * size for size in (0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0) for sign in (-1, 1))


def table(model: str, task: str, seed: str) -> Shard:
    """Each arm's right answers to the test problems, and what was chosen."""
    case, started = Case(model, task, int(seed)), time.time()
    rows = [_row(case, outcome) for outcome in arms(case)]
    logging.info("%s %s %s took %.0f s", model, task, seed, time.time() - started)
    known = case.known["test"]
    return {
        "before": _bits(known.correct.numpy()),
        "groups": [problem.group for problem in case.test],
        "error": [round(float(error), 4) for error in known.error],
        "arms": rows,
        "probes": _probes(case),
    }


def _row(case: Case, outcome: Outcome) -> dict[str, object]:
    answers = case.known["test"] if outcome.answers is None else outcome.answers
    selected = outcome.selected
    return {
        "arm": outcome.arm,
        "abstains": outcome.answers is None,
        "setting": outcome.setting,
        "after": _bits(answers.correct.numpy()),
        "selected_gain": None if selected is None else float(selected.gain),
        "layers": outcome.layers,
    }


def _bits(correct: np.ndarray) -> str:
    return "".join("1" if right else "0" for right in correct)


def _probes(case: Case) -> list[dict[str, float | str]]:
    """How well each layer's standard probe reads the errors of the test problems."""
    from steerlib.methods.error_probes import probe_quality

    rows: list[dict[str, float | str]] = []
    for site, probe in case.probes("lasso").items():
        quality = probe_quality(case.net, probe, case.test, answers=case.known["test"])
        rows.append({"site": str(site), "r2": quality.r2, "auroc": quality.auroc,
                     "rmse": quality.rmse, "dummy": quality.dummy})  # fmt: skip
    return rows


def _keys(tasks: Sequence[str]) -> list[tuple[str, ...]]:
    """Three seeds of the first model; the second one checks that it is no accident of one."""
    first, second = MODELS
    fresh = [task for task in tasks if task in CONFIRMING] or tasks
    return [*product([first], tasks, SEEDS), *product([second], fresh, SEEDS[:1])]


def bias(model: str, task: str, seed: str) -> Shard:
    """What a bias on one class of the answer does: no activation, no probe."""
    case = Case(model, task, int(seed))
    known = {
        name: st.classify(case.net, getattr(case, name), batch_size=BATCH)
        for name in ("selection", "test")
    }
    start = known["selection"].correct.numpy()
    grid = [{name: b} for name in known["test"].classes[1:] for b in BIASES]
    found = [Flips.of(start, known["selection"].biased(one).correct.numpy()) for one in grid]
    lower = [float(flips.lower_bound(DELTA / len(grid))) for flips in found]
    rows = []
    for arm, allowed in (("bias, best", -np.inf), ("bias", 0.0)):
        safe = [i for i, low in enumerate(lower) if low > allowed]
        best = max(safe, key=lambda i: found[i].gain, default=None)
        after = known["test"] if best is None else known["test"].biased(grid[best])
        rows.append(
            {
                "arm": arm, "abstains": best is None, "layers": None,
                "setting": "abstains" if best is None else str(grid[best]),
                "after": _bits(after.correct.numpy()),
                "selected_gain": None if best is None else float(found[best].gain),
            }
        )  # fmt: skip
    return {"before": _bits(known["test"].correct.numpy()), "arms": rows}


PARTS: dict[str, Part] = {
    "table": (table, _keys(TASKS)),
    "bias": (bias, _keys(TASKS)),
    "diagnosis": (diagnosis, _keys(ONE_SIDED)),
    "exact": (exact, _keys(("advice",))),
}


def main() -> None:
    """Compute what is missing; write figures and record claims."""
    found = compute(__doc__ or "", FOLDER, PARTS, lambda: [load(model) for model in MODELS])
    if found is None:
        return
    if os.environ.get("STEERLIB_RECORD"):
        mera_figures.draw(found)
    mera_claims.record_all(found)


if __name__ == "__main__":
    main()
