"""Two answers of one token: how they are encoded, scored, and taken out of a distribution."""

import math
import warnings
from types import SimpleNamespace

import pytest
import torch

import steerlib as st
from steerlib.core.answers import (
    answer_ids,
    encode_choices,
    margin,
    next_scores,
    other_kl,
    others_log_p,
)
from steerlib.core.prompts import encode, render
from steerlib.evaluation import propensity

Choice = st.world.Choice
CHOICES = [
    Choice("about the dog", "happy", "sad"),
    Choice("a little girl went to the park and saw the", "ball", "rain"),
    Choice("sun", "good", "bad"),
]


def scores(n=5, size=9, seed=0, dtype=torch.float64):
    """Random logits of two distributions, and two answers."""
    random = torch.Generator().manual_seed(seed)
    before, after = 3 * torch.randn(2, n, size, generator=random, dtype=torch.float64)
    positive = torch.arange(n) % size
    return before.to(dtype), after.to(dtype), positive, (positive + 3) % size


def others(row, positive, negative):
    """p over the tokens that are no answer, as a list."""
    p = row.double().softmax(-1)
    kept = [k for k in range(len(p)) if k not in (positive, negative)]
    return kept, p[kept] / p[kept].sum()


# --- encoding


def test_an_answer_is_the_token_after_its_prompt(model):
    for choice, item in zip(CHOICES, encode_choices(model, CHOICES), strict=True):
        assert item.ids == encode(model, choice.prompt, chat=False)[0]
        for answer, token in ((choice.positive, item.positive), (choice.negative, item.negative)):
            whole = encode(model, f"{choice.prompt} {answer}", chat=False)[0]
            assert whole == [*item.ids, token]


def test_a_space_of_one_s_own_changes_nothing(model):
    own = [Choice(c.prompt, f" {c.positive}", f" {c.negative}") for c in CHOICES]
    assert encode_choices(model, own) == encode_choices(model, CHOICES)


def test_white_space_belongs_to_an_answer(models):
    for answer in ("  sad", " sad "):
        with pytest.raises(ValueError, match=f"but 1 are not: '{answer}' is"):
            encode_choices(models("qwen2"), [Choice("the dog", answer, "happy")])


def test_prompts_go_through_the_chat_template_where_they_are_told_to(gpt2):
    raw, asked = encode_choices(gpt2, CHOICES), encode_choices(gpt2, CHOICES, chat=True)
    for choice, item in zip(CHOICES, asked, strict=True):
        text = render(gpt2, choice.prompt, chat=True)
        assert item.ids == encode(gpt2, text, chat=False)[0]
        assert gpt2.tokenizer.convert_ids_to_tokens(item.ids[-1]) == "<assistant>"
    assert [i.positive for i in asked] == [i.positive for i in raw]
    assert encode_choices(gpt2, CHOICES, chat=None) == asked
    own = [Choice(c.prompt, c.positive, c.negative, chat=True) for c in CHOICES]
    assert encode_choices(gpt2, own) == asked
    plain = [Choice(c.prompt, c.positive, c.negative, chat=False) for c in CHOICES]
    assert encode_choices(gpt2, plain, chat=True) == raw


def test_a_choice_may_have_a_system_text_or_be_a_chat(gpt2):
    with_system = Choice("the dog", "happy", "sad", chat=True, system="a sad story")
    turns = [{"role": "system", "content": "a sad story"}, {"role": "user", "content": "the dog"}]
    as_chat = SimpleNamespace(
        prompt=turns, positive="happy", negative="sad", chat=None, system=None
    )
    first, second = encode_choices(gpt2, [with_system, as_chat])
    assert first == second
    assert first.ids == encode(gpt2, "the dog", True, "a sad story")[0]


def test_no_template_no_chat(llama):
    assert encode_choices(llama, CHOICES, chat=None) == encode_choices(llama, CHOICES)
    with pytest.raises(ValueError, match="has no chat template"):
        encode_choices(llama, CHOICES, chat=True)


def test_no_choices_are_refused(gpt2):
    with pytest.raises(ValueError, match="at least one; got none"):
        encode_choices(gpt2, [])


def test_answers_of_several_tokens_are_counted_and_the_first_are_listed(models):
    words = ["qxz", "qzx", "xqz", "xzq", "zqx", "zxq", "qqx"]
    bad = [Choice("the dog", word, "sad") for word in words]
    with pytest.raises(
        ValueError, match=r"one token each for .*, but 7 are not: 'qxz' is"
    ) as found:
        encode_choices(models("qwen2"), [*CHOICES, *bad, bad[0]])
    assert "'zqx' is" in str(found.value)
    assert "'zxq'" not in str(found.value)
    with pytest.raises(ValueError, match="but 1 are not: 'a dog'"):
        encode_choices(models("gpt2"), [Choice("the dog", "sad", "a dog")])


@pytest.mark.filterwarnings("ignore:.*vocabulary")
@pytest.mark.parametrize(
    ("positive", "negative", "message"),
    [
        ("happy", "wolf", "'wolf', an answer of 'the dog', is not in the vocabulary"),
        ("wolf", "happy", "'wolf', an answer of"),
        ("wolf", "bear", "'wolf', an answer of"),
    ],
)
def test_unknown_words_are_refused(gpt2, positive, negative, message):
    with pytest.raises(ValueError, match=message):
        encode_choices(gpt2, [*CHOICES, Choice("the dog", positive, negative)])


def test_the_same_token_twice_is_refused(llama):
    # Words are split at white space of any length here.
    same = SimpleNamespace(
        prompt="the dog", positive="sad", negative="  sad", chat=None, system=None
    )
    with pytest.raises(ValueError, match=r"'sad' and '  sad' of 'the dog' are the same token"):
        encode_choices(llama, [same])


def test_answers_that_run_into_the_prompt_are_refused(models):
    with pytest.raises(ValueError, match="'dog' run into those of the prompt"):
        encode_choices(models("qwen2"), [Choice("about the ", "dog", "cat")])


def test_a_prompt_leaves_room_for_its_answer(gpt2):
    short = Choice(" ".join(["sun"] * (gpt2.n_ctx - 3)), "sad", "happy")
    assert len(encode_choices(gpt2, [short])[0].ids) == gpt2.n_ctx - 2
    with pytest.raises(ValueError, match="does not fit"):
        encode_choices(gpt2, [Choice(f"{short.prompt} sun sun", "sad", "happy")])


# --- scores


@pytest.mark.parametrize("engine", ["hf", "bridge"])
def test_scores_are_the_logits_at_the_last_token_padded_or_not(models, engine):
    for name in ("gpt2", "llama", "gemma2"):
        model = models(name, engine)
        asked = encode_choices(model, CHOICES)
        whole = next_scores(model, asked)
        assert whole.shape == (3, len(model.tokenizer))
        for choice, item, row in zip(CHOICES, asked, whole, strict=True):
            alone = st.logits(model, [choice.prompt], chat=False)[0, -1]
            assert torch.allclose(row, alone, atol=1e-5)
            assert torch.allclose(next_scores(model, [item])[0], alone, atol=1e-5)


def test_the_margin_is_the_log_odds_of_the_answers(model):
    asked = encode_choices(model, CHOICES)
    found = margin(next_scores(model, asked), *answer_ids(asked))
    assert torch.allclose(found, propensity(model, CHOICES, chat=False).float(), atol=1e-5)
    turned = encode_choices(model, [Choice(c.prompt, c.negative, c.positive) for c in CHOICES])
    assert torch.allclose(margin(next_scores(model, turned), *answer_ids(turned)), -found)


def test_scores_are_steered_per_sample(gpt2, vector):
    asked, push = encode_choices(gpt2, CHOICES), st.Add(st.resid(1), vector())
    with st.steer(gpt2, push, torch.tensor([3.0, 0.0, -2.0])):
        found = next_scores(gpt2, asked)
    for number, strength in enumerate((3.0, 0.0, -2.0)):
        with st.steer(gpt2, push, strength):
            assert torch.allclose(found[number], next_scores(gpt2, asked)[number], atol=1e-5)
    assert (found - next_scores(gpt2, asked)).abs().amax(1).gt(1e-2).tolist() == [True, False, True]


def test_scores_keep_a_gradient_only_where_something_learns(gpt2, vector):
    asked = encode_choices(gpt2, CHOICES)
    assert not next_scores(gpt2, asked).requires_grad
    v = vector().requires_grad_()
    with st.steer(gpt2, st.Add(st.resid(1), v)):
        with torch.no_grad():
            assert not next_scores(gpt2, asked).requires_grad
        found = next_scores(gpt2, asked)
    margin(found, *answer_ids(asked)).sum().backward()
    with torch.no_grad(), st.steer(gpt2, st.Add(st.resid(1), v + 1e-2 * v.grad)):
        higher = margin(next_scores(gpt2, asked), *answer_ids(asked)).sum()
    rise = higher - margin(found, *answer_ids(asked)).sum()
    assert rise.item() == pytest.approx(1e-2 * v.grad.square().sum().item(), rel=0.05)


def test_half_precision_gives_float32_scores(folders, models):
    half = st.load(folders["llama"], engine="hf", dtype=torch.bfloat16)
    asked = encode_choices(half, CHOICES)
    found, exact = next_scores(half, asked), next_scores(models("llama"), asked)
    assert found.dtype == torch.float32
    assert torch.allclose(found, exact, atol=0.05 * exact.abs().max().item())
    c, w = answer_ids(asked)
    assert other_kl(exact, found, c, w).abs().max() < 1e-2


# --- margins and what is left


def test_margin_is_a_difference_of_log_probabilities():
    before, _, c, w = scores()
    p = before.softmax(-1)
    expected = [math.log(p[k, c[k]] / p[k, w[k]]) for k in range(5)]
    assert margin(before, c, w).tolist() == pytest.approx(expected)
    assert torch.allclose(margin(before.log_softmax(-1), c, w), margin(before, c, w))
    assert torch.equal(margin(before, w, c), -margin(before, c, w))


def test_others_are_renormalized():
    before, _, c, w = scores()
    found = others_log_p(before, c, w)
    assert torch.allclose(found.exp().sum(-1), torch.ones(5, dtype=torch.float64))
    for k in range(5):
        kept, p = others(before[k], c[k].item(), w[k].item())
        assert torch.allclose(found[k, kept].exp(), p)
        assert torch.isneginf(found[k, [c[k], w[k]]]).all()
    assert torch.allclose(others_log_p(before.log_softmax(-1), c, w), found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_others_are_computed_in_float32_or_better(dtype):
    before, after, c, w = scores(dtype=dtype)
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert others_log_p(before, c, w).dtype == wanted
    exact = other_kl(before.double(), after.double(), c, w)
    assert torch.allclose(other_kl(before, after, c, w).double(), exact, rtol=1e-4)


def test_the_divergence_is_its_formula():
    before, after, c, w = scores()
    found = other_kl(before, after, c, w)
    for k in range(5):
        _, p_0 = others(before[k], c[k].item(), w[k].item())
        _, p = others(after[k], c[k].item(), w[k].item())
        assert found[k].item() == pytest.approx((p_0 * (p_0 / p).log()).sum().item())
    assert (found > 0.1).all()
    assert not torch.allclose(found, other_kl(after, before, c, w), rtol=0.1)


def test_no_change_of_the_others_is_no_divergence():
    before, after, c, w = scores()
    assert torch.equal(other_kl(before, before, c, w), torch.zeros(5, dtype=torch.float64))
    rows, flipped = torch.arange(5), before.clone()
    flipped[rows, c] += 9.0  # the answers may move as they like
    flipped[rows, w] -= 20.0
    assert other_kl(before, flipped, c, w).abs().max() < 1e-12
    assert torch.allclose(other_kl(flipped, after, c, w), other_kl(before, after, c, w))
    # And so may the logits of all tokens, alike.
    assert torch.allclose(other_kl(before + 50, after - 7, c, w), other_kl(before, after, c, w))
    assert torch.allclose(other_kl(before, after, w, c), other_kl(before, after, c, w))


def test_answers_that_have_nearly_all_the_mass_leave_the_rest_exact():
    before, after, c, w = scores(dtype=torch.float32)
    sure = before.clone()
    sure[torch.arange(5), c] = 60.0
    assert torch.allclose(other_kl(sure, after, c, w), other_kl(before, after, c, w), rtol=1e-4)


def test_gradients_are_finite_and_zero_at_the_answers():
    before, after, c, w = scores()
    before.requires_grad_()
    after.requires_grad_()
    (other_kl(before, after, c, w).sum() + others_log_p(after, c, w)[0, 1]).backward()
    for tensor in (before, after):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().amax() > 0.1
        assert not tensor.grad[torch.arange(5), c].any()
        assert not tensor.grad[torch.arange(5), w].any()
    fresh = [t.detach().requires_grad_() for t in (before, after)]
    assert torch.autograd.gradcheck(lambda a, b: other_kl(a, b, c, w), fresh)


def test_encoding_known_words_warns_of_nothing(gpt2):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode_choices(gpt2, CHOICES)
