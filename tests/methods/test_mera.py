"""MERA: sums of steps, and a calibration that is safe, abstains, and finds what was planted."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import steerlib as st
from steerlib.evaluation.world_problems import world_problems
from steerlib.methods import mera as module
from steerlib.methods.answers_on_grid import answers_on_grid
from steerlib.methods.mera import GRID, Calibration
from steerlib.statistics import BOUNDS, Flips, spi
from tests.methods.mera_cases import probe, read

WORDS = "dog cat bird fish rain sun wind story girl boy park ball".split()
ENDS = ("a", "the", "big", "red", "little", "happy", "once", "upon", "time", "saw")
CLASSES = ("dog", "happy")
TEXTS = [f"the {w} saw the {e} {v}" for w in WORDS for e in ENDS for v in ("dog", "rain")]
ASKED = [st.Problem(text, CLASSES[0], CLASSES, chat=False) for text in TEXTS]
AMOUNTS = (0.0, 1.0, 2.0, 4.0)


def relabelled(numbers):
    return [replace(p, label=CLASSES[n]) for p, n in zip(ASKED, numbers, strict=True)]


@pytest.fixture(scope="module")
def small(models):
    return models("gpt2")


@pytest.fixture(scope="module")
def known(small):
    return st.classify(small, ASKED)


@pytest.fixture(scope="module")
def towards_dog(small):
    """A direction before the unembedding that makes `dog` likelier than `happy`."""
    network = small.module
    dog, happy = (small.tokenizer.convert_tokens_to_ids(word) for word in CLASSES)
    gap = network.lm_head.weight[dog] - network.lm_head.weight[happy]
    return st.Add(st.resid(3), (network.transformer.ln_f.weight * gap).detach()).unit().at(st.last)


@pytest.fixture
def passes(small):
    """How often the model has run."""
    count = []
    handle = small.decoder.register_forward_pre_hook(lambda *_: count.append(1))
    yield count
    handle.remove()


# --- sums of steps


def direction(seed):
    return torch.randn(32, generator=torch.Generator().manual_seed(seed))


def centred(model, site, seed):
    """A probe that is above 0 on half of the problems."""
    w = direction(seed)
    x = read(model, ASKED, site) @ w
    return probe(w, -x.median().item(), site)


def test_a_later_layer_sees_what_an_earlier_one_changed(small):
    first, second = centred(small, st.resid(0), 0), centred(small, st.resid(2), 1)
    both = st.mera([first, second], 0.3)
    assert both.sites == (st.resid(0), st.resid(2))
    assert len(both.terms) == 2
    border = torch.tensor(0.3 / 0.7).log().item()
    with st.steer(small, first.step(0.3)):
        seen = read(small, ASKED, st.resid(2))
    before = read(small, ASKED, st.resid(2))
    with st.steer(small, both):
        found = read(small, ASKED, st.resid(2))
        lower = read(small, ASKED, st.resid(0))
    excess = torch.relu(seen @ second.w + second.b - border)
    expected = seen - excess[:, None] * second.w / second.w.square().sum()
    assert torch.allclose(found, expected, atol=1e-4)
    assert (seen - before).abs().max() > 0.1  # so that the order counts
    assert (excess > 0).any()
    assert (excess == 0).any()
    for h, one in ((lower, first), (found, second)):
        assert (h @ one.w + one.b).max() < border + 1e-3


def test_one_probe_or_any_iterable_of_them(small):
    one, two = centred(small, st.resid(1), 2), centred(small, st.resid(3), 3)
    with st.steer(small, st.mera([one], 0.2)):
        alone = read(small, ASKED, st.resid(1))
    with st.steer(small, one.step(0.2)):
        assert torch.equal(read(small, ASKED, st.resid(1)), alone)
    named = {one.site: one, two.site: two}
    assert st.mera(named.values(), 0.2).sites == st.mera(iter([two, one]), 0.2).sites
    with pytest.raises(ValueError, match="probes, at least one; got none"):
        st.mera({}.values(), 0.2)
    with pytest.raises(ValueError, match="between 0 and 1"):
        st.mera([one], 1.0)


# --- which setting is chosen


def made(*flips, lower=None, epsilon=0.0, delta=0.05, bound="conditional"):
    """A calibration with counts of one's own: (up, down) of 100 answers, 60 of them right."""
    counts = tuple(Flips(100, 60, up, down) for up, down in flips)
    level = delta / len(flips)
    lows = lower or tuple(float(f.lower_bound(level, bound)) for f in counts)
    steps = tuple(st.Add(st.resid(0), torch.full((32,), float(n))) for n in range(len(flips)))
    settings = tuple(f"s{n}" for n in range(len(flips)))
    return Calibration(settings, counts, tuple(lows), delta, epsilon, bound, steps)


def test_the_largest_gain_among_the_safe_settings_is_chosen():
    found = made((20, 0), (40, 17), (36, 2), (30, 30))
    assert [low > 0 for low in found.lower] == [True, True, True, False]
    assert found.chosen == 2
    assert found.setting == "s2"
    assert found.intervention is found.interventions[2]
    assert not found.abstains
    surer = made((20, 0), (40, 17))
    assert surer.lower[0] > surer.lower[1] > 0
    assert surer.setting == "s1"


def test_a_larger_gain_that_is_not_safe_is_not_chosen():
    found = made((40, 30), (9, 0))
    assert found.flips[0].gain > found.flips[1].gain
    assert found.lower[0] < 0 < found.lower[1]
    assert found.setting == "s1"


def test_of_equal_gains_the_larger_bound_decides_and_then_the_later_setting():
    assert made((40, 20), (20, 0), (30, 10), lower=(0.1, 0.3, 0.2)).setting == "s1"
    assert made((20, 0), (20, 0), (20, 0)).setting == "s2"
    assert made((20, 0), (20, 0), (19, 0)).setting == "s1"


def test_epsilon_has_to_be_exceeded():
    low = made((20, 0), (30, 0)).lower
    assert made((20, 0), (30, 0), epsilon=low[0]).setting == "s1"
    assert made((20, 0), (30, 0), epsilon=low[1]).abstains
    assert made((20, 0), (30, 0), epsilon=low[1] - 1e-9).setting == "s1"


def test_nothing_safe_is_abstention(small):
    found = made((5, 4), (0, 0), (3, 9))
    assert found.abstains
    assert found.chosen is None
    assert found.setting is None
    assert found.intervention is None
    before = st.classify(small, ASKED[:5])
    with found.steer(small):
        assert torch.equal(st.classify(small, ASKED[:5]).log_p, before.log_p)
    assert not found.table().chosen.any()


def test_the_first_setting_may_be_the_chosen_one():
    found = made((20, 0), (2, 0))
    assert found.chosen == 0
    assert found.setting == "s0"
    assert found.intervention is found.interventions[0]
    assert not found.abstains


def test_the_table_has_a_row_for_each_setting():
    found = made((20, 0), (40, 17))
    table = found.table()
    assert table.setting.tolist() == ["s0", "s1"]
    assert table.gain.tolist() == [0.2, 0.23]
    assert table.up.tolist() == [20, 40]
    assert table.down.tolist() == [0, 17]
    assert table.spi.tolist() == pytest.approx([0.5, 0.23 / 0.4])
    assert tuple(table.lower) == found.lower
    assert table.chosen.tolist() == [False, True]


@pytest.mark.parametrize("bound", BOUNDS)
def test_another_bound_on_the_same_measurements(bound):
    found = made((40, 30), (9, 0), delta=0.1)
    other = found.with_bound(bound)
    assert other.bound == bound
    assert other.flips == found.flips
    assert other.lower == made((40, 30), (9, 0), delta=0.1, bound=bound).lower
    assert other.interventions == found.interventions
    assert (other.delta, other.epsilon) == (0.1, 0.0)
    assert other.with_bound("conditional").lower == found.lower
    if bound == "none":
        assert other.setting == "s0"
        assert other.lower == (0.1, 0.09)


# --- calibrate


def test_it_counts_what_classify_says_under_each_setting(small, towards_dog, known):
    found = st.calibrate(small, ASKED, lambda s: s * towards_dog, AMOUNTS, delta=0.1)
    assert found.settings == AMOUNTS
    for amount, flips, low in zip(AMOUNTS, found.flips, found.lower, strict=True):
        with st.steer(small, amount * towards_dog):
            after = st.classify(small, ASKED)
        assert flips == Flips.of(known.correct.numpy(), after.correct.numpy())
        assert low == pytest.approx(flips.lower_bound(0.1 / 4, "conditional"))
    assert found.flips[0].up == found.flips[0].down == 0
    assert found.setting == 4.0
    assert found.flips[3].gain == found.flips[2].gain == 1 - known.accuracy  # the later of equals
    with found.steer(small):
        assert st.classify(small, ASKED).accuracy == 1.0
    assert st.classify(small, ASKED).accuracy == known.accuracy < 0.8


def test_answers_that_are_known_are_not_asked_for_again(small, towards_dog, known, passes):
    options = {"settings": AMOUNTS, "batch_size": 120}
    with_answers = st.calibrate(small, ASKED, lambda s: s * towards_dog, answers=known, **options)
    saved = len(passes)
    plain = st.calibrate(small, ASKED, lambda s: s * towards_dog, **options)
    assert len(passes) - saved == saved + 2
    assert with_answers.flips == plain.flips
    with pytest.raises(ValueError, match="not in their order"):
        st.calibrate(small, relabelled([1] * 240), lambda s: s * towards_dog, answers=known)


def test_settings_may_be_anything(small, towards_dog):
    pairs = [(1.0, "last"), (4.0, "last"), (0.0, "all")]
    seen = []

    def make(pair):
        seen.append(pair)
        return pair[0] * towards_dog

    found = st.calibrate(small, ASKED, make, pairs)
    assert seen == pairs
    assert found.setting == (4.0, "last")
    assert found.table().setting.tolist() == pairs


def test_epsilon_and_bound_are_used(small, towards_dog, known):
    options = {"settings": (0.0, 4.0), "answers": known}
    low = st.calibrate(small, ASKED, lambda s: s * towards_dog, **options).lower[1]
    assert 0 < low < 1 - known.accuracy
    for epsilon, steers in ((low - 0.01, True), (low + 0.01, False)):
        found = st.calibrate(small, ASKED, lambda s: s * towards_dog, epsilon=epsilon, **options)
        assert found.abstains is not steers
        assert found.epsilon == epsilon
        freely = st.calibrate(small, ASKED, lambda s: s * towards_dog, epsilon=epsilon,
                              bound="none", **options)  # fmt: skip
        assert freely.setting == 4.0
        assert freely.bound == "none"
    strict = st.calibrate(small, ASKED, lambda s: s * towards_dog, delta=1e-6, **options)
    assert strict.lower[1] < low
    assert strict.delta == 1e-6


def test_a_step_that_harms_is_not_taken(small, towards_dog):
    found = st.calibrate(small, ASKED, lambda s: -s * towards_dog, AMOUNTS)
    assert max(f.gain for f in found.flips) == 0
    assert found.flips[3].down > 100
    assert found.abstains


def test_too_few_problems_are_named_before_anything_runs(small, towards_dog, passes):
    def never(setting):
        raise AssertionError("no intervention is made")

    for n, options, needed in (
        (8, {}, 9), (20, {"epsilon": 0.5}, 29), (10, {"bound": "hoeffding"}, 11),
        (28, {"bound": "bernstein"}, 29), (8, {"delta": 0.001}, 15), (0, {"bound": "none"}, 1),
        (5, {"settings": (0.5,)}, 6),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"^{n} calibration problems .* least {needed}\. "):
            st.calibrate(small, ASKED[:n], never, **options)
        with pytest.raises(AssertionError, match="no intervention is made"):
            st.calibrate(small, ASKED[:needed], never, **options)
    assert not passes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": ()}, "settings to choose from, at least one; got none"),
        ({"delta": 0.0}, "delta between 0 and 1"),
        ({"delta": 1.0}, "delta between 0 and 1"),
        ({"epsilon": -0.1}, "epsilon at least 0"),
        ({"epsilon": 1.0}, "below 1"),
        ({"bound": "normal"}, "bound is one of"),
    ],
)
def test_wrong_options_are_named_before_anything_runs(small, towards_dog, passes, options, message):
    with pytest.raises(ValueError, match=message):
        st.calibrate(small, ASKED, lambda s: towards_dog, **options)
    assert not passes


def test_a_step_that_cannot_be_made_is_named_before_the_model_runs(small, passes):
    with pytest.raises(ValueError, match="zero weights"):
        st.calibrate(small, ASKED, probe(torch.zeros(32), site=st.resid(1)).step)
    assert not passes


def test_the_grid_is_that_of_the_paper():
    printed = [0.001, 0.111, 0.221, 0.331, 0.441, 0.550, 0.660, 0.770, 0.880, 0.990]
    assert [round(alpha, 3) for alpha in GRID] == printed


# --- the risk


def test_labels_that_mean_nothing_are_abstained_on(small, known, towards_dog, monkeypatch):
    """Whatever is steered, no answer is truly better; chance alone may say so, but seldom."""
    amounts, delta = (-4.0, -1.0, -0.5, 0.5, 1.0, 4.0), 0.2
    after = answers_on_grid(small, ASKED, [a * towards_dog for a in amounts])
    random, steered, freely = np.random.default_rng(0), 0, 0
    for _ in range(150):
        labels = torch.from_numpy(random.integers(0, 2, len(ASKED)))
        monkeypatch.setattr(
            module, "answers_on_grid", lambda *_, truth=labels, **__: [
                replace(one, truth=truth) for one in after
            ]
        )  # fmt: skip
        found = st.calibrate(
            small, relabelled(labels.tolist()), lambda s: towards_dog, amounts, delta=delta,
            answers=replace(known, truth=labels),
        )  # fmt: skip
        steered += not found.abstains
        freely += not found.with_bound("none").abstains
    assert 0 < steered <= delta * 150
    assert freely > 75


# --- a planted error in a trained model


@pytest.fixture(scope="module")
def broken(world):
    """Half of the prompts, told by their activation, get a vector that says `crimson`."""
    site, asked = st.resid(2), world_problems("majority", 300)
    h = read(world, asked, site)
    truth = torch.tensor([p.classes.index(p.label) for p in asked])
    gap = h[truth == 0].mean(0) - h[truth == 1].mean(0)
    rest = h - h.mean(0)
    rest = rest - (rest @ gap)[:, None] * gap / gap.square().sum()
    axis = torch.linalg.svd(rest)[2][0]  # where prompts differ most, apart from the answer
    condition = st.Readout(site, axis) > (h @ axis).median().item()
    planted = (4 * st.Add(site, gap)).at(st.last).when(condition)
    with st.steer(world, planted):
        known = st.classify(world, asked)
        gated = st.gated_probes(world, asked, site, answers=known)[site]
        plain = st.error_probes(world, asked, site, kind="ridge", answers=known)[site]
    return planted, gap, gated, plain


def test_a_planted_error_is_found_where_it_was_planted(broken):
    _, gap, (gated,), _ = broken
    assert (gated.label, gated.answer) == ("azure", "crimson")
    assert gated.probe.quality.r2 > 0.95
    assert gated.gate.quality.auroc > 0.8
    (term,) = gated.step(0.1).terms
    # The step undoes the vector; the weights, which have to read around the rest, do not show it.
    assert torch.cosine_similarity(term.edit.write[0], -gap, dim=0) > 0.99
    assert torch.cosine_similarity(gated.probe.w, gap, dim=0).abs() < 0.5


def test_a_planted_error_is_mended_on_problems_apart(world, broken):
    planted, _, gated, plain = broken
    calibration, test = (world_problems("majority", 100, split=s) for s in ("selection", "test"))
    with st.steer(world, planted):
        before = st.classify(world, test)
        found = st.calibrate(world, calibration, lambda a: st.mera(gated, a), (0.05, 0.2, 0.4))
        assert not found.abstains
        with found.steer(world):
            after = st.classify(world, test)
        # Of one's own the step along the weights, for all prompts alike, changes no answer.
        with st.steer(world, plain.step(0.2)):
            assert abs(st.classify(world, test).accuracy - before.accuracy) < 0.02
    assert before.accuracy < 0.85
    gain = spi(before.correct.numpy(), after.correct.numpy())
    assert gain.estimate > 0.4
    assert gain.low > 0.2
    assert found.flips[found.chosen].spi > 0.4


# --- the world's own mistakes


def test_advice_is_mended_behind_a_gate(world):
    train, calibration, test = (
        world_problems("advice", n, split=split)
        for n, split in ((300, "train"), (160, "selection"), (200, "test"))
    )
    known = st.classify(world, train)
    (gated,) = st.gated_probes(world, train, st.resid(2), answers=known)[st.resid(2)]
    assert (gated.label, gated.answer) == ("no", "yes")
    found = st.calibrate(world, calibration, gated.step, (0.001, 0.01, 0.1))
    before = st.classify(world, test)
    with found.steer(world):
        after = st.classify(world, test)
    gain = spi(before.correct.numpy(), after.correct.numpy())
    assert gain.low > 0
    assert gain.estimate > 0.1
    rows = before.truth == 0  # yes: the gate keeps them as they were
    assert (after.predicted[rows] == before.predicted[rows]).double().mean() > 0.97
