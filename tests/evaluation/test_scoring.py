"""score: batches, strengths, seeds and order; arms and judges that are refused."""

import pytest

import steerlib as st
from steerlib.evaluation import Arm, score

PROMPTS = ["tell me about the dog .", "a happy cat saw the big red ball", "sun", "the sad boy"]


def words(prompt, answer):
    """A judge that depends on both of its arguments."""
    return {"score": len(answer.split()), "asked": len(prompt)}


@pytest.fixture
def push(gpt2, vector):
    """A direction that is long enough to change what the small model says."""
    return st.Add(st.resid(1), 4 * vector())


def scored(model, arms, prompts=PROMPTS, judge=words, **options):
    options = {"temperature": 0.0, "max_new_tokens": 6, "progress": False} | options
    return score(model, arms, prompts, judge, **options)


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_strengths_in_one_batch_equal_one_strength_at_a_time(model, vector, batch_size):
    vector_, strengths = st.Add(st.resid(1), 4 * vector()), (2.0, 0.0, -1.0)
    table = scored(model, [Arm("push", vector_, strengths)], batch_size=batch_size)
    assert list(table.columns) == ["arm", "strength", "prompt", "text", "score", "asked"]
    rows = iter(table.itertuples())
    answers = {}
    for strength in strengths:
        for prompt in PROMPTS:
            with st.steer(model, vector_, strength=strength):
                alone = st.generate(model, prompt, max_new_tokens=6)
            row = next(rows)
            assert (row.arm, row.strength, row.prompt) == ("push", strength, prompt)
            assert row.text == alone
            assert (row.score, row.asked) == (len(alone.split()), len(prompt))
            answers.setdefault(prompt, set()).add(alone)
    assert any(len(found) > 1 for found in answers.values())


def test_strength_0_and_no_intervention_are_the_unsteered_model(gpt2, push):
    table = scored(gpt2, [Arm("push", push, (0.0,)), Arm("nothing")])
    plain = st.generate(gpt2, PROMPTS, max_new_tokens=6)
    assert list(table.text) == plain * 2
    assert list(table.strength) == [0.0] * 8


def test_strength_0_samples_what_nothing_samples(gpt2, push):
    table = scored(gpt2, [Arm("push", push, (0.0,)), Arm("nothing")], temperature=1.0, seed=5)
    assert list(table.text[:4]) == list(table.text[4:])


@pytest.mark.parametrize("batch_size", [2, 256])
def test_a_seed_repeats_and_another_does_not(gpt2, push, batch_size):
    arms = [Arm("push", push, (0.0, 1.0))]

    def run(seed):
        return scored(gpt2, arms, temperature=1.0, seed=seed, batch_size=batch_size)

    assert run(1).equals(run(1))
    assert not run(1).text.equals(run(2).text)


def test_equal_prompts_in_other_batches_are_sampled_anew(gpt2):
    table = scored(gpt2, [Arm("nothing")], ["tell me about"] * 4, temperature=1.0, batch_size=1)
    assert len(set(table.text)) > 1


def test_an_arm_may_ask_and_the_judge_sees_what_was_asked_before(gpt2, push):
    arms = [Arm("both", push, (1.0,), ask=lambda prompt: f"a happy story {prompt}")]
    table = scored(gpt2, arms)
    with st.steer(gpt2, push):
        expected = st.generate(gpt2, [f"a happy story {p}" for p in PROMPTS], max_new_tokens=6)
    assert list(table.text) == expected
    assert list(table.prompt) == PROMPTS
    assert list(table.asked) == [len(prompt) for prompt in PROMPTS]


def test_the_chat_template_can_be_left_out(gpt2):
    table = scored(gpt2, [Arm("nothing")], chat=False)
    assert list(table.text) == st.generate(gpt2, PROMPTS, max_new_tokens=6, chat=False)
    table = scored(gpt2, [Arm("nothing")], system="the dog")
    assert list(table.text) == st.generate(gpt2, PROMPTS, max_new_tokens=6, system="the dog")


def test_strengths_are_floats_and_an_arm_without_an_intervention_has_strength_0(push):
    assert Arm("a", push, (1, 2)).strengths == (1.0, 2.0)
    assert Arm("nothing").strengths == (0.0,)


@pytest.mark.parametrize(
    ("name", "strengths", "message"),
    [
        ("", (1.0,), "needs a name"),
        ("a", (), r"needs finite strengths, got \(\)"),
        ("a", (float("nan"),), "needs finite strengths"),
        ("a", (1.0, 1), "a strength twice"),
    ],
)
def test_bad_arms_are_refused(push, name, strengths, message):
    with pytest.raises(ValueError, match=message):
        Arm(name, push, strengths)


def test_the_model_of_an_arm_is_a_model(gpt2):
    assert Arm("copy", model=gpt2).strengths == (1.0,)
    with pytest.raises(TypeError, match=r"model of arm 'copy' is a Model.*got GPT2"):
        Arm("copy", model=gpt2.module)


def test_an_arm_without_an_intervention_has_no_strengths():
    with pytest.raises(ValueError, match="'prompt' has no intervention"):
        Arm("prompt", None, (1.0, 2.0))


@pytest.mark.parametrize(
    ("arms", "prompts", "error", "message"),
    [
        ([], PROMPTS, ValueError, "different names, got \\[\\]"),
        ([Arm("a"), Arm("a")], PROMPTS, ValueError, "different names"),
        ([Arm("a")], [], ValueError, "at least one prompt, got \\[\\]"),
        ([Arm("a")], "a prompt", ValueError, "a list of at least one prompt, got 'a prompt'"),
        ([Arm("a")], [["chat"]], TypeError, "prompts as strings"),
    ],
)
def test_bad_calls_are_refused(gpt2, arms, prompts, error, message):
    with pytest.raises(error, match=message):
        scored(gpt2, arms, prompts)


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (lambda prompt, answer: float("nan"), "gave score = nan"),
        (lambda prompt, answer: {"concept": 1.0}, 'need a "score"'),
        (lambda prompt, answer: {"score": 1.0, "text": 1.0}, r"cannot be called \['text'\]"),
        (lambda prompt, answer: {"score": 1.0, prompt: 1.0}, "the same ones to all"),
    ],
)
def test_bad_judges_are_refused(gpt2, judge, message):
    with pytest.raises(ValueError, match=message):
        scored(gpt2, [Arm("nothing")], judge=judge)


def test_an_arm_may_answer_with_another_model_steered_or_not(models, push):
    ours, other = models("gpt2"), models("llama")
    arms = [Arm("nothing"), Arm("tuned", model=other), Arm("both", push, (2.0, 0.0), model=other)]
    table = scored(ours, arms, prompts=["the big red ball", "sun"])
    texts = {key: list(rows.text) for key, rows in table.groupby(["arm", "strength"])}
    asked = ["the big red ball", "sun"]
    plain = st.generate(other, asked, max_new_tokens=6)
    with st.steer(other, push, strength=2.0):
        steered = st.generate(other, asked, max_new_tokens=6)
    assert texts["nothing", 0.0] == st.generate(ours, asked, max_new_tokens=6) != plain
    assert texts["tuned", 1.0] == texts["both", 0.0] == plain
    assert texts["both", 2.0] == steered != plain
