"""Error probes: what they find of an error that is known, how honest their quality is, the step."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import steerlib as st
from steerlib.methods.error_fits import PENALTIES, fit_error, quality_of
from steerlib.methods.error_probes import probe_quality
from tests.methods.mera_cases import probe, read, rows, two_way, words
from tests.planted import SITE, planted_model

N, D = 200, 8
H = rows(N, D)
SLOPE = torch.tensor([1.0, 0, 0, -2, 0, 0, 0.5, 0]) / H.std(0)
OFFSET = 0.5 - (H.mean(0) @ SLOPE).item()
Y = H @ SLOPE + OFFSET
NOISE = torch.randn(N, generator=torch.Generator().manual_seed(3))
MODEL = planted_model(H)
KNOWN, NOISY = two_way(Y), two_way(Y + 2 * NOISE)
ASKED = words(KNOWN.truth)


@cache
def fit(known=KNOWN, problems=None, **options):
    """A probe; the same call is not fitted twice. Other problems are a tuple."""
    return st.error_probes(MODEL, problems or ASKED, SITE, answers=known, **options)[SITE]


def sides(known):
    return known.log_odds.double().numpy(), ~known.correct.numpy()


def target(kind, y, wrong):
    return wrong if kind == "logistic" else (y - y.mean()) / y.std()


def reference(kind, h, z):
    """A fitted pipeline of scikit-learn with the penalty of a plain search."""
    x = StandardScaler().fit_transform(h)
    if kind == "ridge":
        model = Ridge(alpha=min(PENALTIES["ridge"], key=lambda alpha: left_out(x, z, alpha)))
    elif kind == "logistic":
        cv = StratifiedKFold(5, shuffle=True, random_state=0)
        grid, score = {"C": PENALTIES["logistic"]}, "neg_log_loss"
        model = GridSearchCV(LogisticRegression(), grid, scoring=score, cv=cv).fit(x, z)
    else:
        cv = KFold(5, shuffle=True, random_state=0)
        grid, score = {"alpha": PENALTIES["lasso"]}, "neg_mean_squared_error"
        model = GridSearchCV(Lasso(), grid, scoring=score, cv=cv).fit(x, z)
    chosen = model if kind == "ridge" else model.best_estimator_
    return make_pipeline(StandardScaler(), chosen).fit(h, z)


def left_out(x, z, alpha):
    """The squared error of ridge regression at rows that are left out one at a time."""
    hat = x @ np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T) + 1 / len(x)
    return np.mean(((z - hat @ (z - z.mean()) - z.mean()) / (1 - np.diag(hat))) ** 2)


# --- what is found


@pytest.mark.parametrize("kind", ["lasso", "ridge"])
def test_a_linear_error_is_found_in_the_raw_basis(kind):
    found = fit(kind=kind)
    spread = Y.std()
    assert torch.allclose(found.w * H.std(0) / spread, SLOPE * H.std(0) / spread, atol=0.03)
    assert found.w.shape == (D,)
    assert (H @ found.w + found.b - Y).abs().max() < 0.08 * spread
    assert found.b == pytest.approx(OFFSET, abs=0.1 * spread.item())
    assert found.quality.r2 > 0.998
    assert found.quality.n == N


def test_lasso_leaves_out_what_does_not_count():
    used = fit().w.abs() * H.std(0) / Y.std() > 5e-3
    assert used.tolist() == (SLOPE != 0).tolist()


@pytest.mark.parametrize("kind", ["lasso", "ridge", "logistic"])
def test_the_estimate_is_the_one_of_a_pipeline_of_scikit_learn(kind):
    y, wrong = sides(NOISY)
    h = H.double().numpy()
    pipeline, found = reference(kind, h, target(kind, y, wrong)), fit(NOISY, kind=kind)
    if kind == "logistic":
        expected = pipeline.decision_function(h)
    else:
        expected = y.mean() + y.std() * pipeline.predict(h)
    own = (H.double() @ found.w.double() + found.b).numpy()
    assert np.abs(own - expected).max() < 1e-4 * np.abs(expected).max()
    assert found.readout.score(MODEL, [p.prompt for p in ASKED]).numpy() == pytest.approx(
        expected, abs=1e-4 * np.abs(expected).max()
    )


@pytest.mark.parametrize("kind", ["lasso", "ridge", "logistic"])
def test_the_quality_is_that_of_rows_that_neither_fit_nor_choice_saw(kind):
    y, wrong = sides(NOISY)
    h, z = H.double().numpy(), target(kind, y, wrong)
    split = (StratifiedKFold if kind == "logistic" else KFold)(5, shuffle=True, random_state=1)
    whole, estimate, dummy = reference(kind, h, z), np.empty(N), np.empty(N)
    for train, test in split.split(h, z):
        base = z[train].mean()
        if kind == "logistic":  # this keeps the penalty that all rows chose
            own = clone(whole).fit(h[train], z[train])
            estimate[test], dummy[test] = own.decision_function(h[test]), np.log(base / (1 - base))
        else:
            own = reference(kind, h[train], z[train])
            estimate[test] = y.mean() + y.std() * own.predict(h[test])
            dummy[test] = y.mean() + y.std() * base
    found = fit(NOISY, kind=kind).quality
    assert found.auroc == pytest.approx(roc_auc_score(wrong, estimate - dummy))
    if kind == "logistic":
        assert math.isnan(found.r2)
        assert math.isnan(found.rmse)
        assert found.dummy == pytest.approx(y.std())
        return
    assert found.rmse == pytest.approx(np.sqrt(np.mean((estimate - y) ** 2)), rel=1e-6)
    assert found.dummy == pytest.approx(np.sqrt(np.mean((dummy - y) ** 2)), rel=1e-6)
    assert found.r2 == pytest.approx(1 - (found.rmse / found.dummy) ** 2)
    assert 0.3 < found.r2 < 0.9


def test_the_seed_is_that_of_the_folds():
    first, again, other = (fit.__wrapped__(NOISY, seed=seed) for seed in (0, 0, 1))
    assert first.quality == again.quality
    assert torch.equal(first.w, again.w)
    assert first.quality != other.quality
    assert other.origin == st.Origin(MODEL.id, MODEL.revision, "error probe (lasso)", 1)


# --- quality by hand


def test_quality_by_hand():
    y = np.array([-2.0, -1.0, 1.0, 2.0])
    wrong = np.array([False, False, True, True])
    found = quality_of(y, np.array([-1.0, 2.0, 1.0, 1.0]), np.array([0.0, 3.0, 1.0, 5.0]), wrong)
    assert found.rmse == pytest.approx(math.sqrt((1 + 9 + 0 + 1) / 4))
    assert found.dummy == pytest.approx(math.sqrt(10 / 4))
    assert found.r2 == pytest.approx(1 - 11 / 10)
    assert found.auroc == 0.75  # of four pairs, only that of 3 and 1 is in the wrong order
    assert found.n == 4


def test_without_both_kinds_of_answers_there_is_no_auroc():
    y = np.array([1.0, 2.0, 3.0])
    for all_wrong in (True, False):
        assert math.isnan(quality_of(y, y, y, np.full(3, all_wrong)).auroc)
    assert math.isnan(quality_of(np.ones(3), np.ones(3), y, np.full(3, True)).r2)


def test_quality_on_other_problems_by_hand():
    found, order = fit(NOISY), list(range(0, N, 3))
    some = [ASKED[row] for row in order]
    quality = probe_quality(MODEL, found, some, answers=NOISY.of(order))
    y = (Y + 2 * NOISE)[order].double()
    estimate = (H[order] @ found.w + found.b).double()
    assert quality.rmse == pytest.approx((y - estimate).square().mean().sqrt().item(), rel=1e-4)
    assert quality.dummy == pytest.approx(y.std(correction=0).item(), rel=1e-4)
    assert quality.auroc == pytest.approx(roc_auc_score(y > 0, estimate))
    assert quality.n == len(order)
    logistic = probe_quality(MODEL, fit(NOISY, kind="logistic"), some, answers=NOISY.of(order))
    assert math.isnan(logistic.rmse)
    assert 0.8 < logistic.auroc < 1


# --- honesty


@pytest.mark.parametrize("kind", ["lasso", "ridge", "logistic", "along"])
def test_noise_has_no_quality(kind):
    """Also where a fit on all rows explains half of it."""
    found, fitted = [], []
    for seed in range(5 if kind == "logistic" else 12):
        random = np.random.default_rng(seed)
        h, y = random.normal(size=(80, 40)), random.normal(size=80)
        h = h[:, :1] if kind == "along" else h
        found.append(fit_error(h, y, y > 0.5, kind, 5, seed)[2])
        rest = y - h @ np.linalg.lstsq(h, y, rcond=None)[0]
        fitted.append(1 - rest.var() / y.var())
    assert abs(np.mean([q.auroc for q in found]) - 0.5) < 0.05
    if kind != "logistic":
        r2 = np.array([q.r2 for q in found])
        assert -0.1 < r2.mean() < 0.01
        assert r2.max() < 0.1
    if kind != "along":
        assert np.mean(fitted) > 0.4


@pytest.mark.parametrize("kind", ["lasso", "ridge"])
def test_permuted_errors_have_no_quality(kind):
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    found = fit(two_way(Y[order]), kind=kind).quality
    assert abs(found.r2) < 0.05
    assert abs(found.auroc - 0.5) < 0.1


def test_what_reads_nothing_is_exactly_the_dummy():
    """Offsets of the folds differ; pooled as they are, they would look like a backward score."""
    random = np.random.default_rng(0)
    h, y = np.zeros((50, 3)), random.normal(size=50)
    w, b, quality = fit_error(h, y, y > 0, "lasso", 5, 0)
    assert not w.any()
    assert b == pytest.approx(y.mean())
    assert quality.r2 == pytest.approx(0, abs=1e-12)
    assert quality.auroc == 0.5


# --- which problems


def test_the_fit_within_a_label_takes_its_problems_only():
    inside = [row for row in range(N) if ASKED[row].label == "w2"]
    found = fit(NOISY, label="w2", kind="ridge", metric="covariance")
    alone = fit(
        NOISY.of(inside), tuple(ASKED[row] for row in inside), kind="ridge", metric="covariance"
    )
    assert found.quality == alone.quality
    assert found.quality.n == len(inside) == N // 2
    assert torch.equal(found.w, alone.w)
    assert torch.allclose(found.metric, torch.cov(H[inside].T), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found.w, fit(NOISY, kind="ridge").w, rtol=1e-2)


def test_the_fit_for_an_answer_takes_what_is_answered_so():
    inside = [row for row in range(N) if NOISY.predicted[row] == 0]
    found = fit(NOISY, answer="w1", kind="logistic")
    alone = fit(NOISY.of(inside), tuple(ASKED[row] for row in inside), kind="logistic")
    assert found.quality.auroc == alone.quality.auroc
    assert found.quality.n == len(inside) != N // 2
    assert torch.equal(found.w, alone.w)
    both = fit(NOISY, label="w2", answer="w1").quality.n
    assert both == int(((NOISY.truth == 1) & (NOISY.predicted == 0)).sum())


def test_an_answer_that_was_not_found_is_none_of_the_answers_and_an_error_of_1():
    found = torch.arange(N) % 5 > 0
    known = replace(NOISY, found=found)
    inside = int((NOISY.predicted[found] == 0).sum())
    assert fit(known, answer="w1").quality.n == inside
    assert fit(known).quality.dummy > 1.5 * fit(NOISY).quality.dummy


def test_an_error_within_a_label_may_have_another_direction_than_across_labels():
    """The label shifts the error by itself: only the fit within does not read it."""
    labelled = torch.zeros(D)
    labelled[1] = 8.0 * H[:, 1].std()
    h = H + (KNOWN.truth[:, None] * labelled)
    y = Y + 10.0 * KNOWN.truth
    model, known = planted_model(h), two_way(y)
    across = st.error_probes(model, ASKED, SITE, answers=known, kind="ridge")[SITE]
    within = st.error_probes(model, ASKED, SITE, answers=known, kind="ridge", label="w2")[SITE]
    shift = labelled[1] / Y.std()
    assert across.w[1] * shift > 1
    assert abs(within.w[1] * shift) < 0.3


# --- where it reads


def test_it_reads_and_steers_the_token_that_it_is_told():
    worst = int(Y.argmax())  # a step would move it
    asked = tuple(replace(p, prompt=f"{p.prompt} w{worst}") for p in ASKED)
    first = st.prompt - st.last
    at_first = fit(problems=asked, at=first, kind="ridge")
    assert torch.allclose(at_first.w, fit(kind="ridge").w, rtol=1e-4)
    assert at_first.positions == first
    with st.steer(MODEL, at_first.step(0.2)):
        moved, kept = (read(MODEL, asked, at=at) for at in (first, st.last))
    assert (moved @ at_first.w + at_first.b).max() < math.log(0.25) + 1e-3
    assert torch.equal(kept, H[worst].expand(N, D))


def test_one_token_of_each_prompt_is_read():
    asked = tuple(replace(p, prompt=f"{p.prompt} w0") for p in ASKED)
    with pytest.raises(ValueError, match=r"one token of each prompt, but .* selects 400 in 200"):
        fit(problems=asked, at=st.prompt)
    with pytest.raises(ValueError, match="match no token of text"):
        fit(at=st.prompt - st.last)


def test_several_sites_are_read_together(gpt2):
    asked = [
        st.Problem(f"the {w} saw a {v} .", label, ("good", "bad"), chat=False)
        for n, w in enumerate(("dog", "cat", "bird", "fish"))
        for m, v in enumerate(("ball", "park", "girl", "boy", "sun"))
        for label in (("good", "bad")[(n + m) % 2],)
    ]
    sites = [st.resid(0), "blocks.2.hook_mlp_out"]
    found = st.error_probes(gpt2, asked, sites, kind="ridge")
    assert list(found) == [st.resid(0), st.mlp_out(2)]
    for site, one in found.items():
        alone = st.error_probes(gpt2, asked, site, kind="ridge")[site]
        assert torch.allclose(one.w, alone.w, rtol=1e-3, atol=1e-6)
        assert one.site == site
    known = st.classify(gpt2, asked)
    given = st.error_probes(gpt2, asked, sites, kind="ridge", answers=known)
    assert torch.equal(given[st.resid(0)].w, found[st.resid(0)].w)


def test_a_system_text_is_read_with_its_prompt(gpt2):
    asked = [
        st.Problem("the dog", "good", ("good", "bad"), system=f"a {w} {v} story")
        for w in ("happy", "sad", "big", "red")
        for v in ("good", "little", "cat", "sun")
    ]
    found = st.error_probes(gpt2, asked, st.resid(1), kind="ridge")[st.resid(1)]
    texts = [f"<system> {p.system} <user> the dog <assistant>" for p in asked]
    h = st.capture(gpt2, texts, [st.resid(1)], chat=False)[st.resid(1)]
    y = st.classify(gpt2, asked).log_odds
    w, b, _ = fit_error(h.double().numpy(), y.double().numpy(), y.numpy() > 0, "ridge", 5, 0)
    assert found.w.double().numpy() == pytest.approx(w, rel=1e-4, abs=1e-6)
    assert found.b == pytest.approx(b, rel=1e-4)


# --- the step


def after(step, times=1):
    if not times:
        return read(MODEL, ASKED)
    with st.steer(MODEL, step):
        return after(step, times - 1)


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("metric", ["identity", "covariance"])
def test_the_step_goes_to_the_border_from_above_and_nowhere_else(alpha, metric):
    found = fit(NOISY, metric=metric)
    estimate, border = H @ found.w + found.b, math.log(alpha / (1 - alpha))
    above = estimate > border
    assert 10 < above.sum() < N - 1
    moved = after(found.step(alpha))
    assert (moved[above] @ found.w + found.b - border).abs().max() < 1e-4 * estimate.abs().max()
    assert torch.equal(moved[~above], H[~above])
    change = moved[above] - H[above]
    along = -found.w if metric == "identity" else -torch.cov(H.T) @ found.w
    cosine = torch.cosine_similarity(change, along[None], dim=1)
    far = estimate[above] - border > 0.1 * estimate.abs().max()
    assert cosine[far].min() > 0.999
    assert torch.allclose(after(found.step(alpha), 2), moved, atol=1e-4)


@pytest.mark.parametrize("metric", ["identity", "covariance"])
def test_no_smaller_step_would_do(metric):
    found, alpha = fit(NOISY, metric=metric), 0.1
    row = int((H @ found.w + found.b).argmax())
    v = after(found.step(alpha))[row] - H[row]
    inverse = torch.eye(D) if metric == "identity" else torch.cov(H.T).inverse()
    random = torch.Generator().manual_seed(0)
    others = v + 0.3 * v.norm() * torch.randn(2000, D, generator=random) / math.sqrt(D)
    feasible = others[(H[row] + others) @ found.w + found.b <= math.log(alpha / (1 - alpha))]
    assert len(feasible) > 100
    cost = torch.einsum("nd,de,ne->n", feasible, inverse, feasible)
    assert (cost >= v @ inverse @ v * (1 - 1e-4)).all()


def test_an_alpha_near_1_does_nothing_and_half_the_strength_half_the_way():
    found = fit(NOISY)
    assert torch.equal(after(found.step(1 - 1e-12)), H)
    half = after(0.5 * found.step(0.1))
    assert torch.allclose(half - H, (after(found.step(0.1)) - H) / 2, atol=1e-4)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, float("nan")])
def test_alpha_is_an_error_between_0_and_1(alpha):
    with pytest.raises(ValueError, match="between 0 and 1, both excluded"):
        fit().step(alpha)


def test_the_push_is_the_same_for_all():
    found = fit(NOISY, at=st.last)
    push = found.push()
    assert torch.equal(push.direction, -found.w)
    assert push.terms[0].positions == st.last
    assert torch.allclose(after(2 * push), H - 2 * found.w, atol=1e-5)
    for made in (push, found.step(0.3)):
        assert made.origin == found.origin


def test_zero_weights_steer_nowhere():
    nothing = probe(torch.zeros(D), 2.0)
    for make in (nothing.push, lambda: nothing.step(0.3)):
        with pytest.raises(ValueError, match=r"the own probe at .* has zero weights"):
            make()


def test_a_step_is_stored_with_its_metric(tmp_path):
    step = fit(NOISY, metric="covariance").step(0.2)
    step.save(tmp_path / "step.safetensors")
    again = st.load_intervention(tmp_path / "step.safetensors", MODEL)
    assert torch.equal(after(again), after(step))


# --- what is refused


def test_what_no_probe_can_be_fitted_to_is_refused():
    few, ten = list(range(9)), list(range(10))
    with pytest.raises(ValueError, match=r"5 folds \(at least 2\) need 10 problems, but 9 are"):
        fit(NOISY.of(few), tuple(ASKED[:9]))
    fit(NOISY.of(ten), tuple(ASKED[:10]))
    with pytest.raises(ValueError, match="at least 2"):
        fit(folds=1)
    with pytest.raises(ValueError, match="the same for all 200 problems"):
        fit(two_way(torch.full((N,), -1.0)))
    right = two_way(-Y.abs() - 1)
    with pytest.raises(ValueError, match="5 of each; of 200 are 0 wrong"):
        fit(right, kind="logistic")
    with pytest.raises(ValueError, match="5 of each; of 200 are 4 wrong"):
        fit(two_way(torch.where(torch.arange(N) < 4, 1.0, -1.0) * Y.abs()), kind="logistic")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "linear"}, r"kind is one of \('lasso', 'ridge', 'logistic'\), got 'linear'"),
        ({"kind": "along"}, "kind is one of"),
        ({"metric": "pca"}, r"metric is one of \('identity', 'covariance'\), got 'pca'"),
        ({"label": "yes"}, r"label is one of \('w1', 'w2'\) or None, got 'yes'"),
        ({"answer": "no"}, "answer is one of"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fit(**options)


def test_answers_to_other_problems_are_refused():
    with pytest.raises(ValueError, match=r"the 10 answers are not to these 200 problems"):
        fit(KNOWN.of(range(10)))
    with pytest.raises(ValueError, match="not in their order"):
        fit(problems=(*ASKED[1:], ASKED[0]))
    with pytest.raises(ValueError, match="not in their order"):
        probe_quality(MODEL, fit(), ASKED[::-1], answers=KNOWN)
