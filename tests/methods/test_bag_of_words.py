"""Bag of words: planted words are found, unseen ones are not, and the score is what it says."""

from types import SimpleNamespace

import numpy as np
import pytest

import steerlib as st
from steerlib import evaluation as ev

TEXTS = ["the dog saw rain .", "the dog saw sun .", "a cat saw rain .", "a cat saw the sun ."]
DATA = SimpleNamespace(texts=TEXTS, labels=[True, False, True, False])


def area(detector, data):
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(data.labels, detector(data.texts))


def test_one_planted_word_decides():
    detector = st.bag_of_words(DATA)
    fresh = SimpleNamespace(
        texts=["the bird saw rain", "rain", "a bird", "the sun saw a cat"],
        labels=[True, True, False, False],
    )
    assert area(detector, DATA) == area(detector, fresh) == 1
    names = list(detector.weights)
    assert (names[0], names[-1]) == ("rain", "sun")


def test_the_score_is_the_weighted_number_of_each_word_and_an_offset():
    detector = st.bag_of_words(DATA)
    offset = detector([""])[0]
    said = "rain rain dog unheard"
    expected = 2 * detector.weights["rain"] + detector.weights["dog"] + offset
    assert detector([said])[0] == pytest.approx(expected)
    assert detector(["Rain , x . RAIN dog !"])[0] == pytest.approx(expected)
    assert detector(["unheard of"])[0] == pytest.approx(offset)


def test_unseen_words_of_a_concept_tell_nothing():
    """The words of the test split are in no training text."""
    data = st.world.concept("weather")
    detector = st.bag_of_words(data.train)
    assert area(detector, data.train) > 0.99
    assert abs(area(detector, st.world.one_word("weather")) - 0.5) < 0.15


def test_a_chat_is_what_its_turns_say_without_their_roles():
    chats = [[{"role": "user", "content": "tell me"}, {"role": "assistant", "content": text}]
             for text in TEXTS]  # fmt: skip
    plain = SimpleNamespace(texts=[f"tell me {text}" for text in TEXTS], labels=DATA.labels)
    detector = st.bag_of_words(SimpleNamespace(texts=chats, labels=DATA.labels))
    assert "assistant" not in detector.weights
    assert np.allclose(detector(chats), st.bag_of_words(plain)(plain.texts))


def test_a_stronger_penalty_makes_smaller_weights():
    sizes = [max(st.bag_of_words(DATA, C=C).weights.values()) for C in (0.01, 1, 100)]
    assert sizes == sorted(sizes)
    assert sizes[0] < 0.1 * sizes[2]


def test_it_is_evaluated_like_any_detector(gpt2):
    data = st.world.concept("weather")
    table = ev.detection(gpt2, {"words": st.bag_of_words(data.train)}, data.test)
    assert set(table["pool"]) == {"own"}
    assert len(table) == len(set(table["against"])) == 4


@pytest.mark.parametrize(
    ("texts", "labels", "C", "message"),
    [
        (TEXTS, [True] * 4, 1.0, "both classes"),
        (["a .", "b ."], [True, False], 1.0, "no text has a word of two letters"),
        (TEXTS, DATA.labels, 0.0, "C is the inverse strength of the penalty and positive, got 0"),
    ],
)
def test_bad_input_is_named(texts, labels, C, message):
    with pytest.raises(ValueError, match=message):
        st.bag_of_words(SimpleNamespace(texts=texts, labels=labels), C=C)
