"""flips: by hand, with and without padding, both sides; its summary averages units first."""

import math

import pandas as pd
import pytest
import torch

import steerlib as st
from steerlib import evaluation as ev
from steerlib.evaluation import Choice
from steerlib.statistics import bootstrap_mean
from tests.planted import planted_model

SIDES = {"plus": 1.0, "minus": -1.0}
COLUMNS = {
    *("margin", "margin_plus", "margin_minus", "both", "effect"),
    *("kl", "kl_plus", "kl_minus", "top_plus", "top_minus"),
    *("mass", "mass_plus", "mass_minus", "first_plus", "first_minus"),
}
# The head that carries what the context says, louder or softer at the last token.
DIAL = st.Scale("blocks.0.attn.hook_z[1]", 0.45).at(st.last)
RELATIONS = ("capital", "language", "currency", "city")


@pytest.fixture(scope="module")
def world():
    return st.load("world", engine="hf")


@pytest.fixture(scope="module")
def conflicts():
    """Of several lengths, so that a batch is padded."""
    found = st.world.conflicts(24, relations=RELATIONS, templates=(0, 1, 2, 3, 4), split="test")
    assert len({len(item.prompt.split()) for item in found}) > 4
    return found


@pytest.fixture(scope="module")
def table(world, conflicts):
    return ev.flips(world, conflicts, DIAL)


def log_p(model, prompt, intervention=None, strength=1.0):
    """log p of the next token after one prompt, float64."""
    if intervention is None:
        return st.logits(model, prompt, chat=False)[0, -1].double().log_softmax(-1)
    with st.steer(model, intervention, strength):
        return log_p(model, prompt)


def by_hand(model, choice, intervention, strength=1.0):
    """One row of `flips`, from one prompt at a time and sums over lists."""
    ids = [
        model.tokenizer(f" {a}", add_special_tokens=False).input_ids[0]
        for a in (choice.positive, choice.negative)
    ]
    before = log_p(model, choice.prompt)
    others = [k for k in range(len(before)) if k not in ids]
    row = {"margin": before[ids[0]] - before[ids[1]], "mass": before[ids].exp().sum()}
    for side, sign in SIDES.items():
        after = log_p(model, choice.prompt, intervention, sign * strength)
        p, q = (x[others].exp() / x[others].exp().sum() for x in (before, after))
        own = ids[0] if side == "plus" else ids[1]
        row |= {
            f"margin_{side}": after[ids[0]] - after[ids[1]],
            f"mass_{side}": after[ids].exp().sum(),
            f"kl_{side}": (p * (p / q).log()).sum(),
            f"top_{side}": float(p.argmax() == q.argmax()),
            f"first_{side}": float(after.argmax() == own),
        }
    plus, minus = float(row["margin_plus"] > 0), float(row["margin_minus"] < 0)
    mean = (row["kl_plus"] + row["kl_minus"]) / 2
    row |= {"both": plus * minus, "effect": (plus + minus) / 2, "kl": mean}
    return {name: float(value) for name, value in row.items()}


@pytest.mark.parametrize(
    ("intervention", "strength"),
    [
        (DIAL, 1.0),
        (DIAL, 0.3),
        (st.Add(st.resid(2), torch.arange(128) % 7 - 3.0), 0.05),
        (st.Scale(st.mlp_out(1), [0.0, 0.4, -0.4, 0.4, -0.4]), 1.0),
    ],
)
def test_a_row_is_what_one_prompt_at_a_time_gives(world, conflicts, intervention, strength):
    found = ev.flips(world, conflicts, intervention, strength)
    expected = pd.DataFrame([by_hand(world, c, intervention, strength) for c in conflicts])
    assert set(found.columns) == set(expected.columns) == COLUMNS
    for name in COLUMNS:
        assert found[name].astype(float).tolist() == pytest.approx(
            expected[name].tolist(), abs=1e-4
        )
    assert found.index.tolist() == list(range(24))
    assert found.kl.min() >= 0 < found.kl.mean()
    assert found.dtypes[["both", "top_plus", "first_minus"]].eq(bool).all()


def test_without_an_intervention_both_sides_are_as_before(world, conflicts):
    found = ev.flips(world, conflicts, None)
    for side in SIDES:
        assert found[f"margin_{side}"].equals(found.margin.rename(f"margin_{side}"))
        assert found[f"mass_{side}"].tolist() == found.mass.tolist()
        assert found[f"top_{side}"].all()
    assert not found[["kl", "kl_plus", "kl_minus"]].any().any()
    assert not found.both.any()
    # An answer that is ahead is so on its own side only.
    assert found.effect.tolist() == [0.5] * 24
    assert (found.first_plus & ~(found.margin > 0)).sum() == 0
    assert found[["margin", "kl"]].equals(ev.flips(world, conflicts, DIAL, 0.0)[["margin", "kl"]])


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_batch_size_and_the_order_change_nothing(world, conflicts, table, batch_size):
    small = ev.flips(world, conflicts, DIAL, batch_size=batch_size)
    turned = ev.flips(world, conflicts[::-1], DIAL, batch_size=batch_size)[::-1]
    for found in (small, turned):
        for name in COLUMNS:
            assert found[name].astype(float).tolist() == pytest.approx(
                table[name].astype(float).tolist(), abs=1e-4
            )


def test_a_strength_multiplies_the_intervention(world, conflicts, table):
    half = ev.flips(world, conflicts, DIAL, 0.5)
    scaled = ev.flips(world, conflicts, 0.5 * DIAL)
    assert half.margin_plus.tolist() == pytest.approx(scaled.margin_plus.tolist(), abs=1e-4)
    assert half.kl.tolist() == pytest.approx(scaled.kl.tolist(), abs=1e-5)
    assert half.kl.mean() < 0.5 * table.kl.mean()
    assert half.margin.tolist() == pytest.approx(table.margin.tolist(), abs=1e-6)


def test_a_negative_strength_exchanges_the_sides(world, conflicts, table):
    turned = ev.flips(world, conflicts, DIAL, -1.0)
    for kind in ("margin", "mass", "kl", "top"):
        for side, other in (("plus", "minus"), ("minus", "plus")):
            found = turned[f"{kind}_{side}"].astype(float).tolist()
            assert found == pytest.approx(table[f"{kind}_{other}"].astype(float).tolist(), abs=1e-5)
    assert turned.kl.tolist() == pytest.approx(table.kl.tolist(), abs=1e-6)
    # But a side's own answer stays: it is never first when the dial is turned the other way.
    assert not turned.both.any()
    assert turned.first_plus.mean() < 0.1 < 0.9 < table.first_plus.mean()


def test_turning_the_answers_turns_the_dial(world, conflicts, table):
    turned = [Choice(c.prompt, c.negative, c.positive, chat=False) for c in conflicts]
    found = ev.flips(world, turned, -1.0 * DIAL)
    assert found.margin.tolist() == pytest.approx((-table.margin).tolist(), abs=1e-5)
    assert found.margin_plus.tolist() == pytest.approx((-table.margin_minus).tolist(), abs=1e-4)
    assert found.kl_plus.tolist() == pytest.approx(table.kl_minus.tolist(), abs=1e-5)
    assert found.first_plus.tolist() == table.first_minus.tolist()
    assert found.both.tolist() == table.both.tolist()


def test_a_known_head_turns_the_answer_both_ways(world):
    choices = st.world.conflicts(60, relations=RELATIONS, split="test")
    found = ev.flips(world, choices, DIAL)
    assert found.both.mean() > 0.95
    assert (found.margin_plus - found.margin).mean() > 2
    assert (found.margin_minus - found.margin).mean() < -2
    assert found[["first_plus", "first_minus"]].mean().min() > 0.95
    assert found[["mass_plus", "mass_minus"]].mean().min() > found.mass.mean()
    # A random edit of the same size flips nothing and has a price as well.
    other = ev.flips(world, choices, st.Scale("blocks.0.attn.hook_z[0]", 0.45).at(st.last))
    assert other.both.mean() < 0.5
    assert ev.flip_summary(found).loc["both", "low"] > ev.flip_summary(other).loc["both", "high"]


def test_what_else_changes_is_seen(world, conflicts, table):
    """A push toward a word that is no answer: the other tokens move, the answers lose."""
    token = world.tokenizer(" dog", add_special_tokens=False).input_ids[0]
    toward = world.hf.get_output_embeddings().weight.detach()[token]
    push = st.Add(st.resid(world.n_layers - 1), toward / toward.norm()).at(st.last)
    quiet, loud = (ev.flips(world, conflicts, push, strength) for strength in (0.5, 200.0))
    assert quiet.kl.mean() < table.kl.mean() < 1 < loud.kl_plus.mean()
    assert quiet.top_plus.mean() > 0.8 > 0.1 > loud.top_plus.mean()
    assert loud.mass_plus.mean() < 0.2 < 0.8 < loud.mass.mean()
    assert not loud.first_plus.any()


def test_equal_answers_have_flipped_no_way():
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    rows[3] = rows[2]  # two words that the model cannot tell apart
    model = planted_model(rows)
    found = ev.flips(model, [Choice("w0 w1", "w2", "w3"), Choice("w1", "w3", "w4")], None)
    assert found.margin[0] == 0.0
    assert found.effect.tolist() == [0.0, 0.5]
    assert not found.both.any()


def test_prompts_are_raw_text_unless_something_else_is_said(gpt2, vector):
    push = 3 * st.Add(st.resid(1), vector())
    open_ones = [Choice("about the dog", "happy", "sad"), Choice("sun", "good", "bad")]
    asked = [Choice(c.prompt, c.positive, c.negative, chat=True) for c in open_ones]
    raw = ev.flips(gpt2, open_ones, push)
    assert raw.equals(ev.flips(gpt2, open_ones, push, chat=False))
    chat = ev.flips(gpt2, open_ones, push, chat=True)
    assert chat.equals(ev.flips(gpt2, asked, push))
    assert chat.equals(ev.flips(gpt2, open_ones, push, chat=None))
    assert (chat.margin_plus - raw.margin_plus).abs().min() > 1e-3


def test_bad_choices_are_refused(world):
    with pytest.raises(ValueError, match="at least one; got none"):
        ev.flips(world, [], DIAL)
    with pytest.raises(ValueError, match="one token each"):
        ev.flips(world, [Choice("tell me", "the dog", "cat")], DIAL)


# --- summaries


def numbers():
    """Four rows of three units."""
    return pd.DataFrame({"margin": [1.0, 3.0, 4.0, -2.0], "both": [True, True, False, False]})


def test_rows_of_one_unit_are_averaged_first():
    found = ev.flip_summary(numbers(), ["Peru", "Peru", "Cuba", "Chile"])
    assert found.index.tolist() == ["margin", "both"]
    assert found.columns.tolist() == ["mean", "low", "high", "n"]
    assert found.loc["margin", "mean"] == pytest.approx((2 + 4 - 2) / 3)
    assert found.loc["both", "mean"] == pytest.approx(1 / 3)
    assert (found.n == 3).all()


def test_intervals_are_those_of_the_units():
    units = ["Peru", "Peru", "Cuba", "Chile"]
    for level, seed in ((0.95, 0), (0.5, 3)):
        found = ev.flip_summary(numbers(), units, level, seed)
        # In the order of the units' names: Chile, Cuba, Peru.
        exact = bootstrap_mean(torch.tensor([-2.0, 4.0, 2.0]).numpy(), level, seed=seed)
        line = found.loc["margin"]
        assert (line["low"], line["high"]) == (exact.low, exact.high)
        assert line["low"] <= line["mean"] <= line["high"]
    wide, narrow = (ev.flip_summary(numbers(), units, level).loc["margin"] for level in (0.95, 0.5))
    assert wide["high"] - wide["low"] > narrow["high"] - narrow["low"]


def test_without_units_each_row_is_one(table):
    found = ev.flip_summary(table)
    assert (found.n == 24).all()
    assert set(found.index) == COLUMNS
    for name in COLUMNS:
        assert found.loc[name, "mean"] == pytest.approx(table[name].astype(float).mean())
    apart = ev.flip_summary(table, range(24))
    assert apart.equals(found)


def test_repeated_rows_do_not_make_an_interval_narrower(table, conflicts):
    units = [item.subject for item in conflicts]
    twice = pd.concat([table, table], ignore_index=True)
    once = ev.flip_summary(table, units)
    assert ev.flip_summary(twice, [*units, *units]).equals(once)
    naive = ev.flip_summary(twice).loc["margin"]
    assert naive["high"] - naive["low"] < once.loc["margin", "high"] - once.loc["margin", "low"]


@pytest.mark.parametrize("units", [None, ["Peru"] * 4])
def test_one_unit_has_no_interval(units):
    rows = numbers() if units else numbers()[:1]
    with pytest.raises(ValueError, match="two or more finite numbers"):
        ev.flip_summary(rows, units)


def test_numbers_are_finite(table):
    assert all(math.isfinite(x) for x in table.astype(float).to_numpy().ravel())
