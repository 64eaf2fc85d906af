"""The exercises on error, steps, bounds and choices are proved both ways: wrong ones are named."""

import math
from itertools import chain

import numpy as np
import pytest
import torch

from steerlib.core.classification import Answers
from steerlib.core.edits import half_space
from steerlib.methods.mera import Calibration
from steerlib.statistics import Flips
from steerlib.teaching.checks import mera, mera_bounds, mera_curse, mera_parts
from tests.teaching.both_ways import both_ways

MODULES = (mera, mera_bounds, mera_curse, mera_parts)
CHECKS = dict(chain.from_iterable(vars(module).items() for module in MODULES))


def logit(alpha):
    return math.log(alpha / (1 - alpha))


# smallest_step


def right_step(h, w, b, alpha, metric=None):
    direction = w if metric is None else metric @ w
    excess = (h @ w + b - logit(alpha)).clamp(min=0)
    return -excess[:, None] * direction / (w @ direction)


def step_in_whitened_space(h, w, b, alpha, metric=None):
    """With S = L L^T the step is the plain one for L^T w, mapped back with L."""
    root = torch.eye(len(w)) if metric is None else torch.linalg.cholesky(metric)
    u = root.T @ w
    c = torch.logit(torch.tensor(alpha))
    short = torch.minimum(torch.zeros(()), c - (h @ w + b)) / u.square().sum()
    return short[:, None] * u @ root.T


def step_of_the_library(h, w, b, alpha, metric=None):
    return half_space(w, b - logit(alpha), metric).delta(h, None)


def step_in_a_loop(h, w, b, alpha, metric=None):
    found = torch.zeros_like(h)
    for row in range(len(h)):
        x = (w @ h[row]).item() + b - logit(alpha)
        if x > 0:
            direction = w if metric is None else metric.mv(w)
            found[row] = direction * (-x / w.dot(direction))
    return found


def step_of(excess, by=lambda w, d: w @ d, along=lambda w, s: w if s is None else s @ w, sign=-1):
    """A step with another excess of (y, c), other divisor or other direction."""

    def found(h, w, b, alpha, metric=None):
        direction = along(w, metric)
        x = excess(h @ w + b, logit(alpha))
        return sign * x[:, None] * direction / by(w, direction)

    return found


def plain(y, c):
    return (y - c).relu()


def released(y, c):
    p = y.sigmoid()
    return torch.where(p > c, p - c, 0.0)


def step_in_place(h, w, b, alpha, metric=None):
    h -= h.mean(0) * 0.1
    return right_step(h, w, b, alpha, metric)


def only_at_two_tenths(h, w, b, alpha, metric=None):
    """Takes the middle of the space for the plane at alpha = 1/2."""
    return right_step(h, w, b, 0.4 if alpha == 0.5 else alpha, metric)


def detour(h, w, b, alpha, metric=None):
    """Lands on the plane, but not along the shortest way."""
    v = right_step(h, w, b, alpha, metric)
    aside = torch.tensor([w[1], -w[0], 0, 0])
    return v + v.norm(dim=1, keepdim=True) * aside / aside.norm()


def identity_by_chance(h, w, b, alpha, metric=None):
    if metric is not None and metric.equal(torch.eye(len(w))):
        return 0.5 * right_step(h, w, b, alpha)
    return right_step(h, w, b, alpha, metric)


def as_a_share_of_the_largest(h, w, b, alpha, metric=None):
    """0 / 0 where none is above."""
    x = (h @ w + b - logit(alpha)).relu()
    return right_step(h, w, b, alpha, metric) * (x.max() / x.max())


def moves_all_if_one(h, w, b, alpha, metric=None):
    excess = h @ w + b - logit(alpha)
    return -excess[:, None] * w / (w @ w) if (excess > 0).any() else torch.zeros_like(h)


def at_nine_tenths_upwards(h, w, b, alpha, metric=None):
    if alpha == 0.9:
        return -(h @ w + b - logit(alpha))[:, None] * w / (w @ w)
    return right_step(h, w, b, alpha, metric)


# error_log_odds


def right_odds(logits, labels, truth):
    best = torch.stack([logits[:, ids].amax(1) for ids in labels], 1)
    own = torch.nn.functional.one_hot(truth, len(labels)).bool()
    return best.masked_fill(own, -torch.inf).logsumexp(1) - best[own]


def odds_in_a_loop(logits, labels, truth):
    found = []
    for row, true in zip(logits.tolist(), truth.tolist(), strict=True):
        best = [max(row[token] for token in ids) for ids in labels]
        own = best.pop(true)
        top = max(best)
        found.append(top + math.log(sum(math.exp(x - top) for x in best)) - own)
    return torch.tensor(found)


def odds_of_the_library(logits, labels, truth):
    """`Answers.log_odds` clips, so its cut is taken off."""
    best = torch.stack([logits[:, ids].amax(1) for ids in labels], 1).log_softmax(1)
    rows = torch.arange(len(truth))
    own = best[rows, truth]
    best[rows, truth] = -math.inf
    return best.logsumexp(1) - own


def by_probability(logits, labels, truth, eps=0.0):
    best = torch.stack([logits[:, ids].amax(1) for ids in labels], 1)
    p = best.softmax(1)[torch.arange(len(truth)), truth].clamp(eps, 1 - eps)
    return ((1 - p) / p).log()


def odds_of(pool):
    """Another logit of a class."""

    def found(logits, labels, truth):
        z = torch.stack([pool(logits[:, ids]) for ids in labels], 1)
        return right_odds(z, [[c] for c in range(len(labels))], truth)

    return found


def made(change):
    """Something else than the log-odds."""
    return lambda *given: change(right_odds(*given))


def over_all_tokens(logits, labels, truth):
    best = torch.stack([logits[:, ids].amax(1) for ids in labels], 1)
    p = (best - logits.logsumexp(1, keepdim=True)).exp()[torch.arange(len(truth)), truth]
    return ((1 - p) / p).log()


def largest_wrong(logits, labels, truth):
    best = torch.stack([logits[:, ids].amax(1) for ids in labels], 1)
    own = torch.nn.functional.one_hot(truth, len(labels)).bool()
    return best.masked_fill(own, -torch.inf).amax(1) - best[own]


def of_the_answer(logits, labels, truth):
    best = torch.stack([logits[:, ids].amax(1) for ids in labels], 1)
    return right_odds(logits, labels, best.argmax(1))


def odds_in_place(logits, labels, truth):
    logits -= logits.amax(1, keepdim=True)
    return right_odds(logits, labels, truth)


# pattern_parts


def right_parts(h, y, label):
    m, n = torch.zeros_like(h), torch.zeros_like(y)
    for c in label.unique():
        m[label == c], n[label == c] = h[label == c].mean(0), y[label == c].mean()
    return cov(m, n), cov(h - m, y - n)


def parts_by_subtraction(h, y, label):
    within = sum(
        (label == c).float().mean() * cov(h[label == c], y[label == c]) for c in label.unique()
    )
    return [cov(h, y) - within, within]


def parts_by_regression(h, y, label):
    """What indicators of the labels explain, and what they leave."""
    x = torch.nn.functional.one_hot(label).double()
    p = x @ torch.linalg.pinv(x)
    h, y = h.double(), y.double()
    return torch.stack([cov(p @ h, p @ y), cov(h - p @ h, y - p @ y)]).float()


def cov(h, y):
    return (y - y.mean()) @ (h - h.mean(0)) / len(h)


def groups(h, y, label):
    return [(h[label == c], y[label == c]) for c in label.unique()]


def unweighted(h, y, label):
    inside = groups(h, y, label)
    mu, level = (
        torch.stack([g.mean(0) for g, _ in inside]),
        torch.stack([x.mean() for _, x in inside]),
    )
    return cov(mu, level), torch.stack([cov(*pair) for pair in inside]).mean(0)


def added_up(h, y, label):
    return sum(cov(*pair) for pair in groups(h, y, label))


def loose(h, y, label):
    """n - 1 within each label."""
    return sum(len(b) / len(y) * cov(a, b) * len(b) / (len(b) - 1) for a, b in groups(h, y, label))


def not_centred(h, y, label):
    m, n = torch.zeros_like(h), torch.zeros_like(y)
    for c in label.unique():
        m[label == c], n[label == c] = h[label == c].mean(0), y[label == c].mean()
    return n @ m / len(h)


def parts(between=None, within=None):
    """One part replaced."""

    def found(*given):
        right = right_parts(*given)
        return (
            right[0] if between is None else between(*given),
            right[1] if within is None else within(*given),
        )

    return found


def total(h, y, label):
    return cov(h, y)


def parts_in_place(h, y, label):
    y -= y.mean()
    return right_parts(h, y, label)


def for_labels_of_several(h, y, label):
    """Wrong where a label has one item."""
    found = right_parts(h, y, label)
    return found if len(label.unique()) < len(label) else (0 * found[0], cov(h, y))


def leaking(h, y, label):
    """A little of one part in the other; they add up."""
    a, b = right_parts(h, y, label)
    return a + 0.1 * b, 0.9 * b


def leaking_back(h, y, label):
    a, b = right_parts(h, y, label)
    return 0.9 * a, b + 0.1 * a


def leaking_where_both_are(h, y, label):
    """What leaks vanishes where one of the parts does."""
    a, b = right_parts(h, y, label)
    return a + a * b, b - a * b


def for_three_labels(h, y, label):
    found = right_parts(h, y, label)
    return (found[0] * 4, found[1] - 3 * found[0]) if len(label.unique()) == 2 else found


# gain_bound


def right_bound(gain, n, settings, delta):
    return gain - math.sqrt(2 * math.log(settings / delta) / n)


def bound_by_solving(gain, n, settings, delta):
    """Halving: where does the probability fall to delta / K?"""
    low, high = 0.0, 10.0
    for _ in range(60):
        t = (low + high) / 2
        low, high = (t, high) if math.exp(-n * t * t / 2) > delta / settings else (low, t)
    return torch.tensor(gain - low)


def bound_of_the_library(gain, n, settings, delta):
    flat = Flips(n, 0, 0, 0).lower_bound(delta / settings, "hoeffding")
    return gain + flat


def bound(span, share, sign=-1):
    def found(gain, n, settings, delta):
        return gain + sign * span * math.sqrt(math.log(share(settings, delta)) / (2 * n))

    return found


# choose_or_abstain


def right_choice(flips, delta, epsilon):
    safe = [k for k, f in enumerate(flips) if f.lower_bound(delta / len(flips)) > epsilon]
    return max(safe, key=lambda k: flips[k].gain, default=None)


def choice_in_a_loop(flips, delta, epsilon):
    best = None
    for k, one in enumerate(flips):
        safe = one.lower_bound(delta / len(flips)) > epsilon
        if safe and (best is None or one.gain > flips[best].gain):
            best = k
    return best


def choice_in_arrays(flips, delta, epsilon):
    up, down = (np.array([getattr(f, name) for f in flips]) for name in ("up", "down"))
    many = Flips(flips[0].n, np.full(len(flips), flips[0].right), up, down)
    gain = np.where(many.lower_bound(delta / len(flips)) > epsilon, many.gain, -np.inf)
    return gain.argmax() if gain.max() > -np.inf else None


def choice(bound="conditional", level=lambda delta, k: delta / k, by=lambda f, low: f.gain):
    """Another bound, another level or another rule among the safe ones."""

    def found(flips, delta, epsilon):
        low = [f.lower_bound(level(delta, len(flips)), bound) for f in flips]
        safe = [k for k in range(len(flips)) if low[k] > epsilon]
        return max(safe, key=lambda k: by(flips[k], low[k]), default=None)

    return found


def largest_bound(flips, delta, epsilon):
    low = [f.lower_bound(delta / len(flips)) for f in flips]
    return low.index(max(low))


def only_the_best(flips, delta, epsilon):
    best = max(range(len(flips)), key=lambda k: flips[k].gain)
    return best if flips[best].lower_bound(delta / len(flips)) > epsilon else None


def last_safe(flips, delta, epsilon):
    safe = [k for k, f in enumerate(flips) if f.lower_bound(delta / len(flips)) > epsilon]
    return safe[-1] if safe else None


def choice_in_place(flips, delta, epsilon):
    found = right_choice(flips, delta, epsilon)
    flips.sort(key=lambda f: f.gain)
    return found


# best_useless_gain


def right_gain(settings, n, rate, repeats, random):
    draws = torch.rand(repeats, settings, n, generator=random)
    return gains_of(draws, rate).amax(1).mean()


def gains_of(draws, rate, other=None):
    return ((draws < rate / 2).float() - (draws > 1 - (other or rate) / 2).float()).mean(2)


def gain_by_numbers_of_flips(settings, n, rate, repeats, random):
    """First how many flip, then how many of these are for better."""

    def binomial(count, p):
        rows = torch.arange(n)
        draws = torch.rand(*count.shape, n, generator=random)
        return ((draws < p) & (rows < count[..., None])).sum(-1)

    flipped = binomial(torch.full((repeats, settings), n), rate)
    return (2 * binomial(flipped, 0.5) - flipped).amax(1).double().mean().item() / n


def gain_by_choice(settings, n, rate, repeats, random):
    weights = torch.tensor([rate / 2, 1 - rate, rate / 2])
    total = 0.0
    for _ in range(repeats):
        d = torch.multinomial(weights, settings * n, True, generator=random) - 1
        total += d.view(settings, n).sum(1).max().item() / n
    return total / repeats


def gain_of(of_gains, at=lambda rate: (rate, rate)):
    """Another summary of gains (repeats, settings), or other rates of both kinds."""

    def found(settings, n, rate, repeats, random):
        draws = torch.rand(repeats, settings, n, generator=random)
        return of_gains(gains_of(draws, *at(rate)))

    return found


def best(gains):
    return gains.amax(1).mean()


def one_draw_for_all(settings, n, rate, repeats, random):
    draws = torch.rand(repeats, 1, n, generator=random).expand(-1, settings, -1)
    return best(gains_of(draws, rate))


def all_for_better(settings, n, rate, repeats, random):
    return (
        (torch.rand(repeats, settings, n, generator=random) < rate).float().mean(2).amax(1).mean()
    )


def own_numbers(settings, n, rate, repeats, random):
    return right_gain(settings, n, rate, repeats, torch.Generator().manual_seed(7))


def unrepeatable(settings, n, rate, repeats, random):
    return best(gains_of(torch.rand(repeats, settings, n), rate))


def normal_numbers(settings, n, rate, repeats, random):
    z = torch.randn(repeats, settings, generator=random)
    return (rate / n) ** 0.5 * best(z)


def fixed_share(settings, n, rate, repeats, random):
    count = round(rate * n)
    draws = (
        torch.rand(repeats, settings, count, generator=random)
        if count
        else torch.full((1, 1, 1), 0.5)
    )
    return best(gains_of(draws, 1.0)) * count / n


def formula(settings, n, rate, repeats, random):
    return 1.5388 * (rate / n) ** 0.5


RIGHT = [
    ("smallest_step", right_step),
    ("smallest_step", step_in_whitened_space),
    ("smallest_step", step_of_the_library),
    ("smallest_step", step_in_a_loop),
    ("error_log_odds", right_odds),
    ("error_log_odds", odds_in_a_loop),
    ("error_log_odds", odds_of_the_library),
    ("pattern_parts", right_parts),
    ("pattern_parts", parts_by_subtraction),
    ("pattern_parts", parts_by_regression),
    ("gain_bound", right_bound),
    ("gain_bound", bound_by_solving),
    ("gain_bound", bound_of_the_library),
    ("choose_or_abstain", right_choice),
    ("choose_or_abstain", choice_in_a_loop),
    ("choose_or_abstain", choice_in_arrays),
    ("best_useless_gain", right_gain),
    ("best_useless_gain", gain_by_numbers_of_flips),
    ("best_useless_gain", gain_by_choice),
]
NAMES = sorted({name for name, _ in RIGHT})
WRONG = [
    ("smallest_step", step_of(plain, sign=1), "sign is flipped"),
    ("smallest_step", step_of(lambda y, c: -(c - y).relu()), "printed formula"),
    ("smallest_step", step_of(released), "a probability is compared with a log-odds"),
    (
        "smallest_step",
        step_of(lambda y, c: (y > c) * (y.sigmoid() - c)),
        "right activations move, but",
    ),
    ("smallest_step", step_of(lambda y, c: y - c), "inside moved too"),
    ("smallest_step", moves_all_if_one, "inside moved too"),
    ("smallest_step", step_of(plain, lambda w, d: w.norm()), r"divides by \|\|w\|\|;"),
    ("smallest_step", step_of(plain, lambda w, d: 1), r"division by \|\|w\|\|\^2 is missing"),
    ("smallest_step", step_of(lambda y, c: (y - 0.2).relu()), "compared with a probability"),
    (
        "smallest_step",
        step_of(lambda y, c: (y.sigmoid() - torch.tensor(c).sigmoid()).relu()),
        "distance is one of probabilities",
    ),
    ("smallest_step", lambda h, w, b, *a: right_step(h, w, 0.0, *a), "b is not used"),
    ("smallest_step", lambda h, w, b, *a: right_step(h, w, -b, *a), "b has the wrong sign"),
    ("smallest_step", step_of(lambda y, c: (y - math.log(0.2)).relu()), "goes to log alpha"),
    ("smallest_step", step_of(lambda y, c: (y + c).relu()), "upside down"),
    ("smallest_step", step_of(lambda y, c: (y > c) * y), "an error of one half"),
    ("smallest_step", step_of(lambda y, c: (y > c).float()), "move by the same"),
    ("smallest_step", step_of(lambda y, c: (y > c).float(), lambda w, d: 1), "the step is -w"),
    ("smallest_step", lambda h, *a: h + right_step(h, *a), r"this is h \+ v"),
    ("smallest_step", lambda h, w, b, a, s=None: right_step(h, w, b, a), "metric is not used"),
    (
        "smallest_step",
        step_of(plain, along=lambda w, s: w if s is None else torch.linalg.solve(s, w)),
        r"along S\^-1 w",
    ),
    ("smallest_step", step_of(plain, lambda w, d: w @ w), r"w \. S w, not by w \. w"),
    ("smallest_step", step_of(plain, lambda w, d: d @ d), r"not by \|\|S w\|\|\^2"),
    (
        "smallest_step",
        lambda h, w, b, a, s=None: (
            right_step(h, w, b, a) * (1 if s is None else (w @ w) / (w @ s @ w))
        ),
        "along S w, not along w",
    ),
    ("smallest_step", step_in_place, "in place"),
    ("smallest_step", only_at_two_tenths, "at alpha = 0.5 a moved activation does not land"),
    ("smallest_step", at_nine_tenths_upwards, "at alpha = 0.9 an activation moved"),
    ("smallest_step", detour, "longer than needed"),
    ("smallest_step", as_a_share_of_the_largest, "where all are inside, none may move"),
    ("smallest_step", identity_by_chance, "the identity as the metric"),
    ("smallest_step", lambda h, *a: right_step(h, *a)[0], "shape"),
    ("smallest_step", lambda *a: None, "return missing"),
    ("error_log_odds", made(torch.neg), "sign is flipped"),
    ("error_log_odds", made(torch.sigmoid), "this is the error"),
    ("error_log_odds", made(lambda y: 1 - y.sigmoid()), "this is p;"),
    ("error_log_odds", made(lambda y: -(1 - y.sigmoid()).log()), "this is -log p"),
    ("error_log_odds", made(lambda y: y.sigmoid().log()), r"this is log\(1 - p\)"),
    ("error_log_odds", made(torch.exp), "these are odds"),
    ("error_log_odds", over_all_tokens, "whole vocabulary"),
    ("error_log_odds", odds_of(lambda z: z.logsumexp(1)), "probabilities of a class's"),
    ("error_log_odds", odds_of(lambda z: z.mean(1)), "averaged"),
    ("error_log_odds", odds_of(lambda z: z.sum(1)), "logits of a class's spellings were added"),
    ("error_log_odds", odds_of(lambda z: z[:, 0]), "first spelling"),
    ("error_log_odds", odds_of(lambda z: z[:, -1]), "last spelling"),
    ("error_log_odds", largest_wrong, "only the likeliest wrong class"),
    ("error_log_odds", of_the_answer, "class that is answered"),
    ("error_log_odds", by_probability, "not finite"),
    ("error_log_odds", lambda *a: by_probability(*a, eps=1e-7), "is cut off"),
    ("error_log_odds", made(lambda y: y.clamp(-18.4, 18.4)), "is cut off"),
    ("error_log_odds", odds_in_place, "in place"),
    ("error_log_odds", lambda z, *a: right_odds(z, *a) + z[:, 3].relu(), "no labels changed"),
    (
        "error_log_odds",
        odds_of(lambda z: z.amax(1) + 0.1 * z.amin(1)),
        "not its class's likeliest",
    ),
    ("error_log_odds", made(lambda y: 1.1 * y), "this is not log"),
    (
        "error_log_odds",
        lambda z, *a: right_odds(z, *a) + 0.01 * (z.mean() > 100),
        "the same constant",
    ),
    ("error_log_odds", lambda *a: right_odds(*a)[:, None], "shape"),
    ("pattern_parts", lambda *a: right_parts(*a)[::-1], "order is reversed"),
    ("pattern_parts", parts(between=total), "the first part is all of Cov"),
    ("pattern_parts", parts(within=total), "the second part is all of Cov"),
    ("pattern_parts", unweighted, "alike in both parts"),
    (
        "pattern_parts",
        parts(between=lambda *a: unweighted(*a)[0]),
        "alike in the part between labels",
    ),
    (
        "pattern_parts",
        parts(within=lambda *a: unweighted(*a)[1]),
        "alike in the part within labels",
    ),
    ("pattern_parts", parts(within=added_up), "were added up"),
    ("pattern_parts", parts(between=not_centred), "were not centred"),
    ("pattern_parts", lambda h, *a: [len(h) * x for x in right_parts(h, *a)], "these are sums"),
    (
        "pattern_parts",
        lambda h, *a: [len(h) / (len(h) - 1) * x for x in right_parts(h, *a)],
        "divides by n - 1",
    ),
    ("pattern_parts", parts(within=loose), "its number of items minus 1"),
    ("pattern_parts", lambda *a: [-x for x in right_parts(*a)], "sign is flipped"),
    ("pattern_parts", parts(within=lambda *a: cov(*groups(*a)[0])), "first label only"),
    (
        "pattern_parts",
        parts(within=lambda h, y, c: (c == 0).float().mean() * cov(*groups(h, y, c)[0])),
        "lacks the other labels",
    ),
    ("pattern_parts", parts(within=lambda *a: 0.5 * right_parts(*a)[1]), "do not add up"),
    ("pattern_parts", parts_in_place, "in place"),
    ("pattern_parts", leaking_back, "part within labels must be 0"),
    ("pattern_parts", leaking, "part between labels must be 0"),
    ("pattern_parts", leaking_where_both_are, "these are not Cov"),
    ("pattern_parts", for_labels_of_several, "label of its own"),
    ("pattern_parts", for_three_labels, "with two labels"),
    ("pattern_parts", lambda *a: sum(right_parts(*a)), "return two vectors"),
    ("pattern_parts", lambda *a: [x.sum() for x in right_parts(*a)], "each of the two parts"),
    ("gain_bound", bound(1, lambda k, d: 2 * k / d), "this is the printed bound"),
    ("gain_bound", bound(2, lambda k, d: 2 * k / d), "half-width of a two-sided"),
    ("gain_bound", bound(2, lambda k, d: 1 / d), "delta is not shared: each"),
    ("gain_bound", bound(2, lambda k, d: 2 / d), "two-sided, and delta is not shared"),
    ("gain_bound", bound(1, lambda k, d: k / d), "the range is 1, that"),
    ("gain_bound", bound(1, lambda k, d: 1 / d), "range is 1 and delta"),
    ("gain_bound", bound(2, lambda k, d: k / d, 1), "an upper bound"),
    ("gain_bound", lambda g, *a: g - right_bound(g, *a), "this is the width"),
    ("gain_bound", lambda g, *a: g, "the gain itself"),
    ("gain_bound", lambda g, n, k, d: g - 2 * math.log(k / d) / n, "root is missing"),
    ("gain_bound", bound(2**0.5, lambda k, d: k / d), "in front of the root, or"),
    ("gain_bound", bound(4, lambda k, d: k / d), "was squared"),
    ("gain_bound", lambda g, n, k, d: right_bound(g, 1, k, d), "n is missing"),
    ("gain_bound", lambda g, n, k, d: right_bound(g, n / k, 1, d), "problems were shared"),
    ("gain_bound", lambda g, n, k, d: math.nan, "NaN"),
    ("gain_bound", lambda *a: right_bound(*a) - 0.001, "this is not gain"),
    ("gain_bound", lambda g, n, k, d: right_bound(g, n, k + (k == 1), d), "nothing to share"),
    ("gain_bound", lambda *a: None, "return"),
    (
        "choose_or_abstain",
        lambda f, d, e: max(range(4), key=lambda k: f[k].gain),
        "largest gain, without a bound",
    ),
    ("choose_or_abstain", choice("none"), "largest gain above epsilon; its lower"),
    ("choose_or_abstain", largest_bound, "largest bound, also where it is below"),
    ("choose_or_abstain", choice(by=lambda f, low: low), "largest bound above epsilon"),
    ("choose_or_abstain", choice(level=lambda d, k: d), "delta is not shared"),
    ("choose_or_abstain", choice(level=lambda d, k: d / (2 * k)), "delta is halved as well"),
    ("choose_or_abstain", lambda f, d, e: right_choice(f, d, 0.0), "epsilon is not used"),
    ("choose_or_abstain", only_the_best, "only the setting with the largest gain was tried"),
    ("choose_or_abstain", choice(by=lambda f, low: 0), "the first safe setting"),
    ("choose_or_abstain", last_safe, "the last safe setting"),
    ("choose_or_abstain", lambda *a: right_choice(*a) or None, "0 is a setting"),
    ("choose_or_abstain", lambda *a: right_choice(*a) or 0, "nothing is safe this returns"),
    ("choose_or_abstain", choice("hoeffding"), "this is Hoeffding"),
    ("choose_or_abstain", choice("as_printed"), "the printed bound"),
    ("choose_or_abstain", choice("binomial"), "the binomial bound"),
    ("choose_or_abstain", choice("bernstein"), "empirical Bernstein"),
    (
        "choose_or_abstain",
        choice(by=lambda f, low: -f.gain),
        "the safest setting gains less: .* this chooses 0, but 1 is right",
    ),
    ("choose_or_abstain", lambda f, d, e: None, "this chooses None, but 1 is right"),
    ("choose_or_abstain", choice(level=lambda d, k: d / 4), "has all of delta"),
    ("choose_or_abstain", choice_in_place, "list of flips was changed"),
    ("choose_or_abstain", lambda *a: [right_choice(*a)], "return the number of a setting"),
    ("best_useless_gain", gain_of(lambda x: x.mean()), "this is the mean gain"),
    ("best_useless_gain", one_draw_for_all, "each with flips of its own"),
    ("best_useless_gain", gain_of(lambda x: x.mean(0).max()), "before the mean over repeats"),
    ("best_useless_gain", gain_of(lambda x: best(x.abs())), "largest size of a gain"),
    (
        "best_useless_gain",
        gain_of(best, lambda rate: (2 * rate, 2 * rate)),
        "as many for worse; together",
    ),
    ("best_useless_gain", gain_of(best, lambda rate: (rate / 2, rate / 2)), "only half of rate"),
    ("best_useless_gain", lambda k, n, *a: n * right_gain(k, n, *a), "these are counts"),
    (
        "best_useless_gain",
        gain_of(best, lambda rate: (rate, 1e-9)),
        "only answers that become right were counted",
    ),
    ("best_useless_gain", all_for_better, "every flip is for better"),
    ("best_useless_gain", gain_of(lambda x: x.amin(1).mean()), "the smallest gain"),
    ("best_useless_gain", gain_of(lambda x: x.amax(1).sum()), "sum over the repeats"),
    ("best_useless_gain", lambda k, n, r, *a: right_gain(k, n, r, *a) / r, "share of the flips"),
    ("best_useless_gain", gain_of(lambda x: x.max()), "this is not the mean, over"),
    ("best_useless_gain", gain_of(lambda x: best(x.relu())), "single useless setting"),
    ("best_useless_gain", normal_numbers, "with a single problem"),
    ("best_useless_gain", fixed_share, "with a single problem"),
    ("best_useless_gain", own_numbers, "other random numbers gave the same"),
    ("best_useless_gain", formula, "simulate with `random`"),
    ("best_useless_gain", unrepeatable, "draw with `random`"),
    ("best_useless_gain", gain_of(lambda x: x.amax(1)), "expected one number"),
]


(
    test_the_right_solution_passes,
    test_a_wrong_solution_is_named,
    test_every_exercise_has_two_right_and_six_wrong_solutions,
) = both_ways(CHECKS, NAMES, RIGHT, WRONG)


# --- the exercises, what their texts say, and the library agree


def test_the_choice_is_that_of_a_calibration():
    random = np.random.default_rng(0)
    found = []
    for _ in range(60):
        flips = tuple(Flips(250, 125, *random.integers(0, [30, 12]).tolist()) for _ in range(5))
        lower = tuple(one.lower_bound(0.1 / 5) for one in flips)
        made = Calibration(tuple("abcde"), flips, lower, 0.1, 0.02, "conditional", ())
        gains = [one.gain for one in flips]
        if gains.count(max(gains)) == 1:
            found.append(right_choice(flips, 0.1, 0.02))
            assert found[-1] == made.chosen
    assert 10 < found.count(None) < len(found) - 10


def test_the_log_odds_are_those_of_answers():
    labels, truth = [[0, 3], [2], [1, 4, 5]], torch.tensor([2, 0, 1, 0])
    logits = 3 * torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    best = torch.stack([logits[:, ids].amax(1) for ids in labels], 1)
    answers = Answers(tuple("abc"), best.log_softmax(1), truth, torch.ones(4), torch.ones(4) > 0)
    assert right_odds(logits, labels, truth).numpy() == pytest.approx(
        answers.log_odds.numpy(), abs=1e-5
    )


def test_the_widths_are_as_the_text_says():
    assert -right_bound(0, 250, 10, 0.01) == pytest.approx(0.235, abs=5e-4)
    assert -bound(1, lambda k, d: 2 * k / d)(0, 250, 10, 0.01) == pytest.approx(0.123, abs=5e-4)


def test_ten_useless_settings_gain_three_points():
    """The exact mean by convolution, the curse as the text has it, and a simulation."""
    mean, spread = (x / 250 for x in mera_curse._best_of(10, mera_curse._useless(250, 0.1)))
    assert mean == pytest.approx(1.5388 * (0.1 / 250) ** 0.5, rel=0.01)
    assert round(100 * mean) == 3
    simulated = right_gain(10, 250, 0.1, 2000, torch.Generator().manual_seed(1))
    assert simulated.item() == pytest.approx(mean, abs=5 * spread / 2000**0.5)
