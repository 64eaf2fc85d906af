"""The examples in the docstrings of the evaluation run, and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import steerlib as st
from steerlib import evaluation
from steerlib.evaluation.sweep import Study

MODULES = [f"evaluation.{module.name}" for module in pkgutil.iter_modules(evaluation.__path__)]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the examples take for granted."""
    model, data = st.load("world", engine="hf"), st.world.concept("weather")
    weather = st.diff_means(model, data.train, st.resid(2))
    prompts, judge = ["tell me about the dog .", "write about the cat ."], lambda p, a: len(a)
    conflicts = st.world.conflicts(30)
    dial = st.Scale("blocks.0.attn.hook_z[1]", 0.45).at(st.last)
    arms = [evaluation.Arm("weather", weather, (1.0, 1.25)), evaluation.Arm("prompt")]
    return {
        "st": st,
        "model": model,
        "data": data,
        "weather": weather,
        "v": weather,
        "arm": arms[0],
        "arms": arms,
        "prompts": prompts,
        "judge": judge,
        "world_judge": evaluation.world_judge,
        "world_request": evaluation.world_request,
        "table": evaluation.score(model, arms, prompts, judge),
        "score": evaluation.score,
        "summary": evaluation.summary,
        "studies": [Study("weather", arms, prompts, judge)],
        "folder": tmp_path_factory.mktemp("sweep"),
        "sweep": evaluation.sweep,
        "Study": Study,
        "Arm": evaluation.Arm,
        "controls": evaluation.controls,
        "ask": evaluation.world_request("weather"),
        "questions": ["what is the capital of Italy ?", "what is the capital of France ?"],
        "plain": st.world.concept_choices("weather", 5),
        "shifted": st.world.concept_choices("weather", 5, shift="request"),
        "dial": dial,
        "choices": conflicts,
        "flipped": evaluation.flips(model, conflicts, dial),
    }


# In one module: a name -> another one, whose value it has there.
OWN = {"evaluation.flips": {"table": "flipped"}}


@pytest.mark.parametrize("module", ["evaluation", *MODULES, "world.choices", "world.contests"])
def test_examples_run(names, module):
    home = importlib.import_module(f"steerlib.{module}")
    own = {name: names[other] for name, other in OWN.get(module, {}).items()}
    failed = doctest.DocTestRunner(checker=_Lenient())
    for example in doctest.DocTestFinder().find(home, extraglobs=names | own):
        failed.run(example)
    assert not failed.summarize(verbose=False).failed


class _Lenient(doctest.OutputChecker):
    """An example that states no output may print anything."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)
