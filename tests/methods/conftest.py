"""Models and fits that several tests of activation scaling share."""

from dataclasses import replace

import pytest

import steerlib as st
from tests.methods.scaling_cases import QUICK


@pytest.fixture(scope="session")
def world():
    return st.load("world", engine="hf")


@pytest.fixture(scope="session")
def train():
    return st.world.conflicts(36)


@pytest.fixture(scope="session")
def dial(world, train):
    """A scalar for each component and position of the world's model."""
    return st.activ_scalar(world, train, st.components(world), plan=QUICK)


@pytest.fixture(scope="session")
def dynamic(world):
    """DynScalar, learned from prompts of three lengths."""
    mixed = st.world.conflicts(36, templates=(0, 1, 2))
    return st.dyn_scalar(world, mixed, st.components(world), plan=replace(QUICK, epochs=5))
