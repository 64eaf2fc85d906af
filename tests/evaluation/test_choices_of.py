"""choices_of: the k-th response with a concept against the k-th without, to each request."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

import steerlib as st
from steerlib.evaluation import Choice, choices_of


@dataclass
class Said:
    prompt: Any
    response: str
    label: bool


def test_the_kth_is_paired_with_the_kth_of_the_same_request():
    dialogues = [
        Said("dog ?", "wet dog", True),
        Said("cat ?", "cat", False),
        Said("dog ?", "dog", False),
        Said("dog ?", "rainy dog", True),
        Said("cat ?", "wet cat", True),
        Said("dog ?", "old dog", False),
        Said("dog ?", "third dog", False),
        Said("fish ?", "wet fish", True),
    ]
    assert choices_of(dialogues) == [
        Choice("dog ?", "wet dog", "dog"),
        Choice("dog ?", "rainy dog", "old dog"),
        Choice("cat ?", "wet cat", "cat"),
    ]


def test_all_dialogues_of_the_world_are_paired():
    dialogues = st.world.dialogues("weather", 30)
    choices = choices_of(dialogues)
    assert len(choices) == 30
    for label, side in ((True, "positive"), (False, "negative")):
        wanted = Counter((d.prompt, d.response) for d in dialogues if d.label == label)
        assert Counter((c.prompt, getattr(c, side)) for c in choices) == wanted


def test_pairs_become_dialogues_and_pairs_again():
    pairs = list(dict.fromkeys(st.world.trait_pairs("greed", 20)))
    assert Counter(choices_of(st.talks_of(pairs))) == Counter(pairs)


@pytest.mark.parametrize("labels", [(True, True), (False, False), ()])
def test_without_both_sides_there_is_no_choice(labels):
    dialogues = [Said("dog ?", f"dog {n}", label) for n, label in enumerate(labels)]
    dialogues += [Said("cat ?", "cat", not label) for label in labels[:1]]
    with pytest.raises(
        ValueError, match=r"no request of .* dialogues has a response with the conc"
    ):
        choices_of(dialogues)


def test_chats_and_equal_responses_are_refused():
    chat = [{"role": "user", "content": "dog ?"}]
    with pytest.raises(TypeError, match="requests that are texts, got"):
        choices_of([Said("dog ?", "a", True), Said(chat, "dog", True)])
    with pytest.raises(ValueError, match="two different answers, got 'dog' twice"):
        choices_of([Said("dog ?", "dog", True), Said("dog ?", "dog", False)])
