"""The exercises on preferences are proved both ways: wrong solutions are named."""

import math
from itertools import chain

import pytest
import torch
from torch.nn.functional import logsigmoid

from steerlib.core.fitting import Plan
from steerlib.methods import bipo as library
from steerlib.teaching.checks import bipo, bipo_effects, bipo_parts, bipo_training
from tests.teaching.both_ways import both_ways

MODULES = (bipo, bipo_effects, bipo_parts, bipo_training)
CHECKS = dict(chain.from_iterable(vars(module).items() for module in MODULES))
NAMES = ["preference_loss", "odd_and_even", "loss_from_parts", "response_mask", "learning_rate",
         "per_token_margin", "net_effect"]  # fmt: skip
SIGNS = torch.tensor([[1.0], [-1.0]])


# preference_loss


def right_loss(log_p, reference, beta):
    gain = log_p - reference
    return -logsigmoid(SIGNS * beta * (gain[..., 0] - gain[..., 1])).mean()


def loss_in_a_loop(log_p, reference, beta):
    total = 0.0
    for sign, rows in ((1, log_p[0]), (-1, log_p[1])):
        for (target, opposite), (target_0, opposite_0) in zip(rows, reference, strict=True):
            x = sign * beta * ((target - target_0) - (opposite - opposite_0))
            total = total + torch.nn.functional.softplus(-x)
    return total / (2 * len(reference))


def loss_of(last=lambda x: -logsigmoid(x).mean(), d=SIGNS, weight=1.0):
    """The loss with other signs, another use of the reference, or another end."""

    def found(log_p, reference, beta):
        gain = log_p - weight * reference
        return last(d * beta * (gain[..., 0] - gain[..., 1]))

    return found


def loss_in_place(log_p, reference, beta):
    log_p -= reference
    return loss_of(weight=0.0)(log_p, reference, beta)


def by_sigmoid(x):
    return -x.sigmoid().log().mean()


# odd_and_even, loss_from_parts


def right_parts(plus, minus):
    return (plus - minus) / 2, (plus + minus) / 2


def parts_by_what_is_left(plus, minus):
    odd = plus - (plus + minus) / 2
    return [odd, plus - odd]


def parts_in_place(plus, minus):
    plus += 1
    return right_parts(plus, minus)


def right_losses(odd, even, beta):
    plus, minus = -logsigmoid(beta * (odd + even)), -logsigmoid(beta * (odd - even))
    return plus, (plus + minus) / 2


def losses_by_exponentials(odd, even, beta):
    plus, minus = beta * (odd + even), beta * (odd - even)
    zero = torch.zeros_like(odd)
    both = torch.logaddexp(zero, -plus) + torch.logaddexp(zero, -minus)
    return [torch.logaddexp(zero, -plus), both / 2]


def losses(dpo=None, bipo=None):
    """One of the two losses is another function of beta odd, beta even."""

    def found(odd, even, beta):
        right = right_losses(odd, even, beta)
        o, e = beta * odd, beta * even
        return (
            right[0] if dpo is None else dpo(o, e),
            right[1] if bipo is None else bipo(o, e),
        )

    return found


def losses_in_place(odd, even, beta):
    even *= beta
    return right_losses(odd, even, beta)


def ll(x):
    return -logsigmoid(x)


# response_mask


def right_mask(lengths, starts, width):
    return torch.arange(width) >= (width - lengths + starts)[:, None]


def mask_in_a_loop(lengths, starts, width):
    found = torch.zeros(len(lengths), width, dtype=torch.bool)
    for row, (length, start) in enumerate(zip(lengths.tolist(), starts.tolist(), strict=True)):
        found[row, width - (length - start) :] = True
    return found


def mask_of(compare):
    """A mask from (places, padding, start, length), each of a shape that broadcasts."""

    def found(lengths, starts, width):
        length, start = lengths[:, None], starts[:, None]
        return compare(torch.arange(width), width - length, start, length, width)

    return found


# learning_rate


def right_rate(step, lr, warmup, total):
    if step < warmup:
        return lr * step / warmup
    return lr * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


def rate_of_the_library(step, lr, warmup, total):
    return Plan(epochs=total, lr=lr, warmup=warmup, schedule="cosine").rate(step, 1)


def rate_by_squares(step, lr, warmup, total):
    rise = torch.tensor(step / warmup if warmup else 1.0).clamp(max=1)
    done = max(step - warmup, 0) / (total - warmup)
    return lr * rise * math.cos(math.pi / 2 * done) ** 2


def rate_of(after, before=lambda step, warmup, total: step / warmup):
    """lr times other factors of (step, warmup, total)."""

    def found(step, lr, warmup, total):
        return lr * (before if step < warmup else after)(step, warmup, total)

    return found


def half(angle):
    return (1 + math.cos(angle)) / 2


def done(step, warmup, total):
    return (step - warmup) / (total - warmup)


def angle(factor):
    return rate_of(lambda *a: half(factor * done(*a)))


def whole(step, warmup, total):
    return half(math.pi * step / total)


def at_other_times(step, lr, warmup, total):
    """Right for the schedule of the paper only."""
    return right_rate(step, lr, warmup, 16_100)


# per_token_margin


def right_margin(log_p, reference, tokens):
    gain = (log_p - reference) / tokens
    return gain[..., 0] - gain[..., 1]


def margin_in_a_loop(log_p, reference, tokens):
    mean, before = log_p / tokens, reference / tokens
    rows = [[(m - b) @ torch.tensor([1.0, -1.0]) for m, b in zip(d, before, strict=True)]
            for d in mean]  # fmt: skip
    return torch.stack([torch.stack(row) for row in rows])


def margin_of_the_library(log_p, reference, tokens):
    """From the library's loss of single pairs: Delta is what its sigmoid is the logarithm of."""
    found = torch.empty(log_p.shape[:2], dtype=torch.float64)
    for sign in (0, 1):
        for row in range(len(reference)):
            given = (log_p[sign : sign + 1, row : row + 1], reference[row : row + 1])
            loss = library.preference_loss(*(x.double() for x in given), tokens[row : row + 1], 1.0)
            found[sign, row] = -torch.log(torch.expm1(loss))
    return found.float()


def divided_by(length):
    """Both responses divided by one length."""

    def found(log_p, reference, tokens):
        gain = log_p - reference
        return (gain[..., 0] - gain[..., 1]) / length(tokens)

    return found


def margin_in_place(log_p, reference, tokens):
    log_p /= tokens
    return right_margin(log_p * tokens, reference, tokens)


def margin_that_counts(log_p, reference, tokens):
    """Right for as many tokens of opposites as there are at first."""
    return right_margin(log_p, reference, tokens) * (1 + (tokens[:, 1].sum() != 32))


# net_effect


def right_effect(plus, minus, read):
    return (sum(map(read, plus)) / len(plus) - sum(map(read, minus)) / len(minus)) / 2


def effect_by_shares(plus, minus, read):
    def share(texts, reading):
        return torch.tensor([read(text) == reading for text in texts]).double().mean()

    up = share(plus, 1) - share(plus, -1)
    return (up + share(minus, -1) - share(minus, 1)) / 2


def mean(readings):
    return sum(readings) / len(readings)


def effect_of(change=lambda readings: readings, whole=lambda p, m: (p - m) / 2, pool=mean):
    """Other readings, another summary of a side, or another sum of both sides."""

    def found(plus, minus, read):
        return whole(*(pool(change([read(text) for text in side])) for side in (plus, minus)))

    return found


def unbroken(readings):
    return [reading for reading in readings if reading]


def effect_in_place(plus, minus, read):
    plus.sort()
    return right_effect(plus, minus, read)


def effect_by_words(plus, minus, read):
    return right_effect(plus, minus, bipo_effects._read)


def of_pooled(plus, minus, read):
    total = sum(map(read, plus)) - sum(map(read, minus))
    return total / (len(plus) + len(minus))


def no_effect_without_a_whole_text(plus, minus, read):
    sides = [unbroken(map(read, side)) for side in (plus, minus)]
    means = [sum(side) / len(side) if side else 0 for side in sides]
    return (means[0] - means[1]) / 2


def divides_by_whole_texts_elsewhere(plus, minus, read):
    """Only where nothing is whole, a division by zero."""
    if not any(map(read, [*plus, *minus])):
        return 0 / 0
    return right_effect(plus, minus, read)


RIGHT = [
    ("preference_loss", right_loss),
    ("preference_loss", loss_in_a_loop),
    ("preference_loss", lambda s, r, beta: library.preference_loss(s, r, None, beta)),
    ("odd_and_even", right_parts),
    ("odd_and_even", parts_by_what_is_left),
    ("loss_from_parts", right_losses),
    ("loss_from_parts", losses_by_exponentials),
    ("response_mask", right_mask),
    ("response_mask", mask_in_a_loop),
    ("learning_rate", right_rate),
    ("learning_rate", rate_of_the_library),
    ("learning_rate", rate_by_squares),
    ("per_token_margin", right_margin),
    ("per_token_margin", margin_in_a_loop),
    ("per_token_margin", margin_of_the_library),
    ("net_effect", right_effect),
    ("net_effect", effect_by_shares),
]
WRONG = [
    ("preference_loss", loss_of(d=torch.ones(2, 1)), "for -v the sign in front of Delta"),
    ("preference_loss", loss_of(d=-SIGNS), "target and opposite are exchanged"),
    ("preference_loss", lambda s, r, b: right_loss(s.flip(-1), r.flip(-1), b), "are exchanged"),
    ("preference_loss", loss_of(weight=0.0), "the reference is not used"),
    ("preference_loss", loss_of(weight=-1.0), "the reference is added"),
    ("preference_loss", loss_of(lambda x: -logsigmoid(x).sum()), "sum over pairs and signs"),
    ("preference_loss", loss_of(lambda x: -logsigmoid(x).sum(1).mean()), "sum over the pairs"),
    ("preference_loss", loss_of(lambda x: -logsigmoid(x).sum(0).mean()), "two signs are added"),
    ("preference_loss", loss_of(lambda x: -x.sigmoid().mean()), "minus the mean of sigmoid"),
    ("preference_loss", loss_of(lambda x: x.sigmoid().mean()), "this is the mean of sigmoid"),
    ("preference_loss", loss_of(lambda x: (-x).sigmoid().mean()), "this is 1 - sigmoid"),
    ("preference_loss", loss_of(lambda x: -x.sigmoid().mean().log()), "logarithm of a mean"),
    ("preference_loss", loss_of(lambda x: logsigmoid(x).mean()), "sign of the loss is flipped"),
    ("preference_loss", lambda s, r, b: right_loss(s, r, 1.0), "beta is not used"),
    ("preference_loss", lambda s, r, b: right_loss(s, r, 1 / b), "divides by beta"),
    ("preference_loss", lambda s, r, b: b * right_loss(s, r, 1.0), "outside the logarithm"),
    ("preference_loss", loss_of(lambda x: -logsigmoid(x[0]).mean()), "only v is asked"),
    ("preference_loss", loss_of(lambda x: -logsigmoid(x[1]).mean()), "only -v is asked"),
    ("preference_loss", loss_of(lambda x: -logsigmoid(x.mean(0)).mean()), "over the signs before"),
    ("preference_loss", loss_of(lambda x: -logsigmoid(x.mean(1)).mean()), "over the pairs before"),
    ("preference_loss", loss_of(lambda x: -logsigmoid(x.mean())), "averaged over all before"),
    (
        "preference_loss",
        loss_of(lambda x: 1 - logsigmoid(x).mean()),
        r"ln 2 = 0\.693; this gives 1",
    ),
    (
        "preference_loss",
        loss_of(lambda x: (-logsigmoid(x).mean() + math.log(2)) / 2),
        "this is not the mean, over pairs",
    ),
    ("preference_loss", loss_of(by_sigmoid), "with large margins"),
    (
        "preference_loss",
        loss_of(lambda x: -(x.sigmoid() + 1e-9).log().mean()),
        "not finite, or was clipped",
    ),
    ("preference_loss", lambda *a: right_loss(*a).item(), "no gradient reaches log_p"),
    ("preference_loss", lambda s, r, b: right_loss(s.detach(), r, b), "no gradient reaches log_p"),
    ("preference_loss", loss_of(lambda x: -logsigmoid(x).mean(1)), "a mean missing"),
    ("preference_loss", loss_in_place, "in place"),
    ("preference_loss", lambda *a: ..., "an ellipsis"),
    ("odd_and_even", lambda p, m: right_parts(p, m)[::-1], "the two are exchanged"),
    ("odd_and_even", lambda p, m: (p - m, p + m), "twice too large"),
    ("odd_and_even", lambda p, m: right_parts(m, p), "sign of the odd part is flipped"),
    ("odd_and_even", lambda p, m: right_parts(-m, -p), "sign of the even part is flipped"),
    ("odd_and_even", lambda p, m: (p, m), "themselves"),
    ("odd_and_even", lambda p, m: ((p - m) / 2, p + m), "do not add up"),
    ("odd_and_even", lambda p, m: (p / 2, p / 2), r"even - odd is not Delta\(-v\)"),
    ("odd_and_even", lambda p, m: (p - m) / 2, "returns two tensors"),
    ("odd_and_even", parts_in_place, "in place"),
    ("loss_from_parts", lambda *a: right_losses(*a)[::-1], "exchanged: return DPO's loss first"),
    ("loss_from_parts", losses(dpo=lambda o, e: ll(o - e)), "DPO's loss uses odd - even"),
    ("loss_from_parts", losses(dpo=lambda o, e: ll(o)), "DPO's loss uses the odd part only"),
    ("loss_from_parts", lambda o, e, b: right_losses(o, e, 1.0), "lack beta"),
    ("loss_from_parts", losses(dpo=lambda o, e: (o + e).sigmoid()), "the sigmoid itself"),
    ("loss_from_parts", losses(dpo=lambda o, e: -ll(o + e)), "sign of DPO's loss"),
    ("loss_from_parts", losses(dpo=lambda o, e: ll(o + 2 * e)), "the first is not"),
    (
        "loss_from_parts",
        losses(bipo=lambda o, e: (ll(o + e) + ll(e - o)) / 2),
        "for -v this uses .* = even - odd",
    ),
    ("loss_from_parts", losses(bipo=lambda o, e: ll(o + e)), "DPO's loss again"),
    ("loss_from_parts", losses(bipo=lambda o, e: ll(o - e)), "loss of -v alone"),
    ("loss_from_parts", losses(bipo=lambda o, e: ll(o + e) + ll(o - e)), "are added up"),
    ("loss_from_parts", losses(bipo=lambda o, e: ll(o)), "even is left out"),
    ("loss_from_parts", losses(bipo=lambda o, e: ll(o) + e.square() / 8), "the second is not"),
    (
        "loss_from_parts",
        losses(dpo=lambda o, e: -(o + e).sigmoid().log()),
        "large even part a loss is not finite",
    ),
    (
        "loss_from_parts",
        losses(dpo=lambda o, e: ll(o + e.clamp(max=100)) + (e - 100).relu()),
        "DPO's loss must fall",
    ),
    (
        "loss_from_parts",
        losses(bipo=lambda o, e: (ll((o + e).clamp(min=-100)) + ll(o - e)) / 2),
        "the same for even and -even",
    ),
    (
        "loss_from_parts",
        losses(bipo=lambda o, e: (ll(o + e) + ll(o - e)) / 2 - (e.abs() - 50).relu()),
        "smallest where even is 0",
    ),
    ("loss_from_parts", lambda *a: [x.mean() for x in right_losses(*a)], "one number for each"),
    ("loss_from_parts", losses_in_place, "in place"),
    (
        "response_mask",
        mask_of(lambda x, pad, start, n, w: (x >= start) & (x < n)),
        "padding on the right",
    ),
    ("response_mask", mask_of(lambda x, pad, start, n, w: x >= start), "padding is forgotten"),
    (
        "response_mask",
        mask_of(lambda x, pad, start, n, w: x >= n.max() - n + start),
        "not the longest length",
    ),
    (
        "response_mask",
        mask_of(lambda x, pad, start, n, w: (x >= pad + start - 1) & (x < w - 1)),
        "shifted by one",
    ),
    (
        "response_mask",
        mask_of(lambda x, pad, start, n, w: x >= pad + start - 1),
        "last token of the prompt is included",
    ),
    (
        "response_mask",
        mask_of(lambda x, pad, start, n, w: (x >= pad + start) & (x < w - 1)),
        "end of the turn is dropped",
    ),
    (
        "response_mask",
        mask_of(lambda x, pad, start, n, w: x > pad + start),
        "first token of the response is dropped",
    ),
    ("response_mask", mask_of(lambda x, pad, start, n, w: x >= pad), "the prompt is counted"),
    (
        "response_mask",
        mask_of(lambda x, pad, start, n, w: (x >= pad) & (x < pad + start)),
        "this is the prompt",
    ),
    ("response_mask", lambda *a: ~right_mask(*a), "inverted"),
    ("response_mask", mask_of(lambda x, pad, start, n, w: x >= pad + 2), "not have as many True"),
    (
        "response_mask",
        mask_of(lambda x, pad, start, n, w: x < n - start),
        "must be the last lengths - starts",
    ),
    (
        "response_mask",
        mask_of(lambda x, pad, start, n, w: (x >= pad + start) & (pad > 0)),
        "whose longest row has no padding",
    ),
    ("response_mask", lambda *a: right_mask(*a).float(), "return booleans"),
    ("response_mask", lambda *a: right_mask(*a)[:, 1:], "shape"),
    ("response_mask", lambda n, s, w: right_mask(n.sub_(s), 0 * s, w), "in place"),
    (
        "learning_rate",
        lambda step, lr, warmup, total: right_rate(min(step, 3220), lr, warmup, 20 * 161),
        "as long as a run of 20 epochs: its rate is 0",
    ),
    (
        "learning_rate",
        lambda step, lr, warmup, total: right_rate(step, lr, warmup, total // 5),
        "and then the cosine rises again",
    ),
    ("learning_rate", rate_of(whole, whole), "there is no warm-up"),
    (
        "learning_rate",
        rate_of(lambda *a: half(math.pi * done(*a)), lambda *a: 1.0),
        "no warm-up: .*, not lr",
    ),
    ("learning_rate", rate_of(whole), "the cosine starts at step 0"),
    (
        "learning_rate",
        rate_of(whole, lambda s, w, t: whole(s, w, t) * s / w),
        "the cosine starts at step 0",
    ),
    (
        "learning_rate",
        rate_of(lambda s, w, t: half(math.pi * (s - w) / t)),
        "does not end at 0",
    ),
    ("learning_rate", angle(1.0), "lacks pi"),
    ("learning_rate", angle(180.0), "180 degrees"),
    ("learning_rate", angle(math.radians(math.pi)), "degrees were made"),
    ("learning_rate", angle(2 * math.pi), "a whole period"),
    ("learning_rate", angle(math.pi / 2), "a quarter of a period"),
    ("learning_rate", rate_of(lambda *a: math.cos(math.pi * done(*a))), "cos alone"),
    ("learning_rate", rate_of(lambda *a: 2 * half(math.pi * done(*a))), "halve it"),
    ("learning_rate", rate_of(lambda *a: 1 - done(*a)), "falls on a line"),
    ("learning_rate", rate_of(lambda *a: 1.0), "after the warm-up the rate stays"),
    ("learning_rate", lambda s, lr, *a: right_rate(s, 1.0, *a), "lr is not used"),
    (
        "learning_rate",
        rate_of(lambda *a: half(math.pi * done(*a)), lambda s, w, t: (s + 1) / w),
        "at step 0 the rate is 0",
    ),
    ("learning_rate", rate_of(lambda *a: 0.9 * half(math.pi * done(*a))), "its peak"),
    ("learning_rate", rate_of(lambda *a: half(math.pi * done(*a)) ** 2), "leave 0.909 of lr"),
    (
        "learning_rate",
        rate_of(
            lambda *a: half(math.pi * done(*a)),
            lambda s, w, t: (s / w) ** 2,
        ),
        "this is not lr step / warmup",
    ),
    ("learning_rate", at_other_times, "another schedule is wrong"),
    (
        "learning_rate",
        lambda step, lr, warmup, total: (
            lr * min(step / warmup, 1) * half(math.pi * max(done(step, warmup, total), 0))
        ),
        "a division by zero, with warmup = 0",
    ),
    (
        "learning_rate",
        lambda step, *a: right_rate(step, *a) if step else 0.0,
        "the first step has the full rate",
    ),
    ("learning_rate", lambda *a: None, "expected one number"),
    ("per_token_margin", divided_by(lambda tokens: 1), "tokens is not used"),
    ("per_token_margin", divided_by(lambda t: t[:, 0]), "number of the target's tokens"),
    ("per_token_margin", divided_by(lambda t: t[:, 1]), "number of the opposite's tokens"),
    ("per_token_margin", divided_by(lambda t: t.sum(1)), "sum of the two lengths"),
    ("per_token_margin", divided_by(lambda t: t.float().mean(1)), "mean of the two lengths"),
    ("per_token_margin", divided_by(lambda t: t.amax(1)), "the longer length"),
    ("per_token_margin", lambda s, r, t: right_margin(s, r, t.flip(1)), "length of the other"),
    ("per_token_margin", lambda s, r, t: right_margin(s, r * t, t), "only log_p is divided"),
    ("per_token_margin", lambda s, r, t: right_margin(s * t, r, t), "only the reference is"),
    ("per_token_margin", lambda s, r, t: right_margin(s, 0 * r, t), "the reference is not used"),
    ("per_token_margin", lambda s, r, t: right_margin(s, r, 1 / t), "this multiplies by tokens"),
    ("per_token_margin", lambda *a: -right_margin(*a), "target and opposite are exchanged"),
    ("per_token_margin", lambda s, r, t: ((s - r) / t).sum(-1), "the two gains are added up"),
    ("per_token_margin", lambda *a: SIGNS * right_margin(*a), "belongs to the loss"),
    (
        "per_token_margin",
        divided_by(lambda t: t.prod(1).sqrt()),
        "targets that say their tokens twice",
    ),
    ("per_token_margin", margin_that_counts, "opposites that say their tokens twice"),
    ("per_token_margin", lambda *a: 2 * right_margin(*a), "this is not the gain per token"),
    ("per_token_margin", margin_in_place, "in place"),
    ("per_token_margin", lambda *a: right_margin(*a).mean(0), "shape"),
    ("net_effect", effect_of(unbroken), "broken texts are dropped: they count as 0"),
    ("net_effect", no_effect_without_a_whole_text, "broken texts are dropped: they count as 0"),
    ("net_effect", effect_of(unbroken, lambda p, m: p - m), "dropped, and the half is missing"),
    (
        "net_effect",
        lambda p, m, read: (mean(unbroken(map(read, p))) - mean([*map(read, m)])) / 2,
        "broken texts under v are dropped",
    ),
    (
        "net_effect",
        lambda p, m, read: (mean([*map(read, p)]) - mean(unbroken(map(read, m)))) / 2,
        "broken texts under -v are dropped",
    ),
    ("net_effect", effect_of(lambda x: [r or -1 for r in x]), "count like those that read -1"),
    ("net_effect", effect_of(lambda x: [r or 1 for r in x]), "count like those that read 1"),
    ("net_effect", effect_of(whole=lambda p, m: p - m), "the half is missing"),
    ("net_effect", effect_of(whole=lambda p, m: p), "texts under -v are forgotten"),
    ("net_effect", effect_of(whole=lambda p, m: p / 2), "forgotten, and the rest is halved"),
    ("net_effect", effect_of(whole=lambda p, m: -m), "texts under v are forgotten"),
    ("net_effect", effect_of(whole=lambda p, m: (p + m) / 2), "two sides are added up"),
    ("net_effect", effect_of(pool=sum), "these are sums"),
    ("net_effect", of_pooled, "divided by the number of all texts"),
    (
        "net_effect",
        effect_of(lambda x: [r > 0 for r in x], lambda p, m: p - m),
        "difference of shares",
    ),
    ("net_effect", effect_of(lambda x: [abs(r) for r in x]), "mean of sizes"),
    ("net_effect", lambda p, m, read: right_effect(m, p, read), "v and -v are exchanged"),
    ("net_effect", lambda *a: abs(right_effect(*a)), "an absolute value was taken"),
    (
        "net_effect",
        effect_of(whole=lambda p, m: (abs(p) + abs(m)) / 2),
        "an absolute value was taken",
    ),
    ("net_effect", lambda *a: 0.9 * right_effect(*a), "this is not half of the mean reading"),
    ("net_effect", divides_by_whole_texts_elsewhere, "this divides by 0"),
    (
        "net_effect",
        lambda p, m, read: right_effect(p, m, read) + 0.1 * (not any(map(read, p))),
        "if all texts are broken, the effect is 0",
    ),
    ("net_effect", lambda *a: min(right_effect(*a), 0.9), "the largest effect"),
    ("net_effect", effect_by_words, "texts are read by `read`"),
    ("net_effect", effect_in_place, "a list of texts was changed"),
    ("net_effect", lambda *a: None, "expected one number"),
]


(
    test_the_right_solution_passes,
    test_a_wrong_solution_is_named,
    test_every_exercise_has_two_right_and_six_wrong_solutions,
) = both_ways(CHECKS, NAMES, RIGHT, WRONG)


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_is_called_a_stub(name):
    def stub(*_):
        raise NotImplementedError

    with pytest.raises(AssertionError, match="still the stub"):
        CHECKS[f"test_{name}"](stub)
