"""Directions for values: identities, what theory says of a linear model, engines, bad input."""

import re
from random import Random
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import steerlib as st
from steerlib.core.questionnaires import Questionnaire
from steerlib.methods.graph_steering import effects, residuals, unmoved, value_directions
from steerlib.methods.value_graphs import ValueGraph
from steerlib.world import values as truth
from tests.planted import SITE, planted_model

NAMES = ["b", "e", "a", "d", "c"]  # causes need not come first
TRUE = ValueGraph.of(NAMES, [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "e")])
WEIGHTS = {("a", "b"): 0.8, ("a", "c"): 0.6, ("b", "d"): 0.7, ("c", "d"): 0.9, ("d", "e"): -1.1}
SIZE, ROLES = 12, 60
TEXTS = [f"w{n}" for n in range(ROLES)]
WORDS = ["dog", "cat", "bird", "fish", "rain", "sun", "wind", "girl"]
ALIGNED = [f"a {'happy' if n % 2 else 'sad'} {word}" for n, word in enumerate(WORDS)]
HEARD = st.mask(torch.tensor([False, False, True, True]))  # the two words that differ


def uncorrelated(rows, columns, seed=0):
    """Columns with mean 0 and variance 1 whose correlations are exactly 0."""
    x = np.random.default_rng(seed).normal(size=(rows, columns))
    return np.linalg.qr(x - x.mean(0))[0] * np.sqrt(rows)


def total():
    """(I - B)^-1, [effect, cause]."""
    b = np.zeros((5, 5))
    for (cause, effect), weight in WEIGHTS.items():
        b[NAMES.index(effect), NAMES.index(cause)] = weight
    return np.linalg.inv(np.eye(5) - b)


def table(x, columns=NAMES):
    return pd.DataFrame(np.asarray(x), columns=list(columns))


def everything_else():
    """All others taken out of each value."""
    return {value: [name for name in NAMES if name != value] for value in NAMES}


def random_scores(rows=24, seed=2):
    mix = np.random.default_rng(seed).normal(size=(5, 5))
    return table(np.random.default_rng(seed + 1).normal(size=(rows, 5)) @ mix + 3)


@pytest.fixture(scope="module")
def linear():
    """A model whose activations are linear in u; the scores are read off the stream, linearly."""
    random = np.random.default_rng(1)
    u = uncorrelated(ROLES, 5)
    read = np.linalg.qr(random.normal(size=(SIZE, 5)))[0]
    other = np.eye(SIZE) - read @ read.T  # what no score sees
    rows = u @ total().T @ read.T + random.normal(size=(ROLES, SIZE)) @ other + 0.5
    model = planted_model(torch.tensor(rows).float())

    def scores(texts):
        h = st.capture(model, texts, [SITE], at=st.prompt, reduce="mean")[SITE]
        return table(h.double().numpy() @ read)

    return SimpleNamespace(model=model, scores=scores, u=u)


def steered(linear, directions, strength=1.0):
    """The mean change of every score under each direction."""
    few = TEXTS[:4]
    after = {}
    for name, direction in directions.items():
        with st.steer(linear.model, direction, strength):
            after[name] = linear.scores(few)
    return effects(linear.scores(few), after)


def along(linear, graph=None):
    directions = value_directions(linear.model, TEXTS, linear.scores(TEXTS), SITE, graph)
    return steered(linear, directions).to_numpy()


# --- residuals


def test_without_a_graph_residuals_are_the_standardized_scores():
    scores = random_scores()
    found = residuals(scores)
    assert found.mean().to_numpy() == pytest.approx(0, abs=1e-12)
    assert found.std().to_numpy() == pytest.approx(1)
    expected = (scores - scores.mean()) / scores.std()
    pd.testing.assert_frame_equal(found, expected)


def test_residuals_are_orthogonal_to_the_parents_and_leave_roots_whole():
    scores = random_scores()
    z, found = residuals(scores), residuals(scores, TRUE)
    for name in NAMES:
        for parent in TRUE.parents(name):
            assert z[parent] @ found[name] == pytest.approx(0, abs=1e-9)
    pd.testing.assert_series_equal(found["a"], z["a"])
    # Both parents of d at once, not one after the other.
    x = np.column_stack([np.ones(len(z)), scores[["b", "c"]]])
    left = scores["d"] - x @ np.linalg.lstsq(x, scores["d"], rcond=None)[0]
    assert found["d"].to_numpy() == pytest.approx(left.to_numpy() / scores["d"].std())


def test_residuals_keep_the_rows_and_the_scores():
    scores = random_scores().set_index(pd.Index([f"role {n}" for n in range(24)]))
    before = scores.copy()
    assert residuals(scores, TRUE).index.equals(scores.index)
    assert list(residuals(scores, TRUE)) == NAMES
    pd.testing.assert_frame_equal(scores, before)


def test_other_units_and_more_of_a_parent_change_nothing():
    scores = random_scores()
    found = residuals(scores, TRUE)
    units = scores * [2, 0.1, 5, 1, 30] + [1, 0, -4, 2, 9]
    pd.testing.assert_frame_equal(residuals(units, TRUE), found)
    more = scores.assign(d=scores["d"] + 2 * scores["b"] - scores["c"])
    ratio = residuals(more, TRUE)["d"] / found["d"]
    assert ratio.to_numpy() == pytest.approx(scores["d"].std() / more["d"].std())


def test_a_graph_that_stands_for_several_gives_their_mean():
    scores = random_scores()
    graph = TRUE.cpdag()
    members = graph.members()
    assert len(members) > 1
    mean = sum(residuals(scores, member) for member in members) / len(members)
    pd.testing.assert_frame_equal(residuals(scores, graph), mean)
    assert not np.allclose(residuals(scores, graph)["a"], residuals(scores, TRUE)["a"])


# --- what theory says of a linear model


def test_plain_directions_move_scores_by_their_covariances(linear):
    """s_k moves by Cov(s_k, s_j) / sd(s_j): what goes together moves together, causes too."""
    cov = linear.scores(TEXTS).cov(ddof=0).to_numpy()
    found = along(linear)
    assert found == pytest.approx(cov / np.sqrt(np.diag(cov))[:, None], abs=1e-4)
    effect, cause = NAMES.index("d"), NAMES.index("a")
    assert abs(found[effect, cause]) > 0.1


def test_directions_adjusted_by_the_true_graph_move_scores_by_the_total_effects(linear):
    """s_k moves by Cov(s_k, u_j) / sd(u_j) = T_kj, as the u are uncorrelated with variance 1."""
    assert along(linear, TRUE) == pytest.approx(total().T, abs=1e-4)


def test_a_wrong_graph_does_not(linear):
    """The negative control: arrows turned around, and names traded."""
    reverse = ValueGraph.of(NAMES, [(b, a) for a, b in TRUE.directed])
    swap = dict(zip("abcde", "ecdba", strict=True))
    traded = ValueGraph.of(NAMES, [(swap[a], swap[b]) for a, b in TRUE.directed])
    for graph in (None, reverse, traded):
        found = along(linear, graph)
        gap = found / np.diag(found)[:, None] - total().T
        assert abs(gap).max() > 0.3


def test_what_all_others_leave_moves_no_other_score(linear):
    """The normal equations: Cov(s_k, r_j) = 0 for each k but j. That is not what do(v_j) does."""
    found = along(linear, everything_else())
    assert found - np.diag(np.diag(found)) == pytest.approx(0, abs=1e-4)
    assert (np.diag(found) > 0.1).all()


def test_parents_never_move_and_the_value_itself_rises(linear):
    """In any sample, also where the u are correlated."""
    chosen = TEXTS[:20]
    scores = linear.scores(chosen)
    directions = value_directions(linear.model, chosen, scores, SITE, TRUE)
    found = steered(linear, directions)
    for name in NAMES:
        assert found.loc[name, name] > 0.1
        for parent in TRUE.parents(name):
            assert found.loc[name, parent] == pytest.approx(0, abs=1e-4)


def test_a_class_gives_the_direction_of_the_mean_residual(linear):
    """Normed by the deviation of the mean: one unit is one deviation of what is left."""
    scores = linear.scores(TEXTS)
    graph = TRUE.cpdag()
    r = residuals(scores, graph)
    cov = (scores - scores.mean()).T.to_numpy() @ (r - r.mean()).to_numpy() / len(scores)
    expected = (cov / r.std(ddof=0).to_numpy()).T
    assert along(linear, graph) == pytest.approx(expected, abs=1e-4)


# --- the directions


def test_it_is_the_covariance_with_the_residual_over_its_deviation(gpt2):
    """By hand, from the activations; and where it says that it comes from."""
    scores = random_scores(8)[["a", "b"]]
    graph = ValueGraph.of(["a", "b"], [("a", "b")])
    h = st.capture(gpt2, ALIGNED, ["blocks.2.hook_resid_post"], at=st.prompt, reduce="mean")
    h = next(iter(h.values()))
    options = {"at": st.prompt, "chat": False, "batch_size": 3}
    found = value_directions(gpt2, ALIGNED, scores, st.resid(2), graph, **options)
    for name, r in residuals(scores, graph).items():
        r = torch.tensor(r.to_numpy()).float()
        expected = ((r - r.mean())[:, None] * (h - h.mean(0))).mean(0) / r.std(correction=0)
        assert torch.allclose(found[name].direction, expected, atol=1e-5)
    assert found["b"].site == st.resid(2)
    assert found["b"].origin == st.Origin(gpt2.id, gpt2.revision, "adjusted")
    plain = value_directions(gpt2, ALIGNED, scores, "blocks.2.hook_resid_post", **options)
    assert list(plain) == ["a", "b"]
    assert plain["b"].origin.method == "value direction"


def test_two_equal_groups_give_half_their_difference_in_means(gpt2):
    """Whatever the two scores are."""
    group = torch.tensor([True, False, False, True, True, False, True, False])
    h = st.capture(gpt2, ALIGNED, [st.resid(1)], at=st.last)[st.resid(1)]
    half = (h[group].mean(0) - h[~group].mean(0)) / 2
    for high, low in ((1.0, -1.0), (7.0, 3.0)):
        scores = table(np.where(group, high, low)[:, None], ["v"])
        found = value_directions(gpt2, ALIGNED, scores, st.resid(1), at=st.last, chat=False)
        assert torch.allclose(found["v"].direction, half, atol=1e-6)


def test_a_direction_per_position_and_their_mean(gpt2):
    """Rows of the mask's length, 0 where nothing is read; the mean of rows is that of the mean."""
    scores = random_scores(8)
    options = {"at": HEARD, "chat": False}
    apart = value_directions(gpt2, ALIGNED, scores, st.resid(1), TRUE, aligned=True, **options)
    mean = value_directions(gpt2, ALIGNED, scores, st.resid(1), TRUE, **options)
    h = st.capture(gpt2, ALIGNED, [st.resid(1)], at=HEARD)[st.resid(1)].unflatten(0, (8, 2))
    for name, r in residuals(scores, TRUE).items():
        [term] = apart[name].terms
        rows = term.edit.vectors
        assert rows.shape == (4, 32)
        assert (rows[:2] == 0).all()
        r = torch.tensor(r.to_numpy()).float()
        at_the_end = ((r - r.mean())[:, None] * h[:, 1]).mean(0) / r.std(correction=0)
        assert torch.allclose(rows[3], at_the_end, atol=1e-5)
        assert torch.allclose(rows[2:].mean(0), mean[name].direction, atol=1e-5)
        assert not torch.allclose(rows[2], rows[3], atol=1e-3)


def changed(model, intervention, strength, text=ALIGNED[0]):
    """How each token's activation changes, BOS first."""
    site = intervention.site
    options = {"sites": [site], "at": st.everywhere, "include_bos": True}
    before = st.capture(model, text, **options)[site]
    with st.steer(model, intervention, strength):
        return st.capture(model, text, **options)[site] - before


@pytest.mark.parametrize("strength", [1.0, -2.5])
def test_the_tokens_that_are_read_are_steered_by_strength_times_the_direction(gpt2, strength):
    scores = random_scores(8)
    for at, tokens in ((st.prompt, [1, 2, 3]), (st.last, [3]), (HEARD, [2, 3]), ("last", [3])):
        found = value_directions(gpt2, ALIGNED, scores, st.resid(1), at=at, chat=False)["a"]
        expected = torch.zeros(4, 32)
        expected[tokens] = strength * found.direction
        assert torch.allclose(changed(gpt2, found, strength), expected, atol=1e-5)


def test_aligned_tokens_each_get_their_own_direction(gpt2):
    found = value_directions(
        gpt2, ALIGNED, random_scores(8), st.resid(1), at=HEARD, aligned=True, chat=False
    )["a"]
    [term] = found.terms
    assert torch.allclose(changed(gpt2, found, 3.0), 3 * term.edit.vectors, atol=1e-5)


def test_a_mask_may_begin_with_bos(gpt2):
    """BOS sees no role, so nothing is added there; the other rows are as without it."""
    with_bos = st.mask(HEARD.values | torch.tensor([True, False, False, False]))
    rows = []
    for at in (with_bos, HEARD):
        found = value_directions(
            gpt2, ALIGNED, random_scores(8), st.resid(1), at=at, aligned=True, chat=False
        )
        rows.append(found["a"].terms[0].edit.vectors)
    assert torch.allclose(rows[0], rows[1], atol=1e-5)


def test_the_order_of_roles_and_of_values_does_not_matter(gpt2):
    scores = random_scores(8)
    options = {"at": st.prompt, "chat": False}
    found = value_directions(gpt2, ALIGNED, scores, st.resid(1), TRUE, **options)
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    turned = scores.iloc[order, ::-1]
    again = value_directions(
        gpt2, [ALIGNED[n] for n in order], turned, st.resid(1), TRUE, **options
    )
    for name in NAMES:
        assert torch.allclose(found[name].direction, again[name].direction, atol=1e-5)


@pytest.mark.parametrize("aligned", [False, True])
def test_both_engines_give_the_same_directions(models, aligned):
    scores = random_scores(8)
    ours, bridge = (
        value_directions(
            models("gpt2", engine), ALIGNED, scores, st.resid(2), TRUE,
            at=HEARD, aligned=aligned, chat=False,
        )
        for engine in ("hf", "bridge")
    )  # fmt: skip
    for name in NAMES:
        a, b = (
            x[name].terms[0].edit.vectors if aligned else x[name].direction for x in (ours, bridge)
        )
        assert torch.allclose(a, b, atol=1e-4)


def test_texts_are_read_as_chats_where_that_is_asked(gpt2):
    scores = random_scores(8)
    as_text, as_chat, by_default = (
        value_directions(gpt2, ALIGNED, scores, st.resid(2), at=st.last, chat=chat)["a"].direction
        for chat in (False, True, None)
    )
    assert torch.allclose(as_chat, by_default)
    assert not torch.allclose(as_text, as_chat, atol=1e-3)


# --- effects


def test_effects_are_mean_changes_by_cause_in_units():
    before = pd.DataFrame({"a": [1.0, 3.0], "b": [0.0, 1.0]})
    after = {"b": before + np.array([[1.0, 4.0], [2.0, 2.0]]), "a": before - 1}
    found = effects(before, after)
    assert list(found.index) == ["b", "a"]
    assert found.loc["b"].to_dict() == {"a": 1.5, "b": 3.0}
    assert found.loc["a"].to_dict() == {"a": -1.0, "b": -1.0}
    units = effects(before, after, pd.Series({"b": 2.0, "a": 0.5}))
    assert units.loc["b"].to_dict() == {"a": 3.0, "b": 1.5}


def test_effects_of_other_roles_or_values_or_units_are_refused():
    before = pd.DataFrame({"a": [1.0, 3.0], "b": [0.0, 1.0]})
    for other in (before.iloc[:1], before[["b", "a"]], before.set_index(pd.Index(["x", "y"]))):
        with pytest.raises(ValueError, match="'power' are of other roles or values"):
            effects(before, {"power": other})
    for unit in (
        {"a": 1.0},
        {"a": 1.0, "b": 0.0},
        {"a": 1.0, "b": np.nan},
        {"a": 1, "b": 1, "c": 1},
    ):
        with pytest.raises(ValueError, match="above 0 for each of a, b"):
            effects(before, {"a": before}, pd.Series(unit))


# --- the world's model


def test_in_the_world_each_value_rises_along_its_direction(world):
    """Adjusted by the true graph, on roles that were not read; half of what both signs change."""
    every = Questionnaire.from_triples(truth.questions(), truth.LEVELS)
    asked = Questionnaire(tuple(every.of(v)[0] for v in truth.VALUES), truth.LEVELS)
    random = Random(3)
    people = dict.fromkeys(truth.random_role(random) for _ in range(150))
    roles = [truth.role_prompt(role) for role in people]
    read, unseen = roles[:-4], roles[-4:]
    texts = [truth.item_question("wealth", role).prompt for role in read]
    scores, before = (st.value_scores(world, asked, some) for some in (read, unseen))
    at = st.mask(torch.arange(14) > 0)  # BOS, then the thirteen tokens of "<system> you are ..."
    dag = ValueGraph.of(truth.VALUES, [(cause, effect) for cause, effect, _ in truth.EDGES])
    found = value_directions(world, texts, scores, SITE, dag, at=at, aligned=True, chat=False)
    both = {}
    for name, direction in found.items():
        with st.steer(world, direction, 2.0):
            up = st.value_scores(world, asked, unseen)
        with st.steer(world, direction, -2.0):
            down = st.value_scores(world, asked, unseen)
        both[name] = before + (up - down) / 2
    own = np.diag(effects(before, both, scores.std()))
    assert (own > 0).all()
    assert own.mean() > 0.2


# --- what an intervention does not move


def test_what_an_exact_intervention_leaves_is_all_that_does_not_come_after():
    exact = pd.DataFrame(total().T, NAMES, NAMES)  # [cause, effect]
    found = unmoved(exact, 1e-9)
    for name in NAMES:
        assert set(found[name]) == set(NAMES) - {name} - set(TRUE.descendants(name))
    assert set(unmoved(exact, 0.65)["a"]) == {"c"}  # .6 counts as nothing
    # A value that does not obey its order is not taken out of itself.
    assert unmoved(exact / 10, 0.5) == everything_else()
    shuffled = exact.loc[NAMES[::-1], sorted(NAMES)]
    assert {v: set(k) for v, k in unmoved(shuffled, 1e-9).items()} == {
        v: set(k) for v, k in found.items()
    }


def test_taking_that_out_is_the_direction_of_the_true_graph(linear):
    """No graph is needed for it: causes are among what stays, effects are not."""
    scores = linear.scores(TEXTS)
    found = unmoved(pd.DataFrame(total().T, NAMES, NAMES), 1e-9)
    assert any(set(found[name]) != set(TRUE.parents(name)) for name in NAMES)
    pd.testing.assert_frame_equal(residuals(scores, found), residuals(scores, TRUE), atol=1e-5)
    assert along(linear, found) == pytest.approx(along(linear, TRUE), abs=1e-4)
    assert along(linear) != pytest.approx(along(linear, TRUE), abs=0.1)


def test_the_same_sets_are_the_same_directions_as_a_graph(gpt2):
    scores = random_scores(8)
    sets = {name: TRUE.parents(name) for name in NAMES}
    by_graph, by_sets = (
        value_directions(gpt2, ALIGNED, scores, st.resid(1), known, chat=False)
        for known in (TRUE, sets)
    )
    for name in NAMES:
        assert torch.equal(by_graph[name].direction, by_sets[name].direction)


def test_sets_and_effects_that_make_no_sense_are_refused():
    scores, exact = random_scores(), pd.DataFrame(total().T, NAMES, NAMES)
    with pytest.raises(KeyError, match="nothing is said of 'e', only of a, b"):
        residuals(scores[["e", "a", "b"]], {"a": [], "b": ["a"]})
    with pytest.raises(KeyError, match="no column for f"):
        residuals(scores, {name: ["f"] for name in NAMES})
    with pytest.raises(ValueError, match="of a nothing is left"):
        residuals(scores, {name: ["a"] if name == "a" else [] for name in NAMES})
    for least in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=f"least is above 0, got {least}"):
            unmoved(exact, least)
    for broken in (exact.drop(columns="a"), exact.replace(1.0, np.nan)):
        with pytest.raises(
            ValueError, match="a finite effect of each value on each; got rows b, e"
        ):
            unmoved(broken, 0.1)


# --- bad input


def test_scores_that_say_nothing_are_refused():
    scores = random_scores()
    with pytest.raises(ValueError, match=r"the same for all 24 roles: \['c'\]"):
        residuals(scores.assign(c=0.1))
    for hole in (np.nan, np.inf):
        broken = scores.copy()
        broken.loc[3, "d"] = hole
        with pytest.raises(ValueError, match=r"not finite: \['d'\]"):
            residuals(broken)
    with pytest.raises(ValueError, match="several roles"):
        residuals(scores.iloc[:1])


def test_a_value_of_which_nothing_is_left_is_refused():
    """Else the direction would be that of rounding errors."""
    scores = random_scores()
    determined = scores.assign(d=scores["b"] - 2 * scores["c"])
    with pytest.raises(ValueError, match="of d nothing is left: over these 24 roles"):
        residuals(determined, TRUE)
    with pytest.raises(ValueError, match="of d nothing is left: over these 3 roles"):
        residuals(scores.iloc[:3], TRUE)


def test_graphs_over_other_values_or_with_cycles_are_refused():
    scores = random_scores()
    with pytest.raises(KeyError, match="'e' is no value of the graph"):
        residuals(scores, ValueGraph.of(list("abcd"), [("a", "b")]))
    with pytest.raises(KeyError, match="no column for f, a parent of b"):
        residuals(scores, ValueGraph.of([*NAMES, "f"], [("f", "b")]))
    with pytest.raises(ValueError, match="no DAG has these arrows: cycle"):
        residuals(scores, ValueGraph.of(NAMES, [("a", "b"), ("b", "c"), ("c", "a")]))


def test_texts_that_do_not_belong_to_the_scores_are_refused(gpt2):
    scores = random_scores(8)
    for texts in (ALIGNED[:7], ALIGNED[0], "dog cats"):
        with pytest.raises(ValueError, match="list of 8 texts, one per row"):
            value_directions(gpt2, texts, scores, st.resid(1))


def test_aligned_needs_a_mask_of_one_row_and_texts_that_fill_it(gpt2):
    scores = random_scores(8)
    many = st.mask(torch.ones(8, 4, dtype=torch.bool))
    for at in (st.prompt, many, "prompt"):
        with pytest.raises(ValueError, match=re.escape("at=st.mask(...) of one row, got")):
            value_directions(gpt2, ALIGNED, scores, st.resid(1), at=at, aligned=True, chat=False)
    texts = [*ALIGNED[:7], "happy dog"]
    with pytest.raises(ValueError, match="2 positions, but some of the 8 texts are shorter: 15"):
        value_directions(gpt2, texts, scores, st.resid(1), at=HEARD, aligned=True, chat=False)
