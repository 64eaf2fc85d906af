"""Figures keep to the palette and leave the caller's settings alone."""

import matplotlib as mpl
import pytest

from steerlib.teaching import plots

mpl.use("Agg")


def contrast_with_white(color):
    """The ratio of WCAG 2, from 1 to 21."""
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def test_the_background_is_opaque_so_that_dark_pages_do_not_swallow_labels():
    with plots.figure() as (fig, _):
        assert fig.get_facecolor() == (1.0, 1.0, 1.0, 1.0)


def test_settings_are_restored_even_after_an_error():
    before = dict(mpl.rcParams)
    with pytest.raises(ZeroDivisionError), plots.figure():
        raise ZeroDivisionError
    assert dict(mpl.rcParams) == before


def test_lines_differ_by_more_than_color():
    with plots.figure() as (_, [ax]):
        for kind in plots.PALETTE:
            plots.line(ax, [0, 1], [0, 1], [0, 1], [0, 1], kind, kind)
        looks = {(line.get_marker(), line.get_linestyle()) for line in ax.lines}
    assert len(looks) == len(plots.PALETTE)


def test_an_unknown_kind_lists_the_known_ones():
    with plots.figure() as (_, [ax]), pytest.raises(KeyError, match="steered"):
        plots.line(ax, [0], [0], [0], [0], "teal", "x")


def test_every_color_can_be_seen_on_white():
    for name, color in plots.PALETTE.items():
        assert contrast_with_white(color) >= 2, name
