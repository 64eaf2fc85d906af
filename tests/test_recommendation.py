"""recommend: it finds what was planted, admits when there is nothing, and refuses bad input."""

import warnings
from types import SimpleNamespace

import pytest
import torch

import steerlib as st
from steerlib import evaluation as ev
from steerlib.recommendation import best_setting, recommend
from tests.planted import one_word_texts, planted_model

WORDS, HALF = 40, 20  # the first half of the words carries the concept
PROMPTS = [f"w{a} w{b}" for a in (20, 25, 30, 35) for b in (21, 27, 33)]
SMALL = {"strengths": (0.5, 2.0), "max_new_tokens": 6}


@pytest.fixture(scope="module")
def planted():
    """Words of label 1 lie along u, and so does what makes the model write them."""
    rows = torch.randn(WORDS, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(WORDS) < HALF
    u = torch.eye(16)[0]
    rows = rows - torch.outer(rows[:, 0], u) + torch.outer(labels * 4.0 - 2.0, u)
    return planted_model(rows), one_word_texts(labels), u


def share(_prompt, answer):
    """The share of an answer's words that carry the concept."""
    words = answer.split()
    return sum(int(word[1:]) < HALF for word in words if word[1:].isdigit()) / max(1, len(words))


def ask(prompt):
    return f"w1 {prompt}"


def test_it_finds_the_planted_direction_and_beats_the_controls(planted):
    model, data, u = planted
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        r = recommend(model, data, PROMPTS, share, ask=ask, **SMALL)
    assert r.warning == ""
    assert r.strength in SMALL["strengths"]
    assert r.intervention.site == r.site
    assert list(r.held_out["arm"]) == ["steered", "nothing", "random", "shuffled", "prompt"]
    steered, nothing = r.held_out["score"].iloc[:2]
    assert steered > nothing + 0.3
    assert torch.cosine_similarity(r.intervention.direction, u, dim=0) > 0.9


def test_the_intervention_is_the_chosen_fit_times_the_strength(planted):
    model, data, _ = planted
    r = recommend(
        model, data, PROMPTS, share, ask=ask, methods={"diff_means": st.diff_means}, **SMALL
    )
    fit = st.diff_means(model, data, r.site)
    assert torch.allclose(r.intervention.direction, r.strength * fit.direction)
    assert r.method == "diff_means"


def test_the_table_has_every_setting_and_the_best_is_chosen(planted):
    model, data, _ = planted
    r = recommend(model, data, PROMPTS, share, ask=ask, **SMALL)
    assert len(r.table) == 4 * 1 * 2
    chosen = r.table[(r.table["method"] == r.method) & (r.table["strength"] == r.strength)]
    assert chosen["score"].item() == r.table["score"].max()
    assert set(r.table["auroc"].between(0, 1)) == {True}
    fit = st.diff_means(model, data, r.site)
    h = st.capture(model, data.texts, r.site, at=st.prompt)[r.site]
    row = r.table[(r.table["method"] == "diff_means") & (r.table["strength"] == 2.0)]
    expected = 2 * fit.direction.norm() / h.norm(dim=1).mean()
    assert row["relative"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_prompts_that_choose_do_not_report(planted):
    model, data, _ = planted
    seen = []

    def judge(prompt, answer):
        seen.append(prompt)
        return share(prompt, answer)

    recommend(model, data, PROMPTS * 2, judge, ask=ask, **SMALL)
    settings = 4 * 1 * 2
    choosing, reporting = set(seen[: 6 * settings]), set(seen[6 * settings :])
    assert len(choosing) == len(reporting) == 6
    assert not choosing & reporting
    assert choosing | reporting == set(PROMPTS)


def test_the_same_seed_gives_the_same_recommendation(planted):
    model, data, _ = planted
    first, again = (recommend(model, data, PROMPTS, share, ask=ask, **SMALL) for _ in range(2))
    assert first.table.equals(again.table)
    assert first.held_out.equals(again.held_out)


def test_it_warns_where_nothing_beats_the_controls(planted):
    model, data, _ = planted
    with pytest.warns(UserWarning, match="does not beat its controls: nothing 0.00"):
        r = recommend(model, data, PROMPTS, lambda prompt, answer: 0.0, ask=ask, **SMALL)
    assert "Do not use it" in r.warning
    assert r.warning in str(r)
    assert r.strength == 0.5  # of equal scores the smallest change


def test_a_judge_that_already_is_content_is_no_success(planted):
    # Every answer is good, so the high score of the steered ones says nothing.
    model, data, _ = planted
    with pytest.warns(UserWarning, match="does not beat its controls"):
        recommend(model, data, PROMPTS, lambda prompt, answer: 2.0, ask=ask, **SMALL)


def test_prompting_is_left_out_only_on_demand(planted):
    model, data, _ = planted
    with pytest.raises(TypeError, match="ask"):
        recommend(model, data, PROMPTS, share, **SMALL)
    with pytest.warns(UserWarning, match="prompting is left out"):
        r = recommend(model, data, PROMPTS, share, ask=None, **SMALL)
    assert "prompt" not in set(r.held_out["arm"])


@pytest.mark.filterwarnings("ignore:.*'zzgrk' is not in world's vocabulary")
@pytest.mark.filterwarnings("ignore:ask=None")
def test_a_concept_of_the_world_and_words_that_its_model_does_not_know():
    model = st.load("world", engine="hf")
    data, judge = st.world.concept("weather"), ev.world_judge("weather")
    small = {"methods": {"diff_means": st.diff_means}, "sites": [st.resid(2)], "strengths": (1.25,)}
    choosing, reporting = (
        [p.text for p in st.world.instruction_prompts(12, split=split)]
        for split in ("selection", "test")
    )
    r = recommend(
        model, data.train, choosing, judge, ask=ev.world_request("weather"),
        held_out=reporting, **small,
    )  # fmt: skip
    assert not r.warning
    assert r.held_out["score"].iloc[0] > 1

    odd = SimpleNamespace(
        texts=[
            f"the {topic} is {word} ." for topic in st.world.TOPICS for word in ("zzgrk", "old")
        ],
        labels=[True, False] * len(st.world.TOPICS),
    )
    with pytest.warns(UserWarning, match="does not beat its controls"):
        r = recommend(
            model, odd, choosing, lambda prompt, answer: float("zzgrk" in answer),
            ask=None, held_out=reporting, **small,
        )  # fmt: skip
    assert r.warning


@pytest.mark.filterwarnings("ignore:the best setting")
def test_it_runs_on_each_architecture(model):
    texts = ["a happy dog .", "happy girl", "happy red cat", "sad rain", "the sad boy", "bad wind"]
    data = SimpleNamespace(texts=texts, labels=[True] * 3 + [False] * 3)
    r = recommend(
        model, data, ["the dog", "a cat", "the bird", "a fish"],
        lambda prompt, answer: float("happy" in answer), ask=lambda prompt: f"happy {prompt}",
        strengths=(1.0,), folds=2, max_new_tokens=4,
    )  # fmt: skip
    assert len(r.table) == 4 * model.n_layers
    assert r.held_out["prompts"].tolist() == [2] * 5


def test_the_plot_is_drawn(planted, monkeypatch):
    from matplotlib import pyplot

    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.gcf()))
    model, data, _ = planted
    recommend(model, data, PROMPTS, share, ask=ask, **SMALL).plot()
    left, right = shown[0].axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["block 0"]
    assert "steered" in [tick.get_text() for tick in right.get_yticklabels()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": PROMPTS[:3]}, "two or more different prompts have to choose"),
        ({"held_out": PROMPTS[:4]}, "must not choose too; in both is 'w20 w21'"),
        ({"folds": 21}, "folds=21, but the smaller class has 20 texts"),
        ({"folds": 1}, "folds lie between 2"),
        ({"sites": []}, "sites is empty"),
        ({"methods": {}}, "needed are methods and strengths"),
        ({"strengths": ()}, "needed are methods and strengths"),
        ({"data": SimpleNamespace(texts=["w1", "w2"], labels=[True, True])}, "both classes"),
        ({"data": SimpleNamespace(texts=["w1", "w2"], labels=["a", "b"])}, "labels are True"),
        ({"data": SimpleNamespace(texts=["w1", "w2"] * 6, labels=[True] * 6 + [False] * 6)},
         "same mean activation"),
        ({"sites": [st.resid(7)]}, "7"),
    ],
)  # fmt: skip
def test_bad_input_is_named(planted, change, message):
    model, data, _ = planted
    call = {"data": data, "prompts": PROMPTS, "judge": share, "ask": ask} | SMALL | change
    with pytest.raises(ValueError, match=message):
        recommend(model, **call)


def test_one_string_is_no_list_of_prompts(planted):
    model, data, _ = planted
    with pytest.raises(TypeError, match="lists of strings"):
        recommend(model, data, "w20 w21", share, ask=ask)


def test_deep_models_are_tried_at_six_blocks():
    from steerlib.recommendation import _places

    deep = SimpleNamespace(n_layers=26)
    assert _places(deep, None) == [st.resid(n) for n in (4, 7, 11, 14, 18, 21)]
    assert _places(SimpleNamespace(n_layers=5), None) == [st.resid(n) for n in range(5)]


def test_of_equal_settings_the_smallest_strength_is_taken():
    import pandas as pd

    table = pd.DataFrame(
        {"method": ["a", "a", "b"], "site": ["blocks.1.hook_resid_post"] * 3,
         "strength": [3.0, 1.0, -2.0], "score": [1.0, 1.0, 1.0]}
    )  # fmt: skip
    assert best_setting(table) == ("a", st.resid(1), 1.0)
