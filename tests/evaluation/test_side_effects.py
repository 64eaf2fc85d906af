"""side_effects: KL and measures, in whatever batches; facts and grammar of the world."""

import numpy as np
import pytest
import torch

import steerlib as st
from steerlib.evaluation import Arm, price, side_effects, world_facts, world_grammar
from steerlib.evaluation.side_effects import next_token
from steerlib.statistics import bootstrap_mean

PROMPTS = ["tell me about the dog .", "a happy cat saw the big red ball", "sun", "the sad boy"]


@pytest.fixture(scope="module")
def world():
    return st.load("world", engine="hf")


@pytest.fixture
def push(vector):
    return st.Add(st.resid(1), vector())


def line(table, strength, measure="kl"):
    rows = table[(table.strength == strength) & (table.measure == measure)]
    assert len(rows) == 1
    return rows.iloc[0]


def divergence(model, intervention, prompt):
    """KL(p_0 || p_s) of the next token, by its definition, in double precision."""
    p = st.logits(model, prompt)[0, -1].double().softmax(-1)
    with st.steer(model, intervention):
        q = st.logits(model, prompt)[0, -1].double().softmax(-1)
    return (p * (p / q).log()).sum().item()


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_kl_is_zero_at_strength_0_and_else_what_its_definition_says(model, batch_size):
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    push = st.Add(st.resid(1), direction)
    table = side_effects(model, push, (0, 2.0), PROMPTS, batch_size=batch_size)
    columns = ["strength", "measure", "mean", "low", "high", "n"]
    assert list(table.columns) == columns
    none = line(table, 0)
    assert (none["mean"], none.low, none.high) == (0.0, 0.0, 0.0)
    expected = bootstrap_mean([divergence(model, 2 * push, prompt) for prompt in PROMPTS])
    found = line(table, 2)
    assert found["mean"] > 1e-3
    assert found["mean"] == pytest.approx(expected.estimate, rel=1e-3)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-3)
    assert found.n == 4


def test_kl_grows_with_the_strength_and_is_never_negative(gpt2, push):
    table = side_effects(gpt2, push, (0.01, 0.1, 1, 10), PROMPTS)
    assert table["mean"].is_monotonic_increasing
    assert table.low.min() >= 0


def test_the_divergence_is_from_the_unsteered_model(gpt2, vector):
    # KL is not symmetric: p_0 comes first.
    push = st.Add(st.resid(3), 20 * vector())
    found = line(side_effects(gpt2, push, [1.0], PROMPTS), 1)["mean"]
    p = next_token(gpt2, PROMPTS)
    with st.steer(gpt2, push):
        q = next_token(gpt2, PROMPTS)
    forward = (p.exp() * (p - q)).sum(-1).mean().item()
    backward = (q.exp() * (q - p)).sum(-1).mean().item()
    assert found == pytest.approx(forward, rel=1e-9)
    assert abs(forward - backward) > 0.01 * forward


def test_measures_see_the_steered_model(gpt2, push):
    def mean_logit(model):
        return st.logits(model, PROMPTS)[:, -1].mean(-1).tolist()

    table = side_effects(gpt2, push, (0, 3), PROMPTS, measures={"logit": mean_logit})
    assert list(table.measure) == ["kl", "logit"] * 2
    before = np.mean(mean_logit(gpt2))
    with st.steer(gpt2, 3 * push):
        after = np.mean(mean_logit(gpt2))
    assert line(table, 0, "logit")["mean"] == pytest.approx(before, abs=1e-6)
    assert line(table, 3, "logit")["mean"] == pytest.approx(after, abs=1e-6)
    assert abs(before - after) > 1e-3


def test_the_model_is_left_as_it_was(gpt2, push):
    before = st.logits(gpt2, PROMPTS)
    side_effects(gpt2, push, (1,), PROMPTS)
    assert torch.equal(st.logits(gpt2, PROMPTS), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strengths": ()}, "at least one strength, got none"),
        ({"neutral": []}, r"two or more neutral prompts, got \[\]"),
        ({"neutral": "a dog ."}, "two or more neutral prompts, got 'a dog .'"),
        ({"measures": {"kl": world_facts}}, '"kl" is always measured'),
        ({"measures": {"m": lambda model: [1.0]}}, "measure 'm' at strength 1.0: needed are two"),
        ({"measures": {"m": lambda model: [1.0, np.nan]}}, "measure 'm' at strength 1.0"),
    ],
)
def test_bad_calls_are_refused(gpt2, push, change, message):
    call = {"strengths": (1.0,), "neutral": PROMPTS, "measures": {}} | change
    with pytest.raises(ValueError, match=message):
        side_effects(gpt2, push, call["strengths"], call["neutral"], measures=call["measures"])


def test_facts_are_the_answers_to_all_questions_of_the_world(world):
    relations = st.world.geography.RELATIONS.values()
    pairs = [(r.question.format(s), answer) for r in relations for s, answer in r.table.items()]

    def by_writing(model):
        said = st.generate(model, [question for question, _ in pairs], max_new_tokens=1)
        return [float(a == b) for a, (_, b) in zip(said, pairs, strict=True)]

    found = world_facts(world)
    assert found == by_writing(world)
    assert np.mean(found) > 0.98
    with st.steer(world, st.random_direction(world, st.resid(2), norm=150.0)):
        steered = world_facts(world)
        assert steered == by_writing(world)
    assert 0 < np.mean(steered) < 0.9


def test_facts_need_a_model_of_the_world(gpt2):
    with pytest.raises(ValueError, match="an answer of one token is needed"):
        world_facts(gpt2)


def test_grammar_is_the_share_of_sentences_that_parse(world):
    found = world_grammar(world, 12, seed=1)
    prompts = [p.text for p in st.world.instruction_prompts(12, 1, "selection")]
    texts = st.generate(world, prompts, max_new_tokens=36, temperature=1.0, seed=1)
    assert found == [st.world.grammatical_share(text) for text in texts]
    assert np.mean(found) > 0.9
    with st.steer(world, st.random_direction(world, st.resid(2), norm=300.0)):
        assert np.mean(world_grammar(world, 12, seed=1)) < np.mean(found) - 0.2


def test_the_price_of_another_model_is_its_distance_from_the_first(models):
    ours, other = models("gpt2"), models("llama")
    p = st.logits(ours, PROMPTS)[:, -1].double().log_softmax(-1)
    q = st.logits(other, PROMPTS)[:, -1].double().log_softmax(-1)
    table = price(ours, Arm("tuned", model=other), PROMPTS)
    assert line(table, 1.0)["mean"] == pytest.approx((p.exp() * (p - q)).sum(-1).mean().item())
    same = price(ours, Arm("itself", model=ours), PROMPTS)
    assert line(same, 1.0)["mean"] == 0


def test_measures_see_the_model_that_answers(models, push):
    seen = []
    arm = Arm("both", push, (1.0, 3.0), model=models("llama"))
    price(models("gpt2"), arm, PROMPTS, measures={"m": lambda m: seen.append(m) or [0.0, 1.0]})
    assert seen == [models("llama")] * 2
