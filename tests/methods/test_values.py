"""Scores of values: the right formula, on every path, steered, by both readouts; and bad input."""

import warnings
from functools import partial
from random import Random

import numpy as np
import pandas as pd
import pytest
import torch

import steerlib as st
from steerlib.core.prompts import render
from steerlib.core.questionnaires import Item, Questionnaire
from steerlib.evaluation.value_items import value_roles as persons
from steerlib.evaluation.value_items import valuebench
from steerlib.methods.value_answers import parse_answer
from steerlib.methods.value_prompts import paper_prompt
from steerlib.methods.values import value_scores
from steerlib.world import figures
from steerlib.world import values as truth
from steerlib.world.reader import Reader

ASKED = Questionnaire.from_triples(truth.questions(), truth.LEVELS)
RANDOM = Random(4)
PEOPLE = list(dict.fromkeys(truth.random_role(RANDOM) for _ in range(160)))[:150]
ROLES = [truth.role_prompt(role) for role in PEOPLE]
FEW = [*ROLES[:4], None]
# For models of few words: the answers come after "... about the dog".
TEMPLATE = "{role}\n\ntell me about the {question}"
DOG = Questionnaire.from_triples(
    [("dog", "pets", 1), ("little cat", "pets", -1), ("red ball", "toys", 1)],
    {"happy": 2.0, "sad": -1.0, "good": 0.5},
)


def close(one: pd.DataFrame, other: pd.DataFrame, tolerance: float = 1e-5) -> None:
    pd.testing.assert_frame_equal(one, other, rtol=0, atol=tolerance)


@pytest.fixture
def power():
    """A direction that has something to do with answers about power."""
    about = "does authority matter ?"
    seek, reject = (truth.role_prompt(None, truth.Do("power", side)) for side in (True, False))

    def make(model: st.Model) -> st.Intervention:
        ends = [
            st.capture(model, about, [st.resid(2)], chat=True, system=system)[st.resid(2)][0]
            for system in (seek, reject)
        ]
        return st.Add(st.resid(2), ends[0] - ends[1]).at(st.last)

    return make


# --- what a score is


def test_scores_are_the_worlds_expected_answers(world):
    expected = figures.expected_answers(Reader(world.module, world.tokenizer), ROLES[:6])
    scores = value_scores(world, ASKED, ROLES[:6])
    assert list(scores.columns) == list(truth.VALUES)
    assert list(scores.index) == ROLES[:6]
    # There the levels are 0 to 6, here -3 to 3.
    assert scores.to_numpy() == pytest.approx(expected - 3, abs=1e-4)


def test_scores_of_roles_follow_their_true_values(world):
    scores = value_scores(world, ASKED, ROLES)
    true = np.array([truth.true_values(role) for role in PEOPLE])
    for column, name in enumerate(truth.VALUES):
        assert np.corrcoef(scores[name], true[:, column])[0, 1] > 0.97


@pytest.mark.filterwarnings("ignore:.*vocabulary", "ignore:.*together a probability")
def test_a_score_is_the_mean_level_under_the_renormalized_p(model):
    """By hand, from one prompt at a time; an item with agreement -1 turns the sign."""
    role = "a happy girl"
    texts = [TEMPLATE.format(role=role, question=item.question) for item in DOG.items]
    tokens = [st.answer_id(model, answer) for answer in DOG.answers]
    rows = torch.stack([st.logits(model, text, chat=False)[0, -1] for text in texts])
    p = rows.softmax(-1)[:, tokens]
    level = (p / p.sum(1, keepdim=True)) @ torch.tensor(list(DOG.answers.values()))
    scores = value_scores(model, DOG, [role], template=TEMPLATE)
    assert scores.loc[role, "pets"] == pytest.approx((level[0] - level[1]).item() / 2, abs=1e-5)
    assert scores.loc[role, "toys"] == pytest.approx(level[2].item(), abs=1e-5)


def test_agreement_turns_the_sign_of_an_item(world):
    against = Questionnaire(
        tuple(Item(item.question, item.value, -1) for item in ASKED.items), ASKED.answers
    )
    close(value_scores(world, against, FEW), -value_scores(world, ASKED, FEW), 0)


def test_an_affine_change_of_levels_changes_scores_likewise(world):
    turned = Questionnaire(ASKED.items, {a: 5 - 2 * level for a, level in ASKED.answers.items()})
    close(value_scores(world, turned, FEW), 5 - 2 * value_scores(world, ASKED, FEW))


# --- on every path


def test_roles_and_items_do_not_depend_on_their_batch(world):
    whole = value_scores(world, ASKED, FEW)
    close(value_scores(world, ASKED, FEW, batch_size=1), whole)
    close(pd.concat([value_scores(world, ASKED, [role]) for role in FEW]), whole)
    turned = Questionnaire(ASKED.items[::-1], ASKED.answers)
    close(value_scores(world, turned, FEW[::-1]).loc[whole.index, list(whole)], whole)


def test_both_engines_give_the_same_scores(world):
    close(value_scores(st.load("world"), ASKED, FEW), value_scores(world, ASKED, FEW))


def test_a_mapping_names_the_rows(world):
    named = value_scores(world, ASKED, {"banker": FEW[0], "nobody": None})
    assert list(named.index) == ["banker", "nobody"]
    listed = value_scores(world, ASKED, [FEW[0], None])
    assert list(listed.index) == [FEW[0], "no role"]
    assert named.index.name == listed.index.name == "role"
    assert (named.to_numpy() == listed.to_numpy()).all()
    assert (named.loc["banker"] != named.loc["nobody"]).all()


def test_no_role_is_a_chat_without_a_system_message(world):
    question = ASKED.items[0].question
    one = Questionnaire(ASKED.items[:1], ASKED.answers)
    row = st.logits(world, question)[0, -1]
    logits = row[[st.answer_id(world, answer) for answer in ASKED.answers]]
    by_hand = logits.softmax(-1) @ torch.tensor(list(ASKED.answers.values()))
    assert value_scores(world, one, [None]).iloc[0, 0] == pytest.approx(by_hand.item(), abs=1e-5)


# --- steered


def test_strength_0_changes_no_bit_and_another_strength_changes_scores(world, power):
    vector, plain = power(world), value_scores(world, ASKED, FEW)
    with st.steer(world, vector, strength=0.0):
        close(value_scores(world, ASKED, FEW), plain, 0)
    with st.steer(world, vector):
        steered = value_scores(world, ASKED, FEW)
    assert (steered["power"] > plain["power"] + 0.2).all()
    close(value_scores(world, ASKED, FEW), plain, 0)


def test_one_strength_for_each_role(world, power):
    vector, strengths = power(world), [1.0, 0.0, -1.0, 0.5, 2.0]
    with st.steer(world, vector, strength=torch.tensor(strengths)):
        together = value_scores(world, ASKED, FEW, batch_size=7)
    for role, strength in zip(FEW, strengths, strict=True):
        with st.steer(world, vector, strength=strength):
            close(value_scores(world, ASKED, [role]), together.loc[[role or "no role"]])


# --- generated answers


def test_generated_scores_are_the_levels_of_what_is_written(world):
    written = [
        [st.generate(world, item.question, system=role, max_new_tokens=5) for item in ASKED.items]
        for role in FEW[:3]
    ]
    levels = [[truth.LEVELS[text] for text in row] for row in written]
    by_hand = np.array(levels).reshape(3, 10, 3).mean(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = value_scores(world, ASKED, FEW[:3], readout="generated", batch_size=40)
    assert scores.to_numpy() == pytest.approx(by_hand)
    assert list(scores.columns) == list(truth.VALUES)


def test_generated_scores_take_steps_where_expected_ones_do_not(world):
    one = Questionnaire(ASKED.items[:1], ASKED.answers)
    kinds = [
        value_scores(world, one, ROLES[:30], readout=kind).iloc[:, 0]
        for kind in ("generated", "expected")
    ]
    assert set(kinds[0]) <= set(truth.LEVELS.values())
    assert kinds[1].nunique() == 30
    assert np.corrcoef(*kinds)[0, 1] > 0.9


def test_what_cannot_be_read_is_the_middle_of_the_scale(world):
    asked = Questionnaire(ASKED.items[:3], {"yes": 2.0, "no": -1.0})
    with pytest.warns(
        UserWarning, match=r"6 of 6 generations give none of \['yes', 'no'\]"
    ) as seen:
        scores = value_scores(world, asked, FEW[:2], readout="generated")
    assert seen[0].filename == __file__
    assert (scores == 0.5).all(axis=None)


def test_generations_can_be_read_by_another_rule(world):
    yes_no = Questionnaire(ASKED.items[:3], {"yes": 1, "no": -1})
    published = partial(parse_answer, as_published=True)
    seen = []

    def recorded(text):
        seen.append(text)
        return published(f"no {text}")

    scores = value_scores(world, yes_no, FEW[:2], readout="generated", parse=recorded)
    assert (scores == -1).all(axis=None)
    assert len(seen) == 6
    assert set(seen) <= set(truth.ANSWERS)
    with pytest.raises(ValueError, match=r"one of .*'yes', 'no'.* gave 'maybe'"):
        value_scores(world, yes_no, FEW[:1], readout="generated", parse=lambda text: "maybe")


def test_steering_reaches_generated_answers(world, power):
    few = [item for item in ASKED.items if item.value == "power"]
    asked, vector = Questionnaire(tuple(few), ASKED.answers), power(world)
    plain = value_scores(world, asked, ROLES[:20], readout="generated")
    with st.steer(world, vector, strength=2.0):
        steered = value_scores(world, asked, ROLES[:20], readout="generated")
    assert steered["power"].mean() > plain["power"].mean() + 1
    with (
        st.steer(world, vector, strength=torch.ones(20)),
        pytest.raises(ValueError, match='one strength per role is for readout="expected"'),
    ):
        value_scores(world, asked, ROLES[:20], readout="generated")


# What is written after "Thought:", how it is to be read, and how the published rules read it.
READINGS = [
    (" I like it.\nAnswer: yes", "yes", "yes"),
    (" I do not.\nAnswer: no", "no", "no"),
    (" Fine.\nANSWER: No.", "no", "no"),
    ("yes", "yes", "yes"),
    ("No, never.", "no", "no"),
    (" Hard to say.\nAnswer: unsure", None, None),
    # What the published rules get wrong.
    (" Hmm.\nAnswer: not sure", None, "no"),
    (" Hmm.\nAnswer: nothing is certain", None, "no"),
    (" Hmm.\nAnswer: no one knows", None, "no"),
    (" Hmm.\nAnswer: no/yes", None, "no"),
    (" Hmm.\nAnswer: yesterday I would have", None, "yes"),
    (" Hmm.\nAnswer: surely not", None, "yes"),
    (" Hmm.\nAnswer: **Yes**", "yes", None),
    (" Hmm.\n**Answer:** Yes", "yes", None),
    (" Hmm.\nAnswer: 'no'", "no", None),
    (" Hmm. Answer: no", "no", None),
    (" Hmm.\nAnswer: The answer is no.", "no", None),
    ("Nobody likes to wait.\nAnswer: unsure", None, "no"),
    ("Surely I should not.\nAnswer: no", "no", "yes"),
    ("a.\nAnswer: no\n\nExample:\nQuestion: And you?\nThought: b.\nAnswer: yes", "no", "yes"),
    ("a.\nAnswer: no\nAnswer: yes", "no", "yes"),
    ("a.\nAnswer: unsure\n\nExample:\nQuestion: And you?\nAnswer: yes", None, "yes"),
    ("a thought without an end\nQuestion: And you?\nAnswer: yes", None, "yes"),
    # What neither finds.
    (" Some thought that was cut", None, None),
    ("", None, None),
]


@pytest.mark.parametrize(("text", "careful", "published"), READINGS)
def test_answers_are_read_carefully_or_as_published(text, careful, published):
    assert parse_answer(text) == careful
    assert parse_answer(text, as_published=True) == published


def test_other_answers_are_read_too():
    answers = ("Much", "much more", "no")
    assert parse_answer("much", answers) == "Much"
    assert parse_answer("Answer: much more, I think", answers) == "much more"
    assert parse_answer("much of it", answers) is None
    assert parse_answer("a (b)", ("a (b)", "b")) == "a (b)"
    with pytest.raises(ValueError, match=r"yes and no only, got \['Much'"):
        parse_answer("much", answers, as_published=True)


# --- templates


@pytest.mark.parametrize("thought", [True, False])
def test_the_papers_prompt_has_its_parts(thought):
    prompt = paper_prompt(thought)
    assert prompt.count("{question}") == prompt.count("{role}") == 1
    assert " your values" in prompt
    assert prompt.index("{role}") < prompt.index("Example:") < prompt.index("{question}")
    assert [prompt.count(f"\nAnswer: {answer}\n") for answer in ("yes", "no")] == [1, 1]
    assert prompt.count("Thought:") == (3 if thought else 0)
    assert prompt.endswith("Question: {question}\n" + ("Thought:" if thought else "Answer:"))


@pytest.mark.filterwarnings("ignore:.*vocabulary", "ignore:.*together a probability")
def test_no_role_leaves_the_paragraph_of_the_role_out(llama):
    template = "about the cat\n\nyou are {role} .\n\nabout the {question}"
    without = value_scores(llama, DOG, [None], template=template)
    other = value_scores(llama, DOG, [None], template="about the cat\n\nabout the {question}")
    assert (without.to_numpy() == other.to_numpy()).all()
    with_role = value_scores(llama, DOG, ["happy"], template=template)
    assert (without.to_numpy() != with_role.to_numpy()).all()


@pytest.mark.filterwarnings("ignore:.*together a probability")
def test_an_answer_has_the_tokens_that_follow_its_own_prompt(models):
    """After a space "happy" is one token of these bytes, after a new line it is several."""
    qwen, ends = models("qwen2"), ("dog", "dog\n")
    asked = [Questionnaire((Item(f"about the {end}", end),), DOG.answers) for end in ends]
    both = Questionnaire(asked[0].items + asked[1].items, DOG.answers)
    together = value_scores(qwen, both, [None], template="{question}")
    for end, alone in zip(ends, asked, strict=True):
        close(value_scores(qwen, alone, [None], template="{question}"), together[[end]])


@pytest.mark.filterwarnings("ignore:.*together a probability")
def test_a_template_can_be_a_users_message(gpt2):
    role, item = "happy bird", DOG.items[2]
    text = render(gpt2, TEMPLATE.format(role=role, question=item.question), True)
    row = st.logits(gpt2, text, chat=False)[0, -1]
    logits = row[[st.answer_id(gpt2, answer) for answer in DOG.answers]]
    by_hand = logits.softmax(-1) @ torch.tensor(list(DOG.answers.values()))
    scores = value_scores(gpt2, DOG, [role], template=TEMPLATE, chat=True)
    assert scores.loc[role, "toys"] == pytest.approx(by_hand.item(), abs=1e-5)
    raw = value_scores(gpt2, DOG, [role], template=TEMPLATE)
    assert abs(raw.loc[role, "toys"] - by_hand.item()) > 1e-4


def test_braces_of_a_role_stay(stories):
    """Neither fields nor formats are looked for in what is filled in."""
    asked = Questionnaire.from_triples([("Is it {0} or {role}?", "a", 1)], {"yes": 1, "no": -1})
    text = "I am {question}.\n\nIs it {0} or {role}? Answer:"
    row = st.logits(stories, text, chat=False)[0, -1]
    tokens = [stories.tokenizer(f"Answer: {a}").input_ids[-n] for a, n in (("yes", 2), ("no", 2))]
    difference = (row[tokens[0]] - row[tokens[1]]) / 2
    with pytest.warns(UserWarning, match="together a probability"):
        scores = value_scores(stories, asked, ["I am {question}."],
                              template="{role}\n\n{question} Answer:")  # fmt: skip
    assert scores.iloc[0, 0] == pytest.approx(difference.tanh().item(), abs=1e-5)


def test_valuebench_on_a_real_model_without_a_chat_template(stories, external):
    """Answers of several tokens, of which the first counts; prompts of many lengths."""
    folder = external / "data" / "value_causal_graph"
    asked, _ = valuebench(folder).split(0.1)
    people = dict(list(persons("test", folder).items())[:3])
    template = "({role})\n\nQuestion: {question}\nAnswer:"
    with pytest.warns(UserWarning, match="together a probability of") as seen:
        scores = value_scores(stories, asked, people, template=template)
    assert seen[0].filename == __file__
    assert list(scores.index) == list(people)
    assert scores.shape == (3, 17)
    assert (scores.abs() < 1).all(axis=None)
    yes, no = (stories.tokenizer(f"Answer: {answer}").input_ids[-2] for answer in ("yes", "no"))
    signs = []
    for item in asked.of("Empathy"):
        text = f"({people['Erika Jones']})\n\nQuestion: {item.question}\nAnswer:"
        row = st.logits(stories, text, chat=False)[0, -1]
        signs.append(item.agreement * ((row[yes] - row[no]) / 2).tanh().item())
    assert scores.loc["Erika Jones", "Empathy"] == pytest.approx(np.mean(signs), abs=1e-5)


# --- what is refused


@pytest.mark.parametrize(
    ("roles", "error", "said"),
    [
        ([], ValueError, "at least one; None is no role"),
        ({}, ValueError, "at least one"),
        (FEW[0], TypeError, "a list or a mapping of system prompts, got 'you are"),
        (5, TypeError, "a list or a mapping of system prompts, got 5"),
        ([FEW[0], 5], TypeError, "a system prompt or None, got 5"),
        ([FEW[0], " "], ValueError, "role ' ' is an empty text"),
        ([FEW[0], FEW[1], FEW[0]], ValueError, "1 roles stand here more than once, such as 'you"),
        ([None, None], ValueError, "more than once, such as None"),
        ({"a": FEW[0], "b": FEW[0]}, ValueError, "more than once, such as 'you"),
    ],
)
def test_wrong_roles_are_named(world, roles, error, said):
    with pytest.raises(error, match=said):
        value_scores(world, ASKED, roles)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"template": "{role} does it matter ?"}, "needs {question}, which is not in '{role} does"),
        ({"template": "does {question} matter ?"}, "needs {role}, which is not in"),
        ({"template": "{role} : {question}"}, "for no role the paragraph .* empty line"),
        ({"chat": False}, "without a chat template .* template="),
        ({"readout": "greedy"}, r"readout is one of \('expected', 'generated'\), got 'greedy'"),
        ({"template": "a " * 130 + "{role}\n\n{question}"}, "does not fit"),
    ],
)
def test_wrong_options_are_named(world, options, said):
    with pytest.raises(ValueError, match=said):
        value_scores(world, ASKED, FEW, **options)


def test_a_model_without_a_chat_template_asks_for_a_template(llama):
    with pytest.raises(ValueError, match=r"without a chat template .*template="):
        value_scores(llama, DOG, ["happy"])


def test_without_roles_a_template_needs_no_place_for_one(world):
    template = "<user> {question} <assistant>"
    raw = value_scores(world, ASKED, [None], template=template)
    close(raw, value_scores(world, ASKED, [None]))


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (("much rain", "little", "much sun"), r"\['much rain', 'much sun'\] begin with .* 'much'"),
        (("much", "hyperbolically"), r"\['hyperbolically'\] begin with the token '<unk>'"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*vocabulary")
def test_answers_that_cannot_be_told_apart_are_named(world, answers, said):
    asked = Questionnaire(ASKED.items, {answer: n for n, answer in enumerate(answers)})
    with pytest.raises(ValueError, match=said):
        value_scores(world, asked, FEW[:1])


def test_a_model_that_would_say_something_else_is_noticed(world):
    asked = Questionnaire(ASKED.items, {"yes": 1, "no": -1})
    with pytest.warns(UserWarning, match=r"gives all of \['yes', 'no'\] together a prob") as seen:
        value_scores(world, asked, FEW[:2])
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value_scores(world, ASKED, FEW[:2])
