"""Problems with one true label: probabilities of classes, and answers that come after a preface."""

import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

import steerlib as st
from steerlib.core import classification as module
from steerlib.core.classification import Answers, label_ids
from steerlib.core.prompts import encode, render
from steerlib.core.sites import attach, resolve
from steerlib.evaluation import world_problems
from steerlib.world.reviews import ONE_SIDED

PROMPTS = ("tell me about the dog", "sun", "a little girl went to the park and saw a big red ball")
CLASSES = ("happy", "sad", "cat")
CLIP = math.log(1e8)
SITE = st.resid(1)
PREFACES = ONE_SIDED["advice"].prefaces


def _problems(prompts=PROMPTS, classes=CLASSES, **options):
    options = {"chat": False} | options
    return [
        st.Problem(p, classes[k % len(classes)], classes, **options) for k, p in enumerate(prompts)
    ]


@pytest.fixture(scope="module")
def world():
    return st.load("world", engine="hf")


@pytest.fixture(scope="module")
def advice():
    """Questions whose answers the world's model opens with a preface, or ends one that is begun."""
    problems = world_problems("advice", 24, preface=False)
    begun = ["", *(preface.split()[0] for preface in PREFACES)]
    return [
        replace(problem, prompt=f"{problem.prompt} {begun[k % 6]}".strip())
        for k, problem in enumerate(problems)
    ]


@pytest.fixture(scope="module")
def written(world, advice):
    return st.classify_written(world, advice)


def _tokens(model, ids):
    return set(model.tokenizer.convert_ids_to_tokens(ids))


def _by_hand(model, scores, classes):
    """p(class) from the largest logit of each, and the probability of all label tokens."""
    labels = [label_ids(model, [label])[0] for label in classes]
    largest = [max(scores[token].item() for token in ids) for ids in labels]
    total = sum(math.exp(x) for x in largest)
    p = scores.double().softmax(-1)
    return [math.exp(x) / total for x in largest], sum(
        p[token].item() for i in labels for token in i
    )


def _assert_reads(model, answers, row, scores):
    p, mass = _by_hand(model, scores, answers.classes)
    assert answers.log_p[row].exp().tolist() == pytest.approx(p, rel=1e-4)
    assert answers.mass[row].item() == pytest.approx(mass, rel=1e-4)


def _same(one, other, atol=1e-5):
    for name in ("log_p", "mass"):
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=atol), name
    for name in ("truth", "found"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


# --- problems


@pytest.mark.parametrize(
    ("label", "classes", "message"),
    [
        ("yes", ("yes",), r"two or more different classes, got \('yes',\)"),
        ("yes", (), "two or more"),
        ("yes", ("yes", "no", "yes"), "different"),
        ("maybe", ("yes", "no"), r"the label 'maybe' is none of the classes \('yes', 'no'\)"),
        ("YES", ("yes", "no"), "none of the classes"),
    ],
)
def test_a_problem_has_one_of_at_least_two_classes(label, classes, message):
    with pytest.raises(ValueError, match=message):
        st.Problem("is it good ?", label, classes)


def test_classes_may_be_a_list():
    assert st.Problem("is it good ?", "no", ["yes", "no"]).classes == ("yes", "no")


# --- what was read


def _answers(logits, truth, found=None):
    log_p = torch.tensor(logits).log_softmax(1)
    n, k = log_p.shape
    found = torch.ones(n, dtype=torch.bool) if found is None else torch.tensor(found)
    return Answers(tuple("abc"[:k]), log_p, torch.tensor(truth), torch.ones(n), found)


def test_an_error_is_what_is_left_for_the_other_classes():
    answers = _answers([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0], [2.0, 2.5, 0.0]], [1, 0, 1])
    p = [math.exp(2) / (math.e + math.exp(2) + math.exp(0.5))]
    p += [1 / (1 + math.exp(-1) + math.exp(3)), math.exp(2.5) / (math.exp(2) + math.exp(2.5) + 1)]
    assert answers.error.tolist() == pytest.approx([1 - x for x in p], rel=1e-5)
    assert answers.log_odds.tolist() == pytest.approx([math.log(1 / x - 1) for x in p], rel=1e-5)
    assert answers.predicted.tolist() == [1, 2, 1]
    assert answers.correct.tolist() == [True, False, True]
    assert answers.accuracy == pytest.approx(2 / 3)


def test_log_odds_are_exact_where_one_minus_p_is_not():
    sizes = [0.0, 5.0, 12.0, 16.0, 18.0]
    for sign in (1, -1):
        answers = _answers([[sign * x, 0.0] for x in sizes], [0] * len(sizes))
        assert answers.log_odds.tolist() == pytest.approx([-sign * x for x in sizes], rel=1e-5)
    # Three classes, and more than float32 could tell from 1.
    assert _answers([[16.0, 0.0, 0.0]], [0]).log_odds.item() == pytest.approx(math.log(2) - 16)


def test_log_odds_are_clipped_where_the_paper_clips_the_probability():
    answers = _answers([[60.0, 0.0], [0.0, 60.0], [-500.0, 500.0], [CLIP - 0.1, 0.0]], [0] * 4)
    assert answers.log_odds.tolist() == pytest.approx([-CLIP, CLIP, CLIP, 0.1 - CLIP])
    assert math.log((1 - 1e-8) / 1e-8) == pytest.approx(CLIP)


def test_no_label_is_wrong_with_an_error_of_one():
    """Whatever the label is, and whatever was read: breaking the format must not look right."""
    answers = _answers([[9.0, 0.0]] * 4, [0, 1, 0, 1], [True, True, False, False])
    assert answers.predicted.tolist() == [0, 0, -1, -1]
    assert answers.correct.tolist() == [True, False, False, False]
    assert answers.accuracy == 0.25
    assert answers.error[2:].tolist() == [1.0, 1.0]
    assert answers.log_odds[2:].tolist() == pytest.approx([CLIP, CLIP])


def test_some_rows_keep_their_order():
    answers = _answers([[1.0, 2.0], [3.0, 0.0], [0.0, 0.5]], [1, 0, 0], [True, False, True])
    some = answers.of([2, 1])
    assert torch.equal(some.log_p, answers.log_p[[2, 1]])
    assert (some.truth.tolist(), some.found.tolist()) == ([0, 0], [True, False])
    assert some.classes == answers.classes
    assert answers.of([]).log_p.shape == (0, 2)


# --- label tokens


def test_words_have_the_tokens_of_all_their_ways_to_be_written(world):
    vocabulary = world.tokenizer.get_vocab()
    for label in ("yes", "no", "crimson", "positive"):
        (ids,) = label_ids(world, [label])
        ways = {label, label.upper(), label.capitalize()}
        assert sorted(ids) == sorted(vocabulary[way] for way in ways if way in vocabulary)
    # A class in capitals is also its lower case.
    assert label_ids(world, ["YES", " No "]) == label_ids(world, ["yes", "no"])


def test_pieces_of_words_count_only_where_no_way_is_one_token(models):
    qwen2 = models("qwen2")
    pairs = [("cat", "dog"), ("qxz", "wzx")]
    found = [[_tokens(qwen2, ids) for ids in label_ids(qwen2, pair)] for pair in pairs]
    assert found[0] == [{"cat", "Ġcat"}, {"Ġdog"}]  # "dog" is three tokens, "Cat" two
    # A space that is a token of its own could begin any word.
    assert qwen2.tokenizer.tokenize(" qxz")[0] == "Ġ"
    assert found[1] == [{"q", "Q"}, {"w", "W", "Ġw"}]


def test_a_space_alone_never_stands_for_a_class(stories):
    for classes in (("happy", "sad"), ("girl", "boy"), ("yes", "no")):
        for ids in label_ids(stories, classes):
            assert "▁" not in _tokens(stories, ids)
    assert _tokens(stories, label_ids(stories, ["she"])[0]) == {"▁she", "▁She"}
    with pytest.raises(ValueError, match="no way to write the class 'A'"):
        label_ids(stories, ("A", "B"))  # "▁", "A"


def test_a_letter_is_not_looked_for_in_lower_case(models):
    qwen2 = models("qwen2")
    assert [_tokens(qwen2, ids) for ids in label_ids(qwen2, "ABCD")] == [{c} for c in "ABCD"]
    assert _tokens(qwen2, label_ids(qwen2, ["a"])[0]) == {"a", "Ġa", "A"}


@pytest.mark.parametrize(
    ("classes", "token"),
    [(("dog", "Dog"), "Ġdog"), (("qxz", "cat", "qxw"), "Q"), (("a", "A"), "A")],
)
def test_classes_that_share_a_token_are_refused(models, classes, token):
    message = f"'{classes[0]}' and '{classes[-1]}' share label tokens of .*'{token}'"
    with pytest.raises(ValueError, match=message):
        label_ids(models("qwen2"), classes)
    with pytest.raises(ValueError, match=message):
        st.classify(models("qwen2"), _problems(classes=classes))


def test_a_class_outside_the_vocabulary_is_refused(gpt2):
    with pytest.raises(ValueError, match=r"no way to write the class 'wolf' is in the vocabulary"):
        label_ids(gpt2, ("dog", "wolf"))
    with pytest.raises(ValueError, match="'the dog'"):
        label_ids(gpt2, ("the dog .", "the dog"))  # two words begin alike


# --- at the end of the prompt


def test_probabilities_are_those_of_the_likeliest_token_of_each_class(model):
    answers = st.classify(model, _problems())
    for row, prompt in enumerate(PROMPTS):
        _assert_reads(model, answers, row, st.logits(model, prompt, chat=False)[0, -1])
    assert answers.truth.tolist() == [0, 1, 2]
    assert answers.classes == CLASSES
    assert answers.found.all()
    assert torch.allclose(answers.log_p.exp().sum(1), torch.ones(3))
    assert answers.log_p.std(0).min() > 0.01  # the rows differ


def test_a_class_of_several_tokens_counts_by_its_likeliest(models):
    qwen2, classes = models("qwen2"), ("cat", "sad", "qxz")
    ids = label_ids(qwen2, classes)
    assert len(ids[0]) == len(ids[2]) == 2
    answers = st.classify(qwen2, _problems(classes=classes))
    for row, prompt in enumerate(PROMPTS):
        scores = st.logits(qwen2, prompt, chat=False)[0, -1]
        _assert_reads(qwen2, answers, row, scores)
        p = [scores[i].logsumexp(0) for i in ids]
        assert not torch.allclose(torch.stack(p).log_softmax(0), answers.log_p[row], atol=0.05)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "qwen2"])
def test_engines_batches_and_padding_agree(models, name):
    whole = st.classify(models(name), _problems())
    _same(st.classify(models(name, "bridge"), _problems()), whole)
    for size in (1, 2):
        _same(st.classify(models(name), _problems(), batch_size=size), whole)
    for row, problem in enumerate(_problems()):
        _same(st.classify(models(name), [problem]), whole.of([row]))


@pytest.mark.parametrize("task", ["reviews", "verdict", "majority"])
def test_the_likeliest_class_is_what_greedy_decoding_writes(world, task):
    problems = world_problems(task, 40)
    answers = st.classify(world, problems)
    said = st.generate(world, [p.prompt for p in problems], max_new_tokens=1, chat=False)
    assert [answers.classes[k] for k in answers.predicted] == said
    right = [word == p.label for word, p in zip(said, problems, strict=True)]
    assert answers.correct.tolist() == right
    assert answers.accuracy == pytest.approx(sum(right) / len(right))
    assert answers.accuracy > 0
    assert answers.mass.min() > 0.9


@pytest.mark.parametrize("engine", ["hf", "bridge"])
@pytest.mark.parametrize("positions", [st.everywhere, st.last, st.prompt - st.last])
def test_answers_are_steered(models, vector, engine, positions):
    model, push = models("gemma2", engine), st.Add(SITE, 6 * vector()).at(positions)
    with st.steer(model, push):
        answers = st.classify(model, _problems())
        for row, prompt in enumerate(PROMPTS):
            _assert_reads(model, answers, row, st.logits(model, prompt, chat=False)[0, -1])
    assert (answers.log_p - st.classify(model, _problems()).log_p).abs().max() > 0.05


def test_strengths_follow_their_problems(gpt2, vector):
    push, strengths = st.Add(SITE, vector()), [4.0, 0.0, -3.0]
    with st.steer(gpt2, push, torch.tensor(strengths)):
        answers = st.classify(gpt2, _problems(), batch_size=2)
    for row, strength in enumerate(strengths):
        with st.steer(gpt2, push, strength):
            _same(st.classify(gpt2, _problems()).of([row]), answers.of([row]))


def test_prompts_are_read_as_chats_where_they_are_told_to(gpt2):
    options = [{"chat": None}, {"chat": True}, {"chat": None, "system": "a sad story"}]
    for option in options:
        answers = st.classify(gpt2, _problems(**option))
        for row, prompt in enumerate(PROMPTS):
            _assert_reads(gpt2, answers, row, st.logits(gpt2, prompt, **option)[0, -1])
    chats = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    _same(st.classify(gpt2, _problems(chats, chat=None)), st.classify(gpt2, _problems(chat=True)))


@pytest.mark.parametrize("ask", [st.classify, st.classify_written])
def test_problems_that_cannot_be_asked_together_are_refused(gpt2, ask):
    with pytest.raises(ValueError, match="at least one; got none"):
        ask(gpt2, [])
    with pytest.raises(ValueError, match=r"share their classes, got .*'happy'.*'sad', 'happy'"):
        ask(gpt2, [*_problems(), *_problems(classes=("sad", "happy"))])
    long = " ".join(["sun"] * (gpt2.n_ctx - 1))  # and BOS: no room for an answer
    with pytest.raises(ValueError, match="does not fit"):
        ask(gpt2, _problems([*PROMPTS, long]))
    with pytest.raises(ValueError, match="needs a chat template"):
        ask(gpt2, _problems(system="a sad story"))


# --- where the model writes its label itself


def test_a_label_after_a_preface_is_found(world, advice, written):
    answers, exact = written
    said = st.generate(world, [p.prompt for p in advice], max_new_tokens=12, chat=False)
    assert answers.found.all()
    for row, (problem, longer) in enumerate(zip(advice, exact, strict=True)):
        assert longer.prompt.split("<assistant> ")[1] in PREFACES
        more = longer.prompt.removeprefix(problem.prompt)
        assert f" {said[row]}" == f"{more} {answers.classes[answers.predicted[row]]}"
        assert (longer.label, longer.classes, longer.group) == (
            problem.label, problem.classes, problem.group
        )  # fmt: skip
        assert (longer.chat, longer.system) == (False, None)
    assert {longer.prompt.split("<assistant> ")[1] for longer in exact} == set(PREFACES)
    assert answers.truth.tolist() == [p.classes.index(p.label) for p in advice]
    assert 0.5 < answers.accuracy < 1


def test_logits_are_those_that_chose_the_label_not_those_after_it(world, written):
    answers, exact = written
    _same(st.classify(world, exact), answers)
    for row in range(4):
        scores = st.logits(world, exact[row].prompt, chat=False)[0, -1]
        _assert_reads(world, answers, row, scores)
        label = answers.classes[answers.predicted[row]]
        after = st.logits(world, f"{exact[row].prompt} {label}", chat=False)[0, -1]
        p, mass = _by_hand(world, after, answers.classes)
        assert mass < 0.5 < answers.mass[row]
        assert abs(p[0] - answers.log_p[row, 0].exp()) > 1e-2


def test_without_a_label_an_answer_is_wrong_and_its_problem_stays(world, advice):
    answers, exact = st.classify_written(world, advice[:6], max_new_tokens=1)
    assert not answers.found.any()
    assert exact == advice[:6]
    assert answers.accuracy == 0
    assert answers.error.tolist() == [1.0] * 6
    assert answers.log_odds.tolist() == pytest.approx([CLIP] * 6)
    assert answers.predicted.tolist() == [-1] * 6
    assert answers.mass.tolist() == [0.0] * 6
    assert torch.allclose(answers.log_p, torch.full((6, 2), math.log(0.5)))


def test_found_and_not_found_stay_with_their_problems(world, advice):
    at_once = world_problems("verdict", 5)
    mixed = [p for pair in zip(at_once, advice, strict=False) for p in pair]
    answers, exact = st.classify_written(world, mixed, max_new_tokens=1, batch_size=3)
    assert answers.found.tolist() == [True, False] * 5
    assert exact == mixed
    _same(answers.of(range(0, 10, 2)), st.classify(world, at_once))
    assert answers.error[1::2].tolist() == [1.0] * 5


def test_a_label_at_once_is_what_classify_reads(world):
    problems = world_problems("reviews", 20)
    answers, exact = st.classify_written(world, problems)
    assert exact == problems
    _same(answers, st.classify(world, problems))


def test_a_label_has_to_come_in_time(world, advice, written):
    _, exact = written
    before = [len(encode(world, e.prompt, False)[0]) for e in exact]
    before = [
        n - len(encode(world, p.prompt, False)[0]) for n, p in zip(before, advice, strict=True)
    ]
    for limit in (min(before), min(before) + 1, max(before), max(before) + 1):
        found = st.classify_written(world, advice, max_new_tokens=limit)[0].found
        assert found.tolist() == [n < limit for n in before]


def test_written_answers_do_not_depend_on_batch_or_engine(world, advice, written):
    for size in (1, 5):
        answers, exact = st.classify_written(world, advice, batch_size=size)
        _same(answers, written[0])
        assert exact == written[1]
    answers, exact = st.classify_written(st.load("world"), advice)
    _same(answers, written[0])
    assert exact == written[1]


def _uncached(model, ids, start, change, steered):
    """The logits after some tokens when all are read at once; the prompt is the first `start`."""
    at = torch.tensor([float(steered(i, start)) for i in range(len(ids))])[:, None]
    handle = attach(resolve(model, SITE), lambda h: h + at * change)
    with torch.no_grad():
        scores = model.hf(torch.tensor([ids]), use_cache=False).logits[0, -1]
    handle.remove()
    return scores


POSITIONS = {
    "last": (st.last, lambda i, start: i == start - 1),
    "generation": (st.generation, lambda i, start: i >= start),
    "last and generation": (st.last | st.generation, lambda i, start: i >= start - 1),
    "prompt": (st.prompt, lambda i, start: i < start),
}


@pytest.mark.parametrize("name", POSITIONS)
@pytest.mark.parametrize("engine", ["hf", "bridge"])
def test_positions_mean_what_they_mean_while_the_model_writes(world, advice, vector, name, engine):
    model = world if engine == "hf" else st.load("world")
    positions, steered = POSITIONS[name]
    change, problems = 3 * vector(world.d_model), advice[:8]
    edit = st.Add(SITE, change).at(positions)
    with st.steer(model, edit):
        answers, exact = st.classify_written(model, problems)
        said = st.generate(model, [p.prompt for p in problems], max_new_tokens=20, chat=False)
    assert answers.found.any()
    for row in answers.found.nonzero()[:, 0].tolist():
        label = answers.classes[answers.predicted[row]]
        assert f"{problems[row].prompt} {said[row]}".startswith(f"{exact[row].prompt} {label}")
        ids, start = (encode(world, p[row].prompt, False)[0] for p in (exact, problems))
        assert len(ids) > len(start)
        scores = _uncached(world, ids, len(start), change, steered)
        _assert_reads(world, answers, row, scores)
    # What was read is not what `classify` finds there, where the prompt is longer.
    with st.steer(model, edit) if name != "generation" else nullcontext():
        longer = st.classify(model, exact)
    differ = (longer.log_p - answers.log_p)[answers.found].abs().max()
    assert differ > 1e-3


def test_a_condition_is_decided_where_the_prompt_ends(world, advice, vector):
    readout = st.Readout(st.resid(0), vector(world.d_model, seed=3))
    prompts, problems = [p.prompt for p in advice[:8]], advice[:8]
    scores = readout.score(world, prompts)
    gate = readout > scores.median().item()
    holds = scores > gate.threshold
    assert 0 < holds.sum() < 8
    push = st.Add(SITE, 3 * vector(world.d_model)).at(st.last | st.generation)
    with st.steer(world, push.when(gate)):
        gated, exact = st.classify_written(world, problems)
    with st.steer(world, push):
        always, far = st.classify_written(world, problems)
    never, near = st.classify_written(world, problems)
    assert torch.allclose(
        gated.log_p, torch.where(holds[:, None], always.log_p, never.log_p), atol=1e-4
    )
    assert exact == [f if hold else n for f, n, hold in zip(far, near, holds, strict=True)]
    assert not torch.allclose(always.log_p, never.log_p, atol=1e-2)


def test_strengths_follow_problems_whose_labels_come_late(world, advice, vector):
    push, problems = st.Add(SITE, vector(world.d_model)), advice[:6]
    strengths = torch.linspace(-3, 3, 6)
    with st.steer(world, push, strengths):
        answers, exact = st.classify_written(world, problems, batch_size=4)
    for row, strength in enumerate(strengths.tolist()):
        with st.steer(world, push, strength):
            alone, own = st.classify_written(world, [problems[row]])
        _same(answers.of([row]), alone)
        assert exact[row] == own[0]


def test_a_chat_becomes_the_text_that_was_read(gpt2):
    said = st.generate(gpt2, "the dog", system="a sad story", max_new_tokens=12).split()
    at = next(i for i, word in enumerate(said) if i > 2 and word not in said[:i])
    other = next(word for word in CLASSES if word not in said)
    (problem,) = _problems(["the dog"], (said[at], other), chat=None, system="a sad story")
    answers, (exact,) = st.classify_written(gpt2, [problem])
    assert answers.found.all()
    text = render(gpt2, "the dog", None, "a sad story")
    assert exact.prompt.split() == [*text.split(), *said[:at]]
    assert (exact.chat, exact.system) == (False, None)
    assert answers.correct.all()
    _same(st.classify(gpt2, [exact]), answers)


def _writes(monkeypatch, model, *pieces):
    """The model writes these tokens, whatever it reads."""
    ids = model.tokenizer.convert_tokens_to_ids(list(pieces))
    assert None not in ids
    monkeypatch.setattr(module, "write", lambda _, encoded, steps: [ids] * len(encoded))


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (("Ġ.", "Ġbig", "Ġcat"), "the dog . big"),
        ((".", "Ġbig", "Ġcat", "Ġsad"), "the dog. big"),  # no space in front
        (("Ċ", "cat"), "the dog\n"),
        (("Ġ", "cat"), "the dog "),
        (("Ġcat", "Ġsad"), "the dog"),
        (("cat",), "the dog"),
    ],
)
def test_written_pieces_of_words_come_back_as_they_were(models, monkeypatch, pieces, text):
    qwen2 = models("qwen2")
    _writes(monkeypatch, qwen2, *pieces)
    (problem,) = _problems(["the dog"], ("cat", "sad"))
    answers, (exact,) = st.classify_written(qwen2, [problem])
    assert answers.found.all()
    assert exact.prompt == text
    scores = st.logits(qwen2, text, chat=False)[0, -1]
    _assert_reads(qwen2, answers, 0, scores)


def test_what_does_not_come_back_is_refused(models, monkeypatch):
    qwen2 = models("qwen2")
    for pieces in (("Ġ", "b", "i", "g"), ("Ġdo", "g")):
        _writes(monkeypatch, qwen2, *pieces, "Ġcat")
        with pytest.raises(ValueError, match=r"wrote after ...'the dog' does not come back.*'g'"):
            st.classify_written(qwen2, _problems(["the dog"], ("cat", "sad")))


def test_nothing_written_is_no_label(gpt2, monkeypatch):
    monkeypatch.setattr(module, "write", lambda _, encoded, steps: [[] for _ in encoded])
    answers, exact = st.classify_written(gpt2, _problems())
    assert not answers.found.any()
    assert exact == _problems()


def test_a_real_model_writes_its_label_in_pieces(stories):
    prompts = [
        "Once upon a time there was a girl named Lily.",
        "Once upon a time there was a boy named Tim.",
        "Lily",
    ]
    problems = _problems(prompts, ("she", "he"))
    answers, exact = st.classify_written(stories, problems, max_new_tokens=30)
    assert answers.found.tolist() == [True, True, False]
    assert answers.correct.tolist() == [True, True, False]
    assert exact[0] == problems[0]
    assert exact[1].prompt.startswith(problems[1].prompt)
    assert exact[2] == problems[2]
    _same(st.classify(stories, exact[:2]), answers.of([0, 1]))
    said = st.generate(stories, prompts[1], max_new_tokens=30, chat=False)
    assert f"{prompts[1]} {said}".startswith(f"{exact[1].prompt} he ")
