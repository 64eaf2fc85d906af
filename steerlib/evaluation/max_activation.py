"""The unit of strength that AxBench steers with: the largest score that a detector gives a token.

Chapter: axbench. A strength of 1 then adds as much of the direction as the most typical token of
the texts has of itself.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from steerlib.core.interventions import Intervention
from steerlib.core.model import Model
from steerlib.core.readouts import Readout
from steerlib.core.sites import width


def max_activation(
    model: Model,
    detector: Intervention | Readout,
    texts: Any,
    *,
    chat: bool | None = False,
    system: str | None = None,
) -> float:
    """M = max over texts and their tokens, without BOS, of w . h + b.

    Args:
        detector: a readout, or an intervention that adds one direction (its unit vector is read).
            A readout's own pool does not count.
        texts: strings or chats with the concept in some of them.
        chat, system: as in `Readout.score`.

    Returns:
        A positive number: `steer(model, M * direction.unit())` is a strength of 1.

    Raises:
        TypeError: no detector. ValueError: no texts, a detector of another width, or a largest
            score that is not above 0: the direction then points away from every token, and no
            number of units would be right.

    Source: Wu et al. 2025 (AxBench); their code goes on with 50 where M <= 0 and with 1 where M
    is missing, which changes every strength without a word. Chapter: axbench.

    Example:
        >>> unit = max_activation(model, weather, data.train.texts)
        >>> st.steer(model, 2 * unit * weather.unit())
    """
    if not isinstance(detector, Intervention | Readout):
        raise TypeError(f"a detector is an Intervention or a Readout, got {detector!r}")
    readout = detector.readout if isinstance(detector, Intervention) else detector
    size = width(model, readout.site)
    if len(readout.w) != size:
        raise ValueError(
            f"the detector reads {len(readout.w)} numbers, but {model.id} has {size} at "
            f"{readout.site}"
        )
    # "last" would read one token per text only.
    scores = replace(readout, pool="max").score(model, texts, chat=chat, system=system)
    largest = float(scores.max())
    if not (math.isfinite(largest) and largest > 0):
        raise ValueError(
            f"the largest score of the detector at {readout.site} on {len(scores)} texts is "
            f"{largest:g}; a unit of strength is above 0. Give texts that show the concept, or "
            "turn the direction around"
        )
    return largest
