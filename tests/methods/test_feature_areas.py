"""All areas at once: scikit-learn's numbers, whatever ties, signs, masks and kinds of arrays."""

import numpy as np
import pytest
import torch
from scipy.sparse import csc_array, csr_array
from sklearn.metrics import roc_auc_score

import steerlib as st
from steerlib.methods import feature_areas
from steerlib.methods.feature_areas import areas, latent_values
from steerlib.world.corpus import balanced
from steerlib.world.latents import labels, latents
from tests.methods.sae_cases import ACTIVATIONS, random_sae

TOKENS = 300


def truths(m=12, seed=0):
    """Balanced and rare concepts; the later ones count at few tokens.

    Two count at the same tokens, two at as many others.
    """
    random = np.random.default_rng(seed)
    share = np.linspace(0.05, 0.6, m)
    truth = (random.random((TOKENS, m)) < share).astype(np.int8)
    counted = random.random((TOKENS, m)) < np.where(np.arange(m) < m // 2, 1.0, 0.15)
    counted[:, 3] = counted[:, 4] = random.random(TOKENS) < 0.8
    counted[:, 7] = counted[::-1, 6]
    return np.where(counted, truth, -1).astype(np.int8)


def values(kind, n=9, seed=0):
    """With ties above, at and below 0."""
    random = np.random.default_rng(seed)
    z = random.normal(size=(TOKENS, n)).round(1)
    if kind == "signed":
        z[:, 4] = z[:, 5] = 1.5  # the largest value of one is the smallest of the next
        return z
    if kind == "continuous":
        return random.normal(size=(TOKENS, n))
    z[random.random(z.shape) < 0.8] = 0
    z = z if kind == "sparse and signed" else abs(z)
    z[:, 0] = 0  # a dead latent
    return z


def expected(z, truth):
    found = np.zeros((z.shape[1], truth.shape[1]))
    for i, column in enumerate(z.T):
        for j, row in enumerate(truth.T):
            found[i, j] = roc_auc_score(row[row >= 0], column[row >= 0])
    return found


@pytest.mark.parametrize("kind", ["sparse", "sparse and signed", "signed", "continuous"])
def test_areas_are_those_of_scikit_learn(kind):
    z, truth = values(kind), truths()
    assert (truth < 0).any()
    found = areas(z, truth)
    assert found.shape == (9, 12)
    assert np.abs(found - expected(z, truth)).max() < 1e-12
    assert np.ptp(found) > 0.2
    if "sparse" in kind:
        assert (found[0] == 0.5).all()


@pytest.mark.parametrize("kind", ["sparse", "signed"])
def test_every_kind_of_array_gives_the_same(kind):
    z, truth = values(kind), truths()
    found = areas(z, truth)
    for other in (
        torch.tensor(z),
        torch.tensor(z, requires_grad=True),
        csr_array(z),
        csr_array(z).tocsc(),
        csr_array(z).tocoo(),
        z.tolist(),
    ):
        assert (areas(other, truth) == found).all()


def test_entries_twice_are_their_sum_and_entries_of_0_are_zeros():
    z, truth = values("sparse and signed"), truths()
    column, row = np.nonzero((z.T != 0) | (np.arange(TOKENS) % 3 == 0))  # some of the zeros as well
    data = np.repeat(z[row, column] / 2, 2)
    ends = 2 * np.cumsum(np.bincount(column, minlength=9))
    strange = csc_array((data, np.repeat(row, 2), np.r_[0, ends]), shape=z.shape)
    before = strange.nnz
    assert before == 2 * len(row) > 2 * (z != 0).sum()
    assert np.abs(areas(strange, truth) - areas(z, truth)).max() < 1e-12
    assert strange.nnz == before


@pytest.mark.parametrize("at_once", [1, 700])
@pytest.mark.parametrize("few", [0.0, 1.1])
def test_chunks_and_short_cuts_change_nothing(monkeypatch, at_once, few):
    z, truth = values("sparse and signed"), truths()
    found = areas(z, truth)
    monkeypatch.setattr(feature_areas, "_AT_ONCE", at_once)
    monkeypatch.setattr(feature_areas, "_FEW", few)
    assert (areas(z, truth) == found).all()
    assert (areas(csr_array(z), truth) == found).all()


def test_a_concept_without_one_side_has_no_area():
    z, truth = values("sparse"), truths()[:, [0, 1, 2, 4]]
    truth[:, 0], truth[:, 1], truth[:, 2] = 1, 0, -1
    truth[:5, 2] = 1
    none = truth.copy()
    none[:, 2] = -1
    for some in (truth, none):
        found = areas(z, some)
        assert np.isnan(found[:, :3]).all()
        assert not np.isnan(found[:, 3]).any()


def test_uncounted_tokens_have_no_say():
    z, truth = values("signed"), truths()
    other = z.copy()
    other[truth[:, -1] < 0] = 100.0
    assert (areas(z, truth)[:, -1] == areas(other, truth)[:, -1]).all()
    assert (areas(z, truth)[:, 0] != areas(other, truth)[:, 0]).any()


def test_sizes_of_the_world_are_quick():
    """Sixteen of 1,024 latents fire at each of 20,000 tokens."""
    random = np.random.default_rng(0)
    columns = random.integers(0, 1024, 16 * 20_000)
    z = csr_array((random.random(len(columns)), columns, np.arange(0, len(columns) + 1, 16)))
    z.sum_duplicates()
    truth = random.integers(0, 2, (20_000, 100)).astype(np.int8)
    found = areas(z, truth)
    column, row = z.tocsc()[:, [7]].toarray()[:, 0], truth[:, 70]
    assert found[7, 70] == pytest.approx(roc_auc_score(row, column), abs=1e-12)


def test_bad_input_is_named():
    z, truth = values("sparse"), truths()
    with pytest.raises(ValueError, match=r"same tokens, got \(300, 9\) and \(299, 12\)"):
        areas(z, truth[1:])
    with pytest.raises(ValueError, match=r"truths \(tokens, m\).*got \(300, 9\) and \(300,\)"):
        areas(z, truth[:, 0])
    with pytest.raises(ValueError, match=r"1, 0 and -1 \(not counted\), got \[2\]"):
        areas(z, np.where(truth == 1, 2, truth))
    for strange in (np.nan, np.inf):
        z[3, 3] = strange
        for kind in (z, csr_array(z)):
            with pytest.raises(ValueError, match="not finite"):
                areas(kind, truth)
    for rows, columns, concepts in ((0, 9, 12), (300, 0, 12), (300, 9, 0)):
        with pytest.raises(ValueError, match="nothing to compare"):
            areas(np.zeros((rows, columns)), np.zeros((rows, concepts), dtype=np.int8))


# --- with a model


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_latent_values_are_those_of_each_token(gpt2, activation):
    texts = ["a story about the dog .", "tell me", "once upon a time there was a bird"]
    sae = random_sae(activation, d=32, n=20)
    found = latent_values(sae, gpt2, texts, batch_size=2)
    rows = st.capture(gpt2, texts, [sae.site], at=st.prompt)[sae.site]
    assert found.shape == (len(rows), 20)
    assert torch.allclose(torch.tensor(found.toarray()), sae.encode(rows), atol=1e-5)
    assert (found.data != 0).all()
    asked = latent_values(sae, gpt2, texts, chat=True)
    assert asked.shape[0] > found.shape[0]
    with pytest.raises(ValueError, match="have 32 numbers, the edit has 6"):
        latent_values(random_sae(activation), gpt2, texts)


def test_a_latent_of_a_word_is_found_among_others(world):
    """From the truths of the world to its model: the embedding of a word tells the word."""
    documents = balanced(3, 260)
    truth, names = labels(documents), [latent.name for latent in latents()]
    words = {"full stop": ".", "yes": "yes", "comma": ","}
    embedding = world.hf.transformer.wte.weight
    rows = embedding[world.tokenizer.convert_tokens_to_ids(list(words.values()))]
    decoder = rows / rows.norm(dim=1, keepdim=True)
    sae = st.SAE(
        st.resid_pre(0), decoder.T, -0.2 * torch.ones(3), decoder, torch.zeros(128), "relu"
    )
    z = latent_values(sae, world, [d.text for _, d in documents])
    found = areas(z, truth[:, [names.index(name) for name in words]])
    assert (found.argmax(0) == np.arange(3)).all()
    assert found.diagonal().min() > 0.99
