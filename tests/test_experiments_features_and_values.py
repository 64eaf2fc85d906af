"""The experiments of sae and values: what is chosen on what, and what belongs together."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments import sae, sae_steering, sae_steering_claims, values_claims, values_data
from steerlib.world import values as world


def curve(arm, choose, report):
    """The scores of an arm at strengths 1, 2, ... on both halves of the requests."""
    return [
        {"arm": arm, "strength": float(s + 1), "part": part, "score": score}
        for part, scores in (("choose", choose), ("report", report))
        for s, score in enumerate(scores)
    ]


def test_a_strength_is_chosen_on_other_requests_than_it_reports():
    features = dict.fromkeys(sae_steering_claims.WAYS, 7) | {"random": 9}
    curves = [
        *curve("add 7", [0.1, 0.9, 0.3], [0.8, 0.5, 1.0]),
        *curve("add 9", [0.0, 0.0, 0.0], [0.2, 0.9, 0.9]),  # of equal ones the smallest
        *curve("diff_means", [0.0, 0.0, 0.7], [1.0, 1.0, 0.6]),
        *curve("clamp 0.4", [0.2], [0.9]),
        *curve("clamp 0.8", [0.4], [0.3]),
        *curve("min_clamp 0.4", [0.2], [0.1]),
    ]
    for row in curves:  # strengths that a clamp's targets have
        if row["arm"] == "add 7" and row["strength"] in (1.0, 3.0):
            row["strength"] = {1.0: 0.4, 3.0: 1.6}[row["strength"]]
    table = sae_steering_claims.steering(
        {("weather", "0"): {"features": features, "curves": curves}}
    )
    found = dict(zip(table["method"], table["score"], strict=True))
    assert found["sae_a"] == found["output"] == 0.5
    assert (found["random"], found["diff_means"]) == (0.2, 0.6)
    assert (found["clamp"], found["min_clamp"], found["matched"]) == (0.3, 0.1, 1.0)


def test_parts_of_the_roles_share_none():
    parts = {name: values_data.part(0, name) for name in ("answer", "choose", "report")}
    sizes = [values_data.ROLES, values_data.CHOOSE, values_data.REPORT]
    assert [len(part) for part in parts.values()] == sizes
    assert len(set().union(*map(set, parts.values()))) == sum(sizes)
    assert values_data.part(1, "answer") != parts["answer"]


def test_random_graphs_have_the_size_of_the_worlds():
    drawn = [values_data.random_dag(seed) for seed in range(20)]
    assert all(graph.is_dag and len(graph.directed) == len(world.EDGES) for graph in drawn)
    assert len({graph.directed for graph in drawn}) == 20


def test_the_correlation_leaves_own_effects_out():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(2, 10, 10))
    effects = target + rng.normal(size=target.shape)
    off = ~np.eye(10, dtype=bool)
    expected = np.corrcoef(effects[:, off].ravel(), target[:, off].ravel())[0, 1]
    assert values_claims.correlation(effects, target) == pytest.approx(expected)
    effects[:, ~off] += 100
    assert values_claims.correlation(effects, target) == pytest.approx(expected)


def test_computed_effects_of_the_true_values_are_the_causal_ones():
    roles = list(np.ndindex(12, 12, 12, 12))[::7]
    scores = values_claims.pd.DataFrame(
        [world.true_values(role) for role in roles], columns=list(world.VALUES)
    )
    computed = values_claims._computed(scores, values_data.TRUE)
    own = np.diag(computed)[:, None]
    assert np.corrcoef((computed / own).ravel(), world.total_effects().ravel())[0, 1] > 0.99


def test_an_untrained_sae_is_centred_as_the_trained_one(monkeypatch):
    like = sae.st.load_sae("world-topk")
    monkeypatch.setattr(sae, "trained", lambda *_: like)
    drawn = sae.untrained("world", 0)
    assert drawn.encode(like.offset).abs().max() < 1e-3
    assert (drawn.n, drawn.k) == (like.n, like.k)


def test_counted_words_stand_more_often_with_the_concept_by_two_errors():
    def talks(label, *responses):
        return [SimpleNamespace(label=label, response=r) for r in responses]

    with_it = talks(True, *["the rain rain falls", "the cold rain"] * 5, *["the dog runs"] * 10)
    without = talks(False, *["the dog runs"] * 16, *["the rain falls"] * 2, *["a cold dog"] * 2)
    # rain 10 of 20 against 2, 2.8 errors; falls and cold 5 against 2, 1.2; the 20 against 18, 1.5.
    assert sae_steering.counted([*with_it, *without]) == {"rain"}
    assert sae_steering.counted([*with_it, *without], 1.0) == {"rain", "falls", "cold", "the"}
    assert sae_steering.counted([*with_it, *without], 3.0) == set()
