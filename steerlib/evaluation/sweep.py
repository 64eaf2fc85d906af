"""sweep: concepts x methods x strengths x prompts, in few batches, resumable after any kill.

Chapter: axbench. The prompts and the strengths of a method share batches, as in `score`. A batch
is one shard: it is decoded with a seed of its own, which its content decides, and written whole.
So neither the order of the batches nor the number of processes changes a row, and a run that was
killed goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from steerlib import __version__
from steerlib.core.files import write_whole
from steerlib.core.model import Model
from steerlib.core.steering import check_fits
from steerlib.evaluation import plans
from steerlib.evaluation.judges import Judge
from steerlib.evaluation.scoring import Arm, Job, answers, as_table, batches, checked
from steerlib.evaluation.shards import Shard, check_jobs, collect

TABLE = "table.parquet"
_BEFORE = ("concept", "method", "site", "strength", "prompt", "text")
_PACKAGES = ("torch", "transformers")
_AFTER = ("seed", "model", "revision", "steerlib", *_PACKAGES)
_GRADE = "grade_"


@dataclass(frozen=True)
class Study:
    """One concept of a sweep: its methods, the prompts that they answer, and who grades.

    Args:
        concept: its name in the table.
        arms: its methods, each at its strengths; an arm's name is the method's.
        prompts: what all of them answer.
        judge: (prompt, answer) -> grades, as in `score`. None for answers without grades, which
            `rate` adds: a language model that fails then costs no decoding.

    Raises:
        ValueError: no concept, no arms or prompts, two arms of one name.
        TypeError: a prompt that is no string.

    Chapter: axbench.

    Example:
        >>> Study("weather", [Arm("diff_means", weather, (1.0, 2.0))], prompts, judge)
    """

    concept: str
    arms: Sequence[Arm]
    prompts: Sequence[str]
    judge: Judge | None = None

    def __post_init__(self) -> None:
        if not self.concept:
            raise ValueError("a study needs the name of its concept, got ''")
        object.__setattr__(self, "prompts", tuple(checked(self.arms, self.prompts)))
        object.__setattr__(self, "arms", tuple(self.arms))


@dataclass(frozen=True)
class _Batch:
    """Strengths and prompts of one arm that are decoded together; `numbers` are its rows."""

    study: Study
    arm: Arm
    numbers: list[int]
    jobs: list[Job]
    seed: int


def sweep(
    model: Model,
    studies: Sequence[Study],
    folder: str | os.PathLike[str],
    *,
    max_new_tokens: int = 36,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 256,
    chat: bool | None = None,
    system: str | None = None,
    n_jobs: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """All answers of all methods at all their strengths, for every concept, with their grades.

    Run it again after an interruption: finished batches are read, the others are computed. A batch
    is sampled with a seed made from `seed`, the concept, its strengths and its prompts: methods
    with the same strengths share their random numbers. Under greedy decoding the answers are those
    of `score`.

    Args:
        studies: one per concept, of different names.
        folder: holds `plan.json`, `shards/` and, at the end, `table.parquet`.
        max_new_tokens, temperature, chat, system: as in `st.generate`.
        batch_size: answers decoded at once.
        n_jobs: processes; each of several has one thread and its copy of the model. Sums in
            another number of threads may differ in the last bit, so set the threads of torch to 1
            where one process has to give the very same rows.
        progress: show a bar with the time that is left where it takes more than two seconds.

    Returns:
        One row per concept, method, strength and prompt: concept, method, site (hook names, joined
        by "+"), strength, prompt, text, score, grade_<name> for the other grades, seed, and what
        made the row: model, revision, steerlib, torch, transformers. Without a judge there is
        neither a score nor a grade.

    Raises:
        ValueError: no studies, two of one concept, a bad number, an intervention for another model,
            or a folder that holds another plan: the message says what is different. A judge is
            known by its name only; remove the folder after a change inside it.

    Source: the protocol of Wu et al. 2025 (AxBench), section 3.2. Chapter: axbench.

    Example:
        >>> studies = [Study("weather", [Arm("diff_means", weather, (1.0, 2.0))], prompts, judge)]
        >>> table = sweep(model, studies, folder / "weather")
        >>> list(table.columns[:7])
        ['concept', 'method', 'site', 'strength', 'prompt', 'text', 'score']
    """
    check_jobs(n_jobs)
    _check(model, studies, max_new_tokens, temperature, batch_size)
    decoding: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature}
    decoding |= {"chat": chat, "system": system, "batch_size": batch_size}
    about = {"model": plans.model_facts(model), "decoding": decoding | {"seed": seed}}
    concepts = {study.concept: _facts(study) for study in studies}
    plans.claim(Path(folder), about | {"concepts": concepts})
    work = {plans.digest([about, key]): batch for key, batch in _planned(studies, batch_size, seed)}
    shards = collect(
        Path(folder, "shards"),
        [(name,) for name in work],
        partial(_answered, model, work, decoding),
        n_jobs=n_jobs,
        progress=progress,
    )
    table = _merged(studies, list(work.values()), shards, seed)
    write_whole(Path(folder, TABLE), lambda partial: table.to_parquet(partial, index=False))
    return table


def of_concept(table: pd.DataFrame, concept: str) -> pd.DataFrame:
    """One concept's rows as `score` gives them, for `summary`, `paired` and `against`.

    Raises:
        KeyError: the table has no such concept.

    Chapter: axbench.

    Example:
        >>> summary(of_concept(sweep(model, studies, folder), "weather"))
    """
    if concept not in set(table["concept"]):
        raise KeyError(f"no concept {concept!r}; the sweep has {', '.join(set(table['concept']))}")
    rows = table[table["concept"] == concept].reset_index(drop=True)
    # Grades that only other concepts have; a score stays, for `summary` to say that it is missing.
    others = [name for name in rows.columns if name.startswith(_GRADE) and rows[name].isna().all()]
    dropped = ["concept", "site", *_AFTER, *others]
    kept = rows.drop(columns=dropped).rename(columns={"method": "arm"})
    return kept.rename(columns=lambda name: name.removeprefix(_GRADE))


def _check(
    model: Model, studies: Sequence[Study], tokens: int, temperature: float, size: int
) -> None:
    """Refuse before anything is written what would fail later."""
    names = [study.concept for study in studies]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"sweep needs studies of different concepts, got {names}")
    if tokens < 1 or temperature < 0 or size < 1:
        raise ValueError(
            f"max_new_tokens and batch_size are at least 1 and temperature at least 0, "
            f"got {tokens}, {size} and {temperature}"
        )
    for study in studies:
        for arm in study.arms:
            if arm.intervention is not None:
                check_fits(arm.model or model, arm.intervention)


def _facts(study: Study) -> plans.Plan:
    """What decides the rows of a concept, as JSON."""
    methods = {arm.name: _method(arm, study.prompts) for arm in study.arms}
    return {"judge": _judge(study), "prompts": list(study.prompts), "methods": methods}


def _judge(study: Study) -> str | None:
    return None if study.judge is None else plans.name_of(study.judge)


def _method(arm: Arm, prompts: Sequence[str]) -> plans.Plan:
    return {
        "strengths": list(arm.strengths),
        "site": _site(arm),
        "intervention": plans.fingerprint(arm.intervention),
        "asked": plans.digest([arm.ask(p) for p in prompts]) if arm.ask else None,
        "model": plans.model_facts(arm.model) if arm.model else None,
    }


def _site(arm: Arm) -> str:
    sites = () if arm.intervention is None else arm.intervention.sites
    return "+".join(site.name for site in sites)


def _planned(studies: Sequence[Study], size: int, seed: int) -> Iterator[tuple[Any, _Batch]]:
    """All batches in the order of the table, each with what identifies it."""
    for study in studies:
        for arm in study.arms:
            facts = _method(arm, study.prompts)
            for numbers, jobs in batches(arm, study.prompts, size):
                # Without the method: arms of equal strengths are compared on equal random numbers.
                drawn = [seed, study.concept, numbers, jobs]
                own = int(plans.digest(drawn)[:8], 16)
                key = [*drawn, arm.name, facts, _judge(study)]
                yield key, _Batch(study, arm, numbers, jobs, own)


def _answered(model: Model, work: dict[str, _Batch], decoding: dict[str, Any], name: str) -> Shard:
    """The shard of one batch."""
    batch = work[name]
    rows = answers(
        model, batch.arm, batch.jobs, batch.study.judge, seed=batch.seed, decoding=decoding
    )
    net = batch.arm.model or model
    made = {"model": net.id, "revision": net.revision, "steerlib": __version__}
    return {"rows": rows, "made": made | {name: metadata.version(name) for name in _PACKAGES}}


def _merged(
    studies: Sequence[Study], work: list[_Batch], shards: list[Shard], seed: int
) -> pd.DataFrame:
    """One tidy table: concepts, methods, strengths and prompts in the order of the call."""
    tables = []
    for study in studies:
        own = [pair for pair in zip(work, shards, strict=True) if pair[0].study is study]
        rows = [row for arm in study.arms for row in _in_order(arm, own)]
        made = pd.DataFrame([facts for _, facts in rows])
        table = as_table([row for row, _ in rows]).rename(columns=_column)
        sites = {arm.name: _site(arm) for arm in study.arms}
        known = {"concept": study.concept, "site": table["method"].map(sites), "seed": seed}
        tables.append(table.assign(**known, **made))
    table = pd.concat(tables, ignore_index=True)
    grades = [name for name in table.columns if name not in {*_BEFORE, *_AFTER}]
    return table[[*_BEFORE, *grades, *_AFTER]]


def _in_order(
    arm: Arm, pairs: list[tuple[_Batch, Shard]]
) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """The rows of an arm with what made each, by strength and then by prompt."""
    found: dict[int, tuple[dict[str, Any], dict[str, str]]] = {}
    for batch, shard in pairs:
        if batch.arm is arm:
            made = [shard["made"]] * len(batch.numbers)
            found |= zip(batch.numbers, zip(shard["rows"], made, strict=True), strict=True)
    return [found[number] for number in range(len(found))]


def _column(name: str) -> str:
    """The column of a grade; the concept's grade is not the concept."""
    names = {"arm": "method"} | {kept: kept for kept in (*_BEFORE[3:], "score")}
    return names.get(name, f"{_GRADE}{name}")
