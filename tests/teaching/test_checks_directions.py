"""Every exercise of the chapter on directions is proved both ways: right passes, wrong is named."""

import pytest
import torch

from steerlib.teaching import checks


def right_streaming(batches):
    total, count = 0, torch.zeros(2, dtype=torch.float64)
    for rows, labels in batches:
        side = torch.stack([~labels, labels]).double()
        total = total + side @ rows.double()
        count = count + side.sum(1)
    return total / count[:, None]


def streaming_in_float32(batches):
    total, count = 0, torch.zeros(2)
    for rows, labels in batches:
        side = torch.stack([~labels, labels]).float()
        total = total + side @ rows
        count = count + side.sum(1)
    return total / count[:, None]


def mean_of_batch_means(batches):
    means = [[], []]
    for rows, labels in batches:
        for side in (0, 1):
            if (labels == side).any():
                means[side].append(rows[labels == side].mean(0))
    return torch.stack([torch.stack(side).mean(0) for side in means])


def means_with_empty_classes(batches):
    pairs = [torch.stack([rows[~labels].mean(0), rows[labels].mean(0)]) for rows, labels in batches]
    return torch.stack(pairs).mean(0)


def kept_batches(batches):
    pairs = list(batches)
    rows, labels = torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])
    return torch.stack([rows[~labels].mean(0), rows[labels].mean(0)])


def last_batch(batches):
    for batch in batches:
        rows, labels = batch
    return torch.stack([rows[~labels].mean(0), rows[labels].mean(0)])


def without_the_first(batches):
    next(batches)
    return right_streaming(batches)


def without_the_last(batches):
    copies = [(rows.clone(), labels) for rows, labels in batches]
    return right_streaming(copies[:-1])


def right_component(rows):
    return torch.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][0]


def svd(rows):
    return torch.linalg.svd(rows, full_matrices=False)


def component_in_place(rows):
    rows -= rows.mean(0)
    return right_component(rows)


def right_orient(u, rows, labels):
    gap = rows[labels].mean(0) - rows[~labels].mean(0)
    return torch.sign(u @ gap) * gap.norm() * u / u.norm()


def gap_of(rows, labels):
    return rows[labels].mean(0) - rows[~labels].mean(0)


def right_auroc(scores, labels):
    gap = scores[labels][:, None] - scores[~labels]
    return ((gap > 0).float() + 0.5 * (gap == 0)).mean()


def tied(value):
    def auroc(scores, labels):
        gap = scores[labels][:, None] - scores[~labels]
        return ((gap > 0).float() + value * (gap == 0)).mean()

    return auroc


def pairs_of_all(scores, labels):
    gap = scores[labels][:, None] - scores[~labels]
    return ((gap > 0).float() + 0.5 * (gap == 0)).sum() / len(scores) ** 2


def right_max(h, w, mask):
    words = mask & (mask.cumsum(1) > 1)
    return (h @ w).masked_fill(~words, -torch.inf).amax(1)


def max_in_place(h, w, mask):
    mask &= mask.cumsum(1) > 1
    return (h @ w).masked_fill(~mask, -torch.inf).amax(1)


def words_of(mask):
    return mask & (mask.cumsum(1) > 1)


def mean(values):
    return sum(values) / len(values)


def right_choice(selection, test):
    best = max(sorted(selection), key=lambda s: mean(selection[s]))
    return best, mean(test[best])


def chosen_by(key, report=lambda s, selection, test: mean(test[s])):
    def choose(selection, test):
        best = max(sorted(selection), key=lambda s: key(s, selection, test))
        return best, report(best, selection, test)

    return choose


def first_of_ties(selection, test):
    best = max(selection, key=lambda s: mean(selection[s]))
    return best, mean(test[best])


def last_of_ties(selection, test):
    best = max(sorted(selection, reverse=True), key=lambda s: mean(selection[s]))
    return best, mean(test[best])


def right_steerability(strengths, propensities):
    x = strengths - strengths.mean()
    slopes = propensities @ x / (x @ x)
    return slopes, (slopes < 0).float().mean().item()


def slopes_by(fit):
    return lambda s, p: (fit(s, p), (fit(s, p) < 0).float().mean().item())


def ends(s, p):
    return (p[:, -1] - p[:, 0]) / (s[-1] - s[0])


def evenly(s, p):
    return right_steerability(torch.arange(len(s)).float(), p)[0]


RIGHT = {
    "streaming_means": right_streaming,
    "first_component": right_component,
    "orient": right_orient,
    "auroc": right_auroc,
    "max_scores": right_max,
    "choose_strength": right_choice,
    "steerability": right_steerability,
}
WRONG = [
    ("streaming_means", mean_of_batch_means, "mean of the batches' means"),
    ("streaming_means", means_with_empty_classes, "one class only"),
    ("streaming_means", streaming_in_float32, "drifts"),
    ("streaming_means", kept_batches, "memory is used again"),
    ("streaming_means", last_batch, "earlier ones are forgotten"),
    ("streaming_means", without_the_first, "a batch is missing"),
    ("streaming_means", without_the_last, "a batch is missing"),
    ("streaming_means", lambda b: right_streaming(b).flip(0), "swapped"),
    ("streaming_means", lambda b: right_streaming(b)[1], "shape"),
    ("streaming_means", lambda b: -right_streaming(b), "not the means"),
    ("first_component", lambda x: svd(x)[2][0], "subtract the mean first"),
    ("first_component", lambda x: svd(x - x.mean(0))[2][-1], "smallest variance"),
    ("first_component", lambda x: svd(x - x.mean(0))[2][:, 0], "V transposed"),
    ("first_component", lambda x: svd(x - x.mean(0))[0][:, 0], "shape"),
    ("first_component", lambda x: svd(x - x.mean(1, keepdim=True))[2][0], "over its own entries"),
    ("first_component", lambda x: svd(x - x.mean(0))[1][0] * right_component(x), "length is not 1"),
    ("first_component", component_in_place, "in place"),
    ("first_component", lambda x: right_component(x / x.std(0)), "standard deviations"),
    ("first_component", lambda x: svd(x - x.mean(0))[2][1], "more variance"),
    ("orient", lambda u, x, y: gap_of(x, y), "difference in means itself"),
    ("orient", lambda u, x, y: right_orient(u.div_(u.norm()), x, y), "in place"),
    ("orient", lambda u, x, y: gap_of(x, y).norm() * u / u.norm(), "opposite of u"),
    ("orient", lambda u, x, y: (x @ u).mean().sign() * right_orient(u, x, y), "sign"),
    ("orient", lambda u, x, y: -right_orient(u, x, y), "flipped"),
    ("orient", lambda u, x, y: u * torch.sign(u @ gap_of(x, y)), "still that of u"),
    ("orient", lambda u, x, y: u.norm() * right_orient(u, x, y), "length 1"),
    ("orient", lambda u, x, y: (u @ gap_of(x, y)) * u / u.norm() ** 2, "projection"),
    ("orient", lambda u, x, y: right_orient(u, x, y) / gap_of(x, y).norm(), "length is not"),
    ("orient", lambda u, x, y: right_orient(u, x, y) + x[0], "line of u"),
    ("auroc", lambda s, y: 1 - right_auroc(s, y), "reversed"),
    ("auroc", tied(0.0), "counts 0"),
    ("auroc", tied(1.0), "counts 1"),
    ("auroc", pairs_of_all, "not of all pairs"),
    ("auroc", lambda s, y: right_auroc(s, y) * y.sum() * (~y).sum(), "number of pairs"),
    ("auroc", lambda s, y: ((s > 0.5) == y).float().mean(), "growing function|ordered pairs"),
    ("auroc", lambda s, y: s[y].mean() - s[~y].mean(), "growing function"),
    ("auroc", lambda s, y: None, "return missing"),
    ("auroc", lambda s, y: max(right_auroc(s, y), 1 - right_auroc(s, y)), "below one half"),
    ("max_scores", lambda h, w, m: (h @ w).amax(1), "padding won"),
    ("max_scores", lambda h, w, m: (h @ w).masked_fill(~m, -torch.inf).amax(1), "BOS won"),
    (
        "max_scores",
        lambda h, w, m: (h @ w)[:, 1:].masked_fill(~m[:, 1:], -torch.inf).amax(1),
        "left padding",
    ),
    ("max_scores", lambda h, w, m: (h @ w * words_of(m)).amax(1), "got the score 0"),
    ("max_scores", lambda h, w, m: (h @ w * words_of(m)).sum(1) / words_of(m).sum(1), "mean over"),
    ("max_scores", lambda h, w, m: -right_max(-h, w, m), "not the largest"),
    ("max_scores", lambda h, w, m: right_max(h.abs(), w.abs(), m), "not the largest|sign"),
    ("max_scores", lambda h, w, m: right_max(h, w / w.norm(), m), "plain product"),
    ("max_scores", max_in_place, "in place"),
    ("max_scores", lambda h, w, m: (h @ w).max(1), "`.values`"),
    ("choose_strength", chosen_by(lambda s, a, b: mean(b[s])), "chosen on the test"),
    ("choose_strength", chosen_by(lambda s, a, b: -mean(a[s])), "worst"),
    ("choose_strength", chosen_by(lambda s, a, b: max(a[s])), "not the highest mean"),
    ("choose_strength", chosen_by(lambda s, a, b: sum(a[s])), "not the highest mean"),
    ("choose_strength", chosen_by(lambda s, a, b: sorted(a[s])[len(a[s]) // 2]), "highest mean"),
    (
        "choose_strength",
        lambda a, b: (right_choice(a, b)[0], sorted(b[right_choice(a, b)[0]])[1]),
        "median",
    ),
    ("choose_strength", first_of_ties, "first in the dictionary"),
    ("choose_strength", last_of_ties, "last or the largest"),
    (
        "choose_strength",
        lambda a, b: (right_choice(a, b)[0], mean(a[right_choice(a, b)[0]])),
        "score on the selection split",
    ),
    (
        "choose_strength",
        lambda a, b: (right_choice(a, b)[0], mean([*a[1.0], *b[1.0]])),
        "averaged",
    ),
    ("choose_strength", lambda a, b: right_choice(a, b)[0], "two numbers"),
    (
        "choose_strength",
        chosen_by(lambda s, a, b: mean(a[s]) + 1e-3 * mean(b[s])),
        "decided on the test split",
    ),
    (
        "choose_strength",
        chosen_by(lambda s, a, b: mean(a[s]) - 1e-3 * mean(b[s])),
        "used for the choice",
    ),
    ("steerability", slopes_by(lambda s, p: -right_steerability(s, p)[0]), "flipped"),
    ("steerability", slopes_by(ends), "first and the last"),
    ("steerability", slopes_by(lambda s, p: p @ s / (s @ s)), "through 0"),
    ("steerability", slopes_by(lambda s, p: p @ (s - s.mean())), "sum of squares"),
    ("steerability", slopes_by(evenly), "evenly"),
    ("steerability", slopes_by(lambda s, p: right_steerability(s, p.mean(0))[0]), "one per prompt"),
    ("steerability", lambda s, p: (right_steerability(s, p)[0], 4 / 6), "right way"),
    ("steerability", lambda s, p: (right_steerability(s, p)[0], 2), "number of prompts"),
    ("steerability", lambda s, p: (right_steerability(s, p)[0], 0.0), "hides"),
    ("steerability", lambda s, p: right_steerability(s, p)[0], "two values"),
    (
        "steerability",
        lambda s, p: (r := right_steerability(s, p)[0], (r <= 0).float().mean().item()),
        "exactly 0 is neither way",
    ),
]


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_solution_passes(name, capsys):
    getattr(checks, f"test_{name}")(RIGHT[name])
    assert "all checks passed" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "fn", "message"), WRONG)
def test_a_wrong_solution_is_named(name, fn, message):
    with pytest.raises(AssertionError, match=message):
        getattr(checks, f"test_{name}")(fn)


def test_every_exercise_has_three_wrong_solutions():
    found = {n for m in (checks.directions, checks.measures) for n in vars(m)}
    assert {n for n in found if n.startswith("test_")} == {f"test_{n}" for n in RIGHT}
    for name in RIGHT:
        assert sum(wrong[0] == name for wrong in WRONG) >= 3, name


def test_every_check_is_reached_from_the_package():
    for module in (checks.hooks, checks.directions, checks.measures):
        for name in dir(module):
            if name.startswith("test_"):
                assert name in checks.__all__
