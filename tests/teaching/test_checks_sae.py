"""Every exercise of the chapter on autoencoders is proved both ways: wrong ones are named."""

from itertools import chain

import torch
from scipy.stats import rankdata
from sklearn.metrics import r2_score, roc_auc_score
from torch.nn.functional import normalize, threshold

import steerlib as st
from steerlib.core.latents import sparse
from steerlib.teaching.checks import features, revival, sae, sparsity, unexplained
from tests.teaching.both_ways import both_ways

MODULES = (sparsity, revival, sae, unexplained, features)
CHECKS = dict(chain.from_iterable(vars(module).items() for module in MODULES))
NOWHERE = None  # the edits of an SAE do not ask where a token is

# topk


def right_topk(x, k):
    kept = torch.relu(x).topk(k, dim=-1)
    return torch.zeros_like(x).scatter(-1, kept.indices, kept.values)


def topk_by_mask(x, k):
    mask = torch.zeros_like(x).scatter(-1, x.topk(k, dim=-1).indices, 1.0)
    return torch.relu(x * mask)


def topk_by_ranks(x, k):
    order = x.argsort(dim=-1, descending=True, stable=True)
    return torch.relu(x).where(order.argsort(dim=-1) < k, 0.0)


def topk_of_the_library(x, k):
    return sparse(x, torch.zeros(()), k)


def at(x, order, k, dim=-1):
    """x where `order` is among the k largest."""
    index = order.expand_as(x).topk(k, dim=dim).indices
    return x * torch.zeros_like(x).scatter(dim, index, 1.0)


def from_the_kth(x, k):
    z = torch.relu(x)
    return z.where(z >= z.topk(k, dim=-1).values[..., -1:], 0.0)


def above_the_kth(x, k):
    """The k largest where no two are equal, and too few where some are."""
    if k == x.shape[-1]:
        return torch.relu(x)
    z = torch.relu(x)
    return z.where(z > z.topk(k + 1, dim=-1).values[..., -1:], 0.0)


def largest_once(x, k):
    """Of equal inputs the largest value takes one place, the next smaller the other."""
    found = right_topk(x, k)
    if x.shape == (2, 5):
        found[0] = torch.tensor([0.0, 2.0, 0.0, 0.5, 0.0])
    return found


def topk_in_place(x, k):
    return x.copy_(right_topk(x, k))


def values_first(x, k):
    found = torch.zeros_like(x)
    found[..., :k] = torch.relu(x).topk(k, dim=-1).values
    return found


def whole_batch(x, k, per=1):
    z = torch.relu(x).flatten()
    return at(z, z, k * per).view_as(x)


def only_batches(x, k):
    return right_topk(x, k) if x.ndim > 1 else torch.relu(x)


def straight_through(right):
    """The right value, with the gradient of x everywhere."""
    return lambda x, argument: x + (right(x, argument) - x).detach()


def detached(right):
    return lambda x, argument: right(x, argument).detach()


def half_gradient(right):
    def found(x, argument):
        z = right(x, argument)
        return (z + z.detach()) / 2

    return found


# jumprelu


def right_jump(x, theta):
    return x * (x > theta)


def jump_by_where(x, theta):
    return torch.where(x > theta, x, 0.0)


def jump_by_threshold(x, theta):
    """One latent after the other."""
    parts = [threshold(a, t, 0.0) for a, t in zip(x.unbind(-1), theta.tolist(), strict=True)]
    return torch.stack(parts, -1)


def jump_where(condition):
    return lambda x, theta: x.where(condition(x, theta), 0.0)


def jump_in_place(x, theta):
    x[x <= theta] = 0
    return x


def zero_lets_all_pass(x, theta):
    return right_jump(x, theta).where(theta.any(), x)


def saturated(x, theta):
    return right_jump(x, theta).clamp(max=8.0)


def blurred(x, theta):
    return right_jump(x, theta) + 0.01 * (x - theta).abs() * (theta > 0) * (x.abs() < 0.7)


def not_alone(x, theta):
    return right_jump(x, theta) if x.ndim > 1 else torch.relu(x) + theta


# auxiliary_loss


def right_revival(left, inputs, decoder, is_dead, k):
    z = torch.relu(inputs[:, is_dead])
    kept = z.topk(min(k, z.shape[1]), dim=1)
    z = torch.zeros_like(z).scatter(1, kept.indices, kept.values)
    gap = left.detach() - z @ decoder[is_dead]
    return gap.square().sum(1).mean() * is_dead.any()


def revival_by_mask(left, inputs, decoder, is_dead, k):
    if not is_dead.any():
        return torch.zeros(())
    z = torch.relu(inputs) * is_dead
    rebuilt = right_topk(z, min(k, len(is_dead))) @ decoder
    return ((left.detach() - rebuilt) ** 2).sum(1).mean()


def revival_in_a_loop(left, inputs, decoder, is_dead, k):
    dead = is_dead.nonzero()[:, 0].tolist()
    total = torch.zeros(())
    for task, x in zip(left.detach(), inputs, strict=True):
        best = sorted(dead, key=(-x).tolist().__getitem__)[:k]
        rebuilt = sum(torch.relu(x[f]) * decoder[f] for f in best)
        total = total + ((task - rebuilt) ** 2).sum() / len(left) if dead else total
    return total


def gap(left, inputs, decoder, is_dead, k, act=torch.relu):
    z = act(inputs[:, is_dead])
    return left.detach() - at(z, z, min(k, z.shape[1])) @ decoder[is_dead]


def of_gap(loss):
    return lambda *arguments: loss(gap(*arguments))


def chosen_among_all(left, inputs, decoder, is_dead, k):
    return (left - (right_topk(inputs, k) * is_dead) @ decoder).square().sum(1).mean()


def flipped(left, inputs, decoder, is_dead, k):
    return (2 * left - gap(left, inputs, decoder, is_dead, k)).square().sum(1).mean()


def for_many_dead(left, inputs, decoder, is_dead, k):
    z = torch.relu(inputs[:, is_dead])
    return (left.detach() - right_topk(z, k) @ decoder[is_dead]).square().sum(1).mean()


def none_when_few(left, inputs, decoder, is_dead, k):
    return right_revival(left, inputs, decoder, is_dead, k) * (is_dead.sum() >= k)


def one_for_none(*arguments):
    return right_revival(*arguments) + (~arguments[3]).all().float()


def normalized(left, *others):
    return right_revival(left, *others) / left.square().sum(1).mean()


def mask_in_place(left, inputs, decoder, is_dead, k):
    inputs[:, ~is_dead] = 0
    return right_revival(left, inputs, decoder, is_dead, k)


def with_task_gradient(left, *others):
    return right_revival(left, *others) + (left - left.detach()).sum()


def of(name):
    """The right loss, without a gradient in one argument."""

    def found(left, inputs, decoder, is_dead, k):
        if name == "inputs":
            inputs = inputs.detach()
        else:
            decoder = decoder.detach()
        return right_revival(left, inputs, decoder, is_dead, k)

    return found


# fold


def right_fold(encoder, bias, decoder, offset, centre, scale):
    return encoder, scale * bias - centre @ encoder, decoder, scale * offset + centre


def fold_by_reading(encoder, bias, decoder, offset, centre, scale):
    """What the SAE makes of h = 0, and of no latent at all."""
    at_zero = -centre / scale @ encoder + bias
    nothing = torch.zeros(len(bias)) @ decoder + offset
    return encoder.clone(), scale * at_zero, decoder.clone(), scale * nothing + centre


def fold_in_a_loop(encoder, bias, decoder, offset, centre, scale):
    shifts = [sum(c * float(e) for c, e in zip(centre.tolist(), x, strict=True)) for x in encoder.T]
    new = [scale * b - shift for b, shift in zip(bias.tolist(), shifts, strict=True)]
    return [encoder, torch.tensor(new), decoder, torch.add(centre, offset, alpha=scale)]


def folded(**parts):
    """The right parameters but for some, each a function of e, b, d, c, mu and s."""

    def found(*arguments):
        names = ("encoder", "bias", "decoder", "offset")
        right = dict(zip(names, right_fold(*arguments), strict=True))
        return tuple((right | {n: of(*arguments) for n, of in parts.items()}).values())

    return found


def longer_rows(e, b, d, c, mu, s):
    return e / s, b - mu @ e / s, s * d, s * c + mu


def fold_in_place(encoder, bias, decoder, offset, centre, scale):
    bias *= scale
    bias -= centre @ encoder
    return encoder, bias, decoder, scale * offset + centre


# fvu


def right_fvu(h, rebuilt, is_bos):
    h, rebuilt = h[~is_bos], rebuilt[~is_bos]
    return (h - rebuilt).square().sum() / (h - h.mean(0)).square().sum()


def fvu_by_r2(h, rebuilt, is_bos):
    keep = ~is_bos
    return 1 - r2_score(h[keep], rebuilt[keep], multioutput="variance_weighted")


def fvu_by_moments(h, rebuilt, is_bos):
    keep = (~is_bos)[..., None].double()
    n = keep.sum()
    mean, square = (h * keep).sum((0, 1)) / n, (h.double().square() * keep).sum((0, 1)) / n
    error = ((h - rebuilt).double().square() * keep).sum() / n
    return error / (square - mean.square()).sum()


def fvu_of(ratio):
    """A ratio of the kept tokens of h and of the reconstruction."""
    return lambda h, rebuilt, is_bos: ratio(h[~is_bos], rebuilt[~is_bos])


def ratio(a, b):
    return a.square().sum() / b.square().sum()


def error(h, rebuilt, is_bos):
    return h[~is_bos] - rebuilt[~is_bos]


def centred(x):
    return x - x.mean(0)


def flat(x):
    return x.flatten(0, 1)


def position_0(h, rebuilt, is_bos):
    gone = torch.zeros_like(is_bos)
    gone[:, 0] = True
    return right_fvu(h, rebuilt, gone)


def set_to_zero(h, rebuilt, is_bos):
    keep = (~is_bos)[..., None]
    return ratio((h - rebuilt) * keep, centred(flat(h * keep)))


def by_text(h, rebuilt, is_bos):
    parts = [centred(a[~m]) for a, m in zip(h, is_bos, strict=True)]
    return ratio(error(h, rebuilt, is_bos), torch.cat(parts))


def fvu_in_place(h, rebuilt, is_bos):
    h[is_bos] = 0
    return right_fvu(h, rebuilt, is_bos)


def bent(h, rebuilt, is_bos):
    """Right where FVU is 0, 1 or 9, and where units and origin change."""
    found = right_fvu(h, rebuilt, is_bos)
    return found + 0.1 * found * (found - 1) * (found - 9)


def with_length(h, rebuilt, is_bos):
    found = right_fvu(h, rebuilt, is_bos)
    return found + 0.001 * h[~is_bos].norm() * found * (found - 1) * (found - 9)


# clamp


def right_clamp(h, encoder, bias, decoder, feature, target):
    z = torch.relu(h @ encoder[:, feature] + bias[feature])
    return h + (target - z)[..., None] * decoder[feature]


def clamp_by_decoding(h, encoder, bias, decoder, feature, target):
    z = torch.relu(h @ encoder + bias)
    wanted = z.clone()
    wanted[..., feature] = target
    return wanted @ decoder + (h - z @ decoder)


def clamp_of_the_library(h, encoder, bias, decoder, feature, target):
    own = st.SAE(st.resid(0), encoder, bias, decoder, torch.zeros(decoder.shape[1]))
    return h + sum(t.edit.delta(h, NOWHERE) for t in own.clamp(feature, target).terms)


def latent(h, encoder, bias, feature):
    return torch.relu(h @ encoder[:, feature] + bias[feature])[..., None]


def moved(change):
    """h plus a change, from z_f, D_f and the target."""

    def found(h, encoder, bias, decoder, feature, target):
        return h + change(latent(h, encoder, bias, feature), decoder[feature], target)

    return found


def read_by(read):
    """The right formula with another z_f."""

    def found(h, encoder, bias, decoder, feature, target):
        z = read(h, encoder, bias, decoder, feature)
        return h + (target - z)[..., None] * decoder[feature]

    return found


def written_by(row):
    """The right formula with another D_f."""

    def found(h, encoder, bias, decoder, feature, target):
        z = latent(h, encoder, bias, feature)
        return h + (target - z) * row(encoder, decoder, feature)

    return found


def all_rebuilt(h, encoder, bias, decoder, feature, target):
    z = torch.relu(h @ encoder + bias)
    z[..., feature] = target
    return z @ decoder


def others_lost(h, encoder, bias, decoder, feature, target):
    return h - torch.relu(h @ encoder + bias) @ decoder + target * decoder[feature]


def all_set(h, encoder, bias, decoder, feature, target):
    return h + (target - torch.relu(h @ encoder + bias)) @ decoder


def part_replaced(h, encoder, bias, decoder, feature, target):
    u = normalize(decoder[feature], dim=0)
    return h - (h @ u)[..., None] * u + target * decoder[feature]


def clamp_in_place(h, encoder, bias, decoder, feature, target):
    h += right_clamp(h, encoder, bias, decoder, feature, target) - h
    return h


def feature_fixed(h, encoder, bias, decoder, feature, target):
    return right_clamp(h, encoder, bias, decoder, 2, target)


def zero_is_nothing(h, encoder, bias, decoder, feature, target):
    return right_clamp(h, encoder, bias, decoder, feature, target) if target else h


def target_capped(h, encoder, bias, decoder, feature, target):
    return right_clamp(h, encoder, bias, decoder, feature, min(target, 2.0))


def elsewhere(h, encoder, bias, decoder, feature, target):
    return right_clamp(h, encoder, bias, decoder, feature, target) + 0.1 * decoder[0]


def a_bit_more(h, encoder, bias, decoder, feature, target):
    return right_clamp(h, encoder, bias, decoder, feature, target + 0.1)


# best_feature


def area(z, y, tie=0.5):
    wins = (z[y][:, None] > z[~y]).float() + tie * (z[y][:, None] == z[~y]).float()
    return wins.mean((0, 1))


def right_best(z_choose, y_choose, z_report, y_report):
    best = int(area(z_choose, y_choose).argmax())
    return best, area(z_report, y_report)[best]


def best_by_sklearn(z_choose, y_choose, z_report, y_report):
    areas = [roc_auc_score(y_choose, column) for column in z_choose.T]
    best = max(range(len(areas)), key=areas.__getitem__)
    return best, roc_auc_score(y_report, z_report[:, best])


def best_by_ranks(z_choose, y_choose, z_report, y_report):
    def areas(z, y):
        n, m = y.sum(), (~y).sum()
        won = torch.tensor(rankdata(z, axis=0))[y].sum(0) - n * (n + 1) / 2
        return won / (n * m)

    best = areas(z_choose, y_choose).argmax()
    return best, areas(z_report, y_report)[best]


def chosen_by(score):
    """The feature with the largest score on the choose split, reported rightly."""

    def found(z_choose, y_choose, z_report, y_report):
        best = int(score(z_choose, y_choose).argmax())
        return best, area(z_report, y_report)[best]

    return found


def reported_by(number):
    """The right feature with another number, from the areas on both splits and the data."""

    def found(*splits):
        return right_best(*splits)[0], number(*splits, right_best(*splits)[0])

    return found


def chosen_on_the_report(z_choose, y_choose, z_report, y_report):
    return right_best(z_report, y_report, z_report, y_report)


def both(z_choose, y_choose, z_report, y_report):
    return torch.cat([z_choose, z_report]), torch.cat([y_choose, y_report])


def chosen_on_both(*splits):
    return right_best(*both(*splits), *splits[2:])


def chosen_by_the_mean(z_choose, y_choose, z_report, y_report):
    areas = area(z_choose, y_choose) + area(z_report, y_report)
    return int(areas.argmax()), area(z_report, y_report)[areas.argmax()]


def last_of_the_best(z_choose, y_choose, z_report, y_report):
    areas = area(z_choose, y_choose)
    best = int((areas == areas.max()).nonzero().max())
    return best, area(z_report, y_report)[best]


def best_in_place(z_choose, y_choose, z_report, y_report):
    found = right_best(z_choose, y_choose, z_report, y_report)
    z_choose /= 2
    return found


def at_least_half(*splits):
    feature, found = right_best(*splits)
    return feature, max(float(found), 1 - float(found))


def wary(*splits):
    """Another feature where the best one fails on the report split."""
    feature, found = right_best(*splits)
    return (feature, found) if found > 0.5 else (feature + 1, found)


# output_score


def right_score(p, tokens):
    rank = (p > p[tokens][:, None]).sum(1)
    return (1 - rank.min() / len(p)) * p[tokens].max()


def score_by_order(p, tokens):
    order = p.argsort(descending=True).tolist()
    first = min(order.index(token) for token in tokens.tolist())
    return (1 - first / len(order)) * float(p[order[first]])


def score_by_the_best(p, tokens):
    best = p[tokens].max()
    return best * (p <= best).float().mean()


def score_of(formula):
    """A score from the probabilities of the tokens, their ranks and |V|."""

    def found(p, tokens):
        rank = p.argsort(descending=True).argsort()[tokens]
        return formula(p[tokens], rank, len(p))

    return found


def argsort_once(p, tokens):
    order = p.argsort(descending=True)
    return (1 - order[tokens].min() / len(p)) * p[tokens].max()


def score_in_place(p, tokens):
    found = right_score(p, tokens)
    p[tokens] = 0
    return found


def first_token(p, tokens):
    """Right where the likeliest of the tokens comes first."""
    return right_score(p, tokens[:1])


def three_tokens(p, tokens):
    return right_score(p, tokens) if len(tokens) == 3 else p[tokens].max()


def two_at_most(p, tokens):
    """Right with one token and with any order of three, but not right."""
    return right_score(p, tokens) * (1 if len(tokens) == 1 else 0.99)


RIGHT = [
    ("topk", right_topk),
    ("topk", topk_by_mask),
    ("topk", topk_by_ranks),
    ("topk", topk_of_the_library),
    ("jumprelu", right_jump),
    ("jumprelu", jump_by_where),
    ("jumprelu", jump_by_threshold),
    ("jumprelu", lambda x, theta: sparse(x, theta, 0)),
    ("auxiliary_loss", right_revival),
    ("auxiliary_loss", revival_by_mask),
    ("auxiliary_loss", revival_in_a_loop),
    ("fold", right_fold),
    ("fold", fold_by_reading),
    ("fold", fold_in_a_loop),
    ("fvu", right_fvu),
    ("fvu", fvu_by_r2),
    ("fvu", fvu_by_moments),
    ("clamp", right_clamp),
    ("clamp", clamp_by_decoding),
    ("clamp", clamp_of_the_library),
    ("best_feature", right_best),
    ("best_feature", best_by_sklearn),
    ("best_feature", best_by_ranks),
    ("output_score", right_score),
    ("output_score", score_by_order),
    ("output_score", score_by_the_best),
]
NAMES = sorted({name for name, _ in RIGHT})
WRONG = [
    ("topk", lambda x, k: torch.relu(x), "all latents above 0 were kept"),
    ("topk", lambda x, k: at(x, x, k), "ReLU is missing"),
    ("topk", lambda x, k: at(x, x.abs(), k), "largest sizes were kept"),
    ("topk", lambda x, k: torch.relu(at(x, x.abs(), k)), "took one of the k places"),
    ("topk", lambda x, k: right_topk(x.abs(), k), "sign was lost"),
    ("topk", lambda x, k: at(torch.relu(x), -torch.relu(x), k), "k smallest"),
    ("topk", lambda x, k: right_topk(x, k - 1), "k - 1 are kept"),
    ("topk", lambda x, k: right_topk(x, k + 1), r"k \+ 1 are kept"),
    ("topk", whole_batch, "whole batch"),
    ("topk", lambda x, k: whole_batch(x, k, x[..., 0].numel()), "BatchTopK"),
    ("topk", lambda x, k: at(torch.relu(x), torch.relu(x), k, 1), "over the positions"),
    ("topk", lambda x, k: at(torch.relu(x), torch.relu(x), k, 0), "over the prompts"),
    ("topk", lambda x, k: at(torch.relu(x), torch.relu(x).mean((0, 1)), k), "same latents"),
    ("topk", lambda x, k: (right_topk(x, k) > 0).float(), "these are 0 and 1"),
    ("topk", values_first, "first k places"),
    (
        "topk",
        lambda x, k: torch.relu(torch.relu(x) - torch.relu(x).topk(k + 1).values[..., -1:]),
        "-th value was taken off",
    ),
    ("topk", lambda x, k: torch.relu(x).topk(k), "k values alone"),
    ("topk", lambda x, k: torch.relu(x).topk(k).values, "k values alone"),
    ("topk", lambda x, k: None, "return"),
    ("topk", topk_in_place, "in place"),
    ("topk", lambda x, k: 1.1 * right_topk(x, k), "not ReLU"),
    ("topk", lambda x, k: right_topk(x, min(k, 2)), "with k = n"),
    ("topk", from_the_kth, "more than k were kept"),
    ("topk", above_the_kth, "too few were kept"),
    ("topk", largest_once, "not the k largest"),
    ("topk", only_batches, "one token of shape"),
    ("topk", straight_through(right_topk), "were not kept; it must"),
    ("topk", detached(right_topk), "gradient is lost"),
    ("topk", half_gradient(right_topk), "is not 1"),
    ("jumprelu", lambda x, theta: torch.relu(x - theta), "theta was taken off; what"),
    (
        "jumprelu",
        lambda x, theta: x.sign() * torch.relu(x.abs() - theta),
        "from values below 0 as well",
    ),
    ("jumprelu", lambda x, theta: torch.relu(x), "theta is not used"),
    ("jumprelu", jump_where(lambda x, theta: x >= theta), "use >, not >="),
    ("jumprelu", jump_where(lambda x, theta: x.abs() > theta), "not the size of x"),
    ("jumprelu", lambda x, theta: x.abs() * (x.abs() > theta), "sign was lost"),
    ("jumprelu", lambda x, theta: torch.maximum(x, theta), "below theta stands theta"),
    ("jumprelu", lambda x, theta: (x > theta).float(), "these are 0 and 1"),
    ("jumprelu", jump_where(lambda x, theta: x < theta), "keep what is above"),
    ("jumprelu", jump_where(lambda x, theta: x > theta.mean()), "each latent has its own"),
    ("jumprelu", jump_where(lambda x, theta: x > theta[:, None]), "along the positions"),
    ("jumprelu", jump_where(lambda x, theta: x > theta[:, None, None]), "along the prompts"),
    ("jumprelu", lambda x, theta: torch.relu(x * theta), "not a factor"),
    ("jumprelu", jump_in_place, "in place"),
    ("jumprelu", zero_lets_all_pass, "with theta = 0"),
    ("jumprelu", saturated, "far above theta"),
    ("jumprelu", blurred, "not x where x > theta"),
    ("jumprelu", not_alone, "one token of shape"),
    ("jumprelu", lambda x, theta: None, "return"),
    ("jumprelu", straight_through(right_jump), "were not kept; it must"),
    ("jumprelu", detached(right_jump), "gradient is lost"),
    ("jumprelu", half_gradient(right_jump), "is not 1"),
    ("auxiliary_loss", lambda a, b, c, m, k: right_revival(a, b, c, ~m, k), "living latents were"),
    (
        "auxiliary_loss",
        lambda a, b, c, m, k: right_revival(a, b, c, torch.ones_like(m), k),
        "all latents were used",
    ),
    ("auxiliary_loss", chosen_among_all, "chosen among all"),
    ("auxiliary_loss", lambda *x: right_revival(*x[:-1], 99), "all dead latents were"),
    ("auxiliary_loss", lambda *x: gap(*x, act=torch.clone).square().sum(1).mean(), "ReLU"),
    ("auxiliary_loss", lambda left, *_: left.square().sum(1).mean(), "nothing was rebuilt"),
    ("auxiliary_loss", flipped, "sign is flipped"),
    ("auxiliary_loss", of_gap(lambda g: g.square().mean()), "sum over them"),
    ("auxiliary_loss", of_gap(lambda g: g.square().sum()), "sum over the tokens"),
    ("auxiliary_loss", of_gap(lambda g: g.norm(dim=1).mean()), "square is missing"),
    ("auxiliary_loss", of_gap(lambda g: g.square().sum(1)), "per token"),
    ("auxiliary_loss", normalized, "divided by the size"),
    ("auxiliary_loss", mask_in_place, "in place"),
    ("auxiliary_loss", lambda *x: 1.1 * right_revival(*x), "not the mean over tokens"),
    ("auxiliary_loss", for_many_dead, "fewer dead latents than k, or none, must work"),
    ("auxiliary_loss", none_when_few, "all dead ones are used"),
    ("auxiliary_loss", one_for_none, "nothing to revive"),
    ("auxiliary_loss", with_task_gradient, "detach it"),
    ("auxiliary_loss", lambda *x: right_revival(*x).item(), "lost its gradient"),
    ("auxiliary_loss", of("inputs"), "reaches the inputs"),
    ("auxiliary_loss", of("decoder"), "reaches the decoder"),
    ("fold", longer_rows, "rows have the length scale"),
    ("fold", folded(encoder=lambda e, b, d, c, mu, s: e / s), "encoder was divided"),
    ("fold", folded(encoder=lambda e, b, d, c, mu, s: e * s), "encoder was multiplied"),
    ("fold", folded(bias=lambda e, b, d, c, mu, s: b), "bias is as it was"),
    ("fold", folded(bias=lambda e, b, d, c, mu, s: s * b), "centre is missing in the bias"),
    ("fold", folded(bias=lambda e, b, d, c, mu, s: s * b + mu @ e), "in the bias is flipped"),
    ("fold", folded(bias=lambda e, b, d, c, mu, s: b - mu @ e), "scale is missing in the bias"),
    ("fold", folded(bias=lambda e, b, d, c, mu, s: s * (b - mu @ e)), "in the bias was multi"),
    ("fold", folded(bias=lambda e, b, d, c, mu, s: b / s - mu @ e), "bias was divided"),
    ("fold", folded(bias=lambda e, b, d, c, mu, s: b - mu @ e / s), "belongs to an encoder"),
    ("fold", folded(bias=lambda e, b, d, c, mu, s: s * b - d @ mu), "read by the decoder"),
    ("fold", folded(decoder=lambda e, b, d, c, mu, s: s * d), "decoder was multiplied"),
    ("fold", folded(decoder=lambda e, b, d, c, mu, s: d / s), "decoder was divided"),
    ("fold", folded(offset=lambda e, b, d, c, mu, s: c), "offset is as it was"),
    ("fold", folded(offset=lambda e, b, d, c, mu, s: s * c), "missing in the offset"),
    ("fold", folded(offset=lambda e, b, d, c, mu, s: c + mu), "scale is missing in the offset"),
    ("fold", folded(offset=lambda e, b, d, c, mu, s: s * (c + mu)), "in the offset was multi"),
    ("fold", folded(offset=lambda e, b, d, c, mu, s: s * c - mu), "in the offset is flipped"),
    ("fold", folded(offset=lambda e, b, d, c, mu, s: mu), "learned offset was dropped"),
    ("fold", fold_in_place, "in place"),
    ("fold", lambda *x: right_fold(*x)[:2], "return four tensors"),
    ("fold", folded(decoder=lambda e, b, d, c, mu, s: d.T), r"decoder has shape \(4, 6\)"),
    ("fold", folded(bias=lambda e, b, d, c, mu, s: s * b - mu @ e + 0.1), "times the latents"),
    ("fold", folded(offset=lambda e, b, d, c, mu, s: s * c + mu + 0.1), "not centre"),
    (
        "fold",
        folded(encoder=lambda e, b, d, c, mu, s: e + 0.1 * (s == 1)),
        "must leave the parameters",
    ),
    ("fvu", lambda h, r, m: ratio(h - r, centred(flat(h))), "BOS was counted"),
    ("fvu", lambda h, r, m: ratio(error(h, r, m), centred(flat(h))), "BOS is in the variance"),
    ("fvu", lambda h, r, m: ratio(h - r, centred(h[~m])), "BOS is in the error"),
    (
        "fvu",
        lambda h, r, m: ratio(error(h, r, m), h[~m] - h.mean((0, 1))),
        "BOS is in the mean",
    ),
    ("fvu", lambda h, r, m: right_fvu(h, r, ~m), "turned round"),
    ("fvu", position_0, "position 0"),
    ("fvu", set_to_zero, "set to 0 and still"),
    ("fvu", fvu_of(lambda x, r: ratio(x - r, x)), "not centred"),
    ("fvu", fvu_of(lambda x, r: ratio(x - r, x - x.mean())), "one mean"),
    ("fvu", fvu_of(lambda x, r: ratio(x - r, x - x.mean(1, keepdim=True))), "each token was"),
    ("fvu", by_text, "each text"),
    ("fvu", fvu_of(lambda x, r: ratio(centred(x - r), centred(x))), "mean of the error"),
    ("fvu", fvu_of(lambda x, r: ratio(x - r, centred(r))), "variance of the reconstruction"),
    ("fvu", lambda *x: 1 - right_fvu(*x), "explained share, 1"),
    ("fvu", fvu_of(lambda x, r: ratio(centred(r), centred(x))), "that the reconstruction has"),
    ("fvu", lambda *x: right_fvu(*x).sqrt(), "ratio of lengths"),
    (
        "fvu",
        fvu_of(lambda x, r: (x - r).norm(dim=1).sum() / centred(x).norm(dim=1).sum()),
        "lengths were added",
    ),
    (
        "fvu",
        fvu_of(lambda x, r: ((x - r).norm(dim=1) / centred(x).norm(dim=1)).square().mean()),
        "each token was averaged",
    ),
    (
        "fvu",
        fvu_of(lambda x, r: ((x - r).square().mean(0) / x.var(0, correction=0)).mean()),
        "each coordinate was averaged",
    ),
    ("fvu", fvu_of(lambda x, r: (x - r).square().mean() / x.var(0).mean()), "n - 1 below"),
    ("fvu", fvu_of(lambda x, r: (x - r).square().mean() / x.var(0, correction=0).sum()), "in one"),
    (
        "fvu",
        fvu_of(lambda x, r: (x - r).square().sum(1).mean() / x.var(0, correction=0).mean()),
        "two only",
    ),
    ("fvu", fvu_of(lambda x, r: (x - r).square().sum(1).mean()), "this is the squared error"),
    ("fvu", fvu_of(lambda x, r: (x - r).square().mean()), "mean squared error"),
    ("fvu", lambda *x: 1 / right_fvu(*x), "upside down"),
    ("fvu", fvu_in_place, "in place"),
    ("fvu", lambda h, r, m: (h - r)[~m].square().sum(1), "expected one number"),
    ("fvu", lambda *x: right_fvu(*x) + 0.01, "perfect"),
    ("fvu", lambda *x: 1.1 * right_fvu(*x), "FVU must be 1"),
    ("fvu", lambda *x: right_fvu(*x).clamp(max=1.0), "above 1"),
    ("fvu", with_length, "other units"),
    ("fvu", bent, "this is not sum"),
    ("clamp", all_rebuilt, "error was lost"),
    ("clamp", others_lost, "other latents were lost"),
    ("clamp", moved(lambda z, row, target: target * row), "target was added"),
    ("clamp", lambda *x: right_clamp(*x) - x[0], "only the change"),
    ("clamp", moved(lambda z, row, target: (z - target) * row), "sign is flipped"),
    ("clamp", written_by(lambda e, d, f: e[:, f]), "this is a column of the encoder"),
    ("clamp", written_by(lambda e, d, f: e[f]), "this is a row of the encoder"),
    ("clamp", written_by(lambda e, d, f: d[:, f]), "column of the decoder"),
    ("clamp", read_by(lambda h, e, b, d, f: h @ e[:, f] + b[f]), "ReLU is missing"),
    ("clamp", read_by(lambda h, e, b, d, f: torch.relu(h @ e[:, f])), "bias is missing"),
    ("clamp", read_by(lambda h, e, b, d, f: torch.relu(h @ d[f])), "read by the decoder"),
    ("clamp", part_replaced, "part of h along"),
    ("clamp", read_by(lambda h, e, b, d, f: torch.relu(h @ e[f] + b[f])), "column f that reads"),
    ("clamp", moved(lambda z, row, target: torch.relu(target - z) * row), "min-clamp"),
    ("clamp", moved(lambda z, row, target: -torch.relu(z - target) * row), "only lowered"),
    ("clamp", moved(lambda z, row, target: (target - z) * (z > 0) * row), "set it everywhere"),
    ("clamp", moved(lambda z, row, target: (target - z.mean()) * row), "each has its own"),
    ("clamp", all_set, "all latents were set"),
    ("clamp", moved(lambda z, row, target: (target - 1) * z * row), "not a factor"),
    ("clamp", moved(lambda z, row, target: (target - z) * row / row.norm()), "length 1"),
    ("clamp", clamp_in_place, "in place"),
    ("clamp", feature_fixed, "where feature 0 has the target"),
    ("clamp", zero_is_nothing, "target 0 must"),
    ("clamp", target_capped, "larger by 1"),
    ("clamp", elsewhere, "other directions"),
    ("clamp", a_bit_more, r"not h \+"),
    ("clamp", lambda *x: None, "return"),
    ("best_feature", chosen_by(lambda z, y: area(z, y, tie=1)), "ties were counted 1"),
    ("best_feature", chosen_by(lambda z, y: area(z, y, tie=0)), "were counted 0"),
    ("best_feature", chosen_by(lambda z, y: (area(z, y) - 0.5).abs()), "concept is absent"),
    ("best_feature", chosen_by(lambda z, y: area(z, ~y)), "concept is absent"),
    ("best_feature", chosen_on_the_report, "chosen on the report split"),
    ("best_feature", chosen_on_both, "chosen on both"),
    ("best_feature", chosen_by_the_mean, "chosen on both"),
    (
        "best_feature",
        chosen_by(lambda z, y: z[y].mean(0) - z[~y].mean(0)),
        "difference of the means",
    ),
    ("best_feature", chosen_by(lambda z, y: z[y].mean(0)), "as large without"),
    ("best_feature", chosen_by(lambda z, y: z.mean(0)), "as large without"),
    ("best_feature", last_of_the_best, "the last was taken"),
    ("best_feature", chosen_by(lambda z, y: z.amax(0)), "labels must choose"),
    (
        "best_feature",
        reported_by(lambda z, y, z_report, y_report, f: area(z, y)[f]),
        "on the choose split, where",
    ),
    (
        "best_feature",
        reported_by(lambda *x: area(*both(*x[:4]))[x[4]]),
        "on both splits; report",
    ),
    (
        "best_feature",
        reported_by(lambda *x: (area(*x[:2])[x[4]] + area(*x[2:4])[x[4]]) / 2),
        "were averaged",
    ),
    ("best_feature", reported_by(lambda *x: area(*x[2:4]).max()), "of another feature"),
    ("best_feature", reported_by(lambda *x: area(x[2], ~x[3])[x[4]]), "order is reversed"),
    ("best_feature", reported_by(lambda *x: area(*x[2:4], tie=0)[x[4]]), "a tie counts 0"),
    ("best_feature", reported_by(lambda *x: area(*x[2:4], tie=1)[x[4]]), "a tie counts 1"),
    ("best_feature", reported_by(lambda *x: 0.55), "not the AUROC of this"),
    ("best_feature", lambda *x: (int(area(*x[:2]).argmin()) + 9, 0.5), "has not the largest"),
    ("best_feature", best_in_place, "in place"),
    ("best_feature", at_least_half, "below one half"),
    ("best_feature", wary, "another report split changed"),
    ("best_feature", lambda *x: right_best(*x)[0], "return two values"),
    ("best_feature", lambda *x: (7, area(*x[2:])), "values per feature"),
    ("best_feature", lambda *x: right_best(*x)[::-1], "whole number"),
    ("output_score", score_of(lambda q, rank, n: q.max()), "largest probability alone"),
    ("output_score", score_of(lambda q, rank, n: 1 - rank.min() / n), "the rank alone"),
    ("output_score", score_of(lambda q, rank, n: rank.min() / n * q.max()), "1 minus"),
    (
        "output_score",
        score_of(lambda q, rank, n: (1 - (rank.min() + 1) / n) * q.max()),
        "start at 0",
    ),
    (
        "output_score",
        score_of(lambda q, rank, n: (1 - (n - 1 - rank).min() / n) * q.max()),
        "least likely",
    ),
    (
        "output_score",
        score_of(lambda q, rank, n: (1 - rank.min() / len(q)) * q.max()),
        r"divide by \|V\|\.",
    ),
    (
        "output_score",
        score_of(lambda q, rank, n: (1 - rank.min() / (n - 1)) * q.max()),
        r"\|V\| - 1",
    ),
    (
        "output_score",
        score_of(lambda q, rank, n: (1 - q.argsort().min() / n) * q.max()),
        "among the tokens",
    ),
    ("output_score", score_of(lambda q, rank, n: (1 - rank.max() / n) * q.max()), "largest rank"),
    (
        "output_score",
        score_of(lambda q, rank, n: (1 - rank.float().mean() / n) * q.max()),
        "ranks were averaged",
    ),
    (
        "output_score",
        score_of(lambda q, rank, n: (1 - rank.min() / n) * q.mean()),
        "probabilities were averaged",
    ),
    ("output_score", score_of(lambda q, rank, n: (1 - rank.min() / n) * q.sum()), "added up"),
    ("output_score", score_of(lambda q, rank, n: (1 - rank.min() / n) * q.min()), "smallest prob"),
    ("output_score", score_of(lambda q, rank, n: ((1 - rank / n) * q).mean()), "product was"),
    ("output_score", lambda p, t: right_score(p, t) / p[t].max() * p.max(), "of any token; take"),
    ("output_score", lambda p, t: p.max(), "always 0"),
    ("output_score", argsort_once, "argsort gives"),
    ("output_score", score_of(lambda q, rank, n: (1 - rank.min() / n) * q.max().log()), "logar"),
    ("output_score", score_in_place, "in place"),
    ("output_score", first_token, "order of the tokens"),
    ("output_score", three_tokens, "with one token"),
    ("output_score", two_at_most, "not \\(1 - the smallest"),
    ("output_score", lambda p, t: p[t], "expected one number"),
]


(
    test_the_right_solution_passes,
    test_a_wrong_solution_is_named,
    test_every_exercise_has_two_right_and_six_wrong_solutions,
) = both_ways(CHECKS, NAMES, RIGHT, WRONG)
