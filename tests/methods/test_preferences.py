"""Pairs of responses: what counts as a response, their log-probabilities, and bad pairs."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import steerlib as st
from steerlib.evaluation import Choice
from steerlib.methods.preferences import Pairs, talks_of

SITE = st.resid(1)
PAIRS = [
    Choice("tell me about the dog", "a happy dog .", "sad"),
    Choice("a bird", "sun", "the sad cat saw rain and wind ."),
    Choice("tell me", "once upon a time", "bad rain"),
]
TALE = [
    Choice("Once upon a time, there was", "a little girl who liked cake.", "a big, bad dog."),
    Choice("Lily and Tom went to the park. They saw", "a cat.", "a red ball in the tall grass."),
    Choice("The sun", "was hot.", "was very, very cold and sad."),
]  # fmt: skip


def by_hand(model, prompt, answer, eos):
    """The sum of log p over the tokens of an answer and its end, and their number."""
    ids, start = (
        [model.bos_id, *model.tokenizer(text, add_special_tokens=False).input_ids]
        for text in (f"{prompt} {answer}", prompt)
    )
    assert ids[: len(start)] == start
    ids.append(eos)
    with torch.no_grad():
        log_p = model.hf(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    places = range(len(start), len(ids))
    return sum(log_p[t - 1, ids[t]].item() for t in places), len(places)


def check(model, known, texts, choices):
    """The reference and the tokens of pairs are those of their texts, read one by one."""
    eos = model.tokenizer.eos_token_id
    for row, (text, choice) in enumerate(zip(texts, choices, strict=True)):
        for column, answer in enumerate((choice.positive, choice.negative)):
            expected, tokens = by_hand(model, text, answer, eos)
            assert known.reference[row, column].item() == pytest.approx(expected, abs=1e-3)
            assert known.tokens[row, column].item() == tokens


# --- what is read


def test_a_chat_is_scored_from_the_response_to_its_end(gpt2):
    texts = [f"<user> {pair.prompt} <assistant>" for pair in PAIRS]
    check(gpt2, Pairs.of(gpt2, PAIRS), texts, PAIRS)


def test_raw_text_and_a_system_text_are_read_as_the_caller_says(gpt2):
    check(gpt2, Pairs.of(gpt2, PAIRS, chat=False), [pair.prompt for pair in PAIRS], PAIRS)
    texts = [f"<system> good dog <user> {pair.prompt} <assistant>" for pair in PAIRS]
    check(gpt2, Pairs.of(gpt2, PAIRS, system="good dog"), texts, PAIRS)


def test_what_a_pair_says_comes_first(gpt2):
    raw, said, plain = (
        replace(PAIRS[0], chat=False),
        replace(PAIRS[1], chat=True, system="bad cat"),
        PAIRS[2],
    )
    texts = [
        "tell me about the dog",
        "<system> bad cat <user> a bird <assistant>",
        "<user> tell me <assistant>",
    ]
    check(gpt2, Pairs.of(gpt2, [raw, said, plain]), texts, [raw, said, plain])
    check(gpt2, Pairs.of(gpt2, [said], chat=False, system="good dog"), texts[1:2], [said])


def test_every_architecture_agrees_with_its_log_probabilities_one_by_one(model):
    pairs = [replace(pair, chat=False) for pair in PAIRS]
    known = Pairs.of(model, pairs)
    if model.bos_id is not None:
        check(model, known, [pair.prompt for pair in pairs], pairs)
    for row, pair in enumerate(pairs):
        alone = Pairs.of(model, [pair])
        assert torch.allclose(alone.reference[0], known.reference[row], atol=1e-4)
        assert torch.equal(alone.tokens[0], known.tokens[row])


def test_a_real_model_reads_pairs_the_same_way(stories):
    known = Pairs.of(stories, TALE)
    check(stories, known, [pair.prompt for pair in TALE], TALE)
    # Not one word is one token: the numbers are those of its own pieces.
    assert known.tokens[0, 0] > len(TALE[0].positive.split()) + 1


def test_only_the_response_and_its_end_count(gpt2):
    known = Pairs.of(gpt2, PAIRS)
    eos = gpt2.tokenizer.eos_token_id
    words = gpt2.tokenizer.get_vocab()
    for pair, (target, opposite), tokens in zip(PAIRS, known.encoded, known.tokens, strict=True):
        for text, own, n in (
            (pair.positive, target, tokens[0]),
            (pair.negative, opposite, tokens[1]),
        ):
            assert own.ids[own.start :] == [*(words[word] for word in text.split()), eos]
            assert n == len(text.split()) + 1


def test_many_pairs_keep_their_rows(gpt2):
    # More than are read at once, of mixed lengths.
    answers = ["dog", "a cat", "the big red ball", "rain and sun and wind ."]
    pairs = [
        Choice("tell me " * (1 + n % 5), answers[n % 4], answers[(n + 1 + n // 20) % 4])
        for n in range(70)
        if (1 + n // 20) % 4
    ]
    known = Pairs.of(gpt2, pairs)
    for row in (0, 1, 7, 34, len(pairs) - 1):
        alone = Pairs.of(gpt2, [pairs[row]])
        assert torch.allclose(known.reference[row], alone.reference[0], atol=1e-4)
        assert torch.equal(known.tokens[row], alone.tokens[0])


# --- steered


def test_without_strength_the_margin_is_0(gpt2, vector):
    known = Pairs.of(gpt2, PAIRS)
    margin = known.margin(5 * st.Add(SITE, vector()), strengths=(0.0, 1.0))
    assert margin.shape == (2, 3)
    assert margin[0].abs().max() < 1e-5
    assert margin[1].abs().min() > 1e-2


def test_without_strength_the_margin_of_a_real_model_is_0(stories, vector):
    known = Pairs.of(stories, TALE)
    margin = known.margin(5 * st.Add(SITE, vector(64)), strengths=(0.0, 1.0))
    assert margin[0].abs().max() < 1e-4
    assert margin[1].abs().min() > 1e-2


def test_each_row_has_its_strength(gpt2, vector):
    known, push, strengths = Pairs.of(gpt2, PAIRS), st.Add(SITE, vector()), (1.0, -2.0, 0.5)
    together = known.log_p(push, [2, 0], strengths)
    assert together.shape == (3, 2, 2)
    for found, strength in zip(together, strengths, strict=True):
        alone = [known.log_p(strength * push, [row], (1.0,))[0, 0] for row in (2, 0)]
        assert torch.allclose(found, torch.stack(alone), atol=1e-4)


def test_the_margin_is_what_the_target_gains_over_the_opposite(gpt2, vector):
    known, push = Pairs.of(gpt2, PAIRS), 3 * st.Add(SITE, vector())
    steered = known.log_p(push, [1, 2], (1.0,))[0]
    gain = steered - known.reference[[1, 2]]
    assert torch.allclose(known.margin(push, [1, 2])[0], gain[:, 0] - gain[:, 1])
    assert torch.allclose(known.margin(push)[0, 1:], known.margin(push, [1, 2])[0], atol=1e-4)
    swapped = [replace(p, positive=p.negative, negative=p.positive) for p in PAIRS]
    exchanged = Pairs.of(gpt2, swapped).margin(push)
    assert torch.allclose(exchanged, -known.margin(push), atol=1e-5)


def test_the_margin_can_be_learned_from(gpt2):
    v = torch.zeros(32, requires_grad=True)
    known = Pairs.of(gpt2, PAIRS)
    assert not known.reference.requires_grad
    known.margin(st.Add(SITE, v)).sum().backward()
    assert v.grad.norm() > 0
    assert not known.margin(st.Add(SITE, v.detach())).requires_grad


# --- other methods


def test_pairs_become_dialogues_for_other_methods():
    talks = talks_of(PAIRS[:2])
    assert [(talk.prompt, talk.response, talk.label) for talk in talks] == [
        ("tell me about the dog", "a happy dog .", True),
        ("tell me about the dog", "sad", False),
        ("a bird", "sun", True),
        ("a bird", "the sad cat saw rain and wind .", False),
    ]


# --- bad pairs


def test_no_pairs_are_refused(gpt2):
    with pytest.raises(ValueError, match="from preferences, got no pairs"):
        Pairs.of(gpt2, [])


def test_an_empty_response_is_refused(gpt2):
    with pytest.raises(ValueError, match="a choice needs two answers, got ' '"):
        Choice("a bird", "sun", " ")
    own = SimpleNamespace(prompt="a bird", positive="sun", negative=" ", chat=None, system=None)
    with pytest.raises(ValueError, match="response to 'a bird' is empty"):
        Pairs.of(gpt2, [own])


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_a_response_that_does_not_fit_into_the_context_is_refused(gpt2, side):
    # BOS, <user>, a, bird, <assistant>, 58 words and the end are the 64 tokens it reads.
    for words in (58, 59):
        pairs = [PAIRS[0], replace(PAIRS[1], **{side: "dog " * (words - 1) + "dog"})]
        if words == 58:
            assert Pairs.of(gpt2, pairs).tokens[1].max() == 59
        else:
            with pytest.raises(ValueError, match=r"does not fit: .* reads 64 tokens"):
                Pairs.of(gpt2, pairs)


@pytest.mark.filterwarnings("ignore:.*is not in .* vocabulary")
def test_two_responses_with_the_same_tokens_are_refused_by_name(gpt2):
    with pytest.raises(ValueError, match=r"'a bird' have the same tokens .*'zebra' and 'yak'"):
        Pairs.of(gpt2, [PAIRS[0], Choice("a bird", "zebra", "yak")])


def test_pairs_that_differ_only_in_their_end_are_counted(gpt2):
    ended = [Choice("a bird", "sun", "sun <eos>"), Choice("tell me", "a dog <eos> <eos>", "a dog")]
    with pytest.warns(UserWarning, match=r"^2 of 5 pairs differ only in how .* 'sun' and 'sun <"):
        Pairs.of(gpt2, [PAIRS[0], ended[0], PAIRS[1], ended[1], PAIRS[2]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Pairs.of(gpt2, [*PAIRS, Choice("a bird", "sun .", "sun <eos>")])
