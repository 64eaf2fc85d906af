"""Every exercise of the chapter on scaling is proved both ways: right passes, wrong is named."""

import math
from itertools import chain

import torch
from torch.nn.functional import kl_div, layer_norm, margin_ranking_loss, normalize, softshrink

from steerlib.core.answers import other_kl
from steerlib.core.edits import Scaling
from steerlib.core.proximal import shrink_groups
from steerlib.core.where import Where
from steerlib.teaching.checks import flips, objective, scaling, steps
from tests.teaching.both_ways import both_ways

MODULES = (scaling, objective, steps, flips)
CHECKS = dict(chain.from_iterable(vars(module).items() for module in MODULES))

# scale_positions


def right_scale(h, alpha, beta):
    factor = torch.ones(h.shape[1])
    factor[: len(alpha)] += beta * alpha
    return factor[:, None] * h


def scale_in_a_loop(h, alpha, beta):
    rows = [(1 + beta * a) * h[:, i] for i, a in enumerate(alpha.tolist())]
    return torch.stack([*rows, *h.unbind(1)[len(alpha) :]], 1)


def padded(h, alpha):
    return torch.cat([alpha, torch.zeros(h.shape[1] - len(alpha))])[:, None]


def scale_of_the_library(h, alpha, beta):
    where = Where(None, None, h.shape[:2], 0, None, None, None, h.device)
    return h + beta * Scaling(alpha).delta(h, where)


def scaled_by(factor):
    """The factor of each position, from its alpha and beta."""
    return lambda h, alpha, beta: h * factor(padded(h, alpha), beta)


def scale_in_place(h, alpha, beta):
    h[:, : len(alpha)] *= 1 + beta * alpha[:, None]
    return h


def at_the_end(h, alpha, beta):
    factor = torch.ones(h.shape[1])
    factor[-len(alpha) :] += beta * alpha
    return factor[:, None] * h


def zero_beyond(h, alpha, beta):
    return torch.cat([right_scale(h, alpha, beta)[:, : len(alpha)], 0 * h[:, len(alpha) :]], 1)


def last_alpha_beyond(h, alpha, beta):
    index = torch.arange(h.shape[1]).clamp(max=len(alpha) - 1)
    return h * (1 + beta * alpha[index][:, None])


def only_whole_prompts(h, alpha, beta):
    return right_scale(h, alpha, beta if len(alpha) == h.shape[1] else 0.0)


def cut_beyond(h, alpha, beta):
    return right_scale(h, alpha, beta)[:, : len(alpha)]


# effectiveness


def right_effectiveness(delta_plus, delta_minus, m):
    return (torch.relu(m - delta_plus) + torch.relu(m + delta_minus)).mean()


def effectiveness_by_ranking(delta_plus, delta_minus, m):
    zero, one = torch.zeros_like(delta_plus), torch.ones_like(delta_plus)
    up = margin_ranking_loss(delta_plus, zero, one, margin=m)
    return up + margin_ranking_loss(zero, delta_minus, one, margin=m)


def effectiveness_by_clamp(delta_plus, delta_minus, m):
    reached = torch.stack([delta_plus, -delta_minus])
    return 2 * (m - reached.clamp(max=m)).mean()


def short(plus, minus, m):
    return torch.cat([m - plus, m + minus]).relu()


def mean_of_failing(plus, minus, m):
    each = torch.relu(m - plus) + torch.relu(m + minus)
    return each[each > 0].sum() / (each > 0).sum().clamp(min=1)


def mean_of_failing_each(plus, minus, m):
    sides = torch.relu(m - plus), torch.relu(m + minus)
    return sum(x.sum() / (x > 0).sum().clamp(min=1) for x in sides)


def uneven(plus, minus, m):
    return (1.5 * torch.relu(m - plus) + 0.5 * torch.relu(m + minus)).mean()


def with_a_product(plus, minus, m):
    """Right where both margins are equal, as without an edit."""
    both = torch.relu(m - plus) * torch.relu(m + minus)
    return right_effectiveness(plus, minus, m) + (both * (plus - minus).square()).mean()


# other_kl


def right_other_kl(logits_0, logits, c, w):
    answers = torch.stack([c, w], dim=1)
    p, q = (
        x.float().scatter(1, answers, -torch.inf).log_softmax(1).scatter(1, answers, 0.0)
        for x in (logits_0, logits)
    )
    return (p.exp().scatter(1, answers, 0.0) * (p - q)).sum(1)


def other_kl_without_columns(logits_0, logits, c, w):
    tokens = torch.arange(logits.shape[1])
    keep = (tokens != c[:, None]) & (tokens != w[:, None])
    p, q = (x[keep].view(len(c), -1).float().log_softmax(1) for x in (logits_0, logits))
    return kl_div(q, p, log_target=True, reduction="none").sum(1)


def other_kl_in_a_loop(logits_0, logits, c, w):
    found = []
    for i, answers in enumerate(zip(c.tolist(), w.tolist(), strict=True)):
        rest = [token for token in range(logits.shape[1]) if token not in answers]
        p, q = (x[i, rest].double().softmax(0) for x in (logits_0, logits))
        found.append((p * (p / q).log()).sum())
    return torch.stack(found).float()


def masked(logits, *answers, value=-math.inf):
    return logits.float().scatter(1, torch.stack(answers, 1), value)


def kl(p, q):
    return torch.where(p > -math.inf, p.exp() * (p - q), 0.0).sum(1)


def kl_of(of_0, of=None):
    """KL of log-probabilities that are made by `of_0` and `of` from logits, c and w."""
    of = of or of_0
    return lambda logits_0, logits, c, w: kl(of_0(logits_0, c, w), of(logits, c, w))


def others(logits, c, w):
    return masked(logits, c, w).log_softmax(1)


def whole(logits, c, w):
    return logits.float().log_softmax(1)


def not_renormalized(logits, c, w):
    return masked(whole(logits, c, w), c, w)


def of_the_first(logits, c, w):
    return others(logits, c[:1].expand_as(c), w[:1].expand_as(w))


def all_columns(logits, c, w):
    logits = logits.float().clone()
    logits[:, c] = -math.inf
    logits[:, w] = -math.inf
    return logits.log_softmax(1)


def by_subtraction(logits, c, w):
    log_p = whole(logits, c, w)
    answers = log_p.gather(1, torch.stack([c, w], 1)).exp().sum(1, keepdim=True)
    return masked(log_p - torch.log1p(-answers), c, w)


def plain_product(logits_0, logits, c, w):
    p, q = others(logits_0, c, w), others(logits, c, w)
    return (p.exp() * (p - q)).sum(1)


def masked_in_place(logits_0, logits, c, w):
    rows = torch.arange(len(c))
    for x in (logits_0, logits):
        x[rows, c] = x[rows, w] = -math.inf
    return kl(logits_0.log_softmax(1), logits.log_softmax(1))


def in_half(logits_0, logits, c, w):
    tokens = torch.arange(logits.shape[1])
    keep = (tokens != c[:, None]) & (tokens != w[:, None])
    p, q = (x[keep].view(len(c), -1).log_softmax(1) for x in (logits_0, logits))
    return (p.exp() * (p - q)).sum(1)


def with_the_mean(logits_0, logits, c, w):
    return right_other_kl(logits_0, logits, c, w) + 0.01 * (logits - logits_0).mean(1)


def with_an_answer(logits_0, logits, c, w):
    moved = logits - logits_0
    moved = moved - moved.mean(1, keepdim=True)
    return right_other_kl(logits_0, logits, c, w) + 0.01 * moved.gather(1, c[:, None])[:, 0]


# first_gradient


def right_gradient(h, gradient):
    return (h * gradient).sum(-1).mean(0)


def gradient_by_einsum(h, gradient):
    return torch.einsum("bpd,bpd->p", h, gradient) / len(h)


def gradient_in_a_loop(h, gradient):
    found = torch.zeros(h.shape[1])
    for x, g in zip(h, gradient, strict=True):
        found += torch.tensor([float(a @ b) for a, b in zip(x, g, strict=True)]) / len(h)
    return found


# prox


def right_prox(alpha, step, lam):
    return alpha.sign() * torch.relu(alpha.abs() - step * lam)


def prox_by_clamp(alpha, step, lam):
    most = step * lam
    return alpha - torch.minimum(torch.maximum(alpha, -most), most)


def prox_by_softshrink(alpha, step, lam):
    each = zip(alpha, step.tolist(), strict=True)
    return torch.stack([softshrink(a, s * lam) for a, s in each])


def prox_of_the_library(alpha, step, lam):
    return shrink_groups(alpha[:, None], step[:, None], lam)[:, 0]


def shrunk_by_a_quotient(alpha, step, lam):
    return alpha * (1 - step * lam / alpha.abs()).clamp(min=0)


def nearly_zero(alpha, step, lam):
    found = right_prox(alpha, step, lam)
    return found.where(found != 0, 1e-4 * alpha)


def prox_in_place(alpha, step, lam):
    return alpha.copy_(right_prox(alpha, step, lam))


def two_sided(alpha, step, lam):
    hard = alpha * (alpha.abs() > step * lam)
    return right_prox(alpha, step, lam).where(alpha > 0, hard)


def lam_above(alpha, step, lam):
    return right_prox(alpha, step, max(lam, 0.1))


def of_another_power(alpha, step, lam):
    return right_prox(alpha, step.square() * 4, lam).where(alpha.abs() > step * lam, 0 * alpha)


# flip_shares


def right_shares(delta_plus, delta_minus):
    up, down = (delta_plus > 0).float(), (delta_minus < 0).float()
    return (up.mean() + down.mean()) / 2, (up * down).mean()


def shares_by_parts(delta_plus, delta_minus):
    even, odd = (delta_plus + delta_minus) / 2, (delta_plus - delta_minus) / 2
    up, down = odd > -even, odd > even
    one_way = torch.cat([up, down]).double().mean().item()
    return one_way, (odd > even.abs()).double().mean().item()


def shares_in_a_loop(delta_plus, delta_minus):
    pairs = list(zip(delta_plus.tolist(), delta_minus.tolist(), strict=True))
    one = sum((p > 0) + (m < 0) for p, m in pairs) / (2 * len(pairs))
    return one, sum(p > 0 > m for p, m in pairs) / len(pairs)


def shares_with(second):
    """The right average, and another second number."""
    return lambda plus, minus: (
        right_shares(plus, minus)[0],
        torch.as_tensor(second(plus, minus)).double().mean(),
    )


def average_with(first):
    return lambda plus, minus: (first(plus, minus), right_shares(plus, minus)[1])


def multiplied(plus, minus):
    return (plus > 0).double().mean() * (minus < 0).double().mean()


def weighted(plus, minus):
    return ((plus > 0) & (minus < 0)) * plus.clamp(max=1)


def of_those_that_flip(plus, minus):
    flipped = (plus > 0) | (minus < 0)
    return ((plus > 0) & (minus < 0)).sum() / flipped.sum()


# dyn_alpha


def right_factor(h, u, b):
    length = h.norm(dim=-1).clamp(min=1e-12)
    return torch.tanh(h @ u / length + b)


def factor_by_normalize(h, u, b):
    return torch.tanh(normalize(h, dim=-1) @ u + b)


def factor_in_a_loop(h, u, b):
    def one(x):
        length = math.sqrt(sum(v * v for v in x))
        dot = sum(v * w for v, w in zip(x, u.tolist(), strict=True))
        return math.tanh((dot / length if length else 0.0) + b)

    return torch.tensor([[one(x) for x in text] for text in h.tolist()])


def over(dim):
    return lambda h, u, b: torch.tanh(normalize(h, dim=dim) @ u + b)


def factor_in_place(h, u, b):
    h /= h.norm(dim=-1, keepdim=True)
    return torch.tanh(h @ u + b)


def cosine(h, u):
    return normalize(h, dim=-1) @ u


def bounded_twice(h, u, b):
    return 1.001 * right_factor(h, u, b).clamp(-0.999, 0.999)


RIGHT = [
    ("scale_positions", right_scale),
    ("scale_positions", scale_in_a_loop),
    ("scale_positions", scale_of_the_library),
    ("scale_positions", lambda h, alpha, beta: torch.addcmul(h, beta * padded(h, alpha), h)),
    ("effectiveness", right_effectiveness),
    ("effectiveness", effectiveness_by_ranking),
    ("effectiveness", effectiveness_by_clamp),
    ("other_kl", right_other_kl),
    ("other_kl", other_kl_without_columns),
    ("other_kl", other_kl_in_a_loop),
    ("other_kl", kl_of(others)),
    ("other_kl", lambda a, b, c, w: other_kl(a.float(), b.float(), c, w)),
    ("first_gradient", right_gradient),
    ("first_gradient", gradient_by_einsum),
    ("first_gradient", gradient_in_a_loop),
    ("prox", right_prox),
    ("prox", prox_by_clamp),
    ("prox", prox_by_softshrink),
    ("prox", prox_of_the_library),
    ("flip_shares", right_shares),
    ("flip_shares", shares_by_parts),
    ("flip_shares", shares_in_a_loop),
    ("dyn_alpha", right_factor),
    ("dyn_alpha", factor_by_normalize),
    ("dyn_alpha", factor_in_a_loop),
]
NAMES = sorted({name for name, _ in RIGHT})
WRONG = [
    ("scale_positions", lambda h, a, b: h + b * padded(h, a), "was added"),
    ("scale_positions", scaled_by(lambda a, b: b * a), "only the change"),
    ("scale_positions", scaled_by(lambda a, b: 1 + a), "beta is not used"),
    ("scale_positions", scaled_by(lambda a, b: b * (1 + a)), "multiplies the 1"),
    ("scale_positions", scaled_by(lambda a, b: 1 - b * a), "sign is flipped"),
    ("scale_positions", lambda h, a, b: h * (1 + b * a), "to the coordinates"),
    ("scale_positions", lambda h, a, b: h * (1 + b * a[:, None, None]), "to the prompts"),
    ("scale_positions", lambda h, a, b: h * (1 + b * a.mean()), "one factor was used"),
    ("scale_positions", scaled_by(lambda a, b: (b * a).exp()), "without exp"),
    ("scale_positions", scaled_by(lambda a, b: (1 + b * a).clamp(min=0)), "clamp"),
    ("scale_positions", scaled_by(lambda a, b: (1 + b * a).abs()), "size of the factor"),
    ("scale_positions", scaled_by(lambda a, b: 1 + b * a + 0.1 * (b == 0)), "strength 0"),
    ("scale_positions", scaled_by(lambda a, b: 1 + b * a + b * b), "average to h"),
    ("scale_positions", scaled_by(lambda a, b: 1 + 2 * b * a), "not \\(1 \\+ beta alpha\\) h"),
    ("scale_positions", lambda h, a, b: h * (1 + b * a[:, None]), "may be shorter"),
    ("scale_positions", at_the_end, "aligned at the end"),
    ("scale_positions", zero_beyond, "were set to 0"),
    ("scale_positions", last_alpha_beyond, "end of alpha were changed"),
    ("scale_positions", cut_beyond, r"shape \(2, 3, 3\)"),
    ("scale_positions", scale_in_place, "in place"),
    ("scale_positions", only_whole_prompts, "first positions are no longer"),
    ("scale_positions", lambda h, a, b: None, "return"),
    ("effectiveness", lambda p, q, m: torch.relu(m - p).mean(), "direction -1 is missing"),
    ("effectiveness", lambda p, q, m: torch.relu(m + q).mean(), "direction \\+1 is missing"),
    ("effectiveness", lambda p, q, m: right_effectiveness(p, -q, m), "delta_minus is flipped"),
    ("effectiveness", lambda p, q, m: right_effectiveness(-p, q, m), "delta_plus is flipped"),
    ("effectiveness", lambda p, q, m: right_effectiveness(-p, -q, m), "both signs"),
    ("effectiveness", lambda p, q, m: (2 * m - p + q).mean(), "relu is missing"),
    (
        "effectiveness",
        lambda p, q, m: torch.relu(2 * m - p + q).mean(),
        "relu was taken of the sum",
    ),
    (
        "effectiveness",
        lambda p, q, m: torch.relu(m - p.mean()) + torch.relu(m + q.mean()),
        "relu was taken of the mean",
    ),
    ("effectiveness", lambda p, q, m: right_effectiveness(p, q, 0), "m is not used"),
    ("effectiveness", lambda p, q, m: right_effectiveness(p, q, 1), "m is fixed"),
    ("effectiveness", lambda p, q, m: (torch.relu(m - p) + torch.relu(q)).mean(), "one direction"),
    ("effectiveness", lambda p, q, m: short(p, q, m).mean(), "directions were averaged"),
    (
        "effectiveness",
        lambda p, q, m: torch.relu(torch.maximum(m - p, m + q)).mean(),
        "only the worse",
    ),
    ("effectiveness", lambda p, q, m: short(p, q, m).sum(), "the sum over"),
    ("effectiveness", mean_of_failing, "over the prompts that fail"),
    ("effectiveness", mean_of_failing_each, "each direction is over those"),
    ("effectiveness", lambda p, q, m: 2 * short(p, q, m).square().mean(), "squared"),
    ("effectiveness", lambda p, q, m: 2 * (short(p, q, m) > 0).float().mean(), "by how much"),
    ("effectiveness", lambda p, q, m: -right_effectiveness(p, q, m), "sign is flipped"),
    ("effectiveness", lambda p, q, m: torch.relu(m - p) + torch.relu(m + q), "per prompt"),
    ("effectiveness", lambda p, q, m: right_effectiveness(p, q, m).item(), "lost its gradient"),
    ("effectiveness", lambda p, q, m: right_effectiveness(p, q, m) + 0.1, "are met in both"),
    ("effectiveness", uneven, "in each other's place"),
    ("effectiveness", lambda p, q, m: 1.1 * right_effectiveness(p, q, m), "without an edit"),
    ("effectiveness", with_a_product, "not the mean of relu"),
    ("other_kl", kl_of(whole), "left in; remove c and w"),
    ("other_kl", kl_of(not_renormalized, whole), "were not renormalized"),
    ("other_kl", kl_of(not_renormalized), "were not renormalized"),
    ("other_kl", kl_of(others, whole), "only the first was"),
    ("other_kl", kl_of(not_renormalized, others), "only the second was"),
    ("other_kl", lambda a, b, c, w: right_other_kl(b, a, c, w), "order is reversed"),
    (
        "other_kl",
        lambda a, b, c, w: (right_other_kl(a, b, c, w) + right_other_kl(b, a, c, w)) / 2,
        "two orders were averaged",
    ),
    ("other_kl", kl_of(of_the_first), "same columns"),
    ("other_kl", kl_of(all_columns), "answers of all prompts"),
    ("other_kl", kl_of(lambda x, c, w: masked(x, c).log_softmax(1)), "w was left in"),
    ("other_kl", kl_of(lambda x, c, w: masked(x, w).log_softmax(1)), "c was left in"),
    ("other_kl", kl_of(lambda x, c, w: masked(x, c, w, value=0.0).log_softmax(1)), "set to 0"),
    ("other_kl", lambda *x: right_other_kl(*x) / math.log(2), "in bits"),
    (
        "other_kl",
        lambda a, b, c, w: -(others(a, c, w).exp() * others(b, c, w)).nan_to_num().sum(1),
        "cross-entropy",
    ),
    ("other_kl", lambda a, b, c, w: right_other_kl(a, b, c, w) / a.shape[1], "over the tokens"),
    ("other_kl", lambda a, b, c, w: right_other_kl(a, b, c, w) / 6, "over the other tokens"),
    ("other_kl", lambda *x: -right_other_kl(*x), "sign is flipped"),
    ("other_kl", plain_product, "not finite"),
    ("other_kl", masked_in_place, "in place"),
    ("other_kl", lambda *x: right_other_kl(*x).mean(), "were merged"),
    ("other_kl", kl_of(by_subtraction), "is rounding"),
    ("other_kl", in_half, "half precision"),
    ("other_kl", lambda *x: right_other_kl(*x) + 0.01, "the same logits twice"),
    ("other_kl", with_the_mean, "added to all logits"),
    ("other_kl", with_an_answer, "added to the logits of c"),
    ("other_kl", lambda *x: 1.1 * right_other_kl(*x), "not the KL"),
    ("first_gradient", lambda h, g: (h.norm(dim=-1) * g.norm(dim=-1)).mean(0), "lengths were"),
    ("first_gradient", lambda h, g: h * g, "sum over d, then"),
    ("first_gradient", lambda h, g: (h * g).mean(0), "so sum over d"),
    ("first_gradient", lambda h, g: (h * g).sum(-1), "per prompt and position"),
    ("first_gradient", lambda h, g: (h * g).sum((1, 2)), "one number per prompt;"),
    ("first_gradient", lambda h, g: (h * g).sum(1).mean(0), "one number per coordinate; there"),
    ("first_gradient", lambda h, g: (h * g).sum(), "positions were summed"),
    ("first_gradient", lambda h, g: torch.cosine_similarity(h, g, dim=-1).mean(0), "cosine"),
    ("first_gradient", lambda h, g: right_gradient(normalize(h, dim=-1), g), "h was brought"),
    (
        "first_gradient",
        lambda h, g: right_gradient(h, normalize(g, dim=-1)),
        "gradient was brought",
    ),
    (
        "first_gradient",
        lambda h, g: right_gradient(h / h.square().sum(-1, keepdim=True), g),
        "squared length",
    ),
    ("first_gradient", lambda h, g: g.sum(-1).mean(0), "h is not used: the gradient"),
    ("first_gradient", lambda h, g: g.norm(dim=-1).mean(0), "length of the gradient"),
    ("first_gradient", lambda h, g: h.norm(dim=-1).mean(0), "the gradient is not used"),
    ("first_gradient", lambda h, g: (h * g).sum((0, 2)), "sum over the prompts"),
    ("first_gradient", lambda h, g: (h * g).mean((0, 2)), "mean over d"),
    ("first_gradient", lambda h, g: (h.mean(0) * g.mean(0)).sum(-1), "before they met"),
    ("first_gradient", lambda h, g: (h * g).abs().sum(-1).mean(0), "size of each product"),
    ("first_gradient", lambda h, g: (h * g).sum(-1).abs().mean(0), "each prompt's value"),
    ("first_gradient", lambda h, g: right_gradient(h, g).abs(), "the size was taken; the sign"),
    ("first_gradient", lambda h, g: -right_gradient(h, g), "sign is flipped"),
    ("first_gradient", lambda h, g: (h * g).square().sum(-1).mean(0), "squared"),
    ("first_gradient", lambda h, g: right_gradient(h, g) + 1, "the length of h must give 0"),
    ("first_gradient", lambda h, g: right_gradient(h, g) * h.norm(), "other units"),
    ("first_gradient", lambda h, g: 2 * right_gradient(h, g), "not the derivative"),
    ("prox", lambda a, s, lam: a * (a.abs() > s * lam), "kept whole"),
    ("prox", lambda a, s, lam: a - s * lam * a.sign(), "jumped over 0"),
    ("prox", lambda a, s, lam: right_prox(a, torch.ones_like(s), lam), "step is not used"),
    ("prox", lambda a, s, lam: right_prox(a, s, 1), "lam is not used"),
    ("prox", lambda a, s, lam: right_prox(a, s.mean(), lam), "one step was used"),
    ("prox", lambda a, s, lam: right_prox(a, 1 / s, lam), "divided by the step"),
    ("prox", lambda a, s, lam: a.sign() * (a.abs() + s * lam), "entries grew"),
    ("prox", lambda a, s, lam: torch.relu(a - s * lam), "below 0 were lost"),
    ("prox", lambda a, s, lam: a - s * lam, "from the value"),
    ("prox", lambda a, s, lam: torch.relu(a.abs() - s * lam), "sign was lost"),
    ("prox", lambda a, s, lam: a * torch.relu(a.abs() - s * lam), "by the sign of alpha"),
    ("prox", lambda a, s, lam: torch.minimum(torch.maximum(a, -s * lam), s * lam), "taken away"),
    ("prox", lambda a, s, lam: a * (1 - s * lam), "by a share"),
    ("prox", lambda a, s, lam: a / (1 + s * lam), "penalty of squares; "),
    ("prox", lambda a, s, lam: a / (1 + 2 * s * lam), "2 lam alpha"),
    ("prox", lambda a, s, lam: right_prox(a, s, lam / 2), "half of step"),
    ("prox", lambda a, s, lam: right_prox(a, s, 2 * lam), "twice step"),
    ("prox", lambda a, s, lam: a / a.abs() * torch.relu(a.abs() - s * lam), "0 / 0 where"),
    ("prox", shrunk_by_a_quotient, "with lam = 0 the result"),
    ("prox", nearly_zero, "0 exactly"),
    ("prox", prox_in_place, "in place"),
    ("prox", two_sided, "the other sign of alpha"),
    ("prox", of_another_power, "is smallest"),
    ("prox", lam_above, "with lam = 0 nothing"),
    ("flip_shares", lambda p, m: right_shares(p, m)[::-1], "swapped"),
    ("flip_shares", lambda p, m: right_shares(p, m)[:1] * 2, "second number is the average"),
    ("flip_shares", average_with(lambda p, m: 2 * right_shares(p, m)[0]), "halve it"),
    ("flip_shares", average_with(lambda p, m: len(p) * right_shares(p, m)[0]), "counts prompts"),
    ("flip_shares", average_with(lambda p, m: (p > 0).float().mean()), "the direction \\+1 only"),
    ("flip_shares", average_with(lambda p, m: (m < 0).float().mean()), "the direction -1 only"),
    (
        "flip_shares",
        average_with(lambda p, m: torch.cat([p >= 0, m <= 0]).float().mean()),
        "not the average of",
    ),
    ("flip_shares", shares_with(lambda p, m: (p > 0) | (m < 0)), "is enough here"),
    ("flip_shares", shares_with(lambda p, m: p > 0), "this is the direction \\+1"),
    ("flip_shares", shares_with(lambda p, m: m < 0), "this is the direction -1"),
    ("flip_shares", shares_with(lambda p, m: p * m < 0), "in the right order"),
    ("flip_shares", shares_with(lambda p, m: (p < 0) & (m > 0)), "signs are flipped"),
    ("flip_shares", shares_with(lambda p, m: p > m), "moved the right way"),
    ("flip_shares", shares_with(lambda p, m: (p >= 0) & (m <= 0)), "at \\+1 and at -1"),
    ("flip_shares", shares_with(lambda p, m: (p >= 0) & (m < 0)), "0 at \\+1 is no flip"),
    ("flip_shares", shares_with(lambda p, m: (p > 0) & (m <= 0)), "0 at -1 is no flip"),
    ("flip_shares", shares_with(multiplied), "independent"),
    ("flip_shares", shares_with(of_those_that_flip), "flip at all"),
    ("flip_shares", shares_with(lambda p, m: right_shares(p, m)[1] * len(p)), "number of prompts"),
    ("flip_shares", shares_with(lambda p, m: p.mean() > 0 > m.mean()), "means were compared"),
    (
        "flip_shares",
        shares_with(lambda p, m: right_shares(p, m)[1] + 0.01),
        "always gives the same",
    ),
    ("flip_shares", shares_with(weighted), "in each other's place"),
    ("flip_shares", shares_with(lambda p, m: 0.9 * right_shares(p, m)[1]), "not the share"),
    ("flip_shares", lambda p, m: right_shares(p, m)[1], "return two numbers"),
    ("flip_shares", lambda p, m: (p > 0, m < 0), "values per prompt"),
    ("dyn_alpha", lambda h, u, b: torch.tanh(h @ u + b), "h is not normalized"),
    ("dyn_alpha", factor_in_place, "in place"),
    ("dyn_alpha", lambda h, u, b: torch.sigmoid(cosine(h, u) + b), "sigmoid"),
    ("dyn_alpha", over(0), "over the prompts"),
    ("dyn_alpha", over(1), "over the positions"),
    ("dyn_alpha", over((0, 1, 2)), "whole batch"),
    ("dyn_alpha", over((1, 2)), "all tokens of a prompt"),
    ("dyn_alpha", lambda h, u, b: right_factor(h, u / u.norm(), b), "u was normalized as well"),
    ("dyn_alpha", lambda h, u, b: torch.tanh(h @ (u / u.norm()) + b), "h was not"),
    (
        "dyn_alpha",
        lambda h, u, b: torch.tanh(h @ u / h.square().sum(-1) + b),
        "squared length",
    ),
    (
        "dyn_alpha",
        lambda h, u, b: torch.tanh(h @ u / h.square().mean(-1).sqrt() + b),
        "root mean square",
    ),
    ("dyn_alpha", lambda h, u, b: torch.tanh(h @ u / h.abs().sum(-1) + b), "sum of sizes"),
    ("dyn_alpha", lambda h, u, b: torch.tanh(layer_norm(h, h.shape[-1:]) @ u + b), "LayerNorm"),
    ("dyn_alpha", lambda h, u, b: right_factor(h, u, 0), "bias is missing"),
    ("dyn_alpha", lambda h, u, b: right_factor(h, u, -b), "wrong sign"),
    ("dyn_alpha", lambda h, u, b: torch.tanh((h @ u + b) / h.norm(dim=-1)), "as well; add it"),
    ("dyn_alpha", lambda h, u, b: right_factor(h, u, 0) + b, "before"),
    ("dyn_alpha", lambda h, u, b: cosine(h, u) + b, "tanh is missing"),
    ("dyn_alpha", lambda h, u, b: 1 + right_factor(h, u, b), "1 was added"),
    ("dyn_alpha", lambda h, u, b: (cosine(h, u) + b).clamp(-1, 1), "a clamp"),
    ("dyn_alpha", lambda h, u, b: -right_factor(h, u, b), "sign is flipped"),
    ("dyn_alpha", lambda h, u, b: right_factor(h, u, b)[..., None] * h, "shape of h"),
    ("dyn_alpha", lambda h, u, b: right_factor(h, u, b)[..., None], "last dimension of 1"),
    ("dyn_alpha", lambda h, u, b: right_factor(h, u, b).mean(1), "positions were merged"),
    ("dyn_alpha", lambda h, u, b: right_factor(h, u, b).mean(0), "prompts were merged"),
    ("dyn_alpha", lambda h, u, b: right_factor(h, u, b).mean(), "tokens were merged"),
    (
        "dyn_alpha",
        lambda h, u, b: torch.tanh(h @ u / (h.norm(dim=-1) + 0.1) + b),
        "longer or shorter",
    ),
    ("dyn_alpha", lambda h, u, b: torch.tanh(h @ u / h.norm(dim=-1) + b), "not finite"),
    ("dyn_alpha", lambda h, u, b: right_factor(h, u, b) + 0.01, "learning starts"),
    ("dyn_alpha", lambda h, u, b: right_factor(h, 0.9 * u, b), "not tanh"),
    ("dyn_alpha", lambda h, u, b: right_factor(h, u, b) * h.any(-1), "must be tanh\\(b\\)"),
]


(
    test_the_right_solution_passes,
    test_a_wrong_solution_is_named,
    test_every_exercise_has_two_right_and_six_wrong_solutions,
) = both_ways(CHECKS, NAMES, RIGHT, WRONG)
