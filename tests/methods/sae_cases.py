"""Sparse autoencoders of random numbers that several tests share."""

from operator import mul
from types import SimpleNamespace

import torch

import steerlib as st

ACTIVATIONS = ("relu", "jumprelu", "topk")
NOWHERE = SimpleNamespace()  # the edits of an SAE do not ask where a token is


def random_sae(activation, d=6, n=10, site=None, origin=None, seed=0):
    """Rows of length 1, an encoder that is not their transpose, thresholds that matter."""
    random = torch.Generator().manual_seed(seed)
    decoder = torch.nn.functional.normalize(torch.randn(n, d, generator=random), dim=1)
    return st.SAE(
        site or st.resid(1),
        decoder.T + 0.2 * torch.randn(d, n, generator=random),
        0.3 * torch.randn(n, generator=random),
        decoder,
        torch.randn(d, generator=random),
        activation,
        threshold=torch.rand(n, generator=random) + 0.3 if activation == "jumprelu" else None,
        k=3 if activation == "topk" else None,
        origin=origin,
    )


def activations(d=6, n=40, seed=1):
    return 2 * torch.randn(2, n // 2, d, generator=torch.Generator().manual_seed(seed))


def inputs(sae, h):
    """x = h E + b, one number at a time."""
    columns, bias = sae.encoder.T.tolist(), sae.bias.tolist()
    rows = h.reshape(-1, sae.d).tolist()
    x = [[sum(map(mul, row, e)) + b for e, b in zip(columns, bias, strict=True)] for row in rows]
    return torch.tensor(x, dtype=torch.double)


def latents(sae, h):
    """z(h) as the chapter writes it, one token and one latent at a time."""
    theta, found = sae.floor.tolist(), []
    for x in inputs(sae, h).tolist():
        z = [value if value > theta[f] else 0.0 for f, value in enumerate(x)]
        order = sorted(range(sae.n), key=lambda f, x=x: -x[f])
        kept = order[: sae.k] if sae.activation == "topk" else order
        found.append([value if f in kept else 0.0 for f, value in enumerate(z)])
    return torch.tensor(found).view(*h.shape[:-1], sae.n)


def change(intervention, h):
    """How an intervention at one site changes activations: the sum of its terms."""
    return sum(term.edit.delta(h, NOWHERE) for term in intervention.terms)


def whole(sae, feature, target, at_least):
    """A clamp by the general edit, which computes all latents, whatever the activation."""
    edit = sae._latents([feature], [float(target)], at_least, False)
    return st.Intervention((st.Term(sae.site, edit),), sae.origin)
