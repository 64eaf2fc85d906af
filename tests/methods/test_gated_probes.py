"""Probes within a label behind a gate: which mistakes count, and when the step is taken."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import steerlib as st
from steerlib.evaluation.world_problems import world_problems
from steerlib.methods.gated_probes import SMALLEST, GatedProbe, mistakes
from tests.methods.mera_cases import probe, read, rows, said, two_way, words
from tests.planted import SITE, planted_model

D = 6
THREE = ("w1", "w2", "w3")


def confused(counts, classes=THREE):
    """Answers where label i is answered j as often as told."""
    pairs = [(i, j) for (i, j), times in counts.items() for _ in range(times)]
    truth, predicted = torch.tensor(pairs).T
    return said(truth, predicted, classes)


# --- kinds of mistakes


def test_kinds_of_mistakes_are_counted_each_way():
    counts = {(0, 0): 40, (0, 1): 20, (0, 2): 19, (1, 0): 3, (1, 1): 9, (2, 0): 31, (2, 1): 25}
    assert mistakes(confused(counts)) == [("w1", "w2"), ("w3", "w1"), ("w3", "w2")]


def test_twenty_mistakes_are_needed():
    assert SMALLEST == 20
    assert mistakes(confused({(0, 0): 9, (1, 0): 20})) == [("w2", "w1")]
    with pytest.raises(ValueError, match=r"made 20 times in 28 problems: .*\('w2', 'w1'\): 19"):
        mistakes(confused({(0, 0): 9, (1, 0): 19}))


def test_an_answer_without_a_label_is_no_kind_of_mistake():
    known = confused({(0, 0): 9, (1, 0): 25})
    found = torch.arange(34) != 33
    assert mistakes(replace(known, found=found)) == [("w2", "w1")]
    with pytest.raises(ValueError, match=r"\('w2', 'w1'\): 0"):
        mistakes(replace(known, found=torch.arange(34) < 9))


# --- what is fitted


@pytest.fixture(scope="module")
def three():
    """Three classes, two kinds of mistakes; the activation tells label, answer and error."""
    counts = {(0, 0): 60, (0, 1): 30, (1, 1): 60, (1, 0): 6, (2, 2): 60, (2, 1): 30, (2, 0): 5}
    known = confused(counts)
    h = 0.4 * torch.randn(len(known.truth), D, generator=torch.Generator().manual_seed(0))
    rows_ = torch.arange(len(h))
    h[rows_, known.truth] += 2
    h[rows_, 3] += 2.0 * ~known.correct
    y = torch.where(known.correct, -1.0, 1.0) * (1 + h[:, 4].abs())
    truth = known.truth
    log_p = torch.full((len(h), 3), -1e4)
    wrong_class = torch.where(known.correct, (truth + 1) % 3, known.predicted)
    log_p[rows_, truth] = torch.nn.functional.logsigmoid(-y)
    log_p[rows_, wrong_class] = torch.nn.functional.logsigmoid(y)
    return planted_model(h), words(truth, THREE), replace(known, log_p=log_p), h


def test_one_probe_and_one_gate_for_each_kind_of_mistake(three):
    model, asked, known, h = three
    found = st.gated_probes(model, asked, SITE, answers=known)[SITE]
    assert [(g.label, g.answer) for g in found] == [("w1", "w2"), ("w3", "w2")] == mistakes(known)
    for gated in found:
        label, answer = THREE.index(gated.label), THREE.index(gated.answer)
        inside = known.truth == label
        assert gated.probe.quality.n == int(inside.sum())
        assert torch.allclose(gated.probe.metric, torch.cov(h[inside].T), atol=1e-4)
        assert gated.probe.kind == "ridge"
        pair = inside | (known.truth == answer)
        answered = pair & (known.predicted == answer)
        assert gated.gate.quality.n == int(answered.sum()) == 90
        assert gated.gate.kind == "logistic"
        assert gated.gate.metric is None
        score = h @ gated.gate.w + gated.gate.b
        assert score[answered & inside].min() > 0 > score[answered & ~inside].max()


def test_they_are_those_of_error_probes_on_the_two_labels(three):
    model, asked, known, _ = three
    found = st.gated_probes(model, asked, SITE, kind="lasso", metric="identity", seed=2, folds=4,
                            answers=known)[SITE][1]  # fmt: skip
    pair = [row for row, p in enumerate(asked) if p.label in ("w3", "w2")]
    some, own = [asked[row] for row in pair], known.of(pair)
    options = {"answers": own, "seed": 2, "folds": 4}
    step = st.error_probes(model, some, SITE, kind="lasso", label="w3", **options)[SITE]
    gate = st.error_probes(model, some, SITE, kind="logistic", answer="w2", **options)[SITE]
    assert torch.equal(found.probe.w, step.w)
    assert found.probe.metric is None
    assert torch.equal(found.gate.w, gate.w)
    assert found.gate.b == gate.b


def test_the_step_is_taken_elsewhere_than_at_the_gate(three):
    model, asked, known, _ = three
    longer = [replace(p, prompt=f"w0 {p.prompt}") for p in asked]
    first = st.prompt - st.last
    with pytest.raises(ValueError, match="zero weights"):
        # All first tokens are alike, so that the probe reads nothing; the gates read the last one.
        st.gated_probes(model, longer, SITE, first, answers=known)[SITE][0].step(0.1)
    turned = [replace(p, prompt=f"{p.prompt} w0") for p in asked]
    gates = [g.gate for g in st.gated_probes(model, turned, SITE, first, answers=known)[SITE]]
    assert {gate.positions for gate in gates} == {st.last}
    assert not any(gate.w.abs().max() > 1e-6 for gate in gates)


def test_answers_to_other_problems_are_refused(three):
    model, asked, known, _ = three
    with pytest.raises(ValueError, match="not in their order"):
        st.gated_probes(model, asked[::-1], SITE, answers=known)


# --- the gate


N = 120
H = rows(N, D, seed=4)
MODEL = planted_model(H)
GATE = torch.randn(D, generator=torch.Generator().manual_seed(1)) / H.std(0)
READ = torch.randn(D, generator=torch.Generator().manual_seed(2)) / H.std(0)
ASKED = words(torch.zeros(N, dtype=torch.long))


def gated():
    return GatedProbe(
        "w1", "w2", probe(READ, -(H @ READ).mean().item()),
        probe(GATE, -(H @ GATE).mean().item()),
    )  # fmt: skip


def moved(step):
    with st.steer(MODEL, step):
        return read(MODEL, ASKED)


@pytest.mark.parametrize("threshold", [-1.5, 0.0, 1.0])
def test_the_step_is_taken_only_where_the_gate_is_above_its_threshold(threshold):
    one = gated()
    opened = H @ GATE + one.gate.b > threshold
    above = H @ READ + one.probe.b > 0
    assert all((a & b).any() for a in (opened, ~opened) for b in (above, ~above))
    after, plain = moved(one.step(0.5, threshold)), moved(one.probe.step(0.5))
    assert torch.allclose(after[opened], plain[opened], atol=1e-5)
    assert torch.equal(after[~opened], H[~opened])
    changed = (after != H).any(1)
    assert torch.equal(changed, opened & above)


def test_a_higher_threshold_steers_less():
    sets = [(moved(gated().step(0.5, t)) != H).any(1) for t in (-1e9, -1.0, 0.0, 1.0, 1e9)]
    for wide, narrow in pairwise(sets):
        assert not (narrow & ~wide).any()
    counts = [int(chosen.sum()) for chosen in sets]
    assert counts == sorted(set(counts), reverse=True)
    assert counts[-1] == 0
    assert torch.equal(moved(gated().step(0.5)), moved(gated().step(0.5, 0.0)))


def test_alpha_counts_behind_the_gate_too():
    with pytest.raises(ValueError, match="between 0 and 1"):
        gated().step(0.0)
    estimate = moved(gated().step(0.2, -1e9)) @ READ + gated().probe.b
    assert estimate.max() < torch.tensor(0.25).log() + 1e-3


def test_a_kind_of_mistake_whose_answer_is_never_right_has_no_gate():
    known = two_way(torch.where(torch.arange(N) % 3 == 0, 1.0, -1.0) * (1 + H[:, 0].abs()),
                    torch.zeros(N, dtype=torch.long))  # fmt: skip
    with pytest.raises(ValueError, match="a logistic probe needs right and wrong answers"):
        st.gated_probes(MODEL, ASKED, SITE, answers=known)


# --- on the world


def test_reviews_are_mistaken_both_ways_among_three_classes(world):
    asked = world_problems("reviews", 300)
    known = st.classify(world, asked)
    found = st.gated_probes(world, asked, st.resid(3), answers=known)[st.resid(3)]
    pairs = [(p.label, known.classes[k]) for p, k in zip(asked, known.predicted, strict=True)]
    wanted = {pair for pair in pairs if pair[0] != pair[1] and pairs.count(pair) >= 20}
    assert {(g.label, g.answer) for g in found} == wanted == set(mistakes(known))
    assert len(wanted) >= 2
    for one in found:
        assert one.probe.quality.r2 > 0.5
        assert one.gate.quality.auroc > 0.8
