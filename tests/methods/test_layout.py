"""What is learned where: how parameters are laid out, and which sites and positions are refused."""

import pytest
import torch

import steerlib as st
from steerlib.core.answers import encode_choices
from steerlib.methods.layout import layout_of

MIXED = [st.head(0, 1), st.mlp_out(0), st.head(1, 2), st.mlp_post(1), "blocks.2.hook_resid_post"]
DOGS = [st.world.Choice("tell me about the dog", "cat", "bird", False),
        st.world.Choice("once upon a time there", "was", "saw", False)]  # fmt: skip
LONGER = st.world.Choice("a story about the big red", "ball", "dog", False)


def laid_out(model, sites=MIXED, at=None, choices=DOGS, size=lambda d: d):
    return layout_of(model, sites, at, encode_choices(model, choices), size)


def test_sites_of_one_size_share_a_tensor_and_each_gets_its_own_rows_back(gpt2):
    layout = laid_out(gpt2, at=["last", st.prompt - st.last])
    zeros = layout.zeros(torch.device("cpu"))
    assert {name: tuple(p.shape) for name, p in zeros.items()} == {
        "8": (2, 2, 8), "32": (2, 2, 32), "128": (1, 2, 128),
    }  # fmt: skip
    assert all(p.requires_grad and p.is_leaf and not p.any() for p in zeros.values())
    numbered = {
        name: torch.arange(float(len(p)))[:, None, None].expand_as(p) for name, p in zeros.items()
    }
    found = [(site.name, rows[0, 0].item(), tuple(rows.shape)) for site, rows in
             layout.rows(numbered)]  # fmt: skip
    assert found == [
        ("blocks.0.attn.hook_z[1]", 0, (2, 8)),
        ("blocks.0.hook_mlp_out", 0, (2, 32)),
        ("blocks.1.attn.hook_z[2]", 1, (2, 8)),
        ("blocks.1.mlp.hook_post", 0, (2, 128)),
        ("blocks.2.hook_resid_post", 1, (2, 32)),
    ]


def test_selections_become_one_term_each_and_aligned_positions_one_term_per_site(gpt2):
    selections = [st.last, st.prompt - st.last]
    layout = laid_out(gpt2, MIXED[:2], selections, size=lambda d: 1)
    values = {"1": torch.tensor([[1.0, 2.0], [3.0, 4.0]])[..., None]}
    built = layout.build(values, lambda site, row: st.Scale(site, row[0]))
    assert [(t.site, t.positions, t.edit.alpha.item()) for t in built.terms] == [
        (MIXED[0], st.last, 1.0), (MIXED[0], selections[1], 2.0),
        (MIXED[1], st.last, 3.0), (MIXED[1], selections[1], 4.0),
    ]  # fmt: skip
    aligned = laid_out(gpt2, MIXED[:2], size=lambda d: 1)
    assert aligned.slots == 6  # BOS is one of them
    values = {"1": torch.arange(12.0).reshape(2, 6, 1)}
    built = aligned.build(values, lambda site, rows: st.Scale(site, rows[:, 0]))
    assert [t.edit.alpha.tolist() for t in built.terms] == [[0, 1, 2, 3, 4, 5], list(range(6, 12))]
    assert {t.positions for t in built.terms} == {st.everywhere}


def test_another_layout_has_another_key(gpt2):
    layouts = [
        laid_out(gpt2),
        laid_out(gpt2, at="last"),
        laid_out(gpt2, at=["last", st.prompt - st.last]),
        laid_out(gpt2, st.mlp_out(1)),
        laid_out(gpt2, [st.mlp_out(1), st.mlp_out(0)], at="last"),
        laid_out(gpt2, [st.mlp_out(0), st.mlp_out(1)], at="last"),
    ]
    assert len({layout.key for layout in layouts}) == len(layouts)
    assert laid_out(gpt2, st.mlp_out(1), "last", [*DOGS, LONGER]).slots == 1


def test_a_mask_has_no_key(gpt2):
    layout = laid_out(gpt2, at=st.mask(torch.tensor([False, True])))
    with pytest.raises(ValueError, match="belongs to one batch"):
        layout.key  # noqa: B018


def test_bad_sites_and_positions_are_named(gpt2):
    for sites in ([], [st.head(0, 1), "blocks.0.attn.hook_z[1]"]):
        with pytest.raises(ValueError, match=r"different sites, at least one; got \["):
            laid_out(gpt2, sites)
    with pytest.raises(ValueError, match=r"has 4 heads.*blocks.0.attn.hook_z\[7\]"):
        laid_out(gpt2, [st.head(0, 7)])
    with pytest.raises(ValueError, match=r"has 4 layers.*blocks.4.hook_mlp_out"):
        laid_out(gpt2, st.mlp_out(4))
    with pytest.raises(KeyError, match=r"unknown site 'blocks.0.mlp'"):
        laid_out(gpt2, "blocks.0.mlp")
    for at in ([], ["last", st.last]):
        with pytest.raises(ValueError, match="different selections of positions"):
            laid_out(gpt2, at=at)
    with pytest.raises(ValueError, match="unknown positions 'first'"):
        laid_out(gpt2, at="first")
    with pytest.raises(TypeError, match=r"positions are st.last.*got 3"):
        laid_out(gpt2, at=[3])


def test_prompts_of_different_lengths_are_counted_and_the_odd_one_is_shown(gpt2):
    with pytest.raises(ValueError, match=r"2 of 6, 1 of 7 tokens.*red'.*st.align.*st.dyn_scalar"):
        laid_out(gpt2, choices=[DOGS[0], LONGER, DOGS[1]])
