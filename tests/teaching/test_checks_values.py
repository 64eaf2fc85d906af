"""The exercises on scores and effects of values are proved both ways: wrong ones are named."""

from itertools import chain, permutations

import numpy as np
import pandas as pd
import pytest
import torch

from steerlib.evaluation.side_effect_nulls import node_permutation_test
from steerlib.methods import graph_effects
from steerlib.teaching.checks import value_directions, value_effects, values
from steerlib.world import values as world
from tests.teaching.both_ways import both_ways
from tests.teaching.worlds_values import TRUE, of_the_world

MODULES = (values, value_effects, value_directions)
CHECKS = dict(chain.from_iterable(vars(module).items() for module in MODULES))

# value_score


def right_score(probabilities, levels, agreement):
    share = probabilities / probabilities.sum(1, keepdim=True)
    return (agreement * (share @ levels)).mean()


def score_by_log_softmax(probabilities, levels, agreement):
    share = probabilities.log().log_softmax(1).exp()
    return torch.einsum("ia,a,i->", share, levels, agreement.float()).item() / len(agreement)


def score_in_a_loop(probabilities, levels, agreement):
    total = 0.0
    for p, sign in zip(probabilities.tolist(), agreement.tolist(), strict=True):
        total += sign * sum(a * b for a, b in zip(p, levels.tolist(), strict=True)) / sum(p)
    return total / len(agreement)


def score_of(share, per_item=lambda levels, sign: sign * levels):
    """The mean over items of what is made of the expected level, from other shares."""
    return lambda p, levels, sign: per_item(share(p) @ levels, sign).mean()


def shared(p):
    return p / p.sum(1, keepdim=True)


def reversed_scale(p, levels, agreement):
    turned = torch.where(agreement[:, None] < 0, levels.flip(0), levels)
    return (shared(p) * turned).sum(1).mean()


def score_in_place(p, levels, agreement):
    p /= p.sum(1, keepdim=True)
    return (agreement * (p @ levels)).mean()


def of_four_answers(p, levels, agreement):
    """Right only in the given order of the answers."""
    return right_score(p, levels, agreement) + 0.01 * shared(p)[:, 0] @ agreement.float()


# total_effects


def right_effects(b, sd):
    return (torch.linalg.inv(torch.eye(len(b)) - b) * sd / sd[:, None]).T


def effects_by_paths(b, sd):
    step = b * sd / sd[:, None]
    total = term = torch.eye(len(b))
    for _ in b:
        term = step @ term
        total = total + term
    return total.T


def effects_by_interventions(b, sd):
    rows = []
    for cause in range(len(b)):
        cut = b.clone()
        cut[cause] = 0
        u = torch.zeros(len(b))
        u[cause] = sd[cause]
        rows.append(torch.linalg.solve(torch.eye(len(b)) - cut, u) / sd)
    return torch.stack(rows)


def effects_of(total, unit=lambda sd: sd / sd[:, None], turn=True):
    def found(b, sd):
        matrix = total(torch.eye(len(b)), b) * unit(sd)
        return matrix.T if turn else matrix

    return found


def inverse(one, b):
    return torch.linalg.inv(one - b)


def effects_in_place(b, sd):
    b.neg_().add_(torch.eye(len(b)))
    return (torch.linalg.inv(b) * sd / sd[:, None]).T


def only_of_three(b, sd):
    """Adds a cause of the first value to the second."""
    found = right_effects(b, sd)
    return found + 0.5 * (len(b) == 3) * torch.ones_like(found).triu(1)


# residual_direction


def right_direction(h, scores, value, parents):
    z = scores - scores.mean(0)
    causes, r = z[:, list(parents)], z[:, value]
    r = r - causes @ torch.linalg.pinv(causes) @ r
    return (r / r.std()) @ (h - h.mean(0)) / len(h)


def direction_by_numpy(h, scores, value, parents):
    """The slope on r times its deviation, with an intercept in both regressions."""
    x, one = scores.double().numpy(), np.ones((len(scores), 1))
    others = np.hstack([one, x[:, list(parents)]])
    r = x[:, value] - others @ np.linalg.lstsq(others, x[:, value], rcond=None)[0]
    slope = np.linalg.lstsq(np.column_stack([one, r]), h.double().numpy(), rcond=None)[0][1]
    return torch.from_numpy(slope * r.std()).float()


def direction_by_frisch_waugh(h, scores, value, parents):
    """The coefficient of h on the value beside its parents, times the deviation of the residual."""
    z = scores - scores.mean(0)
    x = z[:, [value, *parents]]
    coefficient = (torch.linalg.pinv(x) @ (h - h.mean(0)))[0]
    r = z[:, value] - z[:, list(parents)] @ torch.linalg.pinv(z[:, list(parents)]) @ z[:, value]
    return coefficient * r.std()


def residual(scores, value, others, intercept=True):
    z = scores - scores.mean(0) if intercept else scores
    x = z[:, list(others)]
    return z[:, value] - x @ torch.linalg.pinv(x) @ z[:, value]


def along(of, scale=lambda d, r: d):
    """The direction along another residual, or at another scale."""

    def found(h, scores, value, parents):
        r = of(scores, value, parents)
        d = (r - r.mean()) @ h / len(h) / r.std()
        return scale(d, r)

    return found


def proper(scores, value, parents):
    return residual(scores, value, parents)


def explained(scores, value, parents):
    return scores[:, value] - scores[:, value].mean() - proper(scores, value, parents)


def doubled(scores, value, parents):
    return proper(scores, value, parents) + 2 * explained(scores, value, parents)


def others_of(scores, value, parents):
    return residual(scores, value, [k for k in range(scores.shape[1]) if k != value])


def children_of(scores, value, parents):
    return residual(scores, value, [k for k in range(scores.shape[1]) if k > value])


def not_centred(h, scores, value, parents):
    r = residual(scores, value, parents, intercept=False)
    return r @ h / len(h) / r.std()


def mean_of_h(h, scores, value, parents):
    r = proper(scores, value, parents) + scores[:, value].mean()
    return r @ h / len(h) / r.std()


def halves(h, scores, value, parents):
    r = proper(scores, value, parents)
    high = r > r.median()
    return (h[high].mean(0) - h[~high].mean(0)) / 2


def all_coefficients(h, scores, value, parents):
    z = scores - scores.mean(0)
    return (torch.linalg.pinv(z) @ (h - h.mean(0)))[value] * proper(scores, value, parents).std()


def right_with_parents(h, scores, value, parents):
    """Wrong where there are none."""
    found = right_direction(h, scores, value, parents)
    return found if parents else found + 1


def direction_in_place(h, scores, value, parents):
    h -= h.mean(0)
    return right_direction(h, scores, value, parents)


def ridge(h, scores, value, parents):
    """Depends on the units of the scores."""
    z = scores - scores.mean(0)
    x = z[:, list(parents)]
    hold = torch.linalg.inv(x.T @ x + 0.2 * torch.eye(len(parents)))
    r = z[:, value] - x @ hold @ x.T @ z[:, value]
    return r @ (h - h.mean(0)) / len(h) / r.std()


# side_effect_p


def right_p(changes, expected, orders):
    off = ~torch.eye(len(expected), dtype=torch.bool)

    def gap(mask):
        return changes[mask].mean() - changes[~mask & off].mean()

    null = torch.stack([gap(expected[order][:, order]) for order in orders])
    return (1 + (null >= gap(expected)).sum()) / (1 + len(null))


def p_in_numpy(changes, expected, orders):
    """The changes are relabeled in place of the graph; a sum is enough: all else is constant."""
    x = np.nan_to_num(changes.numpy())
    mask = expected.numpy()
    sums = [x[np.ix_(order, order)][mask].sum() for order in orders.numpy()]
    return (1 + sum(s >= x[mask].sum() for s in sums)) / (len(sums) + 1)


def p_by_edges(changes, expected, orders):
    edges = expected.nonzero().tolist()
    others = [[i, j] for i, j in permutations(range(len(expected)), 2) if [i, j] not in edges]

    def gap(names):
        hit, miss = (
            sum(changes[names[i], names[j]].item() for i, j in pairs) / len(pairs)
            for pairs in (edges, others)
        )
        return hit - miss

    own = gap(range(len(expected)))
    as_large = [gap(order) >= own - 1e-9 for order in orders.tolist()]
    return sum([True, *as_large]) / (1 + len(as_large))


def gaps_of(changes, expected, orders, relabel=lambda mask, o: mask[o][:, o], mean="mean"):
    off = ~torch.eye(len(expected), dtype=torch.bool)

    def gap(mask):
        hit, miss = changes[mask], changes[~mask & off]
        return getattr(hit, mean)() - getattr(miss, mean)()

    return gap(expected), torch.stack([gap(relabel(expected, order)) for order in orders])


def p_of(share, **other):
    """Another share of the relabeled gaps, or other relabelings."""
    return lambda changes, expected, orders: share(*gaps_of(changes, expected, orders, **other))


def at_least(gap, null):
    return (1 + (null >= gap).sum()) / (1 + len(null))


def both_relabeled(changes, expected, orders):
    off = ~torch.eye(len(expected), dtype=torch.bool)

    def gap(x, mask):
        return x[mask].mean() - x[~mask & off].mean()

    moved = [gap(changes[o][:, o], expected[o][:, o]) for o in orders]
    return (1 + sum(x >= gap(changes, expected) for x in moved)) / (1 + len(moved))


def cells(changes, expected, orders):
    """Shuffles single changes."""
    off = ~torch.eye(len(expected), dtype=torch.bool)
    x, mask = changes[off], expected[off]
    random = torch.Generator().manual_seed(0)
    null = [x[torch.randperm(len(x), generator=random)] for _ in range(400)]
    gaps = torch.stack([y[mask].mean() - y[~mask].mean() for y in null])
    return at_least(x[mask].mean() - x[~mask].mean(), gaps)


def diagonal_among_the_others(changes, expected, orders):
    gap = changes[expected].mean() - changes[~expected].mean()
    null = [changes[m].mean() - changes[~m].mean() for m in (expected[o][:, o] for o in orders)]
    return at_least(gap, torch.stack(null))


def by_normal(gap, null):
    return 1 - torch.special.ndtr((gap - null.mean()) / null.std())


def by_variance(gap, null):
    """Strict where all are the same."""
    return at_least(gap, null) if null.std() > 0 else torch.tensor(0.5)


def p_in_place(changes, expected, orders):
    found = right_p(changes, expected, orders)
    expected.logical_not_()
    return found


RIGHT = [
    ("value_score", right_score),
    ("value_score", score_by_log_softmax),
    ("value_score", score_in_a_loop),
    ("total_effects", right_effects),
    ("total_effects", effects_by_paths),
    ("total_effects", effects_by_interventions),
    ("residual_direction", right_direction),
    ("residual_direction", direction_by_numpy),
    ("residual_direction", direction_by_frisch_waugh),
    ("side_effect_p", right_p),
    ("side_effect_p", p_in_numpy),
    ("side_effect_p", p_by_edges),
]
NAMES = sorted({name for name, _ in RIGHT})
WRONG = [
    ("value_score", score_of(shared, lambda x, s: x), "speaks against the value"),
    ("value_score", score_of(lambda p: p), "were not renormalized"),
    ("value_score", score_of(lambda p: p, lambda x, s: x), "neither"),
    ("value_score", score_of(lambda p: p / p.sum(0)), "over the items; divide"),
    ("value_score", score_of(lambda p: p * len(p) / p.sum()), "over all items"),
    ("value_score", score_of(lambda p: p.softmax(1)), "softmax"),
    ("value_score", lambda p, x, s: (s * x[p.argmax(1)]).mean(), "likeliest"),
    ("value_score", lambda p, x, s: right_score(p, torch.arange(4.0), s), "numbered"),
    ("value_score", lambda p, x, s: len(p) * right_score(p, x, s), "the sum over the items"),
    ("value_score", lambda p, x, s: -right_score(p, x, s), "sign is flipped"),
    ("value_score", lambda p, x, s: (shared(p) @ x)[s > 0].mean(), "left out"),
    ("value_score", reversed_scale, "reversed scale"),
    ("value_score", score_of(shared, lambda x, s: (s * x).abs()), "size of each item"),
    (
        "value_score",
        lambda p, x, s: (s[:, None] * shared(p) * x).mean(),
        "averaged over the answers",
    ),
    ("value_score", lambda p, x, s: s * (shared(p) @ x), "per item"),
    ("value_score", score_in_place, "in place"),
    ("value_score", lambda p, x, s: right_score(p, x, s) + 1, "turn the sign"),
    ("value_score", lambda p, x, s: right_score(p, x, s) * p.sum(), "renormalize each"),
    ("value_score", of_four_answers, "order of the answers"),
    ("value_score", lambda p, x, s: right_score(p.sqrt(), x, s), "not the mean over items"),
    ("value_score", lambda p, x, s: 1.1 * right_score(p, x, s), "its level must count"),
    ("value_score", lambda p, x, s: right_score(p.square(), x, s), "not the mean over items"),
    ("value_score", lambda p, x, s: None, "return"),
    ("total_effects", effects_of(inverse, turn=False), "effect, cause\\]; transpose"),
    ("total_effects", lambda b, sd: inverse(torch.eye(4), b), "and in raw units"),
    ("total_effects", lambda b, sd: inverse(torch.eye(4), b).T, "in raw units: count"),
    ("total_effects", effects_of(inverse, lambda sd: sd[:, None] / sd), "upside down: times"),
    (
        "total_effects",
        effects_of(inverse, lambda sd: sd[:, None] / sd, False),
        "effect, cause\\], w",
    ),
    ("total_effects", effects_of(inverse, lambda sd: 1 / sd[:, None]), "units of the effect"),
    ("total_effects", effects_of(inverse, lambda sd: sd), "per raw unit"),
    ("total_effects", effects_of(lambda one, b: b), "direct effects only"),
    ("total_effects", effects_of(lambda one, b: one + b), "direct effects and 1"),
    ("total_effects", effects_of(lambda one, b: one + b + b @ b), "three and more"),
    ("total_effects", effects_of(lambda one, b: inverse(one, b) - one), "do not take I away"),
    ("total_effects", effects_of(lambda one, b: inverse(one, -b)), "sign of B"),
    ("total_effects", effects_of(lambda one, b: one - b), "inverse is missing"),
    ("total_effects", lambda b, sd: right_effects(b, sd).abs(), "keep their sign"),
    ("total_effects", effects_of(lambda one, b: 1 / (one - b)), "entries divided"),
    ("total_effects", effects_in_place, "in place"),
    ("total_effects", lambda b, sd: 2 * right_effects(b, sd), "itself must be 1"),
    ("total_effects", lambda b, sd: right_effects(b, sd) + 0.01 * b.T, "in other units"),
    ("total_effects", lambda b, sd: right_effects(b, sd).tril(), "row 0 is not what happens"),
    ("total_effects", only_of_three, "must be the identity"),
    ("total_effects", lambda b, sd: right_effects(b, sd)[0], r"shape \(4,\)"),
    ("residual_direction", along(lambda s, v, p: s[:, v]), "parents are not used"),
    ("residual_direction", along(others_of), "all other values were taken out"),
    ("residual_direction", along(children_of), "its effects were taken out"),
    ("residual_direction", along(lambda s, v, p: residual(s, v, p[:1])), "first parent"),
    ("residual_direction", along(lambda s, v, p: residual(s, v, p[1:])), "last parent"),
    ("residual_direction", along(explained), "what the parents explain"),
    ("residual_direction", lambda *x: -right_direction(*x), "sign is flipped"),
    ("residual_direction", along(doubled), "were added to the score"),
    (
        "residual_direction",
        along(lambda s, v, p: residual(s, v, p, intercept=False)),
        "no intercept: the scores",
    ),
    ("residual_direction", not_centred, "residual still has a mean"),
    ("residual_direction", mean_of_h, "mean of h came in"),
    ("residual_direction", along(proper, lambda d, r: d * r.std()), "the covariance"),
    ("residual_direction", along(proper, lambda d, r: d / r.std()), "per unit of the score"),
    (
        "residual_direction",
        lambda h, s, v, p: right_direction(h, s, v, p) * proper(s, v, p).std() / s[:, v].std(),
        "deviation of the score",
    ),
    ("residual_direction", lambda h, s, v, p: right_direction(h, s, v, p) * len(h), "a sum over"),
    ("residual_direction", along(proper, lambda d, r: d / d.norm()), "length 1"),
    (
        "residual_direction",
        lambda h, s, v, p: right_direction(h, s, v, p) / h.std(0),
        "correlation with each",
    ),
    ("residual_direction", halves, "two halves"),
    ("residual_direction", all_coefficients, "all values at once"),
    ("residual_direction", lambda h, s, v, p: proper(s, v, p), "the residual; the direction"),
    (
        "residual_direction",
        lambda h, s, v, p: proper(s, v, p)[:, None] * h,
        "one row per role",
    ),
    ("residual_direction", direction_in_place, "in place"),
    ("residual_direction", ridge, "more of the parents"),
    ("residual_direction", lambda *x: 1.1 * right_direction(*x), "not Cov"),
    ("residual_direction", right_with_parents, "without parents"),
    ("side_effect_p", p_of(lambda g, x: (x >= g).sum() / len(x)), "never be 0"),
    ("side_effect_p", p_of(lambda g, x: (1 + (x >= g).sum()) / len(x)), "below the line as well"),
    ("side_effect_p", p_of(lambda g, x: (x >= g).sum() / (1 + len(x))), "above the line as well"),
    ("side_effect_p", p_of(lambda g, x: (1 + (x > g).sum()) / (1 + len(x))), "equal gap counts"),
    ("side_effect_p", p_of(lambda g, x: (x > g).sum() / len(x)), "as it is, above"),
    ("side_effect_p", p_of(lambda g, x: at_least(-g, -x)), "smaller gaps"),
    ("side_effect_p", p_of(lambda g, x: 1 - at_least(g, x)), "this is 1 - p"),
    ("side_effect_p", p_of(lambda g, x: at_least(g.abs(), x.abs())), "two-sided"),
    ("side_effect_p", p_of(lambda g, x: g), "this is the gap"),
    ("side_effect_p", p_of(lambda g, x: 1 + (x >= g).sum()), "a count"),
    ("side_effect_p", both_relabeled, "both tables"),
    (
        "side_effect_p",
        p_of(at_least, relabel=lambda m, o: m[o], mean="nanmean"),
        "only the rows were",
    ),
    (
        "side_effect_p",
        p_of(at_least, relabel=lambda m, o: m[:, o], mean="nanmean"),
        "only the columns were",
    ),
    ("side_effect_p", p_of(at_least, relabel=lambda m, o: m[o]), "rows were relabeled, and"),
    ("side_effect_p", p_of(at_least, relabel=lambda m, o: m[:, o]), "columns were relabeled, and"),
    ("side_effect_p", diagonal_among_the_others, "gap is NaN"),
    ("side_effect_p", cells, "not single cells"),
    ("side_effect_p", p_in_place, "in place"),
    ("side_effect_p", p_of(by_normal), "and count"),
    ("side_effect_p", p_of(lambda g, x: at_least(g, x) ** 0.9), "as good here"),
    ("side_effect_p", p_of(by_variance), "must be 1"),
    ("side_effect_p", p_of(lambda g, x: x), "expected one number"),
    (
        "side_effect_p",
        lambda c, e, o: right_p(c, e, o) * (0.5 if c.nansum() > 20 else 1),
        "other units must",
    ),
    (
        "side_effect_p",
        lambda c, e, o: right_p(c, e, o).clamp(min=0.05),
        "no relabeling fits as well",
    ),
]


(
    test_the_right_solution_passes,
    test_a_wrong_solution_is_named,
    test_every_exercise_has_two_right_and_six_wrong_solutions,
) = both_ways(CHECKS, NAMES, RIGHT, WRONG)


# --- the exercises and the library agree


def test_total_effects_are_the_worlds_and_the_librarys():
    b, sd = (torch.from_numpy(x) for x in (world.coefficients(), world.deviations()))
    found = right_effects(b, sd).numpy()
    assert found == pytest.approx(world.total_effects())
    scores = pd.DataFrame(of_the_world().numpy(), columns=list(world.VALUES))
    assert graph_effects.total_effects(scores, TRUE).to_numpy() == pytest.approx(found)


def test_p_is_that_of_the_library_where_each_value_expects_as_many():
    """The library averages within each value first; with one effect per value that is the same."""
    names, random = list("abcde"), np.random.default_rng(1)
    changes = random.integers(0, 9, (5, 5)) / 8
    np.fill_diagonal(changes, np.nan)
    cycle = {a: {b} for a, b in zip(names, [*names[1:], names[0]], strict=True)}
    expected = torch.tensor([[u in cycle[v] for u in names] for v in names])
    found = node_permutation_test(pd.DataFrame(changes, names, names), cycle, 4000)
    orders = torch.tensor(list(permutations(range(5))))[1:]
    own = right_p(torch.from_numpy(changes), expected, orders)
    assert found.p == pytest.approx(float(own), abs=0.03)
