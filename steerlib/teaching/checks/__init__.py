"""Checks for the exercises: they test behavior and name the mistake.

Each ``test_<name>(fn)`` calls the reader's function on small tensors. It prints a line when all is
well; when it is not, it raises an AssertionError that names the most likely mistake. No check
compares with a stored number of the author. One module belongs to one chapter.
"""

from steerlib.teaching.checks.axbench import (
    test_reft_magnitude,
    test_reps_margin,
    test_sphere_step,
)
from steerlib.teaching.checks.directions import (
    test_first_component,
    test_orient,
    test_streaming_means,
)
from steerlib.teaching.checks.flips import test_flip_shares
from steerlib.teaching.checks.hooks import (
    test_difference_in_means,
    test_make_hook,
    test_random_control,
    test_sequential,
    test_steered_positions,
)
from steerlib.teaching.checks.measures import (
    test_auroc,
    test_choose_strength,
    test_max_scores,
    test_steerability,
)
from steerlib.teaching.checks.objective import test_effectiveness, test_other_kl
from steerlib.teaching.checks.protocol import (
    test_harmonic,
    test_report_score,
    test_win_rate,
)
from steerlib.teaching.checks.scaling import test_dyn_alpha, test_scale_positions
from steerlib.teaching.checks.steps import test_first_gradient, test_prox
from steerlib.teaching.checks.thresholds import test_f1_elsewhere

__all__ = [
    "test_auroc",
    "test_choose_strength",
    "test_difference_in_means",
    "test_dyn_alpha",
    "test_effectiveness",
    "test_f1_elsewhere",
    "test_first_component",
    "test_first_gradient",
    "test_flip_shares",
    "test_harmonic",
    "test_make_hook",
    "test_max_scores",
    "test_orient",
    "test_other_kl",
    "test_prox",
    "test_random_control",
    "test_reft_magnitude",
    "test_report_score",
    "test_reps_margin",
    "test_scale_positions",
    "test_sequential",
    "test_sphere_step",
    "test_steerability",
    "test_steered_positions",
    "test_streaming_means",
    "test_win_rate",
]
