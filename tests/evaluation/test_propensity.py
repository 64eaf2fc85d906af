"""propensity: equal to reading token by token, padded or not, on both engines, steered or not."""

import pytest
import torch

import steerlib as st
from steerlib.core.prompts import encode, render
from steerlib.evaluation import Choice, propensity

CHOICES = [
    Choice("tell me about the dog", "happy", "sad"),
    Choice("a little girl went to the park and saw", "a big red ball", "rain"),
    Choice("sun", "was there", "who went to the park and saw a fish"),
    Choice("once upon a time there was", "a happy story .", "a sad story ."),
]


def ids_of(model, choice, answer, chat=False):
    """The tokens of prompt and answer, and how many belong to the prompt."""
    text = render(model, choice.prompt, chat)
    start = len(encode(model, text, chat=False)[0])
    return encode(model, f"{text} {answer}", chat=False)[0], start


def token_by_token(model, choice, answer, chat=False):
    """log p(answer | prompt): one whole text at a time, no cache, no padding."""
    ids, start = ids_of(model, choice, answer, chat)
    total = 0.0
    for end in range(start, len(ids)):
        with torch.no_grad():
            scores = model.runner(input_ids=torch.tensor([ids[:end]]), use_cache=False).logits
        total += scores[0, -1].double().log_softmax(-1)[ids[end]].item()
    return total


def expected(model, choice, chat=False):
    positive, negative = choice.positive, choice.negative
    return token_by_token(model, choice, positive, chat) - token_by_token(
        model, choice, negative, chat
    )


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_propensity_is_the_sum_over_tokens_with_and_without_padding(model, batch_size):
    found = propensity(model, CHOICES, chat=False, batch_size=batch_size)
    truth = [expected(model, choice) for choice in CHOICES]
    assert found.tolist() == pytest.approx(truth, abs=2e-5)
    assert max(map(abs, truth)) > 0.1


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_both_engines_agree(models, name, vector):
    push = st.Add(st.resid(1), 3 * vector())
    values = []
    for engine in ("hf", "bridge"):
        model = models(name, engine)
        with st.steer(model, push):
            values.append(propensity(model, CHOICES, chat=False))
    assert torch.allclose(*values, atol=1e-5)


def test_turning_the_answers_turns_the_sign(gpt2):
    turned = [Choice(c.prompt, c.negative, c.positive) for c in CHOICES]
    assert torch.allclose(propensity(gpt2, turned), -propensity(gpt2, CHOICES), atol=1e-5)


def test_prompts_go_through_the_chat_template_unless_a_choice_says_otherwise(gpt2):
    found = propensity(gpt2, CHOICES)
    truth = [expected(gpt2, choice, chat=True) for choice in CHOICES]
    assert found.tolist() == pytest.approx(truth, abs=2e-5)
    raw = [Choice(c.prompt, c.positive, c.negative, chat=False) for c in CHOICES]
    assert torch.allclose(propensity(gpt2, raw), propensity(gpt2, CHOICES, chat=False), atol=1e-9)
    assert (propensity(gpt2, raw) - found).abs().max() > 1e-3


def test_a_choice_may_have_its_own_system_text(gpt2):
    own = [Choice(c.prompt, c.positive, c.negative, system="a sad dog") for c in CHOICES]
    given = propensity(gpt2, CHOICES, system="a sad dog")
    assert torch.equal(propensity(gpt2, own), given)
    assert torch.equal(propensity(gpt2, own, system="rain"), given)
    assert (given - propensity(gpt2, CHOICES)).abs().max() > 1e-3


# Positions as they are meant while the model writes -> as positions of the whole text, where n is
# the number of tokens of the prompt.
POSITIONS = {
    "everywhere": (st.everywhere, lambda n: st.everywhere),
    "prompt": (st.prompt, lambda n: st.mask(torch.ones(n, dtype=torch.bool))),
    "last": (st.last, lambda n: st.mask(torch.arange(n) == n - 1)),
    "generation": (st.generation, lambda n: st.after(n - 1)),
    "last and generation": (st.last | st.generation, lambda n: st.after(n - 2)),
}


@pytest.mark.parametrize("name", POSITIONS)
@pytest.mark.parametrize("batch_size", [1, 64])
def test_positions_mean_what_they_mean_while_the_model_writes(model, vector, name, batch_size):
    meant, whole = POSITIONS[name]
    push = st.Add(st.resid(1), 3 * vector())
    choices = CHOICES[1:]  # with answers of several tokens, so that some are read
    with st.steer(model, push.at(meant)):
        found = propensity(model, choices, chat=False, batch_size=batch_size)
    truth = []
    for choice in choices:
        sides = []
        for answer in (choice.positive, choice.negative):
            ids, start = ids_of(model, choice, answer)
            if name == "generation" and len(ids) == start + 1:
                scores = model.runner(input_ids=torch.tensor([ids])).logits
            else:
                with st.steer(model, push.at(whole(start))):
                    scores = model.runner(input_ids=torch.tensor([ids]), use_cache=False).logits
            log_p = scores[0].double().log_softmax(-1)
            sides.append(sum(log_p[k - 1, ids[k]].item() for k in range(start, len(ids))))
        truth.append(sides[0] - sides[1])
    assert found.tolist() == pytest.approx(truth, abs=3e-5)
    with st.steer(model, push.at(meant), strength=0):
        plain = propensity(model, choices, chat=False)
    assert (found - plain).abs().max() > 1e-3


def test_a_condition_reads_the_prompt_and_not_the_answer(gpt2, vector):
    readout = st.Readout(st.resid(0), vector(seed=3), pool="mean")
    scores = readout.score(gpt2, [choice.prompt for choice in CHOICES])
    threshold = scores.sort().values[1:3].mean().item()
    push = st.Add(st.resid(1), 3 * vector())
    with st.steer(gpt2, push.when(readout > threshold)):
        found = propensity(gpt2, CHOICES, chat=False)
    with st.steer(gpt2, push):
        steered = propensity(gpt2, CHOICES, chat=False)
    plain = propensity(gpt2, CHOICES, chat=False)
    assert torch.allclose(found, torch.where(scores > threshold, steered, plain), atol=1e-5)
    assert ((scores > threshold).sum(), (steered - plain).abs().min() > 1e-3) == (2, True)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_each_choice_has_its_own_strength(gpt2, vector, batch_size):
    push, strengths = st.Add(st.resid(1), vector()), [3.0, 0.0, -2.0, 1.0]
    with st.steer(gpt2, push, strength=torch.tensor(strengths)):
        found = propensity(gpt2, CHOICES, batch_size=batch_size)
    for number, strength in enumerate(strengths):
        with st.steer(gpt2, push, strength=strength):
            alone = propensity(gpt2, [CHOICES[number]])
        assert found[number].item() == pytest.approx(alone.item(), abs=2e-5)


def test_white_space_of_one_s_own_is_kept(gpt2):
    assert torch.equal(
        propensity(gpt2, [Choice("the dog", " happy", " sad")], chat=False),
        propensity(gpt2, [Choice("the dog", "happy", "sad")], chat=False),
    )


@pytest.mark.parametrize("answer", ["dog", "dog saw the cat"])
def test_an_answer_that_runs_into_the_prompt_is_refused(models, answer):
    model = models("qwen2")  # bytes: the space belongs to the word that follows
    assert propensity(model, [Choice("tell me about the", answer, "cat")]).shape == (1,)
    with pytest.raises(ValueError, match=f"the answer '{answer}' run into those of the prompt"):
        propensity(model, [Choice("tell me about the ", answer, "cat")])


def test_an_answer_that_does_not_fit_is_refused(gpt2):
    with pytest.raises(ValueError, match="does not fit"):
        propensity(gpt2, [Choice("the dog", "sun " * 70, "rain")])


def test_no_choices_are_refused(gpt2):
    with pytest.raises(ValueError, match="at least one choice, got none"):
        propensity(gpt2, [])


@pytest.mark.parametrize(
    ("positive", "negative", "message"),
    [
        ("", "sad", "needs two answers, got '' for 'the dog'"),
        ("happy", "  ", "needs two answers, got '  '"),
        ("happy", "happy", "two different answers, got 'happy' twice"),
        ("happy", " happy ", "two different answers"),
    ],
)
def test_bad_answers_are_refused(positive, negative, message):
    with pytest.raises(ValueError, match=message):
        Choice("the dog", positive, negative)
