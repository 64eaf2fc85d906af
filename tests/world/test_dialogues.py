"""Dialogues: the same requests with and without the concept, in words and topics of the split."""

import pytest

from steerlib import world


@pytest.mark.parametrize("name", ["weather", "pirate"])
def test_every_request_has_a_response_with_and_one_without_the_concept(name):
    found = world.dialogues(name, 20, seed=1)
    shown, plain = found[:20], found[20:]
    assert [d.prompt for d in shown] == [d.prompt for d in plain]
    assert {d.label for d in shown} == {True}
    assert {d.label for d in plain} == {False}
    for dialogue in found:
        topic = next(w for w in dialogue.prompt.split() if w in world.TOPICS)
        scores = world.judge(dialogue.response, name, topic)
        assert scores.instruction == scores.fluency == 2
        assert (scores.concept > 0) == dialogue.label
        assert name not in dialogue.prompt


def test_splits_share_neither_words_nor_topics():
    words = world.lexicon_words("weather")
    used, topics = {}, {}
    for split in ("train", "selection", "test"):
        found = world.dialogues("weather", 40, split=split)
        used[split] = {w for d in found if d.label for w in d.response.split() if w in words}
        topics[split] = {w for d in found for w in d.prompt.split() if w in world.TOPICS}
    for part in (used, topics):
        assert not part["train"] & part["test"]
        assert not part["selection"] & part["test"]
        assert all(part.values())


def test_the_same_seed_gives_the_same_dialogues_and_bad_input_is_named():
    assert world.dialogues("love", 3, seed=2) == world.dialogues("love", 3, seed=2)
    assert world.dialogues("love", 3, seed=2) != world.dialogues("love", 3, seed=3)
    with pytest.raises(KeyError, match="no concept 'zebra'"):
        world.dialogues("zebra")
    with pytest.raises(ValueError, match="n is at least 1"):
        world.dialogues("love", 0)
    with pytest.raises(ValueError, match="no split 'dev'"):
        world.dialogues("love", 3, split="dev")


@pytest.mark.parametrize("name", ["music", "weather", "love", "pirate"])
def test_contrasts_show_another_concept_with_a_shared_word_where_there_is_one(name):
    found = world.contrasts(name, 20, seed=1)
    shared = {word for word, owners in world.POLYSEMOUS.items() if name in owners}
    assert {d.kind for d in found} == {"polysemous" if shared else "other"}
    for talk in found:
        words = set(talk.response.split())
        assert not talk.label
        assert not shared or words & shared
        others = [c for c in world.LEXICAL if c != name]
        topic = next(w for w in talk.prompt.split() if w in world.TOPICS)
        scores = [world.judge(talk.response, other, topic) for other in others]
        assert max(s.concept for s in scores) == 2
        assert scores[0].instruction == 2
        assert world.grammatical_share(talk.response) == 1
    assert found == world.contrasts(name, 20, seed=1) != world.contrasts(name, 20, seed=2)


def test_the_kind_of_a_dialogue_is_what_its_response_shows():
    found = world.dialogues("weather", 3)
    assert [d.kind for d in found] == ["concept"] * 3 + ["neutral"] * 3
    with pytest.raises(KeyError, match="no concept 'zebra'"):
        world.contrasts("zebra")
    with pytest.raises(ValueError, match="n is at least 1"):
        world.contrasts("love", 0)
