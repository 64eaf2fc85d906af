"""steerlib: mechanistic steering of language models on TransformerLens hook points.

    import steerlib as st

    model = st.load("world")
    weather = st.diff_means(model, st.world.concept("weather").train, st.resid(2))
    with st.steer(model, 4 * weather):
        print(st.generate(model, "tell me about the dog ."))

Names are imported when they are first used, so that `import steerlib` is quick; `__init__.pyi`
tells them to type checkers and editors.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "claims": ("record",),
    "core.alignment": ("Aligned", "align"),
    "core.capture": ("capture",),
    "core.classification": ("Problem", "classify", "classify_written"),
    "core.edits": ("LowRank",),
    "core.generation": ("generate", "logits"),
    "core.interventions": (
        "Add",
        "Clamp",
        "HalfSpace",
        "Intervention",
        "LoReFT",
        "Origin",
        "Project",
        "Scale",
        "Term",
    ),
    "core.model": ("Model", "load", "wrap"),
    "core.positions": (
        "after",
        "bos",
        "ends",
        "everywhere",
        "generation",
        "last",
        "mask",
        "prompt",
        "tokens",
    ),
    "core.preview": ("preview",),
    "core.prompts": ("answer_id",),
    "core.questionnaires": ("Item", "Questionnaire"),
    "core.readouts": ("Readout",),
    "core.setup": ("setup",),
    "core.sites": (
        "Site",
        "attn_out",
        "head",
        "mlp_out",
        "mlp_post",
        "resid",
        "resid_pre",
        "site",
    ),
    "core.steering": ("steer",),
    "core.storage": ("load_intervention",),
    "evaluation.controls": ("random_direction",),
    "methods.actadd": ("actadd",),
    "methods.attribution": ("attribution",),
    "methods.bag_of_words": ("bag_of_words",),
    "methods.bipo": ("bipo", "split_vector"),
    "methods.components": ("lat", "pca"),
    "methods.directions": ("diff_means", "mean_centred", "probe"),
    "methods.error_directions": ("along", "contrast"),
    "methods.error_probes": ("error_probes",),
    "methods.feature_areas": ("areas", "latent_values"),
    "methods.feature_effects": ("confidence_changes", "logit_lens", "output_scores"),
    "methods.features": ("best_feature", "best_features", "feature_scores", "top_texts"),
    "methods.gated_probes": ("gated_probes",),
    "methods.graph_comparison": (
        "compare_graphs",
        "orientation_f1",
        "skeleton_f1",
        "structural_hamming",
    ),
    "methods.graph_effects": (
        "class_effects",
        "orient",
        "predict_side_effects",
        "total_effects",
    ),
    "methods.graph_search": ("edge_frequencies", "value_graph"),
    "methods.graph_steering": ("effects", "residuals", "unmoved", "value_directions"),
    "methods.label_probe": ("label_probe",),
    "methods.learned": ("Dialogues", "learned"),
    "methods.loreft": ("loreft",),
    "methods.preferences": ("Pairs", "talks_of"),
    "methods.reps": ("reps",),
    "methods.reft": ("reft_r1", "supervised_vector"),
    "methods.flipping": ("Objective",),
    "methods.mera": ("calibrate", "mera"),
    "methods.places": ("places",),
    "methods.sadi": ("sadi",),
    "methods.sae": ("SAE", "load_sae"),
    "methods.sae_files": ("load_gemma_scope", "load_saelens"),
    "methods.sae_learner": ("SAEPlan",),
    "methods.sae_training": ("train_sae",),
    "methods.scaling": (
        "activ_scalar",
        "components",
        "dyn_scalar",
        "scale_gradients",
        "steer_vec",
    ),
    "methods.tuned": ("Tuned", "full_finetune", "lora"),
    "methods.value_answers": ("parse_answer",),
    "methods.value_graphs": ("ValueGraph", "reduce_transitively"),
    "methods.value_prompts": ("paper_prompt",),
    "methods.values": ("value_scores",),
    "recommendation": ("recommend",),
}
_MODULES = ("claims", "evaluation", "statistics", "teaching", "world")
_HOME = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"steerlib.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'steerlib' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"steerlib.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
