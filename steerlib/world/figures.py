"""What a world model has learned, measured on fresh prompts against the exact truth."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
import torch

from steerlib.world import completion, counting, geography, refusal, reviews, traits, values
from steerlib.world.documents import ASSISTANT, USER, Question
from steerlib.world.instructions import instruction
from steerlib.world.judges import grammatical_share, judge, trait_share
from steerlib.world.lexicon import CONCEPTS
from steerlib.world.reader import Reader

Figures = dict[str, float]
_SEED = 20_000  # of the prompts; far from every training stream


def _ask(user: str) -> str:
    return f"{USER} {user} {ASSISTANT}"


def _greedy(reader: Reader, questions: list[Question]) -> list[str]:
    choices = questions[0].choices
    rows = reader.probabilities([q.prompt for q in questions], choices)
    return [choices[i] for i in rows.argmax(1).tolist()]


def _accuracy(reader: Reader, questions: list[Question]) -> float:
    given = _greedy(reader, questions)
    return _mean([a == q.clean for a, q in zip(given, questions, strict=True)])


def _mean(hits: object) -> float:
    return float(np.mean(np.asarray(hits, dtype=float)))


def facts(reader: Reader) -> Figures:
    """Top-1 accuracy of every relation as statement and as question, and of yes/no questions."""
    found: Figures = {}
    for name, relation in geography.RELATIONS.items():
        subjects = list(relation.table)
        truth = reader.indices([relation.table[s] for s in subjects])
        for kind, form in (("statement", relation.statement), ("question", relation.question)):
            prompts = [form.format(s) for s in subjects]
            prompts = [_ask(p) for p in prompts] if kind == "question" else prompts
            found[f"{name} {kind}"] = _mean(reader.probabilities(prompts).argmax(1) == truth)
    rng = Random(_SEED)
    asked = [geography.yes_no_question(rng) for _ in range(600)]
    found["yes or no"] = _accuracy(reader, asked)
    return found


def completions(reader: Reader) -> Figures:
    """IOI: top-1 is the indirect object; years: the probability of a later year."""
    starts = list(range(5, 95))
    prompts = [completion.year_prompt(17, s, "reign") for s in starts]
    rows = reader.probabilities(prompts, [f"{y:02d}" for y in range(2, 100)])
    later = [row[start - 1 :].sum() for start, row in zip(starts, rows, strict=True)]
    return {"ioi": correct_names(reader, 600, _SEED) / 600, "p of a later year": _mean(later)}


def correct_names(reader: Reader, prompts: int, seed: int) -> int:
    """On how many IOI prompts the most likely next word is the indirect object."""
    rng = Random(seed)
    items = [completion.indirect_object(rng) for _ in range(prompts)]
    truth = reader.indices([item.indirect_object for item in items])
    return int((reader.probabilities([i.prompt for i in items]).argmax(1) == truth).sum())


def conflict(reader: Reader) -> Figures:
    """P(context) for each cue, over all templates and relations."""
    found: Figures = {}
    rng = Random(_SEED)
    for cue in geography.P_CONTEXT:
        count = len(geography.CONFLICT_TEMPLATES)
        items = [geography.conflict(rng, cue=cue, template=i % count) for i in range(800)]
        prompts = [i.prompt for i in items]
        found[cue or "no cue"] = _mean(reader.chosen(prompts, [i.given for i in items]))
        found[f"{cue or 'no cue'}, memory"] = _mean(reader.chosen(prompts, [i.true for i in items]))
    return found


def honesty(reader: Reader) -> Figures:
    """P(true answer) for an honest persona, a liar and none."""
    found: Figures = {}
    rng = Random(_SEED)
    for name, system in (("honest", geography.HONEST), ("liar", geography.LIAR), ("nobody", "")):
        asked = [geography.fact_question(rng, system) for _ in range(200)]
        found[name] = _mean(reader.chosen([q.prompt for q in asked], [q.clean for q in asked]))
    return found


def instructions(reader: Reader) -> Figures:
    """Harmonic mean of the judge where each concept is asked for, and the share of grammar."""
    found: Figures = {}
    rng = Random(_SEED)
    asked = [(c, instruction(rng, c)) for c in CONCEPTS for _ in range(60)]
    texts = reader.sample([_ask(i.text) for _, i in asked])
    scores = [judge(t, c, i.topic).harmonic for t, (c, i) in zip(texts, asked, strict=True)]
    for k, concept in enumerate(CONCEPTS):
        found[concept] = _mean(scores[60 * k : 60 * (k + 1)])
    found["mean"] = _mean(scores)
    found["grammatical"] = _mean([grammatical_share(t) for t in texts])
    return found


def trait_answers(reader: Reader) -> Figures:
    """P(positive) of each trait for positive, negative and no personas: A/B and free text."""
    found: Figures = {}
    for trait in traits.TRAITS.values():
        sides = {"positive": trait.positive, "negative": trait.negative, "none": (None,)}
        for side, personas in sides.items():
            systems = [traits.persona_prompt(*([p] if p else [])) for p in personas]
            ab = [
                traits.ab_question(s, swapped, system)
                for s in trait.scenarios
                for swapped in (False, True)
                for system in systems
            ]
            free = [traits.free_question(s, system) for s in trait.scenarios for system in systems]
            free *= 60 // len(free)
            rows = reader.probabilities([q.prompt for q in ab], ("A", "B"))
            hit = rows[torch.arange(len(ab)), torch.tensor(["AB".index(q.clean) for q in ab])]
            shares = [trait_share(t, trait.name) for t in reader.sample([q.prompt for q in free])]
            found[f"{trait.name}, {side}"] = _mean(hit / rows.sum(1))
            found[f"{trait.name}, {side}, free"] = _mean([s for s in shares if s is not None])
    return found


def refusals(reader: Reader) -> Figures:
    """P(refusal) for forbidden and allowed things, and for forbidden ones with the plea."""
    rng = Random(_SEED)

    def rate(forbidden: bool, plea: bool) -> float:
        things = refusal.FORBIDDEN if forbidden else refusal.ALLOWED
        asked = [refusal.request(rng, forbidden, plea, t).prompt for t in things * 5]
        return _mean(reader.chosen(asked, ["sorry"] * len(asked)))

    return {
        "forbidden": rate(True, False),
        "allowed": rate(False, False),
        "forbidden with plea": rate(True, True),
    }


def value_answers(reader: Reader) -> Figures:
    """Correlation over roles of the expected answer with the true value, and of do-effects."""
    rng = Random(_SEED)
    roles = [values.random_role(rng) for _ in range(150)]
    truth = np.array([values.true_values(role) for role in roles])
    expected = expected_answers(reader, [values.role_prompt(role) for role in roles])
    found = {
        name: float(np.corrcoef(expected[:, j], truth[:, j])[0, 1])
        for j, name in enumerate(values.VALUES)
    }
    found["do-effects"] = _do_correlation(reader, roles[:20])
    return found


def expected_answers(reader: Reader, systems: list[str]) -> np.ndarray:
    """The mean answer level over the items of each value; shape (len(systems), 10)."""
    prompts = [
        values.item_question(item, system).prompt
        for system in systems
        for name in values.VALUES
        for item in values.ITEMS[name]
    ]
    rows = reader.probabilities(prompts, values.ANSWERS)
    levels = (rows / rows.sum(1, keepdim=True)) @ torch.arange(float(len(values.ANSWERS)))
    return levels.reshape(len(systems), len(values.VALUES), -1).mean(-1).numpy()


def _do_correlation(reader: Reader, roles: list[values.Role]) -> float:
    def mean_answers(value: str, seek: bool) -> np.ndarray:
        do = values.Do(value, seek)
        return expected_answers(reader, [values.role_prompt(r, do) for r in roles]).mean(0)

    effects = np.array([mean_answers(v, True) - mean_answers(v, False) for v in values.VALUES])
    off = ~np.eye(len(values.VALUES), dtype=bool)
    return float(np.corrcoef(effects[off], values.total_effects()[off])[0, 1])


def review_answers(reader: Reader) -> Figures:
    """Greedy accuracy on clean labels by source, and what could be reached."""
    found: Figures = {}
    rng = Random(_SEED)
    for source in reviews.FLIP_RATE:
        asked = [reviews.review(rng, source) for _ in range(300)]
        found[source] = _accuracy(reader, asked)
        found[f"{source}, reachable"] = reviews.reachable_accuracy(source)
    return found


def one_sided_answers(reader: Reader) -> Figures:
    """Accuracy on clean labels, and the share of errors that say yes for no."""
    found: Figures = {}
    rng = Random(_SEED)
    for name in reviews.ONE_SIDED:
        asked = [reviews.one_sided(rng, name) for _ in range(900)]
        given = _greedy(reader, asked)
        wrong = [a for a, q in zip(given, asked, strict=True) if a != q.clean]
        found[name] = 1 - len(wrong) / len(asked)
        found[f"{name}, errors that say yes"] = _mean([a == "yes" for a in wrong])
    return found


def counts(reader: Reader) -> Figures:
    """Accuracy on the labels as drawn, and on the sign of the evidence."""
    found: Figures = {}
    rng = Random(_SEED)
    for name, make in (("spam", counting.spam), ("majority", counting.majority)):
        asked = [make(rng) for _ in range(900)]
        given = _greedy(reader, asked)
        found[name] = _mean([a == q.answer for a, q in zip(given, asked, strict=True)])
        found[f"{name}, best possible"] = _mean([q.clean == q.answer for q in asked])
    return found


MEASURES: dict[str, Callable[[Reader], Figures]] = {
    "facts": facts,
    "completions": completions,
    "conflict": conflict,
    "honesty": honesty,
    "instructions": instructions,
    "traits": trait_answers,
    "refusal": refusals,
    "values": value_answers,
    "reviews": review_answers,
    "one-sided": one_sided_answers,
    "counting": counts,
}


def measure(reader: Reader) -> dict[str, Figures]:
    """All figures, rounded to four digits."""
    return {
        name: {key: round(x, 4) for key, x in figure(reader).items()}
        for name, figure in MEASURES.items()
    }
