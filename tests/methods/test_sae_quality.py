"""What an SAE loses: the formulas by hand, perfect and useless SAEs, groups, targets, padding."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

import steerlib as st
from steerlib.core.prompts import encode
from steerlib.core.sites import resolve
from steerlib.methods.sae_quality import quality
from tests.methods.sae_cases import ACTIVATIONS, latents, random_sae

TEXTS = [
    "a story about the dog .",
    "tell me",
    "once upon a time there was a little girl who saw a big red ball .",
    "happy bird",
    "the sad cat went to the park .",
]
GROUPS = ["long", "short", "long", "short", "long"]
LOSSES = ["loss", "loss_spliced", "loss_mean"]
CLOSE = ({"rel": 1e-5}, {"rel": 1e-3})  # a ratio of small differences is less exact


def own_sae(activation="topk", site=None):
    """It fits the small models, and is neither perfect nor useless."""
    sae = random_sae(activation, d=32, n=48, site=site)
    return replace(sae, offset=0.1 * sae.offset)


def perfect(site, d=32):
    """h = relu(h) - relu(-h)."""
    whole = torch.cat([torch.eye(d), -torch.eye(d)])
    return st.SAE(site, whole.T, torch.zeros(2 * d), whole, torch.zeros(d), "relu")


def rows_of(model, sae, text):
    return st.capture(model, [text], [sae.site], at=st.prompt)[sae.site].double()


def token_losses(model, site, text, new=None):
    """-log p of each token, one text at a time, with `new(h)` in place of h but at BOS."""
    ids = torch.tensor([encode(model, [text], chat=False)[0]])

    def change(module, inputs, output):
        h = output[0] if isinstance(output, tuple) else output
        changed = torch.cat([h[:, :1], new(h[:, 1:])], 1)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = None if new is None else resolve(model, site).module.register_forward_hook(change)
    with torch.no_grad():
        logits = model.hf(input_ids=ids).logits
    if handle:
        handle.remove()
    return cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none").double()


def by_hand(model, sae, texts, centre, targets=None):
    """All columns but `dead`, from their formulas."""
    h = [rows_of(model, sae, text) for text in texts]
    r = [sae.decode(latents(sae, rows.float())).double() for rows in h]
    l0 = torch.cat([(latents(sae, rows.float()) > 0).sum(1) for rows in h]).double().mean()
    error = sum((a - b).square().sum() for a, b in zip(h, r, strict=True))
    spread = sum((rows - centre).square().sum() for rows in h)
    news = (
        None,
        lambda x: sae.decode(latents(sae, x)),
        lambda x: centre.float().expand_as(x),
    )
    losses = []
    for new in news:
        each = [token_losses(model, sae.site, text, new) for text in texts]
        if targets is not None:
            each = [row[torch.tensor(own)] for row, own in zip(each, targets, strict=True)]
        losses.append(torch.cat(each).mean().item())
    loss, spliced, mean = losses
    return {
        "tokens": sum(map(len, h)), "fvu": (error / spread).item(), "l0": l0.item(),
        "loss": loss, "loss_spliced": spliced, "loss_mean": mean,
        "recovered": (mean - spliced) / (mean - loss),
    }  # fmt: skip


def centre_of(model, sae):
    return torch.cat([rows_of(model, sae, text) for text in TEXTS]).mean(0)


# --- the numbers


def test_every_column_is_its_formula(model):
    sae = own_sae()
    found = quality(sae, model, TEXTS)
    assert list(found) == ["group", "tokens", "fvu", "l0", "dead", *LOSSES, "recovered"]
    assert found.group.tolist() == ["all"]
    expected = by_hand(model, sae, TEXTS, centre_of(model, sae))
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, **CLOSE[name == "recovered"]), name
    assert found.loss_spliced[0] != pytest.approx(found.loss[0], abs=1e-3)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dead_latents_fire_at_no_token_of_any_text(gpt2, activation):
    sae = own_sae(activation)
    silent = replace(sae, bias=sae.bias - 100 * (torch.arange(48) % 3 == 0))
    fires = torch.cat([latents(silent, rows_of(gpt2, sae, t).float()) > 0 for t in TEXTS]).any(0)
    found = quality(silent, gpt2, TEXTS, groups=GROUPS)
    assert 16 / 48 <= found.dead[0] < 1
    assert found.dead[0] == pytest.approx(1 - fires.double().mean().item())
    assert found.dead[1:].isna().all()


def test_a_perfect_sae_loses_nothing(gpt2):
    found = quality(perfect(st.resid(2)), gpt2, TEXTS).iloc[0]
    assert found.fvu == pytest.approx(0, abs=1e-10)
    assert found.loss_spliced == pytest.approx(found.loss, abs=1e-5)
    assert found.recovered == pytest.approx(1, abs=1e-3)
    assert found.l0 == 32


def test_the_mean_in_place_of_everything_recovers_nothing(gpt2):
    dead = replace(own_sae("relu"), bias=-100 * torch.ones(48))
    at_mean = replace(dead, offset=centre_of(gpt2, dead).float())
    found = quality(at_mean, gpt2, TEXTS).iloc[0]
    assert found.fvu == pytest.approx(1)
    assert found.recovered == pytest.approx(0, abs=1e-4)
    assert (found.l0, found.dead) == (0, 1)


def test_the_sites_of_components_are_spliced_too(gpt2):
    for site in (st.mlp_out(1), st.attn_out(2), st.resid_pre(1)):
        found = quality(perfect(site), gpt2, TEXTS).iloc[0]
        assert found.fvu == pytest.approx(0, abs=1e-8)
        assert found.loss_spliced == pytest.approx(found.loss, abs=1e-5)
        assert abs(found.loss_mean - found.loss) > 1e-4


# --- groups and targets


def test_a_group_is_its_texts_about_the_mean_of_all(gpt2):
    sae = own_sae()
    found = quality(sae, gpt2, TEXTS, groups=GROUPS).set_index("group")
    assert found.index.tolist() == ["all", "long", "short"]
    for name in ("long", "short"):
        own = [t for t, group in zip(TEXTS, GROUPS, strict=True) if group == name]
        expected = by_hand(gpt2, sae, own, centre_of(gpt2, sae))
        for column, value in expected.items():
            close = CLOSE[column == "recovered"]
            assert found[column][name] == pytest.approx(value, **close), column
    alone = quality(sae, gpt2, TEXTS).iloc[0]
    assert found.loc["all"].tolist() == pytest.approx(alone.tolist()[1:])
    assert found.tokens["all"] == found.tokens["long"] + found.tokens["short"]
    assert found.fvu["long"] != pytest.approx(found.fvu["short"], rel=0.01)


def test_only_targets_count_in_the_losses(gpt2):
    sae = own_sae()
    lengths = [len(rows_of(gpt2, sae, text)) for text in TEXTS]
    targets = [[i % 3 == 1 for i in range(n)] for n in lengths]
    whole = quality(sae, gpt2, TEXTS, groups=GROUPS)
    found = quality(sae, gpt2, TEXTS, groups=GROUPS, targets=targets)
    expected = by_hand(gpt2, sae, TEXTS, centre_of(gpt2, sae), targets)
    for column in (*LOSSES, "recovered"):
        close = CLOSE[column == "recovered"]
        assert found[column][0] == pytest.approx(expected[column], **close)
        assert found[column][0] != pytest.approx(whole[column][0], rel=1e-4)
    same = ["group", "tokens", "fvu", "l0", "dead"]
    assert found[same].equals(whole[same])


def test_a_group_without_targets_has_no_loss(gpt2):
    sae = own_sae()
    lengths = [len(rows_of(gpt2, sae, text)) for text in TEXTS]
    targets = [[group == "long"] * n for group, n in zip(GROUPS, lengths, strict=True)]
    found = quality(sae, gpt2, TEXTS, groups=GROUPS, targets=targets).set_index("group")
    assert found.loc["short", [*LOSSES, "recovered"]].isna().all()
    assert found.loss["long"] == pytest.approx(found.loss["all"])
    assert found.fvu["short"] > 0


# --- the same on every path


@pytest.mark.parametrize("size", [1, 2, 64])
def test_padding_and_batches_change_nothing(gpt2, size):
    sae = own_sae()
    found = quality(sae, gpt2, TEXTS, groups=GROUPS, batch_size=size)
    usual = quality(sae, gpt2, TEXTS[::-1], groups=GROUPS[::-1], batch_size=3)
    both = [table.set_index("group").sort_index() for table in (found, usual)]
    assert both[0].index.tolist() == both[1].index.tolist()
    assert torch.allclose(*(torch.tensor(b.values) for b in both), rtol=1e-3, equal_nan=True)


def test_both_engines_agree(models):
    sae = own_sae()
    rows = [quality(sae, models("gpt2", engine), TEXTS).iloc[0] for engine in ("hf", "bridge")]
    assert rows[0].tolist()[1:] == pytest.approx(rows[1].tolist()[1:], rel=1e-3)


def test_chats_are_read_by_the_template(gpt2):
    sae, chats = own_sae(), [[{"role": "user", "content": text}] for text in TEXTS]
    raw, asked = (quality(sae, gpt2, TEXTS, chat=chat).iloc[0] for chat in (False, True))
    turned = quality(sae, gpt2, chats, chat=None).iloc[0]
    assert asked.tolist()[1:] == pytest.approx(turned.tolist()[1:])
    assert asked.tokens > raw.tokens


def test_the_model_is_left_as_it_was(gpt2):
    before = st.logits(gpt2, TEXTS[:1], chat=False)
    quality(own_sae(), gpt2, TEXTS)
    assert torch.equal(st.logits(gpt2, TEXTS[:1], chat=False), before)
    assert st.core.session.sessions(gpt2) == []


# --- bad input


def test_bad_texts_and_groups_are_named(gpt2):
    sae = own_sae()
    for texts in ([], "a story"):
        with pytest.raises(ValueError, match="needed is a list of texts, at least one"):
            quality(sae, gpt2, texts)
    with pytest.raises(ValueError, match="got 1 for 2 texts"):
        quality(sae, gpt2, TEXTS[:2], groups=["one"])
    with pytest.raises(ValueError, match="none of the name 'all'"):
        quality(sae, gpt2, TEXTS[:2], groups=["one", "all"])
    with pytest.raises(ValueError, match="1 rows of targets for 2 texts"):
        quality(sae, gpt2, TEXTS[:2], targets=[[True]])
    with pytest.raises(ValueError, match="text 1 has 2 tokens besides BOS, its targets 1"):
        quality(sae, gpt2, TEXTS[:2], targets=[[True] * 6, [True]])
    with pytest.raises(ValueError, match=r"all activations at .* are the same"):
        quality(sae, gpt2, ["story"])


def test_an_sae_of_something_else_is_refused(gpt2):
    with pytest.raises(ValueError, match="have 32 numbers, the edit has 6"):
        quality(random_sae("topk"), gpt2, TEXTS)
    with pytest.raises(ValueError, match="has 4 layers"):
        quality(own_sae(site=st.resid(4)), gpt2, TEXTS)
    other = replace(own_sae(), origin=st.Origin("other", "1234", "sae topk", 0))
    with pytest.raises(ValueError, match="was made for other"):
        quality(other, gpt2, TEXTS)
    assert math.isfinite(quality(replace(other, origin=None), gpt2, TEXTS).fvu[0])
