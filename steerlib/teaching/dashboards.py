"""A feature of a sparse autoencoder on one page: where it fires, how often, and what it writes.

Chapter: sae.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from steerlib.core.model import Model
from steerlib.core.prompts import Prompts, as_list
from steerlib.methods.feature_effects import logit_lens
from steerlib.methods.features import top_texts
from steerlib.methods.sae import SAE
from steerlib.teaching.plots import _STYLE, PALETTE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 5.8  # inches
_ROW = 0.22  # inches for a line of text or a bar
_SIZE = 8  # points; a letter of the monospaced font is 0.6 of it wide
_LETTERS = int(0.96 * _WIDTH * 72 / (0.602 * _SIZE))  # in a line, the value at its left included
_MARGIN = 7  # letters for that value
_BEFORE = 0.6  # what comes before the largest value fills so much of the rest, at most
_LONGEST = 14  # letters of a token
_BINS = 30


def feature_dashboard(
    sae: SAE,
    model: Model,
    texts: Prompts,
    feature: int,
    *,
    n: int = 8,
    top: int = 7,
    chat: bool | None = False,
    batch_size: int = 32,
) -> Figure:
    """A figure of one feature: the texts in which it is largest, its values, and its tokens.

    Top: the n texts with the largest values, cut around them; the darker a token, the larger its
    value. Below: the tokens that the feature speaks for and against most (`logit_lens`), and a
    histogram of its values, BOS left out, with the share of tokens at which it is silent.

    Args:
        texts: where it is looked for; a feature of few texts needs many.
        n: how many texts are shown.
        top: how many tokens are shown, for and against.
        chat, batch_size: as in `feature_scores`.

    Returns:
        A matplotlib figure, which a notebook shows as the value of a cell.

    Raises:
        ValueError: no such feature, one that is silent in all the texts, n or top below 1, an SAE
            whose site does not write into the residual stream.

    Chapter: sae.

    Example:
        >>> f = st.best_feature(st.feature_scores(sae, model, data.train))
        >>> feature_dashboard(sae, model, data.train.texts, f).savefig("feature.png")
    """
    import matplotlib.pyplot as plt

    if n < 1:
        raise ValueError(f"n is at least 1, got {n}")
    listed = as_list(texts)[0]
    table = top_texts(sae, model, listed, feature, len(listed), chat=chat, batch_size=batch_size)
    if not table.value.max() > 0:
        raise ValueError(
            f"feature {feature} is silent in all {len(listed)} texts; give texts in which it is "
            "active, or another feature"
        )
    both = [logit_lens(sae, model, feature, top, largest=side) for side in (True, False)]
    shown = table[table.value > 0].head(n)
    with plt.rc_context(_STYLE):
        fig, above, left, right = _panels(len(shown), 2 * top)
        _draw_texts(above, shown, f"feature {feature} at {sae.site}")
        _draw_tokens(left, *both)
        _draw_values(right, [value for row in table["values"] for value in row])
        plt.close(fig)
    return fig


def _panels(lines: int, bars: int) -> tuple[Figure, Axes, Axes, Axes]:
    """A panel over the whole width and two below it, as high as their lines need."""
    import matplotlib.pyplot as plt

    whole = _ROW * (lines + bars) + 1.3  # inches, with titles and labels
    fig = plt.figure(figsize=(_WIDTH, whole))
    high, low = 1 - 0.35 / whole, 0.5 / whole
    first = fig.add_gridspec(
        1, 1, left=0.02, right=0.98, top=high, bottom=high - _ROW * lines / whole
    )
    second = fig.add_gridspec(
        1, 2, left=0.2, right=0.97, top=low + _ROW * bars / whole, bottom=low, wspace=0.36
    )
    above, *below = (fig.add_subplot(part) for part in (first[0], second[0], second[1]))
    return fig, above, below[0], below[1]


def _draw_texts(ax: Axes, shown: pd.DataFrame, title: str) -> None:
    """One line per text; behind each token a box as dark as its value is large."""
    import matplotlib as mpl
    from matplotlib.patches import Rectangle

    ax.set(xlim=(-_MARGIN, _LETTERS - _MARGIN), ylim=(len(shown) - 0.5, -0.5))
    ax.axis("off")
    ax.set_title(title, fontsize=10, loc="left")
    shade, largest = mpl.colormaps["Blues"], shown.value.max()
    for line, row in enumerate(shown.itertuples()):
        ax.text(-1, line, f"{row.value:.3g}", ha="right", va="center", fontsize=_SIZE)
        for start, token, value in window(row.tokens, row.values, row.position):
            color = shade(0.15 + 0.75 * value / largest) if value > 0 else (1.0, 1.0, 1.0, 0.0)
            box = Rectangle((start - 0.3, line - 0.42), len(token) + 0.6, 0.84, color=color, lw=0)
            ax.add_patch(box)
            ax.text(
                start + len(token) / 2, line, token, ha="center", va="center", fontsize=_SIZE,
                family="monospace", color=_ink(color), parse_math=False,
            )  # fmt: skip


def window(
    tokens: Sequence[str], values: Sequence[float], position: int
) -> list[tuple[int, str, float]]:
    """What fits into a line around a token: where each token starts, its text and its value.

    Tokens are set apart by a space; dots stand for what is cut off.
    """
    words = [_printed(token) for token in tokens]
    room = _LETTERS - _MARGIN - 4  # dots at both ends
    left, right, used = position, position + 1, len(words[position])
    for goes_left, limit in ((True, _BEFORE * room), (False, room), (True, room)):
        while left > 0 if goes_left else right < len(words):
            size = 1 + len(words[left - 1 if goes_left else right])
            if used + size > limit:
                break
            left, right, used = left - goes_left, right + (not goes_left), used + size
    pieces = [("…", 0.0)] if left else []
    pieces += zip(words[left:right], values[left:right], strict=True)
    pieces += [("…", 0.0)] if right < len(words) else []
    found, start = [], 0
    for word, value in pieces:
        found.append((start, word, value))
        start += len(word) + 1
    return found


def _printed(token: str) -> str:
    """A token without the spaces around it, shortened; white space as a sign."""
    bare = token.strip(" ").replace("\n", "↵").replace("\t", "⇥") or "␣"
    return bare if len(bare) <= _LONGEST else bare[: _LONGEST - 1] + "…"


def _ink(color: tuple[float, ...]) -> str:
    """Black or white, whatever can be read on a color."""
    red, green, blue, opacity = color
    return "white" if opacity and 0.3 * red + 0.6 * green + 0.1 * blue < 0.45 else "black"


def _draw_tokens(ax: Axes, best: pd.DataFrame, worst: pd.DataFrame) -> None:
    """Bars of the logits, the largest on top, the smallest at the bottom."""
    rows = [*zip(best.token, best.logit, strict=True)]
    rows += [*zip(worst.token, worst.logit, strict=True)][::-1]
    colors = [PALETTE["steered"]] * len(best) + [PALETTE["warning"]] * len(worst)
    ax.barh(range(len(rows)), [logit for _, logit in rows], color=colors, height=0.75)
    ax.set_yticks(range(len(rows)), [_printed(token) for token, _ in rows], fontsize=_SIZE)
    for label in ax.get_yticklabels():
        label.set(parse_math=False, family="monospace")
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.axvline(0, color="#222222", linewidth=0.8)
    ax.tick_params(axis="x", labelsize=_SIZE)
    ax.set_xlabel("logit of the direction", fontsize=9)


def _draw_values(ax: Axes, values: Sequence[float]) -> None:
    """How often each value is taken where the feature fires, on a log scale."""
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    fired = [value for value in values if value > 0]
    ax.hist(fired, bins=_BINS, color=PALETTE["steered"])
    ax.set_yscale("log")
    # Powers of ten alone, and short: few tokens would get labels such as 2 x 10^0.
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(labelsize=_SIZE)
    ax.set_xlim(left=0)
    ax.set_xlabel("value where it fires", fontsize=9)
    ax.set_ylabel("tokens", fontsize=9)
    ax.set_title(f"0 at {1 - len(fired) / len(values):.1%} of {len(values):,} tokens", fontsize=9)
