"""Evaluation: does it work, compared with what, and at which price?

    >>> from steerlib import evaluation
    >>> arm = evaluation.Arm("weather", weather, strengths=(1.25,))
    >>> ask = evaluation.world_request("weather")
    >>> others = evaluation.controls(model, arm, st.diff_means, data.train, ask=ask)
    >>> table = evaluation.score(model, [arm, *others], prompts, evaluation.world_judge("weather"))
    >>> evaluation.summary(table), evaluation.paired(table, "weather", "prompt")

| question | file |
|---|---|
| How good is an answer? | `judges`: exact for the world, any function for your own |
| What does an arm answer, and what is it worth? | `scoring`; for many concepts `sweep` |
| What does a language model think of a sweep's answers? | `rating`, by an `llm_judge` |
| How far does a free answer show a behaviour? | `behaviour_judge`; the world's traits: `judges` |
| By how much is one arm better than another? | `comparing` |
| Compared with what? | `controls`: nothing, random, shuffled labels, asking; `prompting` |
| Can the concept be read? | `detection`: AUROC, hard negatives apart; `asked`: a judge reads |
| What else changes? | `side_effects`: KL on neutral prompts, facts, grammar |
| Which strength, and what is it worth where it was not chosen? | `protocol`: AxBench's |
| Which prompts does it move, and which the wrong way? | `propensity`, `steerability` |
| Are true answers likelier than false ones? | `multiple_choice`: MC1 and MC2 |
| Does it turn an answer both ways, and what else moves? | `flips`, on `conflicts` |
| Which questions have a true label? | `world_problems`; real: `problem_files`, `problem_hub` |
| Which answer is preferred to which? | `preference_files`; of dialogues: `choices` |
"""

from steerlib.evaluation.asked import asked
from steerlib.evaluation.axbench_files import AxBench, AxBenchConcept, Examples, read_axbench
from steerlib.evaluation.behaviour_judge import RUBRICS, Rubric, behaviour_cost, behaviour_ratings
from steerlib.evaluation.choices import choices_of
from steerlib.evaluation.comparing import against, paired, summary
from steerlib.evaluation.conflicts import fact_conflicts, fact_template, indirect_objects
from steerlib.evaluation.controls import controls, random_direction
from steerlib.evaluation.datasets import axbench, axbench_site
from steerlib.evaluation.detection import detection, scored
from steerlib.evaluation.flips import flip_summary, flips
from steerlib.evaluation.judge_calls import Prices, Retry
from steerlib.evaluation.judge_endpoint import endpoint, from_client
from steerlib.evaluation.judge_prompts import Answer
from steerlib.evaluation.judges import Judge, trait_judge, world_judge, world_request
from steerlib.evaluation.llm_judge import LLMJudge, judge_cost, llm_ratings
from steerlib.evaluation.local_judge import local_complete, local_judge
from steerlib.evaluation.max_activation import max_activation
from steerlib.evaluation.multiple_choice import (
    MultipleChoice,
    multiple_choice,
    truthfulqa_questions,
    world_questions,
)
from steerlib.evaluation.preference_files import bipo_options, bipo_pairs, caa_pairs, caa_questions
from steerlib.evaluation.problem_files import mmlu, sms_spam, truthfulqa
from steerlib.evaluation.problem_hub import hub_problems
from steerlib.evaluation.prompting import template_request, written_request
from steerlib.evaluation.propensity import propensity
from steerlib.evaluation.protocol import FACTORS, benchmark, choosing, reported, win_rate
from steerlib.evaluation.rating import rate
from steerlib.evaluation.scoring import Arm, score
from steerlib.evaluation.side_effect_nulls import node_permutation_test, signed_rank_correlation
from steerlib.evaluation.side_effect_prediction import (
    change_frequencies,
    descendants,
    excess_frequencies,
    expected_unexpected,
    mean_gap,
    signed_changes,
)
from steerlib.evaluation.side_effects import price, side_effects, world_facts, world_grammar
from steerlib.evaluation.steerability import (
    Generalization,
    Steerability,
    generalization,
    steerability,
)
from steerlib.evaluation.sweep import Study, of_concept, sweep
from steerlib.evaluation.thresholds import (
    F1,
    HardNegatives,
    Scored,
    f1,
    hard_negative_accuracy,
    rare,
)
from steerlib.evaluation.value_files import ReleasedValues, released_values
from steerlib.evaluation.value_items import PAPER_VALUES, value_roles, valuebench
from steerlib.evaluation.world_problems import world_problems
from steerlib.world.choices import Choice

__all__ = [
    "F1",
    "FACTORS",
    "PAPER_VALUES",
    "RUBRICS",
    "Answer",
    "Arm",
    "AxBench",
    "AxBenchConcept",
    "Choice",
    "Examples",
    "Generalization",
    "HardNegatives",
    "Judge",
    "LLMJudge",
    "MultipleChoice",
    "Prices",
    "ReleasedValues",
    "Retry",
    "Rubric",
    "Scored",
    "Steerability",
    "Study",
    "against",
    "asked",
    "axbench",
    "axbench_site",
    "behaviour_cost",
    "behaviour_ratings",
    "benchmark",
    "bipo_options",
    "bipo_pairs",
    "caa_pairs",
    "caa_questions",
    "change_frequencies",
    "choices_of",
    "choosing",
    "controls",
    "descendants",
    "detection",
    "endpoint",
    "excess_frequencies",
    "expected_unexpected",
    "f1",
    "fact_conflicts",
    "fact_template",
    "flip_summary",
    "flips",
    "from_client",
    "generalization",
    "hard_negative_accuracy",
    "hub_problems",
    "indirect_objects",
    "judge_cost",
    "llm_ratings",
    "local_complete",
    "local_judge",
    "max_activation",
    "mean_gap",
    "mmlu",
    "multiple_choice",
    "node_permutation_test",
    "of_concept",
    "paired",
    "price",
    "propensity",
    "random_direction",
    "rare",
    "rate",
    "read_axbench",
    "released_values",
    "reported",
    "score",
    "scored",
    "side_effects",
    "signed_changes",
    "signed_rank_correlation",
    "sms_spam",
    "steerability",
    "summary",
    "sweep",
    "template_request",
    "trait_judge",
    "truthfulqa",
    "truthfulqa_questions",
    "value_roles",
    "valuebench",
    "win_rate",
    "world_facts",
    "world_grammar",
    "world_judge",
    "world_problems",
    "world_questions",
    "world_request",
    "written_request",
]
