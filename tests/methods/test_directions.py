"""Directions: identities, planted truth, and where theory says that a method must fail."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

import steerlib as st
from tests.planted import SITE as PLANTED
from tests.planted import one_word_texts, planted_model

TEXTS = [
    "a happy dog .",
    "the sad cat saw rain",
    "a happy little girl",
    "sad rain",
    "happy sun and wind .",
]
LABELS = [True, False, True, False, True]
DATA = SimpleNamespace(texts=TEXTS, labels=LABELS)
SITE = st.resid(1)
FITS = {
    "diff_means": st.diff_means,
    "mean_centred": st.mean_centred,
    "pca": st.pca,
    "lat": st.lat,
    "probe": st.probe,
}


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0).item()


def planted(n=600, d=16, gap=4.0, share=0.5, nuisance=0.0, seed=0):
    """Gaussian rows; label 1 is shifted by gap * u; a nuisance axis varies by `nuisance`."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, d, generator=random)
    labels = torch.arange(n) < share * n
    u, axis = torch.eye(d)[0], torch.eye(d)[1]
    rows = rows + torch.outer(labels * gap, u)
    rows = rows + torch.outer(torch.randn(n, generator=random) * nuisance, axis)
    return rows, labels, u, axis


# --- the definitions


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_diff_means_is_the_difference_of_the_class_means(gpt2, batch_size):
    h = st.capture(gpt2, TEXTS, [SITE], at="prompt", reduce="mean")[SITE]
    labels = torch.tensor(LABELS)
    expected = h[labels].mean(0) - h[~labels].mean(0)
    found = st.diff_means(gpt2, DATA, SITE, batch_size=batch_size)
    assert torch.allclose(found.direction, expected, atol=1e-6)
    assert found.site == SITE
    assert found.origin == st.Origin(gpt2.id, gpt2.revision, "diff_means", None)


def test_without_pooling_each_token_counts_as_in_axbench(gpt2):
    h = [st.capture(gpt2, [text], [SITE], at="prompt")[SITE] for text in TEXTS]
    positive = torch.cat([x for x, y in zip(h, LABELS, strict=True) if y])
    negative = torch.cat([x for x, y in zip(h, LABELS, strict=True) if not y])
    found = st.diff_means(gpt2, DATA, SITE, reduce=None, batch_size=2)
    assert torch.allclose(found.direction, positive.mean(0) - negative.mean(0), atol=1e-6)
    assert not torch.allclose(found.direction, st.diff_means(gpt2, DATA, SITE).direction, atol=1e-3)


def test_diff_means_reads_the_tokens_it_is_told(gpt2):
    h = st.capture(gpt2, TEXTS, [SITE])[SITE]
    labels = torch.tensor(LABELS)
    found = st.diff_means(gpt2, DATA, SITE, at="last")
    assert torch.allclose(found.direction, h[labels].mean(0) - h[~labels].mean(0), atol=1e-6)


@pytest.mark.parametrize("of", ["positive", "all"])
def test_pca_is_the_first_component_of_scikit_learn(of):
    rows, labels, _, _ = planted(nuisance=3.0)
    model, data = planted_model(rows), one_word_texts(labels)
    expected = PCA(1).fit(rows[labels] if of == "positive" else rows).components_[0]
    found = st.pca(model, data, PLANTED, of=of, batch_size=50).direction
    assert abs(cosine(found, torch.tensor(expected))) > 1 - 1e-6


def test_scatter_in_batches_is_the_scatter_of_all_far_from_the_origin():
    # A naive sum of squares loses all digits here.
    from steerlib.methods.moments import Moments

    rows = torch.randn(300, 5, generator=torch.Generator().manual_seed(0)).double() + 1e7
    moments = Moments(5, scattered=True)
    for start in range(0, 300, 7):
        moments.add(rows[start : start + 7])
    centred = rows - rows.mean(0)
    assert moments.n == 300
    assert torch.allclose(moments.scatter, centred.T @ centred, rtol=1e-6)


def test_lat_without_unit_lengths_would_be_pca_and_with_them_is_close():
    # E (x - y)(x - y)^T = 2 Cov: the chapter's proposition, for rows whose lengths are alike.
    rows, labels, u, _ = planted(n=4000, gap=6.0)
    model, data = planted_model(rows), one_word_texts(labels)
    lat, pca = st.lat(model, data, PLANTED), st.pca(model, data, PLANTED, of="all")
    assert cosine(lat.direction, u) > 0.99
    assert cosine(lat.direction, pca.direction) > 0.99


def test_lat_gives_each_pair_the_same_weight_where_pca_follows_a_few_outliers():
    rows, labels, u, axis = planted(n=1000, gap=6.0)
    rows[::100] += 200 * axis
    model, data = planted_model(rows), one_word_texts(labels)
    assert cosine(st.lat(model, data, PLANTED).direction, u) > 0.95
    assert abs(cosine(st.pca(model, data, PLANTED, of="all").direction, axis)) > 0.95


def test_lat_pairs_across_chunks_of_texts(monkeypatch):
    from steerlib.methods import components

    rows, labels, u, _ = planted(n=600, gap=6.0)
    model, data = planted_model(rows), one_word_texts(labels)
    monkeypatch.setattr(components, "_PAIRED", 64)
    assert cosine(st.lat(model, data, PLANTED).direction, u) > 0.98


def test_mean_centring_on_its_own_texts_is_diff_means_times_the_share_of_negatives():
    rows, labels, _, _ = planted(share=0.25)
    model, data = planted_model(rows), one_word_texts(labels)
    full = st.diff_means(model, data, PLANTED).direction
    found = st.mean_centred(model, data, PLANTED).direction
    assert torch.allclose(found, 0.75 * full, atol=1e-6)
    same = st.mean_centred(model, data, PLANTED, corpus=data.texts).direction
    assert torch.allclose(found, same, atol=1e-5)


def test_mean_centring_on_another_corpus_differs_by_the_distance_of_the_means():
    rows, labels, _, axis = planted()
    shifted = torch.cat([rows, rows[~labels] + 2 * axis])
    model, data = planted_model(shifted), one_word_texts(labels)
    corpus = [f"w{n}" for n in range(len(rows), len(shifted))]
    found = st.mean_centred(model, data, PLANTED, corpus=corpus).direction
    expected = st.diff_means(model, data, PLANTED).direction - 2 * axis
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_strongly_penalized_probe_is_diff_means():
    rows, labels, _, _ = planted(gap=1.0, nuisance=3.0, share=0.3)
    model, data = planted_model(rows), one_word_texts(labels)
    full = st.diff_means(model, data, PLANTED).direction
    weak = st.probe(model, data, PLANTED, C=1e-6).direction
    assert cosine(weak, full) > 1 - 1e-6
    assert torch.allclose(weak.norm(), full.norm())


def test_a_probe_is_the_discriminant_of_gaussian_classes():
    # u has correlated noise along a second axis: Sigma^-1 gap leans away from the gap.
    random = torch.Generator().manual_seed(0)
    mixing = torch.eye(8)
    mixing[0, 1] = 1.5
    labels = torch.arange(8000) < 4000
    rows = torch.randn(8000, 8, generator=random) @ mixing.T + torch.outer(
        labels * 2.0, torch.eye(8)[0]
    )
    model, data = planted_model(rows), one_word_texts(labels)
    discriminant = torch.linalg.inv(mixing @ mixing.T)[:, 0]
    full = st.diff_means(model, data, PLANTED).direction
    w = st.probe(model, data, PLANTED, C=100.0).direction
    assert cosine(w, discriminant) > 0.99
    assert cosine(w, full) < 0.8
    fresh = torch.randn(2000, 8, generator=random) @ mixing.T
    fresh[:1000, 0] += 2.0
    truth = [1] * 1000 + [0] * 1000
    assert roc_auc_score(truth, fresh @ w) > roc_auc_score(truth, fresh @ full) + 0.05


def test_the_probe_does_not_depend_on_the_basis():
    rows, labels, _, _ = planted(gap=2.0, nuisance=2.0)
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))[0]
    data = one_word_texts(labels)
    plain = st.probe(planted_model(rows), data, PLANTED).direction
    turned = st.probe(planted_model(rows @ rotation.T), data, PLANTED).direction
    assert cosine(rotation @ plain, turned) > 1 - 1e-5


# --- planted truth


@pytest.mark.parametrize(
    ("fit", "options"),
    [
        ("diff_means", {}),
        ("mean_centred", {}),
        ("probe", {}),
        ("pca", {"of": "all"}),
        ("lat", {"of": "all"}),
    ],
)
@pytest.mark.parametrize("flipped", [False, True])
def test_a_planted_direction_is_recovered_with_its_sign(fit, options, flipped):
    # A probe needs classes that overlap: on separable ones it looks at the few nearest rows.
    rows, labels, u, _ = planted(n=4000, gap=2.0 if fit == "probe" else 6.0)
    labels = ~labels if flipped else labels
    model, data = planted_model(rows), one_word_texts(labels)
    found = FITS[fit](model, data, PLANTED, **options).direction
    assert cosine(found, -u if flipped else u) > 0.99
    full = st.diff_means(model, data, PLANTED).direction.norm().item()
    assert found.norm().item() == pytest.approx((0.5 if fit == "mean_centred" else 1) * full, 1e-4)


def test_a_weakly_penalized_probe_of_separable_classes_leaves_the_planted_direction():
    rows, labels, u, _ = planted(n=400, gap=8.0)
    model, data = planted_model(rows), one_word_texts(labels)
    strict, free = (st.probe(model, data, PLANTED, C=C).direction for C in (1e-4, 1e6))
    assert cosine(strict, u) > 0.99
    assert cosine(free, u) < 0.97


@pytest.mark.parametrize(("fit", "found"), [("pca", False), ("lat", False), ("diff_means", True)])
def test_within_the_positives_a_constant_shift_cannot_be_seen(fit, found):
    rows, labels, u, _ = planted(n=2000, gap=6.0)
    model, data = planted_model(rows), one_word_texts(labels)
    options = {} if fit == "diff_means" else {"of": "positive"}
    assert (cosine(FITS[fit](model, data, PLANTED, **options).direction, u) > 0.99) == found


def test_pca_on_positives_sees_a_concept_that_varies_among_them():
    # Rare firing: a third of the positive rows carry the concept, strongly.
    rows, labels, u, _ = planted(n=2000, gap=0.0)
    rows = rows + torch.outer((labels & (torch.arange(2000) % 3 == 0)) * 8.0, u)
    model, data = planted_model(rows), one_word_texts(labels)
    assert cosine(st.pca(model, data, PLANTED).direction, u) > 0.99


@pytest.mark.parametrize("fit", ["pca", "lat"])
def test_components_follow_the_largest_spread_instead_of_the_label(fit):
    rows, labels, u, axis = planted(n=2000, gap=4.0, nuisance=8.0)
    model, data = planted_model(rows), one_word_texts(labels)
    found = FITS[fit](model, data, PLANTED, of="all").direction
    assert abs(cosine(found, axis)) > 0.95
    assert abs(cosine(found, u)) < 0.3
    assert cosine(st.probe(model, data, PLANTED).direction, u) > 0.95


def test_centred_pca_of_labelled_pair_differences_removes_the_concept():
    # The trap of the chapter: positive - negative has mean gap, and centring takes it away.
    rows, labels, _, _ = planted(n=2000, gap=6.0)
    differences = (rows[labels] - rows[~labels]).numpy()
    centred = PCA(1).fit(differences).components_[0]
    raw = np.linalg.svd(differences, full_matrices=False)[2][0]
    assert abs(centred[0]) < 0.5
    assert abs(raw[0]) > 0.99


# --- ActAdd


def test_actadd_is_one_difference_per_position(gpt2):
    vector = st.actadd(gpt2, "a happy dog", "a sad cat", SITE)
    h = [
        st.capture(gpt2, [t], SITE, "everywhere", include_bos=True)[SITE]
        for t in ("a happy dog", "a sad cat")
    ]
    prompt = "the bird saw rain and sun"
    plain = st.capture(gpt2, [prompt], SITE, "everywhere", include_bos=True)[SITE]
    with st.steer(gpt2, 2 * vector):
        moved = st.capture(gpt2, [prompt], SITE, "everywhere", include_bos=True)[SITE] - plain
    assert torch.allclose(moved[2:4], 2 * (h[0] - h[1])[2:4], atol=1e-5)
    # BOS and "a" stand before the first difference.
    assert moved[:2].abs().max() == 0
    assert moved[4:].abs().max() == 0
    assert len(vector.terms) == 2


def test_actadd_of_one_token_is_diff_means_of_one_text_each(gpt2):
    data = SimpleNamespace(texts=["happy", "sad"], labels=[True, False])
    [term] = st.actadd(gpt2, "happy", "sad", SITE).terms
    assert torch.allclose(term.edit.constant, st.diff_means(gpt2, data, SITE).direction, atol=1e-6)


def test_actadd_without_bos_starts_at_the_first_token(models):
    qwen2 = models("qwen2")
    vector = st.actadd(qwen2, "ab", "cb", SITE)
    with st.steer(qwen2, vector):
        moved = st.capture(qwen2, ["xyz"], SITE, "everywhere")[SITE]
    plain = st.capture(qwen2, ["xyz"], SITE, "everywhere")[SITE]
    assert (moved - plain).abs().amax(1)[0] > 0


def test_actadd_pads_the_shorter_prompt(gpt2):
    with pytest.raises(ValueError, match="3 and 2 tokens"):
        st.actadd(gpt2, "happy dog", "sad", SITE)
    vector = st.actadd(gpt2, "happy dog", "sad", SITE, pad=" .")
    same = st.actadd(gpt2, "happy dog", "sad .", SITE)
    assert [torch.equal(a.edit.constant, b.edit.constant) for a, b in
            zip(vector.terms, same.terms, strict=True)] == [True, True]  # fmt: skip
    with pytest.raises(ValueError, match="is not one token"):
        st.actadd(gpt2, "happy dog", "sad", SITE, pad=" . .")
    with pytest.raises(ValueError, match="the same tokens"):
        st.actadd(gpt2, "happy", "happy", SITE)


def test_a_prompt_shorter_than_the_actadd_prompts_is_refused(gpt2):
    vector = st.actadd(gpt2, "happy dog .", "sad cat .", SITE)
    with pytest.raises(ValueError, match="after"), st.steer(gpt2, vector):
        st.logits(gpt2, "rain", chat=False)


# --- all fits


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_a_fit_repeats_exactly_and_does_not_depend_on_the_batch(gpt2, fit):
    first, again = (fit(gpt2, DATA, SITE).direction for _ in range(2))
    assert torch.equal(first, again)
    assert cosine(first, fit(gpt2, DATA, SITE, batch_size=2).direction) > 1 - 1e-5


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_both_engines_give_the_same_direction(models, fit):
    a, b = (fit(models("gpt2", engine), DATA, SITE).direction for engine in ("hf", "bridge"))
    assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
@pytest.mark.parametrize("labels", [[True] * 5, [True, False], [0] * 5])
def test_both_classes_and_a_label_for_each_text_are_needed(gpt2, fit, labels):
    with pytest.raises(ValueError, match="one label per text and both classes"):
        fit(gpt2, SimpleNamespace(texts=TEXTS, labels=labels), SITE)


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1], ["yes", "no", "yes", "no", "yes"]])
def test_labels_that_are_not_two_are_refused(gpt2, fit, labels):
    with pytest.raises(ValueError, match=r"labels are True .* got (2|'yes')"):
        fit(gpt2, SimpleNamespace(texts=TEXTS, labels=labels), SITE)


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_two_classes_of_the_same_texts_have_no_direction(gpt2, fit):
    data = SimpleNamespace(texts=TEXTS * 2, labels=[True] * 5 + [False] * 5)
    with pytest.raises(ValueError, match="same mean activation"):
        fit(gpt2, data, SITE)


@pytest.mark.parametrize("fit", [st.pca, st.lat])
def test_bad_options_of_components(gpt2, fit):
    with pytest.raises(ValueError, match="of is 'positive' or 'all', got 'both'"):
        fit(gpt2, DATA, SITE, of="both")
    one = SimpleNamespace(texts=["happy", "sad", "rain"], labels=[True, False, False])
    with pytest.raises(ValueError, match="do not vary"):
        fit(gpt2, one, SITE, of="positive")


def test_a_probe_without_a_penalty_is_refused(gpt2):
    with pytest.raises(ValueError, match="C is the inverse strength"):
        st.probe(gpt2, DATA, SITE, C=0)


def test_lat_repeats_for_a_seed_only(gpt2):
    a, b = (st.lat(gpt2, DATA, SITE, seed=seed).direction for seed in (0, 3))
    assert not torch.allclose(a, b)


def test_memory_does_not_grow_with_the_number_of_texts(gpt2, monkeypatch):
    """No tensor that a streamed fit keeps has as many rows as there are texts."""
    from steerlib.methods.moments import Moments

    sizes = []
    add = Moments.add
    monkeypatch.setattr(
        Moments, "add", lambda self, rows: (sizes.append(len(rows)), add(self, rows))[1]
    )
    many = SimpleNamespace(texts=TEXTS * 40, labels=LABELS * 40)
    for fit in (st.diff_means, st.mean_centred, st.pca):
        fit(gpt2, many, SITE, batch_size=8)
    assert max(sizes) <= 8


# --- a real model


def _sentences(stories, word):
    """All sentences of the stories that contain a word."""
    sentences = [s for story in stories for s in re.split(r'(?<=[.!?"])\s+', story)]
    return [s for s in sentences if re.search(rf"\b{word}\b", s)]


def _log_p(model, prompt, word):
    """log P(word | prompt), which may be several tokens."""
    ids = model.tokenizer(f"{prompt} {word}", add_special_tokens=False).input_ids
    start = len(model.tokenizer(prompt, add_special_tokens=False).input_ids)
    scores = st.logits(model, f"{prompt} {word}")[0].log_softmax(-1)
    return sum(scores[n, ids[n]].item() for n in range(start, len(ids)))


def test_happy_minus_sad_steers_a_real_model(stories, external):
    path = external / "data" / "tinystories" / "tinystories_1000.json"
    texts = json.loads(path.read_text())
    happy, sad = _sentences(texts, "happy")[:300], _sentences(texts, "sad")[:300]
    data = SimpleNamespace(texts=happy + sad, labels=[True] * len(happy) + [False] * len(sad))
    direction = st.diff_means(stories, data, st.resid(2))
    prompts = ("Lily was very", "The boy felt", "She was so")

    def shifts(vector):
        for strength in (-4, -2, 0, 2, 4):
            with st.steer(stories, vector, strength=strength):
                pairs = [(_log_p(stories, p, "happy"), _log_p(stories, p, "sad")) for p in prompts]
            yield sum(a - b for a, b in pairs) / len(pairs)

    steered = list(shifts(direction))
    assert steered == sorted(steered)
    assert steered[-1] - steered[0] > 2
    norm = direction.direction.norm().item()
    control = list(shifts(st.random_direction(stories, st.resid(2), norm=norm, seed=0)))
    assert abs(control[-1] - control[0]) < (steered[-1] - steered[0]) / 2
