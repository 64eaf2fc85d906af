"""What features write: published formulas written out, one by one and in batches."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import steerlib as st
from steerlib.methods.feature_effects import confidence_changes, logit_lens, output_scores
from steerlib.methods.features import best_feature, feature_scores
from tests import planted
from tests.methods.feature_cases import DATA, NEUTRAL, SITE, random_sae

FEATURES = [0, 7, 19, 23]
ENGINES = [(name, "hf") for name in ("gpt2", "llama", "gemma2", "qwen2")]
ENGINES += [("gpt2", "bridge"), ("gemma2", "bridge")]


@pytest.fixture(params=ENGINES, ids="-".join)
def net(request, models):
    """Each architecture, two of them also on the bridge."""
    return models(*request.param)


def with_stream(model, site, change):
    """log p of the token after the neutral prompt with `change(h)` at the output of a block."""

    def hook(module, args, output):
        is_tuple = isinstance(output, tuple)
        new = change(output[0] if is_tuple else output)
        return (new, *output[1:]) if is_tuple else new

    handle = model.blocks[site.layer].register_forward_hook(hook)
    try:
        return st.logits(model, NEUTRAL, chat=False)[0, -1].log_softmax(-1)
    finally:
        handle.remove()


def lens_by_hand(model, sae, f):
    """What the model itself makes of D_f as its last activation."""
    last = st.resid(model.n_layers - 1)
    scores = with_stream(model, last, lambda h: sae.decoder[f].expand_as(h))
    return scores


def raised_by_hand(model, sae, f, factor):
    """log p after h <- h + factor max_g z_g(h) D_f at the last token."""

    def change(h):
        h = h.clone()
        z = sae.encode(h[0, -1])
        h[0, -1] = h[0, -1] + factor * z.max() * sae.decoder[f]
        return h

    return with_stream(model, sae.site, change)


def alone_by_hand(model, sae, f, factor):
    """log p after h <- decode(z with factor z_f and nothing else), at all tokens."""

    def change(h):
        z = sae.encode(h)
        kept = torch.zeros_like(z)
        kept[..., f] = factor * z[..., f]
        return kept @ sae.decoder + sae.offset

    return with_stream(model, sae.site, change)


# --- logit lens


def test_the_lens_is_what_the_model_makes_of_the_direction_as_last_activation(net):
    sae = random_sae(net)
    found = logit_lens(sae, net, FEATURES, top=6)
    low = logit_lens(sae, net, FEATURES, top=6, largest=False)
    assert found.feature.tolist() == [f for f in FEATURES for _ in range(6)]
    assert list(found) == ["feature", "token", "logit"]
    names = [net.tokenizer.decode([token]) for token in range(net.d_vocab)]
    cap = getattr(net.config, "final_logit_softcapping", None)
    for f in FEATURES:
        # log_softmax: the same up to a constant.
        expected = lens_by_hand(net, sae, f)
        order = expected.argsort(descending=True)
        for rows, ids in ((found, order[:6]), (low, order.flip(0)[:6])):
            own = rows[rows.feature == f]
            assert own.token.tolist() == [names[token] for token in ids]
            logits = torch.tensor(own.logit.tolist())
            logits = cap * torch.tanh(logits / cap) if cap else logits
            assert torch.allclose(logits.diff(), expected[ids].diff(), atol=1e-4)


def test_one_feature_may_be_a_number(gpt2):
    sae = random_sae(gpt2)
    assert logit_lens(sae, gpt2, 7).equals(logit_lens(sae, gpt2, [7]))
    scores = feature_scores(sae, gpt2, DATA)
    assert logit_lens(sae, gpt2, scores.index[7]).equals(logit_lens(sae, gpt2, 7))


def test_a_model_without_a_known_final_norm_is_refused(gpt2):
    module = copy.deepcopy(gpt2.module)
    module.transformer.closing = module.transformer.ln_f
    del module.transformer.ln_f
    with pytest.raises(ValueError, match=r"no final norm was found in GPT2Model.* ln_f, norm"):
        logit_lens(random_sae(gpt2), st.wrap(module, gpt2.tokenizer), 3)


# --- output score


@pytest.mark.parametrize("activation", ["relu", "topk"])
def test_output_scores_are_the_published_formula(net, activation):
    sae = random_sae(net, activation)
    found = output_scores(sae, net, FEATURES, prompt=NEUTRAL, factor=2.0, top=5, batch_size=3)
    assert found.index.tolist() == FEATURES
    assert found.index.name == "feature"
    for f in FEATURES:
        own = set(lens_by_hand(net, sae, f).topk(5).indices.tolist())
        p = raised_by_hand(net, sae, f, 2.0).exp()
        order = p.argsort(descending=True).tolist()
        rank = min(order.index(token) for token in own)
        best = max(p[token].item() for token in own)
        assert found["rank"][f] == rank
        assert found.p[f] == pytest.approx(best, abs=1e-5)
        assert found.output[f] == pytest.approx((1 - rank / len(p)) * best, abs=1e-5)
        assert found.mass[f] == pytest.approx(sum(p[t].item() for t in own), abs=1e-5)
    assert found["rank"].max() > 0


def test_given_words_are_asked_of_every_feature(net):
    sae, words = random_sae(net), ["rain", "dog", "sun", "dog"]
    found = output_scores(sae, net, FEATURES, prompt=NEUTRAL, factor=2.0, words=words, batch_size=3)
    asked = {net.tokenizer(f" {word}", add_special_tokens=False).input_ids[0] for word in words}
    assert len(asked) == 3
    for f in FEATURES:
        p = raised_by_hand(net, sae, f, 2.0).exp()
        best = max(p[token].item() for token in asked)
        rank = int((p > best).sum())
        expected = [(1 - rank / len(p)) * best, rank, best, sum(p[t].item() for t in asked)]
        assert found.loc[f].tolist() == pytest.approx(expected, abs=1e-5)
    bound = float(found.p.median())
    options = {"factor": 2.0, "words": words, "most": bound}
    bounded = output_scores(sae, net, FEATURES, prompt=NEUTRAL, **options)
    assert (bounded - found).drop(columns="mass").abs().to_numpy().max() < 1e-5
    for f in FEATURES:
        p = raised_by_hand(net, sae, f, 2.0).exp()
        expected = sum(min(p[token].item(), bound) for token in asked)
        assert bounded.mass[f] == pytest.approx(expected, abs=1e-5)
    assert (bounded.mass < found.mass - 1e-6).any()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rain", "words is a list of words, got 'rain'"),
        ([], r"words is a list of words, got \[\]"),
        (["rain", "abracadabra"], "an answer of one token is needed, but 'abracadabra' is"),
    ],
)
def test_words_that_are_no_tokens_are_refused(gpt2, words, message):
    with pytest.raises(ValueError, match=message):
        output_scores(random_sae(gpt2), gpt2, 0, prompt=NEUTRAL, words=words)


@pytest.mark.parametrize("most", [0, -0.1, 1.5, float("nan")])
def test_a_bound_is_a_probability(gpt2, most):
    with pytest.raises(ValueError, match=f"most is a probability above 0, got {most}"):
        output_scores(random_sae(gpt2), gpt2, 0, prompt=NEUTRAL, most=most)


def test_features_are_scored_in_batches_as_one_by_one(gpt2):
    sae = random_sae(gpt2, "jumprelu")
    for method in (output_scores, confidence_changes):
        whole = method(sae, gpt2, range(sae.n), prompt=NEUTRAL)
        assert len(whole) == sae.n
        for f in (23, 0, 11):
            alone = method(sae, gpt2, f, prompt=NEUTRAL)
            assert alone.loc[f].tolist() == pytest.approx(whole.loc[f].tolist(), abs=1e-5)
        some = method(sae, gpt2, [9, 2, 5], prompt=NEUTRAL, batch_size=2)
        assert some.index.tolist() == [9, 2, 5]
        assert (some - whole.loc[[9, 2, 5]]).abs().to_numpy().max() < 1e-5


def test_a_chat_is_tried_at_the_token_that_opens_the_answer(gpt2):
    sae = random_sae(gpt2)
    raw = f"<user> {NEUTRAL} <assistant>"
    for method in (output_scores, confidence_changes):
        asked = method(sae, gpt2, FEATURES, prompt=NEUTRAL, chat=True)
        assert asked.equals(method(sae, gpt2, FEATURES, prompt=raw))
        assert not asked.equals(method(sae, gpt2, FEATURES, prompt=NEUTRAL))


@pytest.fixture(scope="module")
def stage():
    """Words whose axis 0 marks a concept: features 0 and 1 read it, 0 writes w9, 1 nothing.

    The norms take the mean away, so the direction of equal numbers has no effect. Features 2 and 3
    read something else, one of them at every word.
    """
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(300, 24, generator=random)
    rows[:20, 0] += 6.0
    model = planted.planted_model(rows)
    encoder = torch.zeros(24, 4)
    encoder[0, :2] = 1.0
    encoder[1:, 2] = torch.randn(23, generator=random)
    encoder[:, 3] = -encoder[:, 2]
    rest = rows[[9, 200, 210]]
    writes = torch.stack([rest[0], torch.ones(24), *rest[1:]])
    sae = st.SAE(
        planted.SITE, encoder, torch.tensor([-4.0, -4.0, 0.0, 0.0]),
        torch.nn.functional.normalize(writes, dim=1), torch.zeros(24),
    )  # fmt: skip
    texts = [f"w{n} w{n + 100}" for n in [*range(20), *range(50, 70)]]
    return model, sae, SimpleNamespace(texts=texts, labels=[True] * 20 + [False] * 20)


def test_a_feature_that_writes_scores_high_and_one_that_only_reads_scores_low(stage):
    model, sae, data = stage
    found = output_scores(sae, model, range(4), prompt="w50 w60 w70", top=5)
    assert found.output[0] > 0.9
    assert found["rank"][0] == 0
    assert found.output[1] < 0.1
    assert logit_lens(sae, model, 0, 1).token[0] == "w9"
    scores = feature_scores(sae, model, data)
    assert scores.auroc[:2].min() > 0.99
    assert scores.auroc[2:].max() < 0.9
    # Labels leave both, the output score chooses.
    joined = scores.join(found)
    assert best_feature(joined, "output", 2) == 0
    assert best_feature(joined.assign(output=-joined.output), "output", 2) == 1
    # Its score says that it writes, and its words what.
    for word, writer in (("w9", 0), ("w200", 2), ("w210", 3)):
        written = output_scores(sae, model, range(4), prompt="w50 w60 w70", words=[word])
        assert written.mass.idxmax() == writer
        assert written.mass.max() > 10 * written.mass.drop(writer).max()


def test_the_feature_is_raised_by_the_largest_latent_of_the_last_token(stage):
    model, sae, _ = stage
    both = [
        output_scores(sae, model, 0, prompt=prompt, factor=factor, top=5).p[0]
        for prompt, factor in (("w50 w60", 0.0), ("w50 w60", 1.0))
    ]
    assert both[1] > both[0]
    # A word with a large latent before the last one does not matter.
    last = st.capture(model, ["w0 w50"], planted.SITE, at=st.last)[planted.SITE]
    size = sae.encode(last).max().item()
    vector = st.Add(planted.SITE, 3.0 * size * sae.decoder[0]).at(st.last)
    with st.steer(model, vector):
        p = st.logits(model, "w0 w50", chat=False)[0, -1].softmax(-1)
    found = output_scores(sae, model, 0, prompt="w0 w50", factor=3.0, top=1)
    assert found.p[0] == pytest.approx(p[len(planted.SPECIAL) + 9].item(), abs=1e-6)


# --- confidence


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("activation", ["relu", "topk"])
def test_confidence_changes_are_the_published_formula(net, activation, k):
    sae = random_sae(net, activation)

    def confidence(log_p):
        return -log_p.sort(descending=True).values[:k].sum().item() / k

    base = confidence(with_stream(net, SITE, lambda h: h))
    z = sae.encode(st.capture(net, NEUTRAL, SITE, at=st.everywhere, include_bos=True)[SITE])
    for kind, by_hand in (("raised", raised_by_hand), ("alone", alone_by_hand)):
        found = confidence_changes(
            sae, net, FEATURES, kind, prompt=NEUTRAL, factor=3.0, k=k, batch_size=3
        )
        assert list(found) == ["confidence", "value"]
        assert found.confidence.abs().max() > 1e-3
        for f in FEATURES:
            expected = confidence(by_hand(net, sae, f, 3.0)) - base
            assert found.confidence[f] == pytest.approx(expected, abs=1e-4)
            assert found.value[f] == pytest.approx(z[:, f].max().item(), abs=1e-4)


def test_as_published_silent_features_all_get_the_change_of_losing_the_rest(stage):
    model, sae, _ = stage
    options = {"prompt": "w50 w60 w70"}
    alone = confidence_changes(sae, model, range(4), "alone", **options)
    assert alone.value[:2].tolist() == [0, 0]
    assert alone.value[2:].min() > 0
    assert alone.confidence[0] == pytest.approx(alone.confidence[1], abs=1e-6)
    assert (alone.confidence[2:] - alone.confidence[0]).abs().max() > 0.1
    # Nothing reads what feature 1 writes, so that all of its change is the loss of the rest.
    raised = confidence_changes(sae, model, range(4), **options)
    assert raised.confidence[1] == pytest.approx(0, abs=1e-4)
    assert abs(alone.confidence[1]) > 1


def test_a_feature_that_is_not_raised_changes_nothing(gpt2):
    sae = random_sae(gpt2)
    found = confidence_changes(sae, gpt2, range(sae.n), prompt=NEUTRAL, factor=0.0)
    assert found.confidence.abs().max() < 1e-5
    p = st.logits(gpt2, NEUTRAL, chat=False)[0, -1].softmax(-1)
    scores = output_scores(sae, gpt2, range(sae.n), prompt=NEUTRAL, factor=0.0, top=len(p))
    assert scores.p.tolist() == pytest.approx([p.max().item()] * sae.n, abs=1e-6)
    assert (scores["rank"] == 0).all()


# --- other circumstances


def test_a_model_in_half_precision_has_the_same_features(llama):
    module = copy.deepcopy(llama.module).to(torch.bfloat16)
    half, sae = st.wrap(module, llama.tokenizer), random_sae(llama)
    for method in (output_scores, confidence_changes):
        found, exact = (method(sae, m, FEATURES, prompt=NEUTRAL) for m in (half, llama))
        assert (found - exact).iloc[:, 0].abs().max() < 0.1
    assert logit_lens(sae, half, FEATURES).logit.notna().all()


def test_they_are_measured_on_the_model_as_it_is_steered(gpt2):
    sae, vector = random_sae(gpt2), st.Add(st.resid(0), 3 * torch.ones(32).cumsum(0).cos())
    with st.steer(gpt2, vector):
        expected = (
            raised_by_hand(gpt2, sae, 7, 2.0).max() - with_stream(gpt2, SITE, lambda h: h).max()
        )
        found = confidence_changes(sae, gpt2, 7, prompt=NEUTRAL, factor=2.0)
        assert found.confidence[7] == pytest.approx(-expected.item(), abs=1e-4)
    other = confidence_changes(sae, gpt2, 7, prompt=NEUTRAL, factor=2.0)
    assert abs(other.confidence[7] - found.confidence[7]) > 1e-3
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in gpt2.hf.modules())


def test_the_default_prompt_suits_a_real_model(stories):
    sae = random_sae(stories)
    for method in (output_scores, confidence_changes):
        found = method(sae, stories, FEATURES)
        assert found.equals(method(sae, stories, FEATURES, prompt="From my experience,"))
        assert found.notna().to_numpy().all()


# --- bad input


@pytest.mark.parametrize("features", [24, -1, [3, 24]])
@pytest.mark.parametrize("method", [logit_lens, output_scores, confidence_changes])
def test_a_feature_that_the_sae_has_not_is_named(gpt2, method, features):
    with pytest.raises(ValueError, match=r"features 0 to 23, got (24|-1)"):
        method(random_sae(gpt2), gpt2, features)
    with pytest.raises(ValueError, match="got none"):
        method(random_sae(gpt2), gpt2, [])


@pytest.mark.filterwarnings("ignore:.*vocabulary")
@pytest.mark.parametrize("method", [output_scores, confidence_changes])
def test_bad_prompts_and_saes_are_named(gpt2, llama, method):
    sae = random_sae(gpt2)
    with (
        pytest.warns(UserWarning, match="'From' is not in"),
        pytest.raises(ValueError, match=r"not know all words of the neutral prompt 'From my exp"),
    ):
        method(sae, gpt2, 3)
    silent = replace(sae, bias=sae.bias - 1e4)
    with pytest.raises(ValueError, match="no latent is active at the last token"):
        method(silent, gpt2, 3, prompt=NEUTRAL)
    foreign = replace(sae, origin=st.Origin(llama.id, llama.revision, "sae"))
    with pytest.raises(ValueError, match="was made for"):
        method(foreign, gpt2, 3, prompt=NEUTRAL)
    narrow = st.SAE(SITE, torch.eye(8), torch.ones(8), torch.eye(8), torch.zeros(8))
    with pytest.raises(ValueError, match="have 32 numbers, the edit has 8"):
        method(narrow, gpt2, 3, prompt=NEUTRAL)


def test_bad_numbers_are_named(gpt2):
    sae = random_sae(gpt2)
    for top in (0, gpt2.d_vocab + 1):
        for method in (logit_lens, output_scores):
            extra = {} if method is logit_lens else {"prompt": NEUTRAL}
            with pytest.raises(ValueError, match=f"from 1 to {gpt2.d_vocab}, got {top}"):
                method(sae, gpt2, 3, top=top, **extra)
        with pytest.raises(ValueError, match=f"from 1 to {gpt2.d_vocab}, got {top}"):
            confidence_changes(sae, gpt2, 3, prompt=NEUTRAL, k=top)
    with pytest.raises(ValueError, match="kind is 'raised' or 'alone'"):
        confidence_changes(sae, gpt2, 3, "both", prompt=NEUTRAL)


def test_a_lens_needs_directions_of_the_residual_stream(gpt2):
    d = gpt2.d_head
    z = st.SAE(st.head(1, 0), torch.eye(d), torch.ones(d), torch.eye(d), torch.zeros(d))
    whole = st.SAE(
        "blocks.1.attn.hook_z", torch.eye(32), torch.ones(32), torch.eye(32), torch.zeros(32)
    )
    for sae in (z, whole):
        with pytest.raises(ValueError, match="reads directions of the residual stream, 32 numbers"):
            logit_lens(sae, gpt2, 0)
    assert len(confidence_changes(z, gpt2, [0, 1], prompt=NEUTRAL)) == 2
