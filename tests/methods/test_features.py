"""Features: labels find the planted one, ranks are exact, batches and engines change nothing."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import steerlib as st
from steerlib.methods.features import best_feature, best_features, feature_scores, top_texts
from tests import planted
from tests.methods.feature_cases import DATA, SITE, TEXTS, random_sae

ACTIVATIONS = ("relu", "jumprelu", "topk")


def latents(sae, model, text, **options):
    """z of the tokens of one text, read alone."""
    return sae.encode(st.capture(model, [text], sae.site, at=st.prompt, **options)[sae.site])


def auroc(positive, negative):
    """By counting pairs."""
    pairs = [(a > b) + (a == b) / 2 for a in positive for b in negative]
    return sum(pairs) / len(pairs)


def table(**columns):
    return pd.DataFrame(columns).rename_axis("feature")


# --- scores


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_scores_are_what_texts_read_one_by_one_give(gpt2, activation, pool):
    sae = random_sae(gpt2, activation)
    found = feature_scores(sae, gpt2, DATA, pool=pool, batch_size=4)
    assert list(found) == ["auroc", "mean_difference", "active", "max"]
    assert found.index.tolist() == list(range(sae.n))
    assert found.index.name == "feature"
    assert found.active.between(0.01, 0.99).any()
    z = [latents(sae, gpt2, text) for text in TEXTS]
    for f in range(sae.n):
        pooled = [float(v[:, f].max() if pool == "max" else v[:, f].mean()) for v in z]
        shown, plain = pooled[::2], pooled[1::2]
        largest = [float(v[:, f].max()) for v in z]
        row = found.loc[f]
        assert row.auroc == pytest.approx(auroc(shown, plain))
        difference = sum(shown) / 3 - sum(plain) / 3
        assert row.mean_difference == pytest.approx(difference, abs=1e-4)
        assert row.active == pytest.approx(sum(v > 0 for v in largest) / 6)
        assert row["max"] == pytest.approx(max(largest), abs=1e-4)


def test_both_engines_and_all_batch_sizes_give_the_same(models):
    sae = random_sae(models("gpt2"), "topk")
    first = feature_scores(sae, models("gpt2"), DATA)
    for engine, size in (("hf", 1), ("bridge", 4)):
        other = feature_scores(sae, models("gpt2", engine), DATA, batch_size=size)
        assert (first - other).abs().to_numpy().max() < 1e-4


@pytest.fixture(scope="module")
def rows():
    """40 words; the first 8 have much of the direction 0, all have some of the others."""
    found = 0.5 * torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    found[:8, 0] += 4.0
    return found


@pytest.fixture(scope="module")
def world(rows):
    return planted.planted_model(rows)


@pytest.fixture(scope="module")
def axes(rows):
    """An SAE whose feature f is the axis f of the stream, but for a threshold of 1."""
    eye = torch.eye(16)
    return st.SAE(planted.SITE, eye, -torch.ones(16), eye, torch.zeros(16))


@pytest.fixture(scope="module")
def texts():
    """30 texts with one or two of the first 8 words among others, and 30 without."""
    random = torch.Generator().manual_seed(1)

    def words(shown):
        plain = torch.randint(8, 40, (6,), generator=random).tolist()
        kept = torch.randint(0, 8, (2 if shown else 0,), generator=random).tolist()
        return " ".join(f"w{number}" for number in [*plain[:3], *kept, *plain[3:]])

    labels = [True] * 30 + [False] * 30
    return SimpleNamespace(texts=[words(label) for label in labels], labels=labels)


@pytest.mark.parametrize("by", ["auroc", "mean_difference"])
@pytest.mark.parametrize("pool", ["max", "mean"])
def test_the_planted_feature_is_found(world, axes, texts, by, pool):
    scores = feature_scores(axes, world, texts, pool=pool)
    assert best_feature(scores, by, None) == 0
    assert scores.auroc[0] == 1
    assert scores.auroc[1:].max() < 0.8
    # Labels the other way round turn both scores around.
    turned = replace_labels(texts, [not label for label in texts.labels])
    other = feature_scores(axes, world, turned, pool=pool)
    assert other.auroc.tolist() == pytest.approx((1 - scores.auroc).tolist())
    assert other.mean_difference.tolist() == pytest.approx((-scores.mean_difference).tolist())


def replace_labels(data, labels):
    return SimpleNamespace(texts=data.texts, labels=labels)


def test_texts_that_tie_count_half(world, axes):
    data = SimpleNamespace(texts=["w1 w9", "w20", "w1 w9", "w20"], labels=[1, 1, 0, 0])
    assert (feature_scores(axes, world, data).auroc == 0.5).all()
    data = SimpleNamespace(texts=["w1", "w20", "w21"], labels=[1, 1, 0])
    assert feature_scores(axes, world, data).auroc[0] == 0.75


def test_more_features_than_are_ranked_at_once(world, axes, texts, monkeypatch):
    whole = feature_scores(axes, world, texts)
    monkeypatch.setattr("steerlib.methods.feature_areas._AT_ONCE", 5)
    assert feature_scores(axes, world, texts).equals(whole)


def test_bos_is_not_read(world, axes):
    h = st.capture(world, ["w1"], planted.SITE, at=st.bos, include_bos=True)[planted.SITE][0]
    # Feature 0 fires at BOS and, at a lower value, at w1.
    encoder = axes.encoder.clone()
    encoder[:, 0] = 100 * h / h.norm() ** 2
    sae = replace(axes, encoder=encoder)
    assert sae.encode(h)[0] == pytest.approx(99, abs=1e-3)
    data = SimpleNamespace(texts=["w1 w9", "w20"], labels=[1, 0])
    expected = max(float(latents(sae, world, text)[:, 0].max()) for text in data.texts)
    assert feature_scores(sae, world, data)["max"][0] == pytest.approx(expected)
    assert top_texts(sae, world, "w1", 0).value[0] < 99


def test_chats_are_read_by_the_template_and_positions_can_be_chosen(gpt2):
    chats = [
        [{"role": "user", "content": "tell me"}, {"role": "assistant", "content": text}]
        for text in TEXTS
    ]
    sae, data = random_sae(gpt2), SimpleNamespace(texts=chats, labels=DATA.labels)
    frame = "<user> tell me <assistant> "
    raw = SimpleNamespace(texts=[frame + text for text in TEXTS], labels=DATA.labels)
    found = feature_scores(sae, gpt2, data, chat=None)
    assert (found - feature_scores(sae, gpt2, raw)).abs().to_numpy().max() < 1e-4
    asked = SimpleNamespace(texts=[f"<user> {t} <assistant>" for t in TEXTS], labels=DATA.labels)
    expected = feature_scores(sae, gpt2, asked)
    assert (feature_scores(sae, gpt2, DATA, chat=True) - expected).abs().to_numpy().max() < 1e-4
    assert (feature_scores(sae, gpt2, DATA) - expected).abs().to_numpy().max() > 1e-2
    both = [top_texts(sae, gpt2, TEXTS, 9, chat=True), top_texts(sae, gpt2, asked.texts, 9)]
    assert both[0].tokens.tolist() == both[1].tokens.tolist()
    assert both[0].value.tolist() == pytest.approx(both[1].value.tolist(), abs=1e-4)
    later = feature_scores(sae, gpt2, data, at=st.after(4), chat=None)
    z = torch.stack([latents(sae, gpt2, text)[4:].amax(0) for text in raw.texts])
    assert later["max"].tolist() == pytest.approx(z.amax(0).tolist(), abs=1e-4)
    assert (found["max"] > later["max"] + 0.01).any()


def test_what_is_steered_is_read_as_it_is_steered(gpt2):
    sae = random_sae(gpt2)
    before = feature_scores(sae, gpt2, DATA)
    with st.steer(gpt2, sae.add(3), strength=50.0):
        after = feature_scores(sae, gpt2, DATA)
    assert after["max"][3] > before["max"][3] + 40


# --- choosing

SCORES = table(
    auroc=[0.6, 1.0, 1.0, 1.0, 0.9], mean_difference=[9.0, 1.0, 3.0, 3.0, 2.0],
    output=[0.5, 0.2, 0.1, 0.1, 0.4],
)  # fmt: skip


def test_ties_go_by_auroc_then_by_difference_then_by_number():
    assert best_features(SCORES, 5) == [2, 3, 1, 4, 0]
    assert best_features(SCORES, 9, "mean_difference") == [0, 2, 3, 4, 1]
    shuffled = SCORES.loc[[3, 0, 4, 2, 1]]
    assert best_features(shuffled, 5) == [2, 3, 1, 4, 0]
    even = SCORES.assign(output=1.0)
    assert best_features(even, 2, "output") == [2, 3]


def test_the_best_of_the_candidates_is_chosen():
    assert best_feature(SCORES) == 2
    assert best_feature(SCORES, "mean_difference") == 0
    assert best_feature(SCORES, "mean_difference", 4) == 2
    assert [best_feature(SCORES, "output", c) for c in (1, 2, 3, 4, 5, None)] == [2, 2, 1, 4, 0, 0]
    assert isinstance(best_feature(SCORES), int)


def test_only_candidates_need_a_value():
    some = SCORES.assign(output=[None, 0.2, 0.1, 0.3, None])
    assert best_feature(some, "output", 3) == 3
    for candidates in (4, None):
        with pytest.raises(ValueError, match=r"have no 'output', such as feature"):
            best_feature(some, "output", candidates)


def test_bad_choices_are_named():
    with pytest.raises(KeyError, match=r"no 'outputs'; there are auroc, mean_difference, output"):
        best_feature(SCORES, "outputs")
    with pytest.raises(KeyError, match="no 'auroc'"):
        best_features(SCORES[["output"]], 1, "output")
    with pytest.raises(ValueError, match="n is at least 1, got 0"):
        best_feature(SCORES, candidates=0)


# --- top texts


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_top_texts_are_those_with_the_largest_values(model, activation):
    sae = random_sae(model, activation)
    for f in (0, 9, 20):
        found = top_texts(sae, model, TEXTS, f, n=4, batch_size=3)
        z = [latents(sae, model, text)[:, f] for text in TEXTS]
        peaks = torch.stack([v.max() for v in z])
        assert found.value.tolist() == pytest.approx(
            peaks.sort().values.flip(0)[:4].tolist(), abs=1e-4
        )
        for row in found.itertuples():
            assert row.values == pytest.approx(z[row.text].tolist(), abs=1e-4)
            assert len(row.tokens) == len(row.values)
            assert row.values[row.position] == row.value
            assert row.tokens[row.position] == row.token
            assert "".join(row.tokens).replace(" ", "") == TEXTS[row.text].replace(" ", "")


def test_texts_of_equal_value_keep_their_order_and_silent_ones_come_last(world, axes):
    found = top_texts(axes, world, ["w20", "w1 w30", "w21", "w30 w1", "w2"], 0, n=99)
    assert found.text.tolist() == sorted(
        found.text, key=lambda t: -max(found.value[found.text == t])
    )
    assert found.value.tolist()[-2:] == [0, 0]
    assert found.text.tolist()[-2:] == [0, 2]
    assert set(found.text.tolist()[:3]) == {1, 3, 4}
    both = found[found.text.isin([1, 3])]
    assert both.text.tolist() == [1, 3]
    assert both.token.tolist() == ["w1", "w1"]
    assert both.position.tolist() == [0, 1]


# --- bad input


def test_bad_data_and_pools_are_named(gpt2):
    sae = random_sae(gpt2)
    with pytest.raises(ValueError, match="both classes"):
        feature_scores(sae, gpt2, SimpleNamespace(texts=TEXTS, labels=[True] * 6))
    with pytest.raises(ValueError, match="pool is 'max' or 'mean', got 'last'"):
        feature_scores(sae, gpt2, DATA, pool="last")
    with pytest.raises(ValueError, match="n is at least 1, got 0"):
        top_texts(sae, gpt2, TEXTS, 0, n=0)
    with pytest.raises(ValueError, match="the list of prompts is empty"):
        top_texts(sae, gpt2, [], 0)


@pytest.mark.parametrize("feature", [24, -1])
def test_a_feature_that_the_sae_has_not_is_named(gpt2, feature):
    with pytest.raises(ValueError, match=f"features 0 to 23, got {feature}"):
        top_texts(random_sae(gpt2), gpt2, TEXTS, feature)


def test_half_a_feature_is_none(gpt2):
    with pytest.raises(TypeError):
        top_texts(random_sae(gpt2), gpt2, TEXTS, 1.5)


def test_an_sae_of_another_width_or_model_is_refused(gpt2, llama, world):
    sae = random_sae(gpt2)
    wide = replace(axes_of(64), site=SITE)
    foreign = replace(sae, origin=st.Origin(llama.id, llama.revision, "sae"))
    for call in (
        lambda s: feature_scores(s, gpt2, DATA),
        lambda s: top_texts(s, gpt2, TEXTS, 0),
    ):
        with pytest.raises(ValueError, match="have 32 numbers, the edit has 64"):
            call(wide)
        with pytest.raises(ValueError, match="was made for"):
            call(foreign)
        with pytest.raises(ValueError, match="4 layers"):
            call(replace(sae, site=st.resid(9)))


def axes_of(d):
    return st.SAE(SITE, torch.eye(d), torch.zeros(d), torch.eye(d), torch.zeros(d))


def test_the_model_is_left_alone(gpt2):
    before = [p.clone() for p in gpt2.hf.parameters()]
    sae = random_sae(gpt2)
    feature_scores(sae, gpt2, DATA)
    top_texts(sae, gpt2, TEXTS, 0)
    assert all(map(torch.equal, before, gpt2.hf.parameters()))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in gpt2.hf.modules())
