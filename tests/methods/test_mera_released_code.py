"""What the code released with MERA does, and the identity that each of its mistakes breaks.

Every test writes the released behaviour anew in a few lines, shows that it fails, and that the
library's holds.
"""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import steerlib as st
from steerlib.core.classification import label_ids
from steerlib.core.prompts import encode
from steerlib.evaluation.world_problems import world_problems
from steerlib.methods.mera import GRID, Calibration
from steerlib.statistics import Flips
from tests.methods.mera_cases import probe, read, rows, two_way, words
from tests.planted import SITE, planted_model

N, D = 200, 6
H = rows(N, D, seed=7)
W = torch.tensor([0.6, 0, -1.2, 0, 0.5, 0.3]) / H.std(0)
B = -(H @ W).mean().item()
NOISE = torch.randn(N, generator=torch.Generator().manual_seed(8))
KNOWN = two_way(H @ W + B + 0.5 * NOISE)
MODEL = planted_model(H)
ASKED = words(KNOWN.truth)
ERROR = KNOWN.log_odds


def fit(kind):
    return st.error_probes(MODEL, ASKED, SITE, kind=kind, answers=KNOWN)[SITE]


def steered(intervention):
    with st.steer(MODEL, intervention):
        return read(MODEL, ASKED)


# --- 1: the estimate is squashed, the limit is not


def released_step(h, w, b, alpha):
    """Steer where sigmoid(w . h) > logit(alpha), by (logit(alpha) - sigmoid(w . h)) w / ||w||^2."""
    squashed, border = torch.sigmoid(h @ w + b), math.log(alpha / (1 - alpha))
    step = (border - squashed)[:, None] * w / w.square().sum()
    return torch.where((squashed > border)[:, None], h + step, h)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 0.6, 0.8])
def test_after_the_step_the_estimate_is_the_limit(alpha):
    border, before = math.log(alpha / (1 - alpha)), H @ W + B
    above = before > border
    assert 10 < above.sum() < N
    released, own = released_step(H, W, B, alpha), steered(probe(W, B).step(alpha))
    assert (own[above] @ W + B - border).abs().max() < 1e-4
    assert ((released[above] @ W + B - border).abs() > 0.01).double().mean() > 0.9


def test_a_low_limit_steers_all_and_a_high_one_none_as_released():
    before = H @ W + B
    for alpha in (0.1, 0.4, 0.6, 0.8):
        moved = (steered(probe(W, B).step(alpha)) != H).any(1)
        assert torch.equal(moved, before > math.log(alpha / (1 - alpha)))
    for alpha, everyone in ((0.1, True), (0.4, True), (0.75, False), (0.8, False)):
        moved = (released_step(H, W, B, alpha) != H).any(1)
        assert moved.all() if everyone else not moved.any()


def test_a_second_step_changes_nothing():
    released = released_step(released_step(H, W, B, 0.2), W, B, 0.2)
    assert (released - released_step(H, W, B, 0.2)).norm(dim=1).min() > 0.01
    step = probe(W, B).step(0.2)
    with st.steer(MODEL, step):
        twice = steered(step)
    assert torch.allclose(twice, steered(step), atol=1e-5)


# --- 2: signs


def spearman(a, b):
    ranks = [x.argsort().argsort().double() for x in (a, b)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()


def test_every_direction_that_is_reduced_is_one_of_error():
    x = (H - H.mean(0)) / H.std(0)
    right = LogisticRegression(fit_intercept=False).fit(x.numpy(), KNOWN.correct.numpy())
    released_logistic = torch.from_numpy(right.coef_[0]).float()
    order = ERROR.argsort()
    released_contrast = H[order[:50]].mean(0) - H[order[-50:]].mean(0)
    assert spearman(x @ released_logistic, ERROR) < -0.8  # so that reducing it adds error
    assert spearman(H @ released_contrast, ERROR) < -0.1
    on_top = st.along(MODEL, ASKED, st.contrast(MODEL, ASKED, SITE, 50, answers=KNOWN),
                      answers=KNOWN)  # fmt: skip
    for found in (fit("lasso"), fit("ridge"), fit("logistic"), on_top):
        assert spearman(H @ found.w, ERROR) > 0.1
        for made in (found.step(0.2), found.push()):
            change = steered(made) - H
            assert (change @ found.w).max() <= 1e-4
            assert (change @ found.w).min() < 0


# --- 3: one dictionary under four names


def test_every_baseline_has_its_own_weights():
    weights = {kind: fit(kind).w for kind in ("lasso", "ridge", "logistic")}
    released, shared = {}, {}
    for name, w in weights.items():
        shared["direction"] = -w
        released[name] = shared
    assert not torch.equal(released["lasso"]["direction"], -weights["lasso"])
    own = {kind: fit(kind).push() for kind in weights}
    for name, w in weights.items():
        assert torch.equal(own[name].direction, -w)


# --- 4: the worst of the regressions


def test_the_worst_regression_is_a_regression():
    table = pd.DataFrame(
        [{"task": kind, "rmse": fit(kind).quality.rmse} for kind in ("logistic", "lasso", "ridge")]
    )
    released_worst = table.sort_values("rmse").iloc[-1]
    assert released_worst.task == "logistic"
    found = st.error_probes(MODEL, ASKED, [SITE, st.resid(0)], answers=KNOWN)
    worst = max(found.values(), key=lambda one: one.quality.rmse)
    assert worst.kind == "lasso"
    assert all(math.isfinite(one.quality.rmse) for one in found.values())


# --- 5: names


def test_contrasts_of_several_k_do_not_share_a_name():
    made = {k: st.contrast(MODEL, ASKED, SITE, k, answers=KNOWN) for k in (25, 50, 100)}
    released = {}
    for contrast in made.values():
        released["optimal_contrastive"] = contrast
    assert len(released) == 1
    assert len({contrast.origin.method for contrast in made.values()}) == 3


# --- 6: which logits chose the label


def test_the_label_that_is_written_is_the_likeliest_one(world):
    """Logits at the label token are about the token after it."""
    asked = world_problems("majority", 60)
    labels = [ids[0] for ids in label_ids(world, asked[0].classes)]
    written, own, released = [], [], []
    for problem in asked:
        ids = encode(world, problem.prompt, chat=False)[0]
        with torch.no_grad():
            token = int(world.module(torch.tensor([ids])).logits[0, -1].argmax())
            logits = world.module(torch.tensor([[*ids, token]])).logits[0][:, labels]
        written.append(labels.index(token))
        own.append(int(logits[-2].argmax()))
        released.append(int(logits[-1].argmax()))
    answers, exact = st.classify_written(world, asked, max_new_tokens=1)
    assert 10 < sum(written) < 50
    assert answers.found.all()
    for read_before in (
        own,
        st.classify(world, asked).predicted.tolist(),
        answers.predicted.tolist(),
    ):
        assert read_before == written
    assert np.mean(np.array(released) != written) > 0.2
    assert exact == asked  # the last token is the one whose logits chose


# --- 7: no label is no success


TEXTS = [f"the {w} saw the {v} {u}" for w in "dog cat bird fish sun".split()
         for v in "rain wind girl boy".split() for u in "a big red happy".split()]  # fmt: skip
LABELS = ("dog", "happy")


def label_push(model):
    """Makes both labels likely, so that one of them is written."""
    ids = [model.tokenizer.convert_tokens_to_ids(label) for label in LABELS]
    return 40 * st.Add(st.resid(3), model.module.lm_head.weight[ids].sum(0).detach()).unit()


@pytest.mark.filterwarnings("ignore:.*vocabulary")
def test_breaking_the_format_does_not_lower_the_error(gpt2):
    problems = [st.Problem(text, LABELS[0], LABELS, chat=False) for text in TEXTS]
    with st.steer(gpt2, label_push(gpt2)):
        kept, _ = st.classify_written(gpt2, problems, max_new_tokens=1)
    with st.steer(gpt2, -label_push(gpt2)):
        broken, left = st.classify_written(gpt2, problems, max_new_tokens=1)
    assert kept.found.double().mean() > 0.5
    assert not broken.found.any()

    def released(answers):
        p_true = torch.where(answers.found, 1 - answers.error, 1.0)
        return (1 - p_true).mean(), answers.accuracy

    assert released(broken)[0] == 0 < released(kept)[0]
    assert released(broken)[1] == 0  # no error, and none right
    assert broken.error.tolist() == [1.0] * len(problems)
    assert broken.error.mean() > kept.error.mean()
    assert broken.accuracy == 0 < kept.accuracy
    assert broken.log_odds.min() > kept.log_odds[kept.found].max()
    assert left == problems


# --- 8: labels that end alike


def released_ids(model, label):
    """The last token of each way to write a label."""
    cases = {label.lower(), label.upper(), label.capitalize()}
    texts = [space + case for case in cases for space in ("", " ")]
    return {model.tokenizer(text, add_special_tokens=False).input_ids[-1] for text in texts}


def test_labels_share_no_token(models):
    model = models("qwen2")
    assert released_ids(model, "positive") & released_ids(model, "negative")
    good, bad = label_ids(model, ("positive", "negative"))
    assert not set(good) & set(bad)
    with pytest.raises(ValueError, match="'plus' and 'pool' share label tokens"):
        label_ids(model, ("plus", "pool"))


# --- 11: the best of ten on few problems


def test_the_best_of_ten_harmless_settings_is_no_gain():
    """Each setting changes a tenth of the answers, as often for the better as for the worse."""
    random, repeats, n, right = np.random.default_rng(0), 400, 250, 150
    size = (repeats, len(GRID))
    up = random.binomial(n - right, 0.05 * n / (n - right), size)
    down = random.binomial(right, 0.05 * n / right, size)
    found = Flips(n, right, up, down)
    released = found.gain.max(1)
    assert 0.02 < released.mean() < 0.04  # although the true gain is 0
    assert (released > 0).mean() > 0.95
    safe = (found.lower_bound(0.05 / len(GRID)) > 0).any(1).tolist()
    step = st.Add(st.resid(0), torch.ones(D))
    for k in range(20):
        flips = tuple(Flips(n, right, int(a), int(b)) for a, b in zip(up[k], down[k], strict=True))
        own = Calibration(GRID, flips, (0.0,) * 10, 0.05, 0.0, "none", (step,) * 10)
        assert flips[own.with_bound("none").chosen].gain == released[k] > 0
        assert own.with_bound("conditional").abstains is not safe[k]
    assert np.mean(safe) <= 0.05
