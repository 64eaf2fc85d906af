"""The examples in docstrings run, and print what they say."""

import doctest
import importlib
from random import Random

import pandas as pd
import pytest
import torch

import steerlib as st
from steerlib.core.loading import find_folder

MODULES = [
    *(f"core.{name}" for name in ("sites", "interventions", "readouts", "model", "steering")),
    *(f"core.{name}" for name in ("capture", "generation", "preview", "storage", "setup")),
    *(f"core.{name}" for name in ("alignment", "proximal", "classification")),
    *(f"methods.{name}" for name in ("directions", "components", "actadd", "reft", "reps")),
    *(f"methods.{name}" for name in ("loreft", "tuned", "learned", "bag_of_words", "attribution")),
    *(f"methods.{name}" for name in ("scaling", "places", "sadi")),
    *(f"methods.{name}" for name in ("sae", "sae_training", "sae_quality", "feature_areas")),
    *(f"methods.{name}" for name in ("features", "feature_effects", "values", "value_prompts")),
    *(f"methods.{name}" for name in ("value_answers", "value_graphs", "graph_search")),
    *(f"methods.{name}" for name in ("graph_comparison", "graph_effects", "graph_steering")),
    *(f"methods.{name}" for name in ("error_probes", "error_directions", "gated_probes", "mera")),
    *(f"methods.{name}" for name in ("answers_on_grid", "label_probe", "bipo", "preferences")),
    "core.questionnaires",
    "recommendation",
    "statistics.gains",
    "statistics.intervals",
]


class _Lenient(doctest.OutputChecker):
    """An example that states no output may print anything."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


@pytest.fixture(scope="module")
def names():
    """What the examples take for granted."""
    try:
        find_folder("world")
    except ValueError as error:
        pytest.skip(str(error))
    model = st.load("world")
    vectors = torch.randn(4, model.d_model, generator=torch.Generator().manual_seed(0))
    happy, rude, weather = (st.Add(st.resid(2), vector) for vector in vectors[:3])
    plain = st.load("world", engine="hf")
    return {
        "st": st,
        "torch": torch,
        "model": model,
        "happy": happy,
        "rude": rude,
        "weather": weather,
        "intervention": weather,
        "direction": vectors[3],
        "w": vectors[3],
        "data": st.world.concept("weather"),
        "ordinary_texts": [p.text for p in st.world.instruction_prompts(6)],
        "prompts": [p.text for p in st.world.instruction_prompts(8)],
        "judge": st.evaluation.world_judge("weather"),
        "ask": st.evaluation.world_request("weather"),
        "hf_model": plain.module,
        "tokenizer": plain.tokenizer,
        "plain": plain,
        "conflicts": st.world.conflicts(12),
        "sae": st.load_sae("world-topk"),
        **_values(),
        **_errors(plain),
    }


def _errors(model):
    """Problems that the world's model often gets wrong, and what reads its errors."""
    problems, site = st.evaluation.world_problems("advice", 240), st.resid(3)
    answers = st.classify(model, problems)
    probe = st.error_probes(model, problems, site, answers=answers)[site]
    return {
        "problems": problems,
        "answers": answers,
        "test": problems,
        "probes": {site: probe},
        "error_probe": probe,
        "label_probe": st.label_probe(model, problems, site, answers=answers),
        "gated": st.gated_probes(model, problems, site, answers=answers)[site][0],
        "calibration": st.calibrate(model, problems, probe.step, (0.1, 0.5), answers=answers),
    }


def _values():
    """Roles, their true values as scores, and the graph of the world."""
    world, random, found = st.world.values, Random(0), {}
    while len(found) < 200:
        found[world.random_role(random)] = None
    dag = st.ValueGraph.of(world.VALUES, [(a, b) for a, b, _ in world.EDGES])
    items = [question for question in world.questions() if question[1] == "power"]
    return {
        "roles": [world.role_prompt(role) for role in found],
        "texts": [f"<system> {world.role_prompt(role)}" for role in found],
        "scores": pd.DataFrame([world.true_values(r) for r in found], columns=list(world.VALUES)),
        "dag": dag,
        "graph": dag.cpdag(),
        "questionnaire": st.Questionnaire.from_triples(items, world.LEVELS),
        "pd": pd,
    }


# In one module: a name -> another one, whose value it has there.
OWN = {
    "methods.scaling": {"data": "conflicts", "model": "plain"},
    "methods.label_probe": {"probe": "label_probe", "model": "plain"},
    **{
        f"methods.{name}": {"probe": "error_probe", "model": "plain"}
        for name in ("error_probes", "error_directions", "gated_probes", "mera", "answers_on_grid")
    },
}


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.filterwarnings("ignore:.*vocabulary")
def test_examples_run(names, module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names["weather"].save("weather.safetensors")
    home = importlib.import_module(f"steerlib.{module}")
    own = {name: names[other] for name, other in OWN.get(module, {}).items()}
    failed = doctest.DocTestRunner(checker=_Lenient())
    for example in doctest.DocTestFinder().find(home, extraglobs=names | own):
        failed.run(example)
    found = failed.summarize(verbose=False)
    assert found.attempted
    assert not found.failed
