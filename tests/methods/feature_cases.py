"""Sparse autoencoders and texts that several tests of features share."""

from types import SimpleNamespace

import torch

import steerlib as st

SITE = st.resid(1)
TEXTS = [
    "a happy dog .",
    "the sad cat saw rain",
    "a happy little girl who went to the park and saw a big red ball",
    "rain",
    "happy sun and wind .",
    "the boy was sad . a bad story about rain",
]
DATA = SimpleNamespace(texts=TEXTS, labels=[True, False, True, False, True, False])
NEUTRAL = "tell me about the dog ."


def random_sae(model, activation="relu", n=24, site=SITE, seed=0):
    """An SAE whose latents are silent at some tokens of `model` and active at others."""
    random = torch.Generator().manual_seed(seed)
    h = st.capture(model, TEXTS, site, at=st.prompt)[site]
    d = h.shape[1]
    decoder = torch.nn.functional.normalize(torch.randn(n, d, generator=random), dim=1)
    encoder = decoder.T + 0.1 * torch.randn(d, n, generator=random)
    x = h @ encoder
    # From never to nearly always active.
    shares = torch.linspace(0.1, 1.1, n)
    bias = -x.quantile(shares.clamp(max=1.0), dim=0).diagonal()
    bias[shares > 1] -= 1.0
    extra = {"threshold": 0.2 * x.std(0)} if activation == "jumprelu" else {}
    extra |= {"k": 4} if activation == "topk" else {}
    offset = h.mean(0)
    return st.SAE(site, encoder, bias, decoder, offset, activation, **extra)
