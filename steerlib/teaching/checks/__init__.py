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
from steerlib.teaching.checks.bipo import test_per_token_margin, test_preference_loss
from steerlib.teaching.checks.bipo_detective import test_mistakes
from steerlib.teaching.checks.bipo_effects import test_net_effect
from steerlib.teaching.checks.bipo_parts import test_loss_from_parts, test_odd_and_even
from steerlib.teaching.checks.bipo_training import test_learning_rate, test_response_mask
from steerlib.teaching.checks.colliders import test_colliders
from steerlib.teaching.checks.directions import (
    test_first_component,
    test_orient,
    test_streaming_means,
)
from steerlib.teaching.checks.features import test_best_feature, test_output_score
from steerlib.teaching.checks.flips import test_flip_shares
from steerlib.teaching.checks.graphs import test_skeleton
from steerlib.teaching.checks.hooks import (
    test_difference_in_means,
    test_make_hook,
    test_random_control,
    test_sequential,
    test_steered_positions,
)
from steerlib.teaching.checks.independence import test_fisher_z
from steerlib.teaching.checks.measures import (
    test_auroc,
    test_choose_strength,
    test_max_scores,
    test_steerability,
)
from steerlib.teaching.checks.mera import test_error_log_odds, test_smallest_step
from steerlib.teaching.checks.mera_bounds import test_choose_or_abstain, test_gain_bound
from steerlib.teaching.checks.mera_curse import test_best_useless_gain
from steerlib.teaching.checks.mera_detective import test_repaired
from steerlib.teaching.checks.mera_parts import test_pattern_parts
from steerlib.teaching.checks.objective import test_effectiveness, test_other_kl
from steerlib.teaching.checks.protocol import (
    test_harmonic,
    test_report_score,
    test_win_rate,
)
from steerlib.teaching.checks.revival import test_auxiliary_loss
from steerlib.teaching.checks.sae import test_clamp, test_fold
from steerlib.teaching.checks.scaling import test_dyn_alpha, test_scale_positions
from steerlib.teaching.checks.sparsity import test_jumprelu, test_topk
from steerlib.teaching.checks.steps import test_first_gradient, test_prox
from steerlib.teaching.checks.thresholds import test_f1_elsewhere
from steerlib.teaching.checks.unexplained import test_fvu
from steerlib.teaching.checks.value_directions import test_residual_direction
from steerlib.teaching.checks.value_effects import test_side_effect_p, test_total_effects
from steerlib.teaching.checks.values import test_value_score

__all__ = [
    "test_auroc",
    "test_auxiliary_loss",
    "test_best_feature",
    "test_best_useless_gain",
    "test_choose_or_abstain",
    "test_choose_strength",
    "test_clamp",
    "test_colliders",
    "test_difference_in_means",
    "test_dyn_alpha",
    "test_effectiveness",
    "test_error_log_odds",
    "test_f1_elsewhere",
    "test_first_component",
    "test_first_gradient",
    "test_fisher_z",
    "test_flip_shares",
    "test_fold",
    "test_fvu",
    "test_gain_bound",
    "test_harmonic",
    "test_jumprelu",
    "test_learning_rate",
    "test_loss_from_parts",
    "test_make_hook",
    "test_max_scores",
    "test_mistakes",
    "test_net_effect",
    "test_odd_and_even",
    "test_orient",
    "test_other_kl",
    "test_output_score",
    "test_pattern_parts",
    "test_per_token_margin",
    "test_preference_loss",
    "test_prox",
    "test_random_control",
    "test_reft_magnitude",
    "test_repaired",
    "test_report_score",
    "test_reps_margin",
    "test_residual_direction",
    "test_response_mask",
    "test_scale_positions",
    "test_sequential",
    "test_side_effect_p",
    "test_skeleton",
    "test_smallest_step",
    "test_sphere_step",
    "test_steerability",
    "test_steered_positions",
    "test_streaming_means",
    "test_topk",
    "test_total_effects",
    "test_value_score",
    "test_win_rate",
]
