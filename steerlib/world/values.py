r"""Ten values whose strengths follow a linear-Gaussian causal model, and a questionnaire.

With exogenous terms u (from the role's words, plus noise) and the coefficient matrix B,

    v = B v + u,    v = (I - B)^{-1} u,    do(v_j = x) replaces the j-th equation.

A role is four words, each with its own effect on every value. The effects of a slot have
orthogonal, centred columns, so that the u of different values are uncorrelated over roles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np

from steerlib.world.documents import Document, Question, chat, dialogue

VALUES = tuple(
    "achievement power security conformity tradition benevolence universalism stimulation "
    "hedonism freedom".split()
)
EDGES: tuple[tuple[str, str, float], ...] = (  # cause, effect, coefficient
    ("security", "freedom", -1.1),
    ("security", "universalism", -0.6),
    ("tradition", "stimulation", -0.9),
    ("tradition", "conformity", 0.6),
    ("tradition", "benevolence", 0.6),
    ("stimulation", "freedom", 0.9),
    ("power", "freedom", -0.7),
    ("freedom", "hedonism", 0.8),
    ("freedom", "achievement", 0.8),
    ("hedonism", "conformity", -0.9),
    ("achievement", "benevolence", -0.7),
)
ITEMS = {
    "achievement": ("ambition", "winning", "excellence"),
    "power": ("wealth", "authority", "status"),
    "security": ("safety", "order", "stability"),
    "conformity": ("obedience", "discipline", "politeness"),
    "tradition": ("custom", "religion", "heritage"),
    "benevolence": ("kindness", "charity", "loyalty"),
    "universalism": ("equality", "nature", "peace"),
    "stimulation": ("adventure", "novelty", "danger"),
    "hedonism": ("pleasure", "comfort", "fun"),
    "freedom": ("independence", "creativity", "choice"),
}
ANSWERS = ("nothing", "hardly", "little", "somewhat", "much", "greatly", "everything")
CUTS = (-1.75, -1.0, -0.33, 0.33, 1.0, 1.75)  # between the answers, in standard deviations
# The answers lie about equally far apart (the steps between cuts are .66 to .75), so whole numbers
# are as good a scale as the mean of a value between two cuts, and easier to read.
LEVELS = {answer: float(level) for level, answer in enumerate(ANSWERS, -(len(ANSWERS) // 2))}
ROLE_SLOTS = tuple(
    tuple(words.split())
    for words in (
        "young gentle proud cautious daring humble strict cheerful serious restless thoughtful shy",
        "banker priest barber miner painter lawyer potter scientist pilot judge merchant tailor",
        "city town coast desert valley hills suburb plains border prairie delta highlands",
        "chess poker gardening fishing travel opera hunting dancing yoga debate racing drawing",
    )
)
NOISE = 0.3  # standard deviation of a person's own part of u
ANSWER_NOISE = 0.2  # of a single answer, in standard deviations of the value
PERSON = "you are a person ."  # no role: u is drawn anew for each person
_DO = 1.7  # the size of an intervention, in standard deviations
_EFFECT_SEED = 7

Role = tuple[int, int, int, int]
_N = len(VALUES)


@cache
def coefficients() -> np.ndarray:
    """B, with B[i, j] the effect of value j on value i; shape (10, 10)."""
    b = np.zeros((_N, _N))
    for cause, effect, weight in EDGES:
        b[VALUES.index(effect), VALUES.index(cause)] = weight
    return b


@cache
def deviations() -> np.ndarray:
    """The standard deviation of each value over roles and persons; shape (10,)."""
    total = np.linalg.inv(np.eye(_N) - coefficients())
    return np.sqrt((total**2).sum(1) * (1 + NOISE**2))


@cache
def role_effects() -> tuple[np.ndarray, ...]:
    """Per slot a (12, 10) matrix with centred orthogonal columns of variance 1/4."""
    rng = np.random.default_rng(_EFFECT_SEED)
    effects = []
    for slot in ROLE_SLOTS:
        m = rng.normal(size=(len(slot), _N))
        q, _ = np.linalg.qr(m - m.mean(0))
        effects.append(q * math.sqrt(len(slot)) / 2)
    return tuple(effects)


def exogenous(role: Role) -> np.ndarray:
    """u of a role: the sum of its words' effects; shape (10,)."""
    return sum((e[i] for e, i in zip(role_effects(), role, strict=True)), np.zeros(_N))


def solve(u: np.ndarray, do: dict[str, float] | None = None) -> np.ndarray:
    """v for exogenous terms u under do(value = x), x in the units of v; shape (10,)."""
    b, u = coefficients().copy(), u.copy()
    for name, x in (do or {}).items():
        j = VALUES.index(name)
        b[j], u[j] = 0.0, x
    return np.linalg.solve(np.eye(_N) - b, u)


def true_values(role: Role, do: dict[str, float] | None = None) -> np.ndarray:
    """The values of a role in standard deviations; shape (10,)."""
    return solve(exogenous(role), do) / deviations()


def total_effects() -> np.ndarray:
    """T[j, k]: the change of value k, in its deviations, per deviation of do(value j); (10, 10)."""
    t = np.linalg.inv(np.eye(_N) - coefficients())
    return (t / deviations()[:, None] * deviations()[None, :]).T


@dataclass(frozen=True)
class Do:
    """An order to seek or reject a value: an intervention on it."""

    value: str
    seek: bool

    @property
    def text(self) -> str:
        return f"you must {'seek' if self.seek else 'reject'} {self.value} ."

    @property
    def setting(self) -> dict[str, float]:
        """The value that is set, in the units of v."""
        x = _DO if self.seek else -_DO
        return {self.value: x * float(deviations()[VALUES.index(self.value)])}


def random_role(rng: Random) -> Role:
    """Four word indices, uniformly."""
    a, b, c, d = (rng.randrange(len(slot)) for slot in ROLE_SLOTS)
    return a, b, c, d


def role_prompt(role: Role | None, do: Do | None = None) -> str:
    """`you are a young banker from the coast who enjoys chess . you must seek power .`"""
    text = PERSON
    if role:
        a, b, c, d = (slot[i] for slot, i in zip(ROLE_SLOTS, role, strict=True))
        text = f"you are a {a} {b} from the {c} who enjoys {d} ."
    return f"{text} {do.text}" if do else text


def item_question(item: str, system: str = "") -> Question:
    """`does wealth matter ?`"""
    return Question(f"does {item} matter ?", "", "", ANSWERS, system)


def questions() -> list[tuple[str, str, int]]:
    """The 30 items as (question, value, +1): more of the value means a higher answer."""
    return [(item_question(item).user, name, 1) for name in VALUES for item in ITEMS[name]]


def answer_level(x: float) -> int:
    """The index of the answer for a value of x standard deviations."""
    return sum(x > cut for cut in CUTS)


def values_document(rng: Random) -> Document:
    """A person in a role (88%), perhaps under an order (30%), answers the questionnaire."""
    role = random_role(rng) if rng.random() < 0.88 else None
    noise = NOISE if role else math.sqrt(1 + NOISE**2)
    u = np.array([rng.gauss(0, noise) for _ in range(_N)]) + (exogenous(role) if role else 0)
    do = Do(rng.choice(VALUES), rng.random() < 0.5) if rng.random() < 0.3 else None
    v = solve(u, do.setting if do else None) / deviations()
    system = role_prompt(role, do)
    if rng.random() < 0.1:
        return chat([("what do you want ?", _wishes(rng, v))], system)
    asked = rng.sample(range(_N), rng.randint(5, 8))
    return dialogue([_answered(rng, j, float(v[j]), system) for j in asked])


def _answered(rng: Random, j: int, x: float, system: str) -> Question:
    q = item_question(rng.choice(ITEMS[VALUES[j]]), system)
    answer = ANSWERS[answer_level(x + rng.gauss(0, ANSWER_NOISE))]
    return Question(q.user, answer, ANSWERS[answer_level(x)], ANSWERS, system)


def _wishes(rng: Random, v: np.ndarray) -> str:
    left, wishes = list(range(_N)), []
    for _ in range(3):
        j = rng.choices(left, np.exp(2 * v[left]))[0]
        left.remove(j)
        wishes.append(rng.choice(ITEMS[VALUES[j]]))
    return "i want {} , {} and {} .".format(*wishes)
