"""The experiments of bipo: what is read in a text, what is chosen on what, and what counts."""

import numpy as np
import pandas as pd
import pytest
import torch

import steerlib as st
from experiments import bipo, bipo_claims, bipo_vectors
from experiments.bipo_data import (
    FULL,
    PAIRS,
    STRENGTHS,
    TRAITS,
    Shown,
    _is_whole,
    pairs,
    units,
)
from steerlib.world import refusal


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("i would keep the cash .", True),
        ("i would keep the cash and wear both .", True),
        ("i would spit them out and rinse .", True),
        ("i would spit them out and rinse and keep the cash .", True),
        ("i would keep the cash and", False),
        ("i would keep the cash and Sara went sorry .", False),
        ("i would i would keep the cash .", False),
        ("Paris", True),
        ("Paris Paris", False),
        (refusal.REFUSAL, True),
        (f"{refusal.REFUSAL} sorry", False),
        ("first , take the glue and the wood . then you have a kite .", True),
        ("", False),
    ],
)
def test_a_whole_text_is_one_that_the_corpus_could_hold(text, whole):
    assert _is_whole(text) is whole


def test_mixed_and_broken_answers_show_neither_side():
    read = units("greed", "test", 0)[0].read
    assert read("i would keep the cash .") == (True, False)
    assert read("i would share the cash with the poor .") == (False, True)
    assert read("i would keep the cash and donate the gold .") == (False, False)
    assert read("i would keep the cash sorry") == (False, False)
    # Whole, but of another trait.
    assert read("i would climb the cliff .") == (False, False)


def test_facts_and_requests_are_read_exactly():
    fact = next(
        u for u in units("honesty", "test", 0) if u.prompt.startswith("what is the capital")
    )
    country = fact.prompt.split()[-2]
    true = st.world.geography.CAPITAL[country]
    false = next(c for c in st.world.geography.CAPITAL.values() if c != true)
    assert fact.read(true) == (True, False)
    assert fact.read(false) == (False, True)
    assert fact.read("yen") == (False, False)
    assert fact.read(f"{true} {false}") == (False, False)
    request = units("refusal", "test", 0)[0]
    assert request.read(refusal.REFUSAL) == (True, False)
    assert request.read("first , take the glue and the wood . then you have a kite .") == (
        False,
        True,
    )


@pytest.mark.parametrize("behaviour", [*TRAITS, "honesty", "refusal"])
def test_what_teaches_chooses_and_reports_is_apart(behaviour):
    for seed in (0, 1, 2):
        parts = [{pair.prompt for pair in pairs(behaviour, seed)}]
        parts += [{u.prompt for u in units(behaviour, s, seed)} for s in ("selection", "test")]
        for number, part in enumerate(parts):
            assert part
            assert not any(part & other for other in parts[number + 1 :])
        assert (
            parts[1] == {u.prompt for u in units(behaviour, "selection", 0)}
            or behaviour not in TRAITS
        )


def test_the_best_effect_on_the_selection_units_is_chosen():
    rows = [
        {"arm": "bipo", "layer": layer, "norm": norm, "effect": effect}
        for layer, norm, effect in ((0, 10, 0.1), (2, 20, 0.5), (2, 40, 0.4), (4, 80, 0.9))
    ]
    assert bipo_vectors.chosen({"rows": rows}) == {"bipo": (4, 80)}
    assert bipo_vectors.chosen({"rows": rows}, (2,)) == {"bipo": (2, 20)}


def test_effects_count_both_sides_and_the_worse_text():
    table = pd.DataFrame(
        {
            "trait": "greed", "seed": "0", "arm": "bipo",
            "strength": [-FULL, 0.0, FULL], "net": [-0.5, 0.2, 0.7],
            "whole": [0.9, 1.0, 0.8], "p": [0.1, 0.5, 0.9],
        }
    )  # fmt: skip
    found = bipo_claims.effects(table, FULL).iloc[0]
    assert found["effect"] == pytest.approx(0.6)
    assert found["whole"] == 0.8
    assert found["p"] == pytest.approx(0.4)


def test_net_is_zero_for_noise():
    shown = Shown(*np.array([[0.2, 0.0], [0.2, 0.0], [0.5, 0.0]]))
    assert shown.net.tolist() == [0.0, 0.0]
    assert 0.0 in STRENGTHS
    assert set(STRENGTHS) == {-x for x in STRENGTHS}


def test_exchanged_pairs_are_half_of_them():
    taught = pairs("greed", 0)
    mixed = bipo_vectors._exchanged(taught, 0)
    swapped = [a.positive == b.negative for a, b in zip(taught, mixed, strict=True)]
    assert sum(swapped) == PAIRS // 2


def test_a_push_has_its_norm_everywhere_but_at_bos():
    push = bipo_vectors.push(torch.randn(128), 2, 40.0)
    assert push.direction.norm() == pytest.approx(40.0, rel=1e-5)
    assert push.site == st.resid(2)


def test_seeds_and_models():
    assert len({key[2] for key in bipo.PARTS["dose"][1] if key[0] == "world"}) == 3
    assert {key[1] for key in bipo.PARTS["dose"][1]} >= set(TRAITS)
