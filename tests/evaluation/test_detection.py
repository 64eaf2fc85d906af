"""detection: scores from one pass equal those from captured activations; kinds stay apart."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import steerlib as st
from steerlib.evaluation import detection, scored
from steerlib.evaluation.detectors import text_scores
from steerlib.statistics import auroc

TEXTS = [
    "a happy dog .",
    "the sad cat saw rain",
    "a happy little girl who went to the park and saw a big red ball",
    "rain",
    "happy sun and wind .",
    "the boy was sad . a bad story about rain",
    "tell me",
    "a good story",
]
LABELS = [True, False, True, False, True, False, False, True]
KINDS = ["concept", "near", "concept", "far", "concept", "near", "far", "concept"]
POOLS = ("max", "mean", "last")


def readouts(model):
    """Detectors at sites of different widths, two of them at one site."""
    random = torch.Generator().manual_seed(5)
    sites = [st.resid(2), st.mlp_post(1), st.resid(2), st.resid_pre(0), st.head(1, 3)]
    sizes = [model.d_model, model.d_mlp, model.d_model, model.d_model, model.d_head]
    return {
        f"detector {k}": st.Readout(site, torch.randn(size, generator=random), b=float(k))
        for k, (site, size) in enumerate(zip(sites, sizes, strict=True))
    }


def captured(model, readout, pool):
    """The same scores from whole activations, text by text."""
    found = []
    for text in TEXTS:
        h = st.capture(model, text, readout.site, at="prompt")[readout.site]
        x = h @ readout.w + readout.b
        found.append({"max": x.max(), "mean": x.mean(), "last": x[-1]}[pool].item())
    return np.array(found)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_scores_equal_those_of_captured_activations_in_every_batch(model, batch_size):
    detectors = readouts(model)
    found = text_scores(model, detectors, TEXTS, POOLS, batch_size=batch_size)
    for name, readout in detectors.items():
        for pool in POOLS:
            expected = captured(model, readout, pool)
            # Rounding differs with the shape of a batch, and scores are sums of terms near 40.
            assert found[name, pool] == pytest.approx(expected, rel=1e-5, abs=2e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_the_table_has_the_auroc_of_each_detector_and_pool(gpt2, batch_size):
    detectors, data = readouts(gpt2), SimpleNamespace(texts=TEXTS, labels=LABELS)
    table = detection(gpt2, detectors, data, POOLS, batch_size=batch_size)
    columns = "detector pool against auroc low high positives negatives".split()
    assert list(table.columns) == columns
    lines = iter(table.itertuples())
    for name, readout in detectors.items():
        for pool in POOLS:
            line, expected = next(lines), auroc(captured(gpt2, readout, pool), LABELS)
            assert (line.detector, line.pool, line.against) == (name, pool, "all")
            found = (line.auroc, line.low, line.high)
            assert found == pytest.approx((expected.estimate, expected.low, expected.high))
            assert (line.positives, line.negatives) == (4, 4)
    assert next(lines, None) is None


def test_both_engines_detect_the_same(models):
    data = SimpleNamespace(texts=TEXTS, labels=LABELS)
    tables = [
        detection(model, readouts(model), data)
        for model in (models("gpt2", "hf"), models("gpt2", "bridge"))
    ]
    assert tables[0].equals(tables[1])


def test_one_forward_pass_serves_all_detectors(gpt2):
    calls = []
    handle = gpt2.decoder.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        data = SimpleNamespace(texts=TEXTS, labels=LABELS)
        detection(gpt2, readouts(gpt2), data, POOLS, batch_size=4)
    finally:
        handle.remove()
    assert len(calls) == 2


def test_an_added_direction_is_read_by_its_unit_vector(gpt2, vector):
    data = SimpleNamespace(texts=TEXTS, labels=LABELS)
    long = 7 * st.Add(st.resid(1), vector())
    found = detection(gpt2, {"d": long}, data)
    assert found.equals(detection(gpt2, {"d": st.Readout(st.resid(1), vector())}, data))
    scores = text_scores(gpt2, {"d": long}, TEXTS)["d", "max"]
    assert scores == pytest.approx(captured(gpt2, long.unit().readout, "max"), abs=1e-5)


def test_a_planted_direction_is_found_and_its_reverse_is_not(gpt2):
    h = st.capture(gpt2, TEXTS, st.resid_pre(0), at="prompt", reduce="mean")[st.resid_pre(0)]
    w = torch.linalg.lstsq(h, 2 * torch.tensor(LABELS).float() - 1).solution
    found = detection(
        gpt2,
        {"planted": st.Readout(st.resid_pre(0), w), "reverse": st.Readout(st.resid_pre(0), -w)},
        SimpleNamespace(texts=TEXTS, labels=LABELS),
        ["mean"],
    )
    assert found.auroc.tolist() == [1.0, 0.0]


def test_positives_are_also_compared_with_each_kind_of_negatives(gpt2, vector):
    readout = st.Readout(st.resid(1), vector())
    data = SimpleNamespace(texts=TEXTS, labels=LABELS, kinds=KINDS)
    found = detection(gpt2, {"d": readout}, data, ["mean"])
    assert found.against.tolist() == ["all", "near", "far"]
    assert found.negatives.tolist() == [4, 2, 2]
    assert found.positives.tolist() == [4, 4, 4]
    scores = captured(gpt2, readout, "mean")
    for line in found.itertuples():
        rows = [k for k in range(8) if LABELS[k] or line.against in ("all", KINDS[k])]
        expected = auroc(scores[rows], np.array(LABELS)[rows])
        assert line.auroc == pytest.approx(expected.estimate)


def test_the_chat_template_changes_what_is_read(gpt2, vector):
    data = SimpleNamespace(texts=TEXTS, labels=LABELS)
    readout = st.Readout(st.resid(1), vector(), pool="last")
    raw, chat = (
        text_scores(gpt2, {"d": readout}, data.texts, ["last"], chat=chat)["d", "last"]
        for chat in (False, True)
    )
    assert np.abs(raw - chat).max() > 1e-3
    assert chat == pytest.approx(readout.score(gpt2, TEXTS, chat=True).numpy(), abs=1e-5)


def lengths(texts):
    return [len(text) for text in texts]


def test_a_function_of_texts_has_one_line_beside_the_readouts(gpt2):
    detectors = {"long": lengths, **readouts(gpt2), "short": lambda t: -np.array(lengths(t))}
    data = SimpleNamespace(texts=TEXTS, labels=LABELS)
    table = detection(gpt2, detectors, data, POOLS)
    own = table[table["pool"] == "own"].set_index("detector")
    expected = auroc(np.array(lengths(TEXTS), float), LABELS)
    found = own.loc["long", ["auroc", "low", "high"]].tolist()
    assert found == [expected.estimate, expected.low, expected.high]
    assert own.loc["short", "auroc"] == pytest.approx(1 - expected.estimate)
    assert list(dict.fromkeys(table["detector"])) == list(detectors)
    rest = table[table["pool"] != "own"].reset_index(drop=True)
    assert rest.equals(detection(gpt2, readouts(gpt2), data, POOLS))


def test_functions_alone_need_no_pass_and_see_the_texts_in_order(gpt2):
    seen = []

    def spy(texts):
        seen.append(texts)
        return range(len(texts))

    def forbidden(*args):
        raise AssertionError("the model ran")

    handle = gpt2.decoder.register_forward_pre_hook(forbidden)
    try:
        data = SimpleNamespace(texts=tuple(TEXTS), labels=LABELS, kinds=KINDS)
        table = detection(gpt2, {"spy": spy}, data, POOLS)
    finally:
        handle.remove()
    assert seen == [TEXTS]
    assert table["against"].tolist() == ["all", "near", "far"]
    assert table["negatives"].tolist() == [4, 2, 2]


def test_functions_are_ready_for_a_threshold_too(gpt2, vector):
    hard = ["concept", "hard negative", "concept", "far", "concept", "hard negative", "far",
            "concept"]  # fmt: skip
    data = SimpleNamespace(texts=TEXTS, labels=LABELS, kinds=hard)
    readout = st.Readout(st.resid(1), vector())
    found = scored(gpt2, {"long": lengths, "d": readout}, data)
    assert found["long"].scores.tolist() == lengths(TEXTS)
    assert found["long"].hard.tolist() == [kind == "hard negative" for kind in hard]
    assert found["d"].scores == pytest.approx(captured(gpt2, readout, "max"), abs=1e-5)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([1.0] * 7, r"'f' has to give one finite score per text, \(8,\); got the shape \(7,\), 0"),
        ([[1.0]] * 8, r"the shape \(8, 1\), 0 scores not finite"),
        ([*range(7), float("nan")], r"the shape \(8,\), 1 scores not finite"),
        ([*range(6), None, float("inf")], r"the shape \(8,\), 2 scores not finite"),
        (3.0, r"the shape \(\), 0"),
    ],
)
def test_scores_that_are_not_one_number_per_text_are_refused(gpt2, scores, said):
    data = SimpleNamespace(texts=TEXTS, labels=LABELS)
    for measure in (detection, scored):
        with pytest.raises(ValueError, match=said):
            measure(gpt2, {"f": lambda texts: scores}, data)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"detectors": {}}, ValueError, "at least one detector"),
        (
            {"detectors": {"d": 3}},
            TypeError,
            "'d' is neither an Intervention nor a Readout nor a function",
        ),
        ({"pools": ("max", "sum")}, ValueError, r"some of \('last', 'mean', 'max'\), got"),
        ({"pools": "max"}, ValueError, "pools is a list"),
        ({"pools": ()}, ValueError, "pools is a list"),
        ({"labels": [True] * 8}, ValueError, "both classes; got 8 texts and 8 labels, 8"),
        ({"labels": LABELS[:7]}, ValueError, "8 texts and 7 labels"),
        ({"kinds": KINDS[:7]}, ValueError, "one kind per text, got 7 for 8 texts"),
    ],
)
def test_bad_calls_are_refused(gpt2, vector, change, error, message):
    detectors = change.get("detectors", {"d": st.Readout(st.resid(1), vector())})
    labels, kinds = change.get("labels", LABELS), change.get("kinds", KINDS)
    data = SimpleNamespace(texts=TEXTS, labels=labels, kinds=kinds)
    with pytest.raises(error, match=message):
        detection(gpt2, detectors, data, change.get("pools", ("max",)))


def test_a_direction_of_another_width_is_refused(gpt2, vector):
    data = SimpleNamespace(texts=TEXTS, labels=LABELS)
    with pytest.raises(ValueError, match=r"'d' reads 32 numbers, but .* has 128 at blocks.1.mlp"):
        detection(gpt2, {"d": st.Readout(st.mlp_post(1), vector())}, data)
