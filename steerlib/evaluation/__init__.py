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
| What does an arm answer, and what is it worth? | `scoring` |
| By how much is one arm better than another? | `comparing` |
| Compared with what? | `controls`: nothing, random, shuffled labels, asking |
| Can the concept be read? | `detection`: AUROC, hard negatives apart |
| What else changes? | `side_effects`: KL on neutral prompts, facts, grammar |
| Which prompts does it move, and which the wrong way? | `propensity`, `steerability` |
"""

from steerlib.evaluation.comparing import against, paired, summary
from steerlib.evaluation.controls import controls, random_direction
from steerlib.evaluation.detection import detection
from steerlib.evaluation.judges import Judge, world_judge, world_request
from steerlib.evaluation.propensity import propensity
from steerlib.evaluation.scoring import Arm, score
from steerlib.evaluation.side_effects import side_effects, world_facts, world_grammar
from steerlib.evaluation.steerability import (
    Generalization,
    Steerability,
    generalization,
    steerability,
)
from steerlib.world.choices import Choice

__all__ = [
    "Arm",
    "Choice",
    "Generalization",
    "Judge",
    "Steerability",
    "against",
    "controls",
    "detection",
    "generalization",
    "paired",
    "propensity",
    "random_direction",
    "score",
    "side_effects",
    "steerability",
    "summary",
    "world_facts",
    "world_grammar",
    "world_judge",
    "world_request",
]
