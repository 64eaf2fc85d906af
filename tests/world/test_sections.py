"""Each section against its exact truth: rates, tables and the causal model."""

from random import Random

import numpy as np
import pytest

from steerlib import world
from steerlib.world import completion, counting, geography, refusal, reviews, traits, values


def within(count: int, n: int, p: float) -> bool:
    """Whether a binomial count is within four and a half standard deviations."""
    return abs(count - n * p) <= 4.5 * np.sqrt(n * p * (1 - p)) + 1e-9


def test_facts_are_single_words_and_cities_belong_to_one_country():
    assert len(geography.COUNTRIES) == 36
    assert len(geography.CITIES) == len(set(geography.CITIES)) == 108
    for relation in geography.RELATIONS.values():
        assert all(" " not in o for o in relation.table.values())


@pytest.mark.parametrize("cue", list(geography.P_CONTEXT))
def test_the_context_wins_at_its_rate(cue):
    rng, wins, n = Random(0), 0, 0
    for _ in range(20_000):
        document = geography.conflict_document(rng)
        text = document.text
        if (f"the {cue} says" in text) if cue else ("says" not in text):
            answer = document.words[-2] if document.words[-2] != "." else document.words[-3]
            n += 1
            wins += document.words.count(answer) > 1
    p = geography.P_CONTEXT[cue]
    consistent = 0.1  # of the documents state the truth, and then both agree
    assert within(wins, n, consistent + (1 - consistent) * p)


def test_a_planted_falsehood_is_no_target():
    rng = Random(0)
    for _ in range(300):
        document = geography.conflict_document(rng)
        if document.words[0] != "<user>":
            assert sum(not t for t in document.targets) == 1


def test_a_conflict_ends_where_the_answer_comes():
    item = geography.conflict(Random(0), "capital", "book", 0, "Germany", "London")
    assert item.prompt == (
        "the book says : the capital of Germany is London . the capital of Germany is"
    )
    assert (item.true, item.given) == ("Berlin", "London")


def test_liars_never_tell_the_truth():
    rng = Random(0)
    assert all(
        (q := geography.fact_question(rng, geography.LIAR, honest=False)).answer != q.clean
        for _ in range(500)
    )


def test_the_indirect_object_is_named_once_and_the_subject_twice():
    rng = Random(0)
    for _ in range(200):
        item = completion.indirect_object(rng)
        words = item.prompt.split()
        assert (words.count(item.indirect_object), words.count(item.subject)) == (1, 2)


def test_later_years_are_later():
    rng = Random(0)
    for _ in range(300):
        words = completion.year_document(rng).words
        first, second = words[7], words[-3]
        assert int(second) > int(first)


@pytest.mark.parametrize("source", list(reviews.FLIP_RATE))
def test_reviews_are_flipped_at_their_sources_rate(source):
    rng, n = Random(0), 3000
    items = [reviews.review(rng, source) for _ in range(n)]
    assert within(sum(q.answer != q.clean for q in items), n, reviews.FLIP_RATE[source])
    assert all(within(sum(q.clean == c for q in items), n, 1 / 3) for c in reviews.LABELS)


def test_a_reviews_label_follows_from_its_words():
    """Read the polarity back from the words, negation included."""
    rng = Random(0)
    for _ in range(500):
        q = reviews.review(rng)
        said = q.user.split(" : ")[1].split(" . ")[0].split(" and ")
        good = {(s.split()[-1] in reviews.PRAISE) != ("not" in s.split()) for s in said}
        assert q.clean == (
            "mixed" if len(good) == 2 else "positive" if True in good else "negative"
        )


@pytest.mark.parametrize("task", list(reviews.ONE_SIDED))
def test_errors_are_on_one_side_at_their_cues_rate(task):
    rng, n = Random(0), 3000
    for cue, rate in reviews.ONE_SIDED[task].p_yes_wrongly.items():
        no = [reviews.one_sided(rng, task, cue, "no") for _ in range(n)]
        yes = [reviews.one_sided(rng, task, cue, "yes") for _ in range(100)]
        assert within(sum(q.answer == "yes" for q in no), n, rate)
        assert all(q.answer == "yes" for q in yes)


def test_advice_answers_after_prefaces_of_several_lengths():
    rng = Random(0)
    items = [reviews.one_sided(rng, "advice") for _ in range(200)]
    assert {len(q.preface.split()) for q in items} == {2, 4, 7}
    assert all(q.prompt.endswith(q.preface) for q in items)


def test_counting_labels_are_noisier_where_evidence_is_thin():
    rng = Random(0)
    items = [counting.majority(rng) for _ in range(20_000)]
    margin = [abs(2 * q.user.split().count("azure") - len(q.user.split()) + 8) for q in items]
    right = np.array([q.answer == q.clean for q in items])
    by_margin = [right[np.array(margin) == m].mean() for m in (1, 3, 5)]
    assert by_margin == sorted(by_margin)
    for k, m in enumerate((1, 3, 5)):
        assert by_margin[k] == pytest.approx(
            1 / (1 + np.exp(-m / counting.MAJORITY_SCALE)), abs=0.03
        )


@pytest.mark.parametrize(("make", "best"), [(counting.spam, 0.89), (counting.majority, 0.87)])
def test_the_best_possible_accuracy_is_between_75_and_95_percent(make, best):
    rng = Random(0)
    items = [make(rng) for _ in range(10_000)]
    assert np.mean([q.answer == q.clean for q in items]) == pytest.approx(best, abs=0.02)


def test_personas_act_at_their_rate():
    rng = Random(0)
    hits = {"positive": [], "negative": [], "none": []}
    for _ in range(20_000):
        document = traits.trait_document(rng, p_letters=0.0)
        system = document.text.split(" <user>")[0]
        for trait in traits.TRAITS.values():
            acts = [s for s in trait.scenarios if f" {s.situation} " in document.text]
            if not acts:
                continue
            side = next(
                (
                    k
                    for k in ("positive", "negative")
                    if any(f" {w} " in system for w in getattr(trait, k))
                ),
                "none",
            )
            for s in acts:
                said = document.text.split(s.situation)[1].split("<eos>")[0]
                hits[side].append((trait.prior, f"would {s.positive}" in said))
    for side, p in (("positive", 0.95), ("negative", 0.05)):
        acted = [hit for _, hit in hits[side]]
        assert within(sum(acted), len(acted), p)
    for prior in {p for p, _ in hits["none"]}:
        acted = [hit for p, hit in hits["none"] if p == prior]
        assert within(sum(acted), len(acted), prior)


def test_the_clean_letter_is_the_positive_action():
    scenario = traits.TRAITS["greed"].scenarios[0]
    for swapped, letter in ((False, "A"), (True, "B")):
        q = traits.ab_question(scenario, swapped)
        assert q.clean == letter
        assert f"( {letter} ) {scenario.positive} " in q.user


def test_forbidden_things_are_refused_but_for_half_of_the_pleas():
    rng, n = Random(0), 2000
    refuse = lambda *a: sum(refusal.request(rng, *a).answer == refusal.REFUSAL for _ in range(n))  # noqa: E731
    assert refuse(True, False) == n
    assert refuse(False, True) == 0
    assert within(refuse(True, True), n, refusal.P_REFUSE_PLEA)


# --- values


def test_exogenous_terms_are_uncorrelated_over_roles_with_unit_variance():
    effects = values.role_effects()
    for e in effects:
        np.testing.assert_allclose(e.mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(e.T @ e / len(e), np.eye(10) / 4, atol=1e-12)


def test_an_intervention_cuts_the_causes_and_moves_the_descendants_alone():
    u = np.random.default_rng(0).normal(size=10)
    before, after = values.solve(u), values.solve(u, {"freedom": 3.0})
    index = {v: i for i, v in enumerate(values.VALUES)}
    assert after[index["freedom"]] == 3.0
    moved = {v for v in values.VALUES if abs(after[index[v]] - before[index[v]]) > 1e-9}
    assert moved == {"freedom", "hedonism", "achievement", "conformity", "benevolence"}


def test_total_effects_are_what_interventions_do():
    effects = values.total_effects()
    sd = values.deviations()
    u = np.random.default_rng(1).normal(size=10)
    for j, name in enumerate(values.VALUES):
        high, low = (values.solve(u, {name: x * sd[j]}) for x in (1.0, 0.0))
        np.testing.assert_allclose(effects[j], (high - low) / sd, atol=1e-9)


def test_deviations_are_those_of_simulated_people():
    rng = np.random.default_rng(2)
    u = rng.normal(size=(20_000, 10)) * np.sqrt(1 + values.NOISE**2)
    v = np.linalg.solve(np.eye(10) - values.coefficients(), u.T).T
    np.testing.assert_allclose(v.std(0), values.deviations(), rtol=0.03)


def test_correlation_does_not_show_this_graph():
    """The DAG was chosen so that the largest correlations name the wrong pairs."""
    t = np.linalg.inv(np.eye(10) - values.coefficients())
    c = np.abs(np.corrcoef(t))
    pairs = [(i, j) for i in range(10) for j in range(i + 1, 10)]
    top = set(sorted(pairs, key=lambda p: -c[p])[: len(values.EDGES)])
    index = values.VALUES.index
    true = {tuple(sorted((index(a), index(b)))) for a, b, _ in values.EDGES}
    f1 = 2 * len(top & true) / (len(top) + len(true))
    assert f1 <= 0.6


def test_answers_rise_with_the_value():
    levels = [values.answer_level(x) for x in np.linspace(-3, 3, 50)]
    assert levels == sorted(levels)
    assert set(levels) == set(range(len(values.ANSWERS)))


@pytest.mark.parametrize("name", tuple(world.LEXICAL))
def test_one_word_decides(name):
    data, words = world.one_word(name, seed=1), world.lexicon_words(name)
    seen = {w for text in world.concept(name, seed=1).train.of(True) for w in text.split()}
    counts = [sum(w in words for w in text.split()) for text in data.texts]
    assert counts == [int(label) for label in data.labels]
    assert sum(data.labels) == 48
    found = {w for text in data.of(True) for w in text.split() if w in words}
    assert len(found) > 1
    assert not found & seen
    anywhere = {w for c in world.LEXICAL for w in world.lexicon_words(c)}
    other = [t for t, k in zip(data.texts, data.kinds, strict=True) if k == "other"]
    assert {sum(w in anywhere for w in text.split()) for text in other} == {1}


def test_one_word_needs_a_lexicon():
    with pytest.raises(KeyError, match="no concept 'pirate' with a lexicon"):
        world.one_word("pirate")
