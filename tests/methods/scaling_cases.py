"""What the tests of activation scaling share."""

import torch

import steerlib as st
from steerlib.core.answers import answer_ids, encode_choices, margin, next_scores
from steerlib.core.fitting import Plan

QUICK = Plan(epochs=8, batch_size=18, lr=0.1)
ENDS = [st.last, st.prompt - st.last]
FEW = [st.mlp_out(2), st.head(3, 3), st.head(0, 1)]


def one_step(n, lr=0.1):
    return Plan(epochs=1, batch_size=n, lr=lr)


def table(intervention, sites, slots):
    """What was learned, as (sites, slots); 0 where there is no term."""
    found = torch.zeros(len(sites), slots)
    for term in intervention.terms:
        found[sites.index(term.site)] = term.edit.alpha
    return found


def stacked(gradients):
    return torch.stack(list(gradients.values()))


def scores(model, choices, intervention=None, strength=1.0):
    """The logits after each prompt, read alone."""
    found = []
    for item in encode_choices(model, choices):
        if intervention is None:
            found.append(next_scores(model, [item]))
            continue
        with st.steer(model, intervention, strength):
            found.append(next_scores(model, [item]))
    return torch.cat(found)


def margins(model, choices, intervention=None, strength=1.0):
    found = scores(model, choices, intervention, strength)
    return margin(found, *answer_ids(encode_choices(model, choices)))


def tensors(intervention):
    return [tensor for term in intervention.terms for tensor in term.edit.tensors.values()]


def same(a, b):
    """Whether two interventions are equal to the bit."""
    return a.sites == b.sites and all(map(torch.equal, tensors(a), tensors(b)))


def joined(terms):
    first, *rest = terms
    return sum(rest, first)


def others(logits, keep):
    """p over all tokens but the answers (n, d_vocab - 2)."""
    p = logits.softmax(-1)[keep].view(len(logits), -1)
    return p / p.sum(1, keepdim=True)


def own_loss(model, choices, intervention, objective):
    """L_E + lambda_F L_F as the chapter writes it, one direction at a time."""
    asked = encode_choices(model, choices)
    c, w = answer_ids(asked)
    rows, keep = torch.arange(len(asked)), torch.ones(len(asked), model.d_vocab, dtype=torch.bool)
    keep[rows, c] = keep[rows, w] = False
    total, p_0 = 0.0, others(next_scores(model, asked), keep)
    for beta in (1.0, -1.0):
        with st.steer(model, intervention, beta):
            logits = next_scores(model, asked)
        log_p, target = logits.log_softmax(-1), c if beta > 0 else w
        if objective.effectiveness == "cross_entropy":
            total = total - log_p[rows, target].mean()
        else:
            delta = beta * (log_p[rows, c] - log_p[rows, w])
            total = total + (objective.margin - delta).clamp(min=0).mean()
        p = others(logits, keep)
        kl = (p_0 * (p_0.log() - p.log())).sum(1).mean()
        total = total + objective.faithfulness * kl / 2
    return total
