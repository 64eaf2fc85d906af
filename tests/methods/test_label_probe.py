"""The label probe: it finds a planted truth, promises what it keeps, and at weight 0 is no one."""

import math
from dataclasses import fields, replace
from random import Random

import numpy as np
import pytest
import torch

import steerlib as st
from steerlib.core.classification import Answers
from steerlib.evaluation import world_problems
from steerlib.methods import label_probe as module
from steerlib.statistics import Flips
from tests.planted import SITE, planted_model

FIT, TEST, D = 240, 160, 6


def rows_and_truth(kinds):
    """Rows far from 0 and of unequal scales; which class is true no hyperplane can tell."""
    random = torch.Generator().manual_seed(kinds)
    x = torch.randn(FIT + TEST + kinds, D, generator=random)
    x[:, :3] += 0.8 * x[:, :3].sign()
    truth = (x[:, 0] * x[:, 1] > 0).long()
    if kinds == 3:
        truth += truth * (x[:, 0] * x[:, 2] > 0)
    scales = torch.tensor([0.3, 3.0, 1.0, 0.1, 1.0, 10.0])
    return 5 + scales * x, truth


class Planted:
    """A model whose rows hold the truth, which it does not say itself."""

    def __init__(self, kinds):
        self.rows, truth = rows_and_truth(kinds)
        self.model = planted_model(self.rows)
        self.classes = tuple(f"w{FIT + TEST + k}" for k in range(kinds))
        every = [
            st.Problem(f"w{n}", self.classes[int(truth[n])], self.classes, chat=False)
            for n in range(FIT + TEST)
        ]
        self.train, self.test = every[:FIT], every[FIT:]
        self.truth = truth[: FIT + TEST]
        self.probe = st.label_probe(self.model, self.train, SITE)
        self.known = st.classify(self.model, self.test)


@pytest.fixture(scope="module", params=[2, 3])
def planted(request):
    return Planted(request.param)


@pytest.fixture(scope="module")
def two():
    return Planted(2)


def shuffled(problems, seed=0):
    labels = [p.label for p in problems]
    Random(seed).shuffle(labels)
    return [replace(p, label=label) for p, label in zip(problems, labels, strict=True)]


def same(left, right):
    """Whether two answers are the same bit for bit."""
    return left.classes == right.classes and all(
        torch.equal(getattr(left, f.name), getattr(right, f.name))
        for f in fields(Answers)
        if f.name != "classes"
    )


# --- what it reads


def test_it_finds_a_planted_truth_that_no_linear_probe_can(planted):
    from sklearn.linear_model import LogisticRegression

    h, y = planted.rows[: FIT + TEST].numpy(), planted.truth.numpy()
    line = LogisticRegression(max_iter=1000).fit(h[:FIT], y[:FIT])
    share = np.bincount(y[FIT:]).max() / TEST
    assert line.score(h[FIT:], y[FIT:]) < 0.8
    assert planted.known.accuracy < 0.65
    assert share < 0.65
    after = planted.probe.answers(planted.model, planted.test, 4.0)
    assert after.accuracy > 0.95
    assert Flips.of(planted.known.correct, after.correct).lower_bound(0.01) > 0.2


def test_it_is_the_network_of_scikit_learn_on_plain_rows(planted):
    h, y = planted.rows[:FIT].double().numpy(), planted.truth[:FIT].numpy()
    best, decay, _ = module._fitted(h, y, 5, 0)
    assert planted.probe.decay == decay
    assert best[-1].alpha == decay
    assert planted.probe.w1.shape == (32, D)
    other = planted.rows[FIT : FIT + TEST]
    expected = torch.from_numpy(best.predict_log_proba(other.double().numpy()))
    assert torch.allclose(planted.probe.log_p(other).double(), expected, atol=1e-3, rtol=1e-4)


def test_its_quality_is_that_on_problems_it_has_not_seen(planted):
    quality = planted.probe.quality
    read = planted.probe.log_p(planted.rows[FIT : FIT + TEST])
    truth = planted.truth[FIT:]
    assert quality.n == FIT
    assert abs(quality.accuracy - (read.argmax(1) == truth).double().mean()) < 0.05
    assert abs(quality.log_loss + read.gather(1, truth[:, None]).mean()) < 0.1
    p = torch.bincount(planted.truth[:FIT]).double() / FIT
    assert quality.dummy == pytest.approx(-(p * p.log()).sum().item())
    assert quality.auroc > 0.9


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_no_row_is_read_by_a_network_that_has_seen_it(two, monkeypatch):
    """With hardly any decay it learns random labels by heart, and knows no others."""
    monkeypatch.setattr(module, "DECAYS", (0.01,))
    h, y = two.rows[:FIT].double().numpy(), np.random.default_rng(0).integers(0, 2, FIT)
    best, _, read = module._fitted(h, y, 2, 0)
    assert best.score(h, y) > 0.9
    assert abs((read.argmax(1) == y).mean() - 0.5) < 0.1


def test_shuffled_labels_teach_nothing_and_help_no_one(two):
    """In the fit a network of this size can learn any labels; the quality must not show that."""
    control = st.label_probe(two.model, shuffled(two.train), SITE)
    assert abs(control.quality.accuracy - 0.5) < 0.1
    assert control.quality.log_loss > control.quality.dummy - 0.02
    assert abs(control.quality.auroc - 0.5) < 0.1
    assert control.decay > 100 * two.probe.decay
    for weight in (0.5, 4.0):
        after = control.answers(two.model, two.test, weight, answers=two.known)
        gain = Flips.of(two.known.correct, after.correct)
        assert gain.lower_bound(0.05) < 0
        assert abs(after.accuracy - 0.5) < 0.1


def test_on_the_world_it_knows_what_the_model_does_not_say():
    world = st.load("world", engine="hf")
    train, test = world_problems("verdict", 200), world_problems("verdict", 200, split="test")
    known = st.classify(world, test)
    assert known.accuracy < 0.85
    probe = st.label_probe(world, train, st.resid(3))
    assert probe.quality.accuracy > 0.97
    assert probe.quality.auroc > 0.97
    after = probe.answers(world, test, 4.0, answers=known)
    assert after.accuracy > 0.97
    assert probe.origin == st.Origin(world.id, world.revision, "label probe", 0)


# --- what it does to the answers


def test_weight_0_is_the_model_bit_for_bit(planted):
    for answers in (None, planted.known):
        after = planted.probe.answers(planted.model, planted.test, 0, answers=answers)
        assert same(after, planted.known)


def test_log_probabilities_are_added_and_renormalised(planted):
    read = planted.probe.log_p(planted.rows[FIT : FIT + TEST])
    for weight in (0.25, 3.0):
        after = planted.probe.answers(planted.model, planted.test, weight)
        p = planted.known.log_p.double().exp() * read.double().exp() ** weight
        expected = p / p.sum(1, keepdim=True)
        assert torch.allclose(after.log_p.double().exp(), expected, atol=1e-5)
        assert torch.equal(after.truth, planted.known.truth)
        assert torch.equal(after.mass, planted.known.mass)
        given = planted.probe.answers(planted.model, planted.test, weight, answers=planted.known)
        assert same(given, after)


def test_a_large_weight_lets_the_probe_decide(planted):
    after = planted.probe.answers(planted.model, planted.test, 1e4)
    read = planted.probe.log_p(planted.rows[FIT : FIT + TEST])
    assert torch.equal(after.predicted, read.argmax(1))


def test_an_answer_without_a_label_stays_one(two):
    found = torch.arange(TEST) % 4 > 0
    log_p = torch.where(found[:, None], two.known.log_p, -math.log(2))
    known = replace(two.known, found=found, log_p=log_p)
    after = two.probe.answers(two.model, two.test, 4.0, answers=known)
    whole = two.probe.answers(two.model, two.test, 4.0)
    assert torch.equal(after.found, found)
    assert torch.equal(after.log_p[~found], log_p[~found])
    assert torch.equal(after.log_p[found], whole.log_p[found])
    assert not after.correct[~found].any()


def test_the_quality_leaves_out_answers_without_a_label(two):
    known, y = st.classify(two.model, two.train), two.truth[:FIT].numpy()
    found = torch.arange(FIT) % 4 > 0
    read = np.random.default_rng(0).dirichlet([1.0, 1.0], FIT)
    rows = found.nonzero()[:, 0].tolist()
    without = module._quality(y, read, replace(known, found=found))
    assert without.auroc == module._quality(y[rows], read[rows], known.of(rows)).auroc
    whole = module._quality(y, read, known)
    assert without.auroc != whole.auroc
    assert replace(without, auroc=0) == replace(whole, auroc=0)
    right = torch.zeros(FIT, 2).scatter_(1, known.truth[:, None], 9.0).log_softmax(1)
    assert math.isnan(module._quality(y, read, replace(known, log_p=right)).auroc)


def test_the_auroc_is_that_of_wrong_answers(two):
    from sklearn.metrics import roc_auc_score

    known, y = st.classify(two.model, two.train), two.truth[:FIT].numpy()
    read = np.random.default_rng(0).dirichlet([1.0, 1.0], FIT)
    doubt = [-math.log(p[k]) for p, k in zip(read, known.predicted.tolist(), strict=True)]
    expected = roc_auc_score(~known.correct.numpy(), doubt)
    assert abs(expected - 0.5) > 0.01
    assert module._quality(y, read, known).auroc == pytest.approx(expected)


def test_inside_steer_it_reads_what_was_steered(two):
    v = torch.tensor([0.0, 6.0, 0.0, 0.0, 0.0, 0.0])
    with st.steer(two.model, st.Add(SITE, v)):
        known = st.classify(two.model, two.test)
        after = two.probe.answers(two.model, two.test, 2.0)
    read = two.probe.log_p(two.rows[FIT : FIT + TEST] + v)
    assert torch.allclose(after.log_p, (known.log_p + 2 * read).log_softmax(1), atol=1e-3)
    assert not same(after, two.probe.answers(two.model, two.test, 2.0))


def test_another_token_can_be_read(two):
    """The truth is the first word's, another word follows."""
    longer = [replace(p, prompt=f"{p.prompt} w0") for p in two.train]
    first = st.mask(torch.tensor([False, True, False]))
    there = st.label_probe(two.model, longer, SITE, first, answers=st.classify(two.model, longer))
    assert torch.equal(there.w1, two.probe.w1)
    test = [replace(p, prompt=f"{p.prompt} w0") for p in two.test]
    assert there.answers(two.model, test, 4.0).accuracy > 0.95
    here = st.label_probe(two.model, longer, SITE)
    assert here.quality.accuracy < 0.65
    with pytest.raises(ValueError, match="one token of each prompt"):
        st.label_probe(two.model, longer, SITE, "prompt")


# --- determinism, and what it refuses


def test_a_seed_gives_one_probe_and_another_one_another(two):
    again = st.label_probe(two.model, two.train, SITE, seed=0)
    other = st.label_probe(two.model, two.train, SITE, seed=1)
    for name in ("w1", "b1", "w2", "b2"):
        assert torch.equal(getattr(again, name), getattr(two.probe, name))
    assert again.quality == two.probe.quality
    assert not torch.equal(other.w1, two.probe.w1)
    assert other.origin.seed == 1


def test_the_quality_has_other_folds_than_the_choice_of_a_decay(two, monkeypatch):
    from sklearn import model_selection

    seen = []

    class Folds(model_selection.StratifiedKFold):
        def split(self, X, y, groups=None):
            found = list(super().split(X, y, groups))
            seen.append(tuple(map(int, np.concatenate([rows for _, rows in found]))))
            return iter(found)

    monkeypatch.setattr(model_selection, "StratifiedKFold", Folds)
    h, y = two.rows[:FIT].double().numpy(), two.truth[:FIT].numpy()
    for seed in (0, 7):
        module._fitted(h, y, 3, seed)
    assert len(set(seen)) == 4  # two for each seed


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")  # four of a class are few
def test_problems_of_one_class_are_refused(two):
    label = two.classes[0]
    only = [p for p in two.train if p.label == label]
    with pytest.raises(
        ValueError, match=rf"5 problems of each class, got .*'{label}': {len(only)}"
    ):
        st.label_probe(two.model, only, SITE)
    few = only + [p for p in two.train if p.label != label][:4]
    with pytest.raises(ValueError, match=r"5 problems of each class, got .*: 4\}"):
        st.label_probe(two.model, few, SITE)
    assert st.label_probe(two.model, few, SITE, folds=4).quality.n == len(few)
    with pytest.raises(ValueError, match="1 folds"):
        st.label_probe(two.model, two.train, SITE, folds=1)


def test_what_does_not_fit_is_refused(two):
    for weight in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match="finite number of at least 0"):
            two.probe.answers(two.model, two.test, weight)
    for call in (
        lambda known: st.label_probe(two.model, two.train, SITE, answers=known),
        lambda known: two.probe.answers(two.model, two.train, 0, answers=known),
    ):
        with pytest.raises(ValueError, match=f"{TEST} answers are not to these {FIT} problems"):
            call(two.known)
    turned = [replace(p, classes=p.classes[::-1]) for p in two.test]
    with pytest.raises(ValueError, match="the probe reads"):
        two.probe.answers(two.model, turned, 1.0)
