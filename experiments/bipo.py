"""BiPO on the world: doses, comparisons, overdose and transfer. `make experiments`.

One shard per model, behaviour and seed, so that a run that was killed loses one of them; `-j 2`
shares them between two processes.

* `tune`: the layer and norm of each method, chosen on units that are not reported on;
* `dose`: the answers under each arm at each strength, and what else changes;
* `overdose`: effect and whole texts over the norm;
* `length`: how the length of training sets the norm;
* `two`: two vectors at once;
* `transfer`: the same vector in a copy with an adapter and in another model;
* `rates`, `concept`: BiPO in the comparison of the chapter axbench.
"""

from __future__ import annotations

import os
from itertools import product

from experiments import bipo_claims, bipo_figures
from experiments.bipo_axbench import CONCEPTS, RATES, TUNED, concept, rates
from experiments.bipo_axbench import RATE as TUNED_RATE
from experiments.bipo_data import BEHAVIOURS, FOLDER, MODELS, SEEDS, TRAITS, load
from experiments.bipo_dose import dose
from experiments.bipo_norms import length, overdose, two
from experiments.bipo_transfer import transfer
from experiments.bipo_vectors import tune
from experiments.parts import Part, compute

_FIRST = MODELS[:1]
PARTS: dict[str, Part] = {
    # The second model is what vectors are carried to.
    "tune": (tune, [*product(_FIRST, BEHAVIOURS), *product(MODELS[1:], TRAITS)]),
    "dose": (dose, list(product(_FIRST, BEHAVIOURS, SEEDS))),
    "overdose": (overdose, list(product(_FIRST, TRAITS, SEEDS))),
    "length": (length, list(product(_FIRST, TRAITS, SEEDS[:1]))),
    "two": (two, list(product(_FIRST, SEEDS))),
    "transfer": (transfer, list(product(_FIRST, TRAITS, SEEDS))),
    "rates": (rates, [(m, str(r), c) for m in TUNED_RATE for r in RATES for c in TUNED]),
    "concept": (concept, list(product(CONCEPTS, SEEDS[:1]))),
}


def main() -> None:
    """Compute what is missing; write figures and record claims."""
    found = compute(__doc__ or "", FOLDER, PARTS, lambda: [load(model) for model in MODELS])
    if found is None:
        return
    if os.environ.get("STEERLIB_RECORD"):
        bipo_figures.draw(found)
    bipo_claims.record_all(found)


if __name__ == "__main__":
    main()
