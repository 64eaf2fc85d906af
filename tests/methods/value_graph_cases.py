"""Graphs and scores that several tests of value graphs share."""

from itertools import combinations

import networkx as nx
import numpy as np
import pandas as pd

from steerlib.methods.value_graphs import ValueGraph
from steerlib.world.values import EDGES, ROLE_SLOTS, VALUES, true_values

TRUTH = ValueGraph.of(VALUES, [(cause, effect) for cause, effect, _ in EDGES])
ABC, ABCD = ("a", "b", "c"), ("a", "b", "c", "d")


def arrows(text, nodes=None):
    """ "a>b c-d" as a graph; nodes: its letters."""
    directed = frozenset((e[0], e[2]) for e in text.split() if e[1] == ">")
    undirected = frozenset(frozenset((e[0], e[2])) for e in text.split() if e[1] == "-")
    found = tuple(sorted({letter for letter in text if letter.isalpha()}))
    return ValueGraph(nodes or found, directed, undirected)


def complete(nodes):
    return ValueGraph(nodes, frozenset(), frozenset(map(frozenset, combinations(nodes, 2))))


def random_dag(rng, n, share=0.5):
    """Arrows along a random order of n values, each with this probability."""
    nodes = tuple("abcdefghij"[:n])
    order = rng.permutation(n)
    pairs = [(nodes[i], nodes[j]) for i, j in combinations(order, 2) if rng.random() < share]
    return ValueGraph.of(nodes, pairs)


def gaussian(graph, rng, rows=5000, weight=0.8):
    """Draws from a linear model over a DAG: v = sum of weight * parents + noise of size 1."""
    table = pd.DataFrame(0.0, range(rows), list(graph.nodes))
    for node in nx.topological_sort(graph.to_networkx()):
        parents = table[list(graph.parents(node))]
        table[node] = weight * parents.sum(axis=1) + rng.normal(size=rows)
    return table


def world_scores(roles):
    return pd.DataFrame([true_values(role) for role in roles], columns=list(VALUES))


def every_role():
    return list(np.ndindex(*map(len, ROLE_SLOTS)))


def without(table, column, rows):
    """The table with some scores of a column missing."""
    holes = table.astype({column: float})
    holes.loc[rows, column] = np.nan
    return holes
