"""Directions: the difference of means, on small models and on a real one."""

import json
import re
from types import SimpleNamespace

import pytest
import torch

import steerlib as st

TEXTS = [
    "a happy dog .",
    "the sad cat saw rain",
    "a happy little girl",
    "sad rain",
    "happy sun and wind .",
]
LABELS = [True, False, True, False, True]
DATA = SimpleNamespace(texts=TEXTS, labels=LABELS)
SITE = st.resid(1)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_diff_means_is_the_difference_of_the_class_means(gpt2, batch_size):
    h = st.capture(gpt2, TEXTS, [SITE], at="prompt", reduce="mean")[SITE]
    labels = torch.tensor(LABELS)
    expected = h[labels].mean(0) - h[~labels].mean(0)
    found = st.diff_means(gpt2, DATA, SITE, batch_size=batch_size)
    assert torch.allclose(found.direction, expected, atol=1e-6)
    assert found.site == SITE
    assert found.origin == st.Origin(gpt2.id, gpt2.revision, "diff_means", None)


def test_diff_means_reads_the_tokens_it_is_told(gpt2):
    h = st.capture(gpt2, TEXTS, [SITE])[SITE]
    labels = torch.tensor(LABELS)
    found = st.diff_means(gpt2, DATA, SITE, at="last")
    assert torch.allclose(found.direction, h[labels].mean(0) - h[~labels].mean(0), atol=1e-6)


def test_diff_means_repeats_exactly(gpt2):
    first, again = (st.diff_means(gpt2, DATA, SITE).direction for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("labels", [[True] * 5, [True, False], [0] * 5])
def test_both_classes_and_a_label_for_each_text_are_needed(gpt2, labels):
    with pytest.raises(ValueError, match="one label per text and both classes"):
        st.diff_means(gpt2, SimpleNamespace(texts=TEXTS, labels=labels), SITE)


def test_a_random_direction_has_its_norm_and_seed(gpt2):
    first, again, other = (
        st.random_direction(gpt2, SITE, norm=3.0, seed=seed).direction for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert abs(torch.nn.functional.cosine_similarity(first, other, dim=0)) < 0.6
    assert first.norm().item() == pytest.approx(3.0, rel=1e-5)
    assert st.random_direction(gpt2, st.head(1, 2)).direction.shape == (8,)


def _sentences(stories, word):
    """All sentences of the stories that contain a word."""
    sentences = [s for story in stories for s in re.split(r'(?<=[.!?"])\s+', story)]
    return [s for s in sentences if re.search(rf"\b{word}\b", s)]


def _log_p(model, prompt, word):
    """log P(word | prompt), which may be several tokens."""
    ids = model.tokenizer(f"{prompt} {word}", add_special_tokens=False).input_ids
    start = len(model.tokenizer(prompt, add_special_tokens=False).input_ids)
    scores = st.logits(model, f"{prompt} {word}")[0].log_softmax(-1)
    return sum(scores[n, ids[n]].item() for n in range(start, len(ids)))


def test_happy_minus_sad_steers_a_real_model(stories, external):
    path = external / "data" / "tinystories" / "tinystories_1000.json"
    texts = json.loads(path.read_text())
    happy, sad = _sentences(texts, "happy")[:300], _sentences(texts, "sad")[:300]
    data = SimpleNamespace(texts=happy + sad, labels=[True] * len(happy) + [False] * len(sad))
    direction = st.diff_means(stories, data, st.resid(2))
    prompts = ("Lily was very", "The boy felt", "She was so")

    def shifts(vector):
        for strength in (-4, -2, 0, 2, 4):
            with st.steer(stories, vector, strength=strength):
                pairs = [(_log_p(stories, p, "happy"), _log_p(stories, p, "sad")) for p in prompts]
            yield sum(a - b for a, b in pairs) / len(pairs)

    steered = list(shifts(direction))
    assert steered == sorted(steered)
    assert steered[-1] - steered[0] > 2
    norm = direction.direction.norm().item()
    control = list(shifts(st.random_direction(stories, st.resid(2), norm=norm, seed=0)))
    assert abs(control[-1] - control[0]) < (steered[-1] - steered[0]) / 2
