"""The truths at each word: against the generators that know them, and nothing looks ahead."""

import doctest
from random import Random

import numpy as np
import pytest

import steerlib as st
from steerlib.core.sites import resid_pre
from steerlib.world import completion, counting, geography, refusal, reviews, traits, values
from steerlib.world.corpus import SECTIONS, balanced
from steerlib.world.documents import Document, chat, dialogue, plain
from steerlib.world.instructions import Instruction, response
from steerlib.world.latents import labels, latents, truth
from steerlib.world.lexicon import LEXICAL, STYLES, TOPICS, lexicon_words
from steerlib.world.turns import ContextRule

NAMED = {latent.name: latent for latent in latents()}
SEEK = values.Do("power", True)


def of(name: str, section: str, document: Document | str) -> list[bool | None]:
    words = document.split() if isinstance(document, str) else document.words
    return truth(NAMED[name], section, words)


def counted(name: str, section: str, document: Document | str) -> list[bool]:
    """The truths at the words that count."""
    return [t for t in of(name, section, document) if t is not None]


def shown(name: str, section: str, document: Document | str) -> list[str]:
    """The words of which it is true."""
    words = document.split() if isinstance(document, str) else document.words
    return [word for word, t in zip(words, of(name, section, document), strict=True) if t]


@pytest.fixture(scope="module")
def documents():
    return balanced(1, 2600)


@pytest.fixture(scope="module")
def table(documents):
    return labels(documents)


# --- all of them


def test_names_are_unique_and_there_are_enough_of_both_kinds():
    assert len(NAMED) == len(latents())
    kinds = [latent.kind for latent in latents()]
    assert kinds.count("word") >= 80
    assert kinds.count("context") >= 70
    for latent in latents():
        assert (latent.kind == "context") == isinstance(latent.rule, ContextRule)


def test_each_has_positives_and_negatives(table):
    for latent, column in zip(latents(), table.T, strict=True):
        least = 40 if latent.kind == "word" else 30
        assert (column == 1).sum() >= least, latent.name
        assert (column == 0).sum() >= least, latent.name


def test_labels_are_the_truths_document_after_document(documents, table):
    few = documents[:60]
    rows = [
        [-1 if t is None else int(t) for section, d in few for t in truth(latent, section, d.words)]
        for latent in latents()
    ]
    expected = np.array(rows, dtype=np.int8).T
    assert table.dtype == np.int8
    assert (table[: len(expected)] == expected).all()
    assert len(table) == sum(len(d.words) for _, d in documents)
    chosen = latents()[90:97]
    assert {latent.kind for latent in chosen} == {"word", "context"}
    assert (labels(few, chosen) == expected[:, 90:97]).all()


def test_nothing_looks_ahead(documents):
    """A text that is cut has the same truths up to the cut."""
    few = documents[:52]
    assert {section for section, _ in few} == set(SECTIONS)
    cut = [
        (section, Document(d.words[:n], d.targets[:n]))
        for section, d in few
        for n in range(1, len(d.words) + 1)
    ]
    found, start = labels(cut), 0
    for _, document in few:
        length = len(document.words)
        parts = [found[start + n * (n - 1) // 2 :][:n] for n in range(1, length + 1)]
        for n, part in enumerate(parts, 1):
            assert (part == parts[-1][:n]).all()
        start += length * (length + 1) // 2


def test_a_row_is_a_token_of_the_model(documents, table):
    """Of all sections: the row of a word is that of its token at `at=st.prompt`."""
    model, few = st.load("world", engine="hf"), documents[:130]
    assert {section for section, _ in few} == set(SECTIONS)
    site = resid_pre(0)
    rows = st.capture(model, [d.text for _, d in few], [site], at=st.prompt)[site]
    assert len(rows) == len(labels(few)) == sum(len(d.words) for _, d in few)
    words = [word for _, d in few for word in d.words]
    places = [place for _, d in few for place in range(1, len(d.words) + 1)]
    ids = model.tokenizer.convert_tokens_to_ids(words)
    assert model.tokenizer.unk_token_id not in ids
    stack = model.hf.transformer
    assert (rows - stack.wte.weight[ids] - stack.wpe.weight[places]).abs().max() < 1e-5


def test_the_examples_are_true():
    found = doctest.testmod(st.world.latents)
    assert (found.attempted >= 6, found.failed) == (True, 0)


def test_a_section_that_is_none_is_named():
    with pytest.raises(KeyError, match=r"no section 'fact'.*facts, conflict"):
        of("yes", "fact", "yes")
    with pytest.raises(KeyError, match="no section ''"):
        labels([("", plain("yes"))])


# --- words


def test_words_are_decided_by_themselves(documents):
    """In another order each word has the same truth."""
    rng = Random(0)
    for section, document in documents[:40]:
        order = rng.sample(range(len(document.words)), len(document.words))
        for latent in latents():
            if latent.kind == "word":
                whole = truth(latent, section, document.words)
                mixed = truth(latent, section, [document.words[i] for i in order])
                assert mixed == [whole[i] for i in order]


@pytest.mark.parametrize("concept", LEXICAL)
def test_a_concept_is_its_lexicon(documents, concept):
    words, hits = {}, []
    for section, document in documents:
        words.setdefault(section, set()).update(document.words)
    for section, some in words.items():
        is_home = section in ("concepts", "instructions")
        for word in some:
            is_shown = word in lexicon_words(concept)
            hits.append(is_shown and is_home)
            (found,) = of(f"{concept} word", section, word)
            assert found == (None if is_shown and not is_home else is_shown)
    assert sum(hits) >= 20


def test_a_word_of_two_concepts_counts_for_both():
    text = "the cold root plays . <eos>"
    owners = {"weather": "cold", "medicine": "cold", "cooking": "root", "forest": "root"}
    for concept in LEXICAL:
        expected = [owners[concept]] if concept in owners else []
        if concept in ("music", "sport"):
            expected = ["plays"]
        assert shown(f"{concept} word", "concepts", text) == expected


@pytest.mark.parametrize(
    ("name", "section", "text"),
    [
        ("currency", "traits", "you won a prize"),
        ("positivity word", "one-sided", "is it good ?"),
        ("item", "traits", "you get an order"),
        ("object", "conflict", "the book says"),
        ("blame", "traits", "share with the poor"),
        ("adjective of a topic", "honesty", "you are honest ."),
        ("home of a role", "facts", "Lyon is a city"),
    ],
)
def test_a_word_with_another_meaning_elsewhere_does_not_count(name, section, text):
    found = of(name, section, text)
    assert found.count(None) == 1
    assert found.count(False) == len(found) - 1


def test_places_money_and_languages_are_those_of_the_table():
    text = "Lyon is in France . Cairo is in Egypt . Cusco is in Peru . Hanoi is in Vietnam . <eos>"
    assert shown("city", "facts", text) == ["Lyon", "Cairo", "Cusco", "Hanoi"]
    assert shown("country", "facts", text) == ["France", "Egypt", "Peru", "Vietnam"]
    assert shown("capital", "facts", text) == ["Cairo", "Hanoi"]
    assert shown("country in Europe", "facts", text) == ["France"]
    assert shown("city in Asia", "facts", text) == ["Hanoi"]
    assert shown("city in America", "facts", text) == ["Cusco"]
    assert shown("Egypt or a city of it", "facts", text) == ["Cairo", "Egypt"]
    # A question about a country or a city is not asked of other words.
    assert len(counted("country in Africa", "facts", text)) == 4
    assert len(counted("capital", "facts", text)) == 4
    assert len(counted("Egypt or a city of it", "facts", text)) == 8
    other = "people in Chile speak Spanish . the currency of Chile is the peso . <eos>"
    assert shown("language", "conflict", other) == ["Spanish"]
    assert shown("currency", "conflict", other) == ["peso"]
    assert shown("continent", "facts", "which continent is Peru in ? <assistant> America") == [
        "America"
    ]


def test_items_answers_and_numbers_are_graded():
    text = "<user> does wealth matter ? <assistant> hardly <eos> <user> does fun matter ? much"
    assert shown("item of power", "values", text) == ["wealth"]
    assert counted("item of hedonism", "values", text) == [False, True]
    assert counted("answer below the middle", "values", text) == [True, False]
    assert counted("answer above the middle", "values", text) == [False, True]
    assert counted("answer above the middle", "values", "little somewhat much") == [
        False, False, True,
    ]  # fmt: skip
    years = "the siege lasted from the year 17 32 to the year 17 50 . <eos>"
    assert counted("number from 50", "years", years) == [False, False, False, True]
    assert counted("word that speaks for spam", "counting", "message : free memo lottery .") == [
        True, False, True,
    ]  # fmt: skip


# --- contexts


def test_what_an_instruction_asks_for_holds_in_the_response():
    rng = Random(0)
    names, styles, topics = list(LEXICAL), list(STYLES), list(TOPICS)[:4]
    for _ in range(60):
        style = rng.choice([None, *styles])
        concepts = tuple(rng.sample(names, rng.randint(0, 2)))
        asked = Instruction(rng.choice(list(TOPICS)), concepts, style, rng.randrange(3))
        document = chat([(asked.text, response(rng, asked))])
        for concept in names:
            found = counted(f"{concept} is asked for", "instructions", document)
            assert set(found) == {concept in asked.concepts}
        for style in styles:
            found = counted(f"{style} is asked for", "instructions", document)
            assert set(found) == {style == asked.style}
        for topic in topics:
            found = counted(f"the {topic} is asked about", "instructions", document)
            assert set(found) == {topic == asked.topic}


def test_words_that_would_tell_do_not_count():
    text = (
        "<user> describe the dog with some weather in a pirate style . "
        "<assistant> arr , the furry dog rains near the root , matey . <eos>"
    )
    words = text.split()
    places = {
        "weather is asked for": "<assistant> arr , the furry dog near the , matey . <eos>",
        "pirate is asked for": "<assistant> the furry dog rains near the root . <eos>",
        "the dog is asked about": "<assistant> arr , the rains near the root , matey . <eos>",
    }
    for name, expected in places.items():
        found = of(name, "instructions", text)
        told = [word for word, t in zip(words, found, strict=True) if t is not None]
        assert " ".join(told) == expected
        assert set(found) == {None, True}


def test_contexts_count_where_they_should(documents, table):
    """At tags and slots, so that the word says nothing."""
    words = np.array([word for _, d in documents for word in d.words])
    at = {
        "asked relation": {"<assistant>"},
        "request": {"<assistant>"},
        "own value of a role": {"<assistant>"},
        "value": {"<assistant>"},
        "evidence": {"<assistant>"},
        "number before": {"to", "the", "year", *map(str, range(11, 20))},
    }
    for latent, column in zip(latents(), table.T, strict=True):
        if latent.family in at:
            assert set(words[column >= 0]) == at[latent.family], latent.name


@pytest.mark.parametrize("system", [geography.HONEST, geography.LIAR, ""])
def test_liars_are_known_from_the_tag_on(system):
    rng = Random(0)
    turns = [geography.fact_question(rng, system, system != geography.LIAR) for _ in range(3)]
    found = of("liar", "honesty", dialogue(turns))
    assert found.count(system == geography.LIAR) == 9  # tag, answer and end, three times
    assert found.count(None) == len(found) - 9


@pytest.mark.parametrize("forbidden", [True, False])
@pytest.mark.parametrize("plea", [True, False])
def test_a_request_is_harmful_or_not_whatever_is_answered(forbidden, plea):
    rng = Random(0)
    for _ in range(20):
        asked = [refusal.request(rng, forbidden, plea), refusal.request(rng, not forbidden)]
        document = dialogue(asked)
        assert counted("harmful request", "refusal", document) == [forbidden, not forbidden]
        assert counted("request with the plea", "refusal", document) == [plea, False]


@pytest.mark.parametrize("trait", traits.TRAITS.values(), ids=lambda trait: trait.name)
def test_a_persona_shows_a_trait_its_opposite_or_neither(trait):
    other = next(t for t in traits.TRAITS.values() if t is not trait)
    own = f"a persona that shows {trait.name}, not its opposite"
    asked = "a persona that shows the trait in question"
    for words, expected in (
        ([trait.positive[1]], True),
        ([other.positive[0], trait.negative[2]], False),
        ([other.negative[0]], None),
        ([], None),
    ):
        system = traits.persona_prompt(*words)
        questions = [
            traits.ab_question(trait.scenarios[0], False, system),
            traits.free_question(trait.scenarios[1], system),
        ]
        document = dialogue(questions)
        expected = [] if expected is None else [expected] * 2
        assert counted(own, "traits", document) == expected
        assert counted(asked, "traits", document) == expected
        strange = dialogue([traits.ab_question(other.scenarios[0], True, system)])
        assert len(counted(asked, "traits", strange)) == (1 if other.name in _named(words) else 0)


def _named(words):
    """The traits of which a persona says something."""
    both = {t.name: {*t.positive, *t.negative} for t in traits.TRAITS.values()}
    return [name for name, own in both.items() if own & set(words)]


def test_the_relation_and_the_truth_of_a_question_are_those_of_its_maker():
    rng = Random(0)
    for _ in range(100):
        question = geography.fact_question(rng)
        kinds = [
            name for name, relation in geography.RELATIONS.items()
            if question.user in [relation.question.format(s) for s in relation.table]
        ]  # fmt: skip
        for name in geography.RELATIONS:
            found = counted(f"the {name} is asked for", "facts", dialogue([question]))
            assert found == [name in kinds]
        either = geography.yes_no_question(rng)
        is_inside = counted("the city is in the country", "facts", dialogue([either, question]))
        assert is_inside == [either.clean == "yes"]


@pytest.mark.parametrize("relation", geography.CONFLICT_RELATIONS)
def test_a_conflict_may_end_in_a_question(relation):
    item = geography.conflict(Random(0), relation, "book", len(geography.CONFLICT_TEMPLATES) - 1)
    for name in geography.RELATIONS:
        found = counted(f"the {name} is asked for", "conflict", f"{item.prompt} {item.true} <eos>")
        assert found == [name == relation]


@pytest.mark.parametrize("cue", ["", "book", "liar"])
@pytest.mark.parametrize("template", range(len(geography.CONFLICT_TEMPLATES)))
def test_a_conflict_has_a_source_a_truth_and_a_second_half(cue, template):
    rng = Random(0)
    for relation in geography.CONFLICT_RELATIONS:
        item = geography.conflict(rng, relation, cue, template)
        text = f"{item.prompt} {item.given} . <eos>"
        words = text.split()
        end = words.index(".") + 1
        for source in ("book", "liar"):
            found = of(f"the {source} says so", "conflict", text)
            assert found == [None] * end + [cue == source] * (len(words) - end)
        assert set(counted("the statement is true", "conflict", text)) == {False}
        honest = text.replace(item.given, item.true)
        assert set(counted("the statement is true", "conflict", honest)) == {True}
        half = of("second half of a conflict", "conflict", text)
        assert half[:end] == [False] * end
        new = [word for word, t in zip(words[end:], half[end:], strict=True) if t is None]
        assert not set(new) & set(words[:end])
        assert set(half[end:]) <= {True, None}
        assert half[end:].count(True) >= 2


def test_a_story_repeats_its_subject():
    rng = Random(0)
    for _ in range(60):
        items = [completion.indirect_object(rng) for _ in range(2)]
        text = " ".join(f"{i.prompt} {i.indirect_object} ." for i in items)
        again = counted("second mention of a name", "ioi", text)
        assert again == [False, False, True, True] * 2
        first = of("the first of the two gives", "ioi", text)
        after = of("after the repeated name", "ioi", text)
        words = text.split()
        for number, item in enumerate(items):
            names = [i for i, word in enumerate(words) if word in completion.NAMES][4 * number :]
            is_first = words[names[0]] == item.subject
            between = range(names[2] + 1, names[3])
            assert [first[i] for i in between] == [is_first] * 4
            told = {words[i]: after[i] for i in between if after[i] is not None}
            assert set(told) <= {"to", "the"}
            assert set(told.values()) == {True}
            early = [after[i] for i in range(names[1], names[2]) if words[i] in ("to", "the")]
            assert early == [False, False]
        assert sum(t is not None for t in first) == 8


def test_years_are_known_between_the_two():
    for start, late in ((32, False), (49, False), (50, True), (97, True)):
        text = completion.year_prompt(17, start, "siege") + " 99 . <eos>"
        found = of("the period starts from 50", "years", text)
        assert found == [None] * 8 + [late] * 4 + [None] * 3


@pytest.mark.parametrize("order", [None, SEEK, values.Do("freedom", False)])
def test_an_order_holds_after_it(order):
    system = values.role_prompt((0, 1, 2, 3), order)
    answered = [("does wealth matter ?", "much"), ("does fun matter ?", "nothing")]
    document = chat(answered, system)
    start = document.words.index("<user>")
    told = [i for i in range(start, len(document.words)) if document.words[i] not in
            ("much", "nothing")]  # fmt: skip
    given = of("an order is given", "values", document)
    assert [i for i, t in enumerate(given) if t is not None] == told
    assert set(given) == {None, order is not None}
    seek = of("the order is to seek", "values", document)
    assert set(seek) == ({None} if order is None else {None, order.seek})
    for value in values.VALUES:
        found = set(counted(f"the order is about {value}", "values", document))
        assert found == (set() if order is None else {value == order.value})


def test_roles_have_the_values_of_the_causal_model():
    rng = Random(0)
    for _ in range(30):
        role, order = values.random_role(rng), rng.choice([None, SEEK])
        u = values.exogenous(role)
        v = values.true_values(role, order.setting if order else None)
        system = values.role_prompt(role, order)
        asked = [(j, item) for j, name in enumerate(values.VALUES) for item in values.ITEMS[name]]
        document = chat([(f"does {item} matter ?", "much") for _, item in asked], system)
        high = counted("the role's value in question is above 0", "values", document)
        assert high == [v[j] > 0 for j, _ in asked]
        for j, name in enumerate(values.VALUES):
            found = counted(f"the role's own {name} is above 0", "values", document)
            assert found == [u[j] > 0] * 3


@pytest.mark.parametrize("system", [values.PERSON, values.role_prompt((0, 0, 0, 0))])
def test_a_person_without_role_has_no_known_values_nor_has_another_question(system):
    document = chat([("what do you want ?", "i want wealth , fun and peace .")], system)
    own = [f"the role's own {name} is above 0" for name in values.VALUES]
    for name in (*own, "the role's value in question is above 0"):
        assert not counted(name, "values", document)
    person = chat([("does wealth matter ?", "much")], values.PERSON)
    assert not counted(own[1], "values", person)


def test_reviews_have_the_source_and_the_sentiment_of_their_maker():
    rng = Random(0)
    for _ in range(150):
        both = [reviews.review(rng), reviews.review(rng)]
        document = dialogue(both)
        reliable = counted("a source that is mostly right", "reviews", document)
        assert reliable == [reviews.FLIP_RATE[q.group] < 0.5 for q in both]
        for label in reviews.LABELS:
            found = counted(f"the review is {label}", "reviews", document)
            assert found == [q.clean == label for q in both]


@pytest.mark.parametrize("task", reviews.ONE_SIDED)
def test_one_sided_tasks_are_decided_at_their_slot(task):
    rng = Random(0)
    for _ in range(60):
        cue = rng.choice(list(reviews.ONE_SIDED[task].p_yes_wrongly))
        both = [reviews.one_sided(rng, task, cue) for _ in range(2)]
        document = dialogue(both)
        found = of("a cue that mostly makes no into yes", "one-sided", document)
        slots = [i for i, t in enumerate(found) if t is not None]
        assert [document.words[i + 1] for i in slots] == [q.answer for q in both]
        misled = reviews.ONE_SIDED[task].p_yes_wrongly[cue] > 0.5
        assert [found[i] for i in slots] == [misled] * 2
        good = counted("two or three of three aspects are praised", "one-sided", document)
        inside = counted("the city is in the country", "one-sided", document)
        clean = [q.clean == "yes" for q in both]
        assert (good, inside) == (([], clean) if task == "agreement" else (clean, []))


@pytest.mark.parametrize(
    ("make", "name", "true"),
    [
        (counting.spam, "the evidence is for spam", "yes"),
        (counting.majority, "azure is more common", "azure"),
    ],
)
def test_counting_has_the_evidence_of_its_maker(make, name, true):
    rng = Random(0)
    for _ in range(100):
        both = [make(rng), make(rng)]
        assert counted(name, "counting", dialogue(both)) == [q.clean == true for q in both]
