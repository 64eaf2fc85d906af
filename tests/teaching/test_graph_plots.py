"""A graph of values as a figure: every edge is drawn once, in the look of its kind."""

import matplotlib as mpl
import pytest
from matplotlib.colors import to_hex

import steerlib as st
from steerlib.teaching.graph_plots import circular_order, draw_graph
from steerlib.teaching.plots import PALETTE

mpl.use("Agg")
TRUTH = st.ValueGraph.of("abcd", [("a", "b"), ("b", "c"), ("c", "d")])


def drawn(graph, truth=None):
    """(color, whether it has a head) of every edge of the figure."""
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots()
    draw_graph(ax, graph, truth)
    found = [
        (to_hex(patch.get_edgecolor()), patch.get_arrowstyle().__class__.__name__ != "Curve")
        for patch in ax.patches
    ]
    names = {text.get_text() for text in ax.texts}
    plt.close(fig)
    return sorted(found), names


def test_right_wrong_and_missing_edges_are_told_apart():
    graph = st.ValueGraph(
        tuple("abcd"), frozenset({("a", "b"), ("a", "c")}), frozenset({frozenset("bc")})
    )
    found, names = drawn(graph, TRUTH)
    right, wrong, missing = (PALETTE[kind] for kind in ("steered", "warning", "random"))
    assert found == sorted([(right, True), (right, False), (wrong, True), (missing, False)])
    assert names == set("abcd")


def test_without_a_truth_all_edges_look_alike():
    found, _ = drawn(TRUTH)
    assert found == [(PALETTE["steered"], True)] * 3


def test_neighbors_stand_side_by_side():
    skeleton = frozenset(map(frozenset, ("ac", "cb", "bd")))
    order = "".join(circular_order(skeleton, "abcd"))
    assert order in {(x + x)[i : i + 4] for x in ("acbd", "dbca") for i in range(4)}


def test_graphs_of_other_values_are_refused():
    with pytest.raises(ValueError, match="other nodes"):
        drawn(TRUTH, st.ValueGraph.of("abc", []))
