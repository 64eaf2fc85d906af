"""Problems whose errors are known, on a model whose activations are known."""

import torch
from torch.nn.functional import logsigmoid

import steerlib as st
from steerlib.core.classification import Answers
from steerlib.methods.error_fits import Quality
from steerlib.methods.error_probes import ErrorProbe
from tests.planted import SITE

CLASSES = ("w1", "w2")
UNKNOWN = Quality(float("nan"), 1.0, float("nan"), float("nan"), 0)


def rows(n=200, d=8, seed=0):
    """Activations whose features differ in mean and scale, and correlate."""
    random = torch.Generator().manual_seed(seed)
    mix = torch.eye(d) + 0.1 * torch.randn(d, d, generator=random)
    scale = torch.logspace(-1, 1, d)
    return (torch.randn(n, d, generator=random) @ mix) * scale + 3 * scale


def words(truth, classes=CLASSES):
    """Problem n is the word w<n>."""
    return [
        st.Problem(f"w{n}", classes[number], classes, chat=False)
        for n, number in enumerate(truth.tolist())
    ]


def two_way(y, truth=None):
    """Answers to questions with two classes where logit E is y."""
    truth = torch.arange(len(y)) % 2 if truth is None else truth
    log_p = torch.empty(len(y), 2)
    log_p[torch.arange(len(y)), truth] = logsigmoid(-y).float()
    log_p[torch.arange(len(y)), 1 - truth] = logsigmoid(y).float()
    every = torch.ones(len(y))
    return Answers(CLASSES, log_p, truth, every, every.bool())


def said(truth, predicted, classes):
    """Answers that are as told, with a probability of 0.8."""
    log_p = torch.full((len(truth), len(classes)), 0.2 / (len(classes) - 1)).log()
    log_p[torch.arange(len(truth)), predicted] = torch.tensor(0.8).log()
    every = torch.ones(len(truth))
    return Answers(classes, log_p, truth, every, every.bool())


def probe(w, b=0.0, site=SITE, **options):
    """A probe of one's own."""
    return ErrorProbe(site, torch.as_tensor(w), b, "own", UNKNOWN, **options)


def read(model, problems, site=SITE, at=st.last):
    """The activations of problems, as they are now."""
    texts = [problem.prompt for problem in problems]
    return st.capture(model, texts, [site], at, chat=False)[site]
