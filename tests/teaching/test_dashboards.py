"""A dashboard shows what the tables say, fits its page, and touches nothing else."""

import io
from dataclasses import replace
from itertools import combinations

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

import steerlib as st
from steerlib.methods.feature_effects import logit_lens
from steerlib.methods.features import top_texts
from steerlib.teaching import dashboards
from steerlib.teaching.dashboards import feature_dashboard, window
from tests.methods.feature_cases import TEXTS, random_sae

mpl.use("Agg")
F = 12


@pytest.fixture
def sae(gpt2):
    return random_sae(gpt2)


@pytest.fixture
def drawn(sae, gpt2):
    return feature_dashboard(sae, gpt2, TEXTS, F, n=4, top=5)


def boxes_of(ax):
    """(line, start) -> color of the box behind each token."""
    return {
        (round(box.get_y() + 0.42), round(box.get_x() + 0.3)): box.get_facecolor()
        for box in ax.patches
    }


def tokens_of(ax):
    """line -> the pieces of text of its tokens, from left to right."""
    lines = {}
    for text in sorted(ax.texts[:], key=lambda t: t.get_position()):
        lines.setdefault(round(text.get_position()[1]), []).append(text.get_text())
    return lines


# --- what it shows


def test_the_texts_are_the_ones_with_the_largest_values(drawn, sae, gpt2):
    table, lines = top_texts(sae, gpt2, TEXTS, F, 4), tokens_of(drawn.axes[0])
    assert (table.value > 0).all()
    assert len(lines) == 4
    for number, row in enumerate(table.itertuples()):
        value, *tokens = lines[number]
        assert float(value) == pytest.approx(row.value, rel=1e-2)
        shown = [token for token in tokens if token != "…"]
        assert row.token in shown
        assert " ".join(shown) in " ".join(row.tokens)
    assert str(F) in drawn.axes[0].get_title(loc="left")
    assert "blocks.1.hook_resid_post" in drawn.axes[0].get_title(loc="left")


def test_silent_texts_are_left_out(sae, gpt2):
    shy = replace(sae, bias=sae.bias - 0.5 * top_texts(sae, gpt2, TEXTS, F, 1).value[0])
    values = top_texts(shy, gpt2, TEXTS, F, 6).value
    assert 0 < (values > 0).sum() < 6
    fig = feature_dashboard(shy, gpt2, TEXTS, F)
    assert len(tokens_of(fig.axes[0])) == (values > 0).sum()


def test_a_token_is_the_darker_the_larger_its_value(drawn, sae, gpt2):
    table, boxes = top_texts(sae, gpt2, TEXTS, F, 4), boxes_of(drawn.axes[0])
    found = []
    for number, row in enumerate(table.itertuples()):
        for start, _, value in window(row.tokens, row.values, row.position):
            red, green, blue, opacity = boxes[number, start]
            assert (opacity > 0) == (value > 0)
            if value > 0:
                found.append((value, red + green + blue))
    light = [brightness for _, brightness in sorted(found)]
    assert len(light) > 5
    assert light == sorted(light, reverse=True)
    assert light[0] > light[-1] + 0.5
    first = next(t for t in drawn.axes[0].texts if t.get_text() == table.token[0])
    assert first.get_position()[1] == 0
    assert first.get_color() == "white"


def test_the_tokens_for_and_against_are_those_of_the_lens(drawn, sae, gpt2):
    best = logit_lens(sae, gpt2, F, 5)
    worst = logit_lens(sae, gpt2, F, 5, largest=False)
    ax = drawn.axes[1]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [*best.token, *worst.token[::-1]]
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == pytest.approx([*best.logit, *worst.logit[::-1]])
    # Downwards on the page.
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    colors = [bar.get_facecolor() for bar in ax.patches]
    assert len(set(colors[:5])) == len(set(colors[5:])) == 1
    assert colors[0] != colors[-1]


def test_the_histogram_counts_every_token_of_all_texts(drawn, sae, gpt2):
    values = [v for row in top_texts(sae, gpt2, TEXTS, F, len(TEXTS))["values"] for v in row]
    fired, ax = [v for v in values if v > 0], drawn.axes[2]
    assert sum(bar.get_height() for bar in ax.patches) == len(fired)
    assert ax.patches[-1].get_x() + ax.patches[-1].get_width() == pytest.approx(max(values))
    share = 1 - len(fired) / len(values)
    assert 0 < share < 1
    assert ax.get_title() == f"0 at {share:.1%} of {len(values)} tokens"


# --- how it looks


def png(fig):
    file = io.BytesIO()
    fig.savefig(file, format="png")
    return file.getvalue()


def overlaps(a, b):
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1


def assert_fits(fig):
    """No panel covers another or leaves the page, no token covers its neighbor."""
    fig.canvas.draw()
    panels = [ax.get_tightbbox() for ax in fig.axes]
    page = fig.bbox
    for box in panels:
        assert box.x0 >= -1 and box.y0 >= -1  # noqa: PT018
        assert box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1  # noqa: PT018
    assert not any(overlaps(a, b) for a, b in combinations(panels, 2))
    extents = [text.get_window_extent() for text in fig.axes[0].texts]
    lined = [replace_height(box) for box in extents]
    assert not any(overlaps(a, b) for a, b in combinations(lined, 2))


def replace_height(box):
    """The middle half of a box: letters with tails may touch the next line."""
    quarter = (box.y1 - box.y0) / 4
    return mpl.transforms.Bbox.from_extents(box.x0, box.y0 + quarter, box.x1, box.y1 - quarter)


@pytest.mark.parametrize(("n", "top"), [(1, 1), (4, 5), (6, 12)])
def test_nothing_overlaps_or_leaves_the_page(sae, gpt2, n, top):
    assert_fits(feature_dashboard(sae, gpt2, TEXTS, F, n=n, top=top))


@pytest.fixture
def strange(monkeypatch):
    """Tokens that matplotlib takes for formulas, white space, and very long ones."""
    odd = ["$\\frac$", " \n", "\t", "  ", " y$x^{$", "a" * 99, "$", "<eos>"] * 9
    values = [float(number % 7) for number in range(len(odd))]
    rows = [
        (0, 6.0, odd[6], 6, tuple(odd), tuple(values)),
        (1, 5.0, odd[40], 40, tuple(odd), tuple(values)),
    ]
    names = ["text", "value", "token", "position", "tokens", "values"]
    monkeypatch.setattr(dashboards, "top_texts", lambda *a, **k: pd.DataFrame(rows, columns=names))
    lens = pd.DataFrame({"feature": F, "token": odd[:7], "logit": range(7)})
    monkeypatch.setattr(dashboards, "logit_lens", lambda *a, **k: lens)


def test_strange_tokens_are_printed_as_they_are(strange, sae, gpt2):
    fig = feature_dashboard(sae, gpt2, TEXTS, F)
    assert_fits(fig)
    shown = {text.get_text() for text in fig.axes[0].texts}
    assert {"$\\frac$", "↵", "⇥", "␣", "y$x^{$", "a" * 13 + "…", "$"} <= shown
    assert "$\\frac$" in {label.get_text() for label in fig.axes[1].get_yticklabels()}


@pytest.mark.filterwarnings("ignore:.*vocabulary")
def test_it_is_small_and_opaque():
    model = st.load("world", engine="hf")
    texts = [d.prompt + " " + d.response for d in st.world.dialogues("weather", 20)]
    sae = random_sae(model, site=st.resid(2))
    best = max(range(sae.n), key=lambda f: top_texts(sae, model, texts, f, 1).value[0])
    fig = feature_dashboard(sae, model, texts, best)
    assert len(png(fig)) < 100_000
    assert fig.get_facecolor() == (1.0, 1.0, 1.0, 1.0)
    assert_fits(fig)


def test_settings_are_restored_and_no_figure_is_left_open(sae, gpt2):
    before, open_ = dict(mpl.rcParams), plt.get_fignums()
    feature_dashboard(sae, gpt2, TEXTS, F)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == open_


# --- the line around a token


@pytest.mark.parametrize("position", [0, 1, 20, 58, 59])
def test_a_line_is_full_and_holds_the_token(position):
    tokens = [f" word{number}" for number in range(60)]
    found = window(tokens, list(range(60)), position)
    pieces = [piece for _, piece, _ in found]
    ends = [start + len(piece) for start, piece, _ in found]
    assert all(start == end + 1 for (start, _, _), end in zip(found[1:], ends, strict=False))
    assert found[0][0] == 0
    most = dashboards._LETTERS - dashboards._MARGIN
    # A cut that is not needed leaves the room of its dots empty.
    assert most - 12 < ends[-1] <= most
    assert f"word{position}" in pieces
    assert (pieces[0] == "…") == ("word0" not in pieces)
    assert (pieces[-1] == "…") == ("word59" not in pieces)
    for _, piece, value in found:
        assert value == (0.0 if piece == "…" else int(piece[4:]))


def test_what_comes_before_gets_the_larger_part():
    found = window(["a"] * 199, list(range(199)), 99)
    before, after = (sum(sign * (v - 99) > 0 for _, _, v in found[1:-1]) for sign in (-1, 1))
    assert 1.2 < before / after < 1.8


def test_a_short_text_has_no_dots():
    assert window(["a", " dog"], [0.0, 2.0], 1) == [(0, "a", 0.0), (2, "dog", 2.0)]


# --- bad input


def test_bad_features_are_named(sae, gpt2):
    with pytest.raises(ValueError, match="features 0 to 23, got 24"):
        feature_dashboard(sae, gpt2, TEXTS, 24)
    with pytest.raises(ValueError, match="n is at least 1, got 0"):
        feature_dashboard(sae, gpt2, TEXTS, F, n=0)
    with pytest.raises(ValueError, match="top is a number from 1"):
        feature_dashboard(sae, gpt2, TEXTS, F, top=0)
    silent = replace(sae, bias=sae.bias - 1e4)
    with pytest.raises(ValueError, match="feature 12 is silent in all 6 texts"):
        feature_dashboard(silent, gpt2, TEXTS, F)
    head = st.SAE(st.head(1, 0), *(torch.ones(s) for s in ((8, 4), 4, (4, 8), 8)))
    with pytest.raises(ValueError, match="directions of the residual stream"):
        feature_dashboard(head, gpt2, TEXTS, 0)
