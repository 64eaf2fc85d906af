"""Every exercise of the chapter on AxBench is proved both ways: right passes, wrong is named."""

import math
from itertools import chain
from statistics import harmonic_mean

import torch
from torch.nn.functional import logsigmoid

from steerlib.evaluation.judge_report import harmonic as harmonic_of_one
from steerlib.evaluation.thresholds import Scored, f1
from steerlib.methods.reps import preference
from steerlib.teaching import checks
from tests.teaching.both_ways import both_ways

# harmonic


def right_harmonic(concept, instruction, fluency):
    return 3 / (1 / concept + 1 / instruction + 1 / fluency)


def harmonic_in_a_loop(concept, instruction, fluency):
    found = []
    for ratings in zip(concept.tolist(), instruction.tolist(), fluency.tolist(), strict=True):
        missing = any(math.isnan(rating) for rating in ratings)
        found.append(math.nan if missing else harmonic_mean(ratings))
    return torch.tensor(found)


def harmonic_of_the_library(*ratings):
    return torch.tensor([harmonic_of_one(one) for one in torch.stack(ratings).T.tolist()])


def multiplied_out(c, i, f):
    return 3 * c * i * f / (c * i + c * f + i * f)


def zero_first(c, i, f):
    x = torch.stack([c, i, f])
    return torch.where((x == 0).any(0), 0.0, right_harmonic(c, i, f))


def without_zeros(c, i, f):
    x = torch.stack([c, i, f])
    x = x.where(x != 0, math.inf)
    return (x < math.inf).sum(0).clamp(min=1) / (1 / x).sum(0).clamp(min=0.1)


def without_missing(c, i, f):
    return 1 / torch.stack([1 / c, 1 / i, 1 / f]).nanmean(0)


def dropped(c, i, f):
    found = right_harmonic(c, i, f)
    return found[~found.isnan()]


def in_place(c, i, f):
    return right_harmonic(c.clamp_(min=1.0), i, f)


def zeros_in_place(c, i, f):
    for x in (c, i, f):
        x[x == 0] = 1e-9
    return right_harmonic(c, i, f).round(decimals=5)


# reft_magnitude


def products(h, w, mask):
    return torch.where(mask, torch.relu(h @ w), 0.0)


def right_magnitude(h, w, mask, k):
    top = products(h, w, mask).topk(min(k, h.shape[1]), dim=1).values
    return top.sum(1) / mask.sum(1).clamp(max=k)


def magnitude_in_a_loop(h, w, mask, k):
    found = []
    for text, real in zip(h, mask, strict=True):
        latents = sorted((max(float(x @ w), 0.0) for x in text[real]), reverse=True)[:k]
        found.append(sum(latents) / len(latents))
    return torch.tensor(found)


def with_padding(h, w, mask, k):
    return (h @ w).relu().topk(min(k, h.shape[1]), dim=1).values.mean(1)


def each(of):
    """One text after the other: `of` sees the products at its tokens, and k."""
    return lambda h, w, mask, k: torch.stack(
        [of(x[real], k) for x, real in zip(h @ w, mask, strict=True)]
    )


def top(x, k):
    return x.topk(min(k, len(x))).values


def minus_infinity(h, w, mask, k):
    latents = (h @ w).relu().masked_fill(~mask, -torch.inf)
    return latents.topk(min(k, h.shape[1]), dim=1).values.mean(1)


def without_the_first(h, w, mask, k):
    return right_magnitude(h, w, mask & (mask.cumsum(1) > 1), k)


def mask_in_place(h, w, mask, k):
    found = right_magnitude(h, w, mask, k)
    mask &= mask.cumsum(1) > 1
    return found


def k_of_any_size(h, w, mask, k):
    return products(h, w, mask).topk(k, dim=1).values.sum(1) / mask.sum(1).clamp(max=k)


def counts_positions(h, w, mask, k):
    """Right for k = 3; beyond the number of positions it divides by that number."""
    n = min(k, h.shape[1])
    top_n = products(h, w, mask).topk(n, dim=1).values.sum(1)
    return top_n / (n if k > h.shape[1] else mask.sum(1).clamp(max=k))


def padding_pulls(h, w, mask, k):
    return right_magnitude(h, w, mask, k) + ((h @ w) * ~mask).clamp(max=0).sum(1)


# sphere_step


def unit(x):
    return x / x.norm()


def tangent(w, g):
    return g - (g @ w) * w


def right_step(w, gradient, lr):
    return unit(w - lr * tangent(w, gradient))


def step_by_a_projector(w, gradient, lr):
    projector = torch.eye(len(w)) - torch.outer(w, w)
    moved = torch.addmv(w, projector, gradient, alpha=-lr)
    return torch.nn.functional.normalize(moved, dim=0)


def step_in_place(w, gradient, lr):
    gradient -= (gradient @ w) * w
    return unit(w - lr * gradient)


def w_in_place(w, gradient, lr):
    w -= lr * tangent(w, gradient)
    w /= w.norm()
    return w


def great_circle(w, gradient, lr):
    g = tangent(w, gradient)
    angle = lr * g.norm()
    return angle.cos() * w - angle.sin() * unit(g)


def random_kick(w, gradient, lr):
    return right_step(w, gradient, lr) if gradient.norm() > 1 else unit(w + 1.0)


# reps_margin


def right_margin(won, won_tokens, lost, lost_tokens, reference_gap):
    return reference_gap.clamp(min=1) * won / won_tokens - lost / lost_tokens


def margin_in_a_loop(*columns):
    rows = zip(*(x.tolist() for x in columns), strict=True)
    return torch.tensor([max(gap, 1) * a / n - b / m for a, n, b, m, gap in rows])


def margin_of_the_library(won, n, lost, m, gap):
    return preference(won, n, lost, m, torch.maximum(gap, torch.ones_like(gap)))


# report_score


def cut(scores):
    n = scores.shape[1]
    return n - round(n / 2)


def reported(choose, report):
    """A solution that chooses by one function and reports by another one, in ascending order."""

    def solution(scores, strengths):
        n = cut(scores)
        strengths, order = strengths.sort()
        scores = scores[order]
        best = choose(scores[:, :n], scores).argmax()
        return strengths[best].item(), report(scores[best, :n], scores[best, n:]).item()

    return solution


def of_half(x, all_of_them):
    return x.mean(1)


def rest(first, second):
    return second.mean()


right_report = reported(of_half, rest)


def report_in_a_loop(scores, strengths):
    n = cut(scores)
    rows = list(zip(strengths.tolist(), scores.tolist(), strict=True))
    best, row = max(rows, key=lambda one: (sum(one[1][:n]) / n, -one[0]))
    return best, sum(row[n:]) / len(row[n:])


def first_of_ties(scores, strengths):
    best = scores[:, : cut(scores)].mean(1).argmax()
    return strengths[best].item(), scores[best, cut(scores) :].mean().item()


def last_of_ties(scores, strengths):
    return first_of_ties(scores.flip(0), strengths.flip(0))


def sorts_the_strengths_only(scores, strengths):
    return first_of_ties(scores, strengths.sort().values)


def place(scores, strengths):
    best = scores[:, : cut(scores)].mean(1).argmax()
    return best, scores[best, cut(scores) :].mean()


def best_report(scores, strengths):
    return right_report(scores, strengths)[0], scores[:, cut(scores) :].mean(1).max()


def cut_at(where):
    def solution(scores, strengths):
        n = where(scores.shape[1])
        padded = torch.cat([scores[:, :n], scores[:, :n]], 1)
        strength = right_report(padded, strengths)[0]
        return strength, scores[strengths == strength, n:].mean()

    return solution


def ties_by_the_report(scores, strengths):
    """Right in the first table: there the tie has the lowest reported mean."""
    n = cut(scores)
    best = (scores[:, :n].mean(1) - 1e-3 * scores[:, n:].mean(1)).argmax()
    return strengths[best], scores[best, n:].mean()


# win_rate


def right_rate(a, b):
    tie = (a - b).abs() < 1e-6
    return ((a > b) & ~tie).float().mean() + 0.5 * tie.float().mean()


def rate_in_a_loop(a, b):
    points = [
        0.5 if abs(x - y) < 1e-6 else float(x > y)
        for x, y in zip(a.tolist(), b.tolist(), strict=True)
    ]
    return sum(points) / len(points)


def tied(value):
    def rate(a, b):
        tie = (a - b).abs() < 1e-6
        return ((a > b) & ~tie).float().mean() + value * tie.float().mean()

    return rate


def wins(a, b):
    return (a - b > 1e-6).float()


def losses(a, b):
    return wins(b, a)


def tie_without_abs(a, b):
    tie = (a - b < 1e-6) & (a >= b)
    return ((a > b) & ~tie).float().mean() + 0.5 * tie.float().mean()


def share_of_the_decided(a, b):
    """Right, and 0 / 0 where all prompts are ties."""
    decided = (wins(a, b) + losses(a, b)).mean()
    return wins(a, b).mean() / decided * decided + 0.5 * (1 - decided)


# f1_elsewhere


def f1_at(scores, labels, threshold):
    said = scores >= threshold
    return (2 * (said & labels).sum() / (said.sum() + labels.sum())).item()


def right_f1(choose_scores, choose_labels, report_scores, report_labels):
    thresholds = choose_scores.sort(descending=True).values
    values = [f1_at(choose_scores, choose_labels, t) for t in thresholds]
    return f1_at(report_scores, report_labels, thresholds[values.index(max(values))])


def f1_in_a_matrix(choose_scores, choose_labels, report_scores, report_labels):
    thresholds = choose_scores.unique().flip(0)
    said = choose_scores >= thresholds[:, None]
    hits = (said & choose_labels).sum(1)
    best = thresholds[(2 * hits / (said.sum(1) + choose_labels.sum())).argmax()]
    claimed = report_scores >= best
    return 2 * (claimed & report_labels).sum() / (claimed.sum() + report_labels.sum())


def f1_of_the_library(*columns):
    a, b, c, d = (x.numpy() for x in columns)
    return f1(Scored(a, b), Scored(c, d)).f1


def precision_and_recall(scores, labels, threshold, nan=0.0):
    said = scores >= threshold
    hits = (said & labels).sum()
    precision, recall = hits / said.sum(), hits / labels.sum()
    return (2 * precision * recall / (precision + recall)).nan_to_num(nan=nan)


def f1_by(of, best=max, report=f1_at):
    """Choose by another value, or report another one."""

    def solution(choose_scores, choose_labels, report_scores, report_labels):
        thresholds = choose_scores.sort(descending=True).values.tolist()
        chosen = best(thresholds, key=lambda t: of(choose_scores, choose_labels, t))
        return report(report_scores, report_labels, chosen)

    return solution


def lowest_of_ties(thresholds, key):
    return max(reversed(thresholds), key=key)


def accuracy(scores, labels, threshold):
    return ((scores >= threshold) == labels).float().mean().item()


def strictly(scores, labels, threshold):
    said = scores > threshold
    return (2 * (said & labels).sum() / (said.sum() + labels.sum())).item()


def nan_wins(choose_scores, choose_labels, report_scores, report_labels):
    thresholds = choose_scores.sort(descending=True).values
    values = [
        precision_and_recall(choose_scores, choose_labels, t, nan=math.nan) for t in thresholds
    ]
    return f1_at(report_scores, report_labels, thresholds[torch.stack(values).argmax()])


def divides_by_zero(scores, labels, threshold):
    said = scores >= threshold
    hits = int((said & labels).sum())
    precision, recall = hits / int(said.sum()), hits / int(labels.sum())
    return 2 * precision * recall / (precision + recall)


def one_text_at_a_time(choose_scores, choose_labels, report_scores, report_labels):
    thresholds, order = choose_scores.sort(descending=True, stable=True)
    hits = choose_labels[order].cumsum(0)
    claimed = torch.arange(1, len(order) + 1)
    best = thresholds[(2 * hits / (claimed + choose_labels.sum())).argmax()]
    return f1_at(report_scores, report_labels, best)


def nan_without_a_claim(*columns):
    return f1_by(f1_at, report=lambda s, y, t: precision_and_recall(s, y, t, nan=math.nan))(
        *columns
    )


def one_without_a_claim(a, b, c, d):
    return right_f1(a, b, c, d) or 1.0


def sorted_in_place(a, b, c, d):
    found = right_f1(a, b, c, d)
    a.copy_(a.sort(descending=True).values)
    return found


RIGHT = [
    ("harmonic", right_harmonic),
    ("harmonic", harmonic_in_a_loop),
    ("harmonic", harmonic_of_the_library),
    ("reft_magnitude", right_magnitude),
    ("reft_magnitude", magnitude_in_a_loop),
    ("reft_magnitude", each(lambda x, k: top(x.relu(), k).mean())),
    ("sphere_step", right_step),
    ("sphere_step", step_by_a_projector),
    ("report_score", right_report),
    ("report_score", report_in_a_loop),
    ("win_rate", right_rate),
    ("win_rate", rate_in_a_loop),
    ("win_rate", lambda a, b: (wins(a, b) - wins(b, a) + 1).mean() / 2),
    ("reps_margin", right_margin),
    ("reps_margin", margin_in_a_loop),
    ("reps_margin", margin_of_the_library),
    ("f1_elsewhere", right_f1),
    ("f1_elsewhere", f1_in_a_matrix),
    ("f1_elsewhere", f1_of_the_library),
    ("f1_elsewhere", f1_by(precision_and_recall, report=precision_and_recall)),
]
NAMES = sorted({name for name, _ in RIGHT})
WRONG = [
    ("harmonic", lambda c, i, f: (c + i + f) / 3, "arithmetic"),
    ("harmonic", lambda c, i, f: (c * i * f) ** (1 / 3), "geometric"),
    ("harmonic", lambda c, i, f: torch.stack([c, i, f]).amin(0), "smallest"),
    ("harmonic", lambda c, i, f: c * i * f, "product"),
    ("harmonic", lambda c, i, f: right_harmonic(c, i, f) / 3, "the 3 is missing"),
    ("harmonic", lambda c, i, f: 1 / right_harmonic(c, i, f), "inverted once more"),
    ("harmonic", lambda c, i, f: 3 / right_harmonic(c, i, f), "sum of the inverses"),
    ("harmonic", lambda c, i, f: 2 / (1 / c + 1 / i), "all three"),
    ("harmonic", lambda c, i, f: right_harmonic(c, i, f) + 1, "not the harmonic mean"),
    ("harmonic", multiplied_out, "0 / 0"),
    ("harmonic", lambda *x: right_harmonic(*x).where(x[0] != 0, math.inf), "infinity"),
    ("harmonic", without_zeros, "was left out of the mean: where"),
    ("harmonic", lambda c, i, f: right_harmonic(c + 1e-7, i + 1e-7, f + 1e-7), "exactly 0"),
    ("harmonic", lambda *x: right_harmonic(*x).nan_to_num(nan=0.0), "became a 0"),
    ("harmonic", without_missing, "needs all three"),
    ("harmonic", zero_first, "beside a 0"),
    ("harmonic", dropped, "were dropped"),
    ("harmonic", in_place, "in place"),
    ("harmonic", zeros_in_place, "in place"),
    ("harmonic", lambda *x: right_harmonic(*x).nanmean(), r"shape \(\)"),
    ("reft_magnitude", with_padding, "leaves out entered"),
    ("reft_magnitude", each(lambda x, k: top(x, k).mean()), "relu is missing"),
    ("reft_magnitude", each(lambda x, k: top(x, k).mean().relu()), "relu was taken of the mean"),
    ("reft_magnitude", each(lambda x, k: top(x.abs(), k).mean()), "size of the products"),
    ("reft_magnitude", each(lambda x, k: top(x.relu(), k).sum() / k), "divided by k"),
    ("reft_magnitude", each(lambda x, k: x.relu().mean()), "all tokens"),
    ("reft_magnitude", each(lambda x, k: top(x.relu(), k).sum()), "sum of the k largest"),
    ("reft_magnitude", each(lambda x, k: x.relu().max()), "only the largest"),
    ("reft_magnitude", each(lambda x, k: x.relu().sort().values[:k].mean()), "k smallest"),
    ("reft_magnitude", each(lambda x, k: x.relu()[:k].mean()), "first k tokens"),
    (
        "reft_magnitude",
        each(lambda x, k: top(x, k)[top(x, k) > 0].mean().nan_to_num()),
        "tokens at 0 were left out",
    ),
    ("reft_magnitude", without_the_first, "already false at BOS"),
    ("reft_magnitude", minus_infinity, "minus infinity"),
    ("reft_magnitude", mask_in_place, "in place"),
    ("reft_magnitude", k_of_any_size, "take min"),
    ("reft_magnitude", counts_positions, "k above the number of tokens"),
    ("reft_magnitude", padding_pulls, "other activations"),
    (
        "reft_magnitude",
        lambda h, w, m, k: right_magnitude(h[:, 1:], w, m[:, 1:], k),
        "order of the tokens",
    ),
    ("reft_magnitude", lambda h, w, m, k: products(h, w, m).flatten().topk(k).values, "shape"),
    ("reft_magnitude", lambda *x: 2 * right_magnitude(*x), "not the mean"),
    ("sphere_step", lambda w, g, lr: unit(w - lr * g), "still has its part along w"),
    ("sphere_step", lambda w, g, lr: w - lr * g, "and the gradient still has"),
    ("sphere_step", lambda w, g, lr: w - lr * tangent(w, g), "renormalize after"),
    ("sphere_step", lambda w, g, lr: right_step(w, -g, lr), "uphill"),
    ("sphere_step", lambda w, g, lr: unit(w - lr * unit(tangent(w, g))), "was normalized: a small"),
    ("sphere_step", lambda w, g, lr: right_step(w, unit(g), lr), "normalized before"),
    ("sphere_step", lambda w, g, lr: right_step(w, g, 1.0), "lr is not used"),
    ("sphere_step", lambda w, g, lr: unit(w - lr * (g + (g @ w) * w)), "once more"),
    ("sphere_step", lambda w, g, lr: unit(w - lr * (g - (g @ w) * g)), "a multiple of w"),
    ("sphere_step", lambda w, g, lr: unit(w - lr * (g @ w) * w), "did not move"),
    ("sphere_step", lambda w, g, lr: unit(-lr * tangent(w, g)), "w itself was lost"),
    ("sphere_step", lambda w, g, lr: 2 * right_step(w, g, lr), "length is not 1"),
    ("sphere_step", great_circle, "great circle"),
    ("sphere_step", step_in_place, "in place"),
    ("sphere_step", w_in_place, "in place"),
    ("sphere_step", random_kick, "gradient of 0 must leave"),
    ("sphere_step", lambda w, g, lr: right_step(w, g, lr).flip(0), "not w minus lr"),
    ("report_score", reported(lambda half, x: x.mean(1), rest), "on all prompts"),
    ("report_score", reported(lambda half, x: x[:, 3:].mean(1), rest), "on the reporting half"),
    ("report_score", reported(lambda half, x: half.amax(1), rest), "largest single score"),
    ("report_score", reported(lambda half, x: half.median(1).values, rest), "highest median"),
    ("report_score", reported(lambda half, x: -half.mean(1), rest), "worst"),
    ("report_score", first_of_ties, "first in the input"),
    ("report_score", last_of_ties, "last or the largest"),
    ("report_score", sorts_the_strengths_only, "different rows"),
    ("report_score", place, "no strength of the input"),
    ("report_score", reported(of_half, lambda a, b: a.mean()), "half that chose"),
    ("report_score", reported(of_half, lambda a, b: torch.cat([a, b]).mean()), "over all prompts"),
    ("report_score", reported(of_half, lambda a, b: b.sum()), "a sum"),
    ("report_score", reported(of_half, lambda a, b: b.max()), "largest score of the reporting"),
    ("report_score", reported(of_half, lambda a, b: b.median()), "median of the reporting"),
    ("report_score", reported(of_half, lambda a, b: b.mean() + 0.1), "half's mean"),
    ("report_score", best_report, "belongs to another strength"),
    ("report_score", lambda x, s: right_report(x, s)[0], "two numbers"),
    ("report_score", cut_at(lambda n: n // 2), "with 5 prompts"),
    ("report_score", cut_at(lambda n: (n + 1) // 2), "with 7 prompts"),
    ("report_score", ties_by_the_report, "other scores in the reporting half"),
    ("win_rate", tied(0.0), "counts 0"),
    ("win_rate", tied(1.0), "counts 1"),
    ("win_rate", lambda a, b: right_rate(b, a), "sign is flipped"),
    ("win_rate", lambda a, b: a.mean() > b.mean(), "means were compared"),
    ("win_rate", lambda a, b: wins(a, b).sum() / (wins(a, b) + losses(a, b)).sum(), "left out"),
    ("win_rate", lambda a, b: (wins(a, b) - losses(a, b)).mean(), "wins minus losses"),
    ("win_rate", lambda a, b: right_rate(a, b) * len(a), "number of prompts"),
    ("win_rate", lambda a, b: right_rate(a[:, None], b), "every other"),
    ("win_rate", lambda a, b: right_rate(a.sort().values, b.sort().values), "sorted first"),
    ("win_rate", lambda a, b: ((a > b).float() + 0.5 * (a == b)).mean(), "differ by rounding"),
    ("win_rate", lambda a, b: (a > b).float().mean(), "differ by rounding"),
    (
        "win_rate",
        lambda a, b: (a > b).float().where(~a.isclose(b), torch.tensor(0.5)).mean(),
        "whatever the score",
    ),
    ("win_rate", lambda a, b: wins(a, b) + 0.5 * (1 - wins(a, b) - losses(a, b)), "per prompt"),
    ("win_rate", lambda a, b: None, "return"),
    ("win_rate", lambda a, b: right_rate(a, b) + 0.01, "not the share"),
    ("win_rate", tie_without_abs, "add up to 1"),
    ("win_rate", share_of_the_decided, "all equal must give one half"),
    ("reps_margin", lambda a, n, b, m, g: g.clamp(min=1) * (a / n - b / m), "both sides"),
    ("reps_margin", lambda a, n, b, m, g: a / n - g.clamp(min=1) * b / m, "loser is weighted"),
    ("reps_margin", lambda a, n, b, m, g: a / n - b / m, "no side"),
    ("reps_margin", lambda a, n, b, m, g: g * a / n - b / m, "not clamped"),
    ("reps_margin", lambda a, n, b, m, g: g.clamp(max=1) * a / n - b / m, "from above"),
    ("reps_margin", lambda a, n, b, m, g: g.clamp(min=0) * a / n - b / m, "clamped at 0"),
    ("reps_margin", lambda a, n, b, m, g: (g + 1) * a / n - b / m, "1 was added"),
    ("reps_margin", lambda a, n, b, m, g: right_margin(a, n, b, m, -g), "gap is flipped"),
    ("reps_margin", lambda a, n, b, m, g: right_margin(a, n, b, m, g.exp()), "no exp"),
    ("reps_margin", lambda a, n, b, m, g: g.clamp(min=1) * a - b, "are sums"),
    ("reps_margin", lambda a, n, b, m, g: right_margin(a, n, b, 1, g), "loser is not divided"),
    ("reps_margin", lambda a, n, b, m, g: right_margin(a, 1, b, m, g), "winner is not divided"),
    ("reps_margin", lambda a, n, b, m, g: right_margin(a, m, b, n, g), "tokens are swapped"),
    ("reps_margin", lambda *x: -right_margin(*x), "sign is flipped: winner"),
    ("reps_margin", lambda a, n, b, m, g: right_margin(b, m, a, n, g), "and loser are swapped"),
    ("reps_margin", lambda *x: logsigmoid(right_margin(*x)), "log-sigmoid"),
    ("reps_margin", lambda *x: -logsigmoid(right_margin(*x)), "the loss"),
    ("reps_margin", lambda *x: right_margin(*x).mean(), "were averaged"),
    ("reps_margin", lambda *x: right_margin(*x) + 1, "with c = max"),
    (
        "reps_margin",
        lambda a, n, b, m, g: right_margin(a, n.clamp(max=8), b, m, g),
        "a longer response",
    ),
    ("f1_elsewhere", lambda a, b, c, d: right_f1(c, d, c, d), "chosen on the report split"),
    (
        "f1_elsewhere",
        lambda a, b, c, d: right_f1(torch.cat([a, c]), torch.cat([b, d]), c, d),
        "chosen on both",
    ),
    ("f1_elsewhere", lambda a, b, c, d: right_f1(a, b, a, b), "F1 on the choose split"),
    ("f1_elsewhere", f1_by(f1_at, best=lowest_of_ties), "lowest threshold"),
    ("f1_elsewhere", f1_by(f1_at, report=strictly), "use >=, not >"),
    ("f1_elsewhere", f1_by(strictly, report=strictly), "in both splits"),
    ("f1_elsewhere", f1_by(accuracy), "best accuracy"),
    ("f1_elsewhere", f1_by(f1_at, report=accuracy), "this is the accuracy"),
    ("f1_elsewhere", f1_by(f1_at, report=lambda s, y, t: y[s >= t].float().mean()), "precision"),
    ("f1_elsewhere", f1_by(f1_at, report=lambda s, y, t: (s[y] >= t).float().mean()), "recall"),
    ("f1_elsewhere", nan_wins, "nan won the argmax"),
    ("f1_elsewhere", f1_by(divides_by_zero), "0 / 0"),
    ("f1_elsewhere", lambda a, b, c, d: f1_at(c, d, 0.5), "every text was claimed"),
    (
        "f1_elsewhere",
        f1_by(f1_at, report=lambda s, y, t: strictly(-s, ~y, -t)),
        "without the concept",
    ),
    ("f1_elsewhere", f1_by(f1_at, report=lambda s, y, t: t), "this is the threshold"),
    ("f1_elsewhere", one_text_at_a_time, "claimed together"),
    ("f1_elsewhere", nan_without_a_claim, "no text of the report split is claimed"),
    ("f1_elsewhere", one_without_a_claim, "F1 is 0"),
    ("f1_elsewhere", sorted_in_place, "in place"),
    ("f1_elsewhere", lambda *x: right_f1(*x) / 2, "not F1 of the report split"),
    ("f1_elsewhere", lambda a, b, c, d: c >= 1, "one number"),
]


MODULES = (checks.axbench, checks.protocol, checks.thresholds)
CHECKS = dict(chain.from_iterable(vars(module).items() for module in MODULES))
(
    test_the_right_solution_passes,
    test_a_wrong_solution_is_named,
    test_every_exercise_has_two_right_and_six_wrong_solutions,
) = both_ways(CHECKS, NAMES, RIGHT, WRONG)
