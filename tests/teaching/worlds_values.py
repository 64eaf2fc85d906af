"""The world's graph of values, and scores that follow it exactly."""

import numpy as np
import torch

from steerlib.methods.value_graphs import ValueGraph
from steerlib.teaching.checks import independence
from steerlib.world import values as world

TRUE = ValueGraph.of(world.VALUES, [(cause, effect) for cause, effect, _ in world.EDGES])


def of_the_world(rows=400):
    """Scores under the world's model, with u that are uncorrelated in the rows themselves."""
    total = np.linalg.inv(np.eye(len(world.VALUES)) - world.coefficients())
    return independence.orthogonal(rows, len(world.VALUES)) @ torch.from_numpy(total.T)
