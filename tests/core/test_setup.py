"""setup: equal seeds give equal numbers, and a broken installation is named."""

import random

import numpy as np
import pytest
import torch

import steerlib as st
from steerlib.core.setup import check_numpy


def _draw(seed):
    st.setup(seed)
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_all_generators_are_seeded():
    first, again, other = _draw(3), _draw(3), _draw(4)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_it_reports_what_it_runs_on():
    found = st.setup(seed=7)
    assert (found.seed, found.threads) == (7, torch.get_num_threads()) == (7, 1)
    assert found.versions["torch"] == torch.__version__
    assert found.device in ("cpu", "cuda")


def test_a_numpy_that_was_replaced_under_the_kernel_stops():
    check_numpy("2.1.0", "2.1.0")
    with pytest.raises(RuntimeError, match=r"numpy 1\.26\.4 is loaded but 2\.1\.0.*Restart"):
        check_numpy("1.26.4", "2.1.0")
