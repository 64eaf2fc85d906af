"""The algebra of interventions, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as s

import steerlib as st

SITE, WIDTH = st.resid(1), 4
numbers = s.floats(-8, 8, width=32).map(lambda x: 0.0 if abs(x) < 1e-3 else x)
vectors = s.lists(numbers, min_size=WIDTH, max_size=WIDTH)


def _close(a, b) -> bool:
    return torch.allclose(a.direction, b.direction, atol=1e-3, rtol=1e-4)


def _add(values, site=SITE):
    return st.Add(site, torch.tensor(values))


@given(vectors, vectors, vectors)
def test_sums_commute_and_associate(a, b, c):
    a, b, c = _add(a), _add(b), _add(c)
    assert _close(a + b, b + a)
    assert _close((a + b) + c, a + (b + c))


@given(vectors, vectors, numbers, numbers)
def test_multiplication_distributes(a, b, x, y):
    a, b = _add(a), _add(b)
    assert _close(x * (a + b), x * a + x * b)
    assert _close((x + y) * a, x * a + y * a)
    assert _close(x * (y * a), (x * y) * a)


@given(vectors, vectors)
def test_differences_are_sums_with_the_negative(a, b):
    assert torch.allclose(
        (_add(a) - _add(b)).direction, torch.tensor(a) - torch.tensor(b), atol=1e-3
    )
    assert torch.equal((-_add(a)).direction, -torch.tensor(a))


@given(vectors.filter(lambda v: sum(x * x for x in v) > 0.01), s.floats(0.1, 8))
def test_a_unit_has_length_one_and_keeps_its_direction(v, x):
    unit = _add(v).unit()
    assert unit.direction.norm().item() == pytest.approx(1.0, abs=1e-5)
    assert _close((x * _add(v)).unit(), unit)
    assert _close((-x * _add(v)).unit(), -unit)


@given(numbers, vectors)
def test_numpy_numbers_work_on_both_sides(x, v):
    for number in (np.float64(x), np.float32(x), torch.tensor(x)):
        assert isinstance(number * _add(v), st.Intervention)
        assert _close(number * _add(v), _add(v) * x)


def test_numpy_arrays_do_not_multiply_element_by_element():
    with pytest.raises(TypeError, match="by a number"):
        np.array([1.0, 2.0]) * _add([1.0] * WIDTH)


@given(s.floats(0.1, 8), vectors)
def test_division_undoes_multiplication(x, v):
    assert _close((x * _add(v)) / x, _add(v))


def test_a_sum_over_sites_keeps_both_and_sorts_them():
    both = _add([1.0] * WIDTH, st.resid(2)) + _add([1.0] * WIDTH, st.attn_out(1))
    assert both.sites == (st.attn_out(1), st.resid(2))
    with pytest.raises(ValueError, match="one site has a direction"):
        both.direction  # noqa: B018
    with pytest.raises(ValueError, match="2 sites"):
        both.site  # noqa: B018


def test_constants_at_different_positions_stay_apart():
    a = _add([1.0] * WIDTH)
    assert len((a + a.at(st.last)).terms) == 2
    assert len((a + a.at(st.last)).at(st.last).terms) == 1
    assert _close((a + a.at(st.last)).at(st.prompt), 2 * a)


def test_values_do_not_change():
    a = _add([1.0] * WIDTH)
    _ = (2 * a).at(st.last), a + a, a.unit()
    assert torch.equal(a.direction, torch.ones(WIDTH))
    assert a.terms[0].positions == st.everywhere
    with pytest.raises(AttributeError):
        a.terms = ()


def test_an_add_has_no_score():
    a = _add([1.0] * WIDTH)
    for compare in (lambda: a > 0.3, lambda: a < 0.3):
        with pytest.raises(TypeError, match=r"\.readout > threshold"):
            compare()


def test_the_readout_of_an_add_is_its_unit_direction():
    readout = _add([3.0, 0.0, 4.0, 0.0]).readout
    assert torch.allclose(readout.w, torch.tensor([0.6, 0.0, 0.8, 0.0]))
    assert readout.site == SITE


def test_relative_has_the_mean_length_of_the_activations(gpt2, vector):
    texts = ["tell me about the dog", "a big red ball"]
    lengths = st.capture(gpt2, texts, [SITE], at="prompt")[SITE].norm(dim=-1)
    relative = st.Add(SITE, 7 * vector()).relative(gpt2, texts)
    assert relative.direction.norm().item() == pytest.approx(lengths.mean().item(), rel=1e-5)
    assert torch.allclose(relative.unit().direction, vector(), atol=1e-6)


def test_the_zero_vector_has_no_unit():
    with pytest.raises(ValueError, match="zero"):
        _add([0.0] * WIDTH).unit()


@pytest.mark.parametrize("factor", ["two", None, [1, 2]])
def test_only_numbers_multiply(factor):
    with pytest.raises(TypeError, match="by a number"):
        _add([1.0] * WIDTH) * factor


def test_one_strength_per_sample_belongs_to_steer():
    with pytest.raises(TypeError, match=r"st\.steer"):
        _add([1.0] * WIDTH) * torch.tensor([1.0, 2.0])


def test_only_interventions_are_added():
    for wrong in (1.0, torch.ones(WIDTH)):
        with pytest.raises(TypeError):
            _add([1.0] * WIDTH) + wrong
        with pytest.raises(TypeError):
            _add([1.0] * WIDTH) - wrong


def test_a_site_that_cannot_be_steered_is_refused():
    with pytest.raises(ValueError, match=r"hook_resid_mid cannot be steered.*attn_out\(1\)"):
        st.Add("blocks.1.hook_resid_mid", torch.ones(WIDTH))


def test_an_intervention_is_not_empty():
    with pytest.raises(ValueError, match="at least one term"):
        st.Intervention(())


def test_a_condition_must_not_come_after_what_it_gates():
    late = st.Readout(st.resid(2), torch.ones(WIDTH)) > 0
    with pytest.raises(ValueError, match="too late"):
        _add([1.0] * WIDTH).when(late)


def test_a_term_has_one_condition():
    condition = st.Readout(st.resid(0), torch.ones(WIDTH)) > 0
    with pytest.raises(ValueError, match="condition already"):
        _add([1.0] * WIDTH).when(condition).when(condition)
    with pytest.raises(TypeError, match="readout > number"):
        _add([1.0] * WIDTH).when(True)


def test_vectors_of_different_models_are_not_added(gpt2, llama):
    a, b = st.random_direction(gpt2, SITE), st.random_direction(llama, SITE)
    with pytest.raises(ValueError, match="different models"):
        a + b


def test_a_sum_remembers_where_it_comes_from(gpt2, vector):
    a = st.random_direction(gpt2, SITE, seed=3)
    assert (2 * a + st.Add(SITE, vector())).origin == a.origin
    both = (a + st.random_direction(gpt2, SITE, seed=4)).origin
    assert both.revision == gpt2.revision
    assert both.seed is None


# --- half-spaces under a metric


def _half_space(model, vector):
    """One that half of the prompts lie outside of, and a metric that is no number."""
    w, root = vector(seed=6), torch.randn(32, 32, generator=torch.Generator().manual_seed(7))
    scores = st.Readout(SITE, w).score(model, PROMPTS)
    return st.HalfSpace(SITE, w, -scores.median().item(), root @ root.T + torch.eye(32)), w


@pytest.mark.parametrize("engine", ["hf", "bridge"])
def test_activations_are_moved_to_the_border_of_their_half_space(models, vector, engine):
    for name in ("gpt2", "gemma2"):
        model = models(name, engine)
        edit, w = _half_space(model, vector)
        b = edit.terms[0].edit.bias.item()
        before = st.capture(model, PROMPTS, [SITE], chat=False)[SITE]
        with st.steer(model, edit.at(st.last)):
            after = st.capture(model, PROMPTS, [SITE], chat=False)[SITE]
        with st.steer(model, edit.at(st.last)), st.steer(model, edit.at(st.last)):
            twice = st.capture(model, PROMPTS, [SITE], chat=False)[SITE]
        outside = before @ w + b > 1e-4
        assert 0 < outside.sum() < len(PROMPTS)
        assert torch.equal(after[~outside], before[~outside])
        assert (after[outside] @ w + b).abs().max() < 1e-4
        assert torch.allclose(twice, after, atol=1e-4)
        step = torch.nn.functional.normalize((after - before)[outside], dim=-1)
        assert (step @ w).abs().max() < 0.9  # not along w


def test_a_half_space_with_a_metric_is_stored(gpt2, vector, tmp_path):
    edit, _ = _half_space(gpt2, vector)
    (0.7 * edit).at(st.last).save(tmp_path / "v.safetensors")
    found = st.load_intervention(tmp_path / "v.safetensors", model=gpt2)
    for name, tensor in (0.7 * edit).terms[0].edit.tensors.items():
        assert torch.equal(found.terms[0].edit.tensors[name], tensor)
    results = []
    for intervention in ((0.7 * edit).at(st.last), found):
        with st.steer(gpt2, intervention):
            results.append(st.logits(gpt2, PROMPTS, chat=False))
    assert torch.equal(*results)
    assert not torch.allclose(results[0], st.logits(gpt2, PROMPTS, chat=False))


def test_a_half_space_points_somewhere():
    with pytest.raises(ValueError, match="w is zero"):
        st.HalfSpace(SITE, torch.zeros(4))
    with pytest.raises(ValueError, match="positive definite"):
        st.HalfSpace(SITE, torch.ones(4), metric=-torch.eye(4))


# --- one vector per position

PROMPTS = ["the dog", "a little girl went to the park", "sun"]
ROWS = torch.randn(4, 32, generator=torch.Generator().manual_seed(5))


def _vectors(values, site=SITE):
    return st.Add(site, torch.tensor(values))


@given(vectors, vectors, numbers)
def test_vectors_are_multiplied_row_by_row(a, b, x):
    (term,) = (x * _vectors([a, b])).terms
    assert torch.allclose(term.edit.vectors, x * torch.tensor([a, b]))
    (term,) = (-_vectors([a, b])).terms
    assert torch.equal(term.edit.vectors, -torch.tensor([a, b]))


def test_vectors_have_no_one_direction():
    v = _vectors([[1.0] * WIDTH] * 3)
    for wrong in (v, v + _add([1.0] * WIDTH)):
        with pytest.raises(ValueError, match="one constant at one site has a direction"):
            wrong.direction  # noqa: B018
    with pytest.raises(ValueError, match="has a direction"):
        v.unit()
    with pytest.raises(ValueError, match="has a direction"):
        v.readout  # noqa: B018


def test_vectors_stay_apart_in_a_sum_and_add_up(gpt2):
    both = st.Add(SITE, ROWS) + st.Add(SITE, 2 * ROWS[:2]) + st.Add(SITE, ROWS[0])
    assert len(both.terms) == 3
    whole = 1.0 * ROWS
    whole[:2] += 2 * ROWS[:2]
    with st.steer(gpt2, st.Add(SITE, whole) + st.Add(SITE, ROWS[0])):
        expected = st.logits(gpt2, PROMPTS, chat=False)[:, -1]
    with st.steer(gpt2, both):
        assert torch.allclose(st.logits(gpt2, PROMPTS, chat=False)[:, -1], expected, atol=1e-4)


def _steered(model, intervention, prompts, site):
    """The activations of each prompt's tokens, BOS first, with and without steering."""
    options = {"at": "everywhere", "chat": False, "include_bos": True}
    before = [st.capture(model, p, [site], **options)[site] for p in prompts]
    with st.steer(model, intervention):
        after = st.capture(model, prompts, [site], **options)[site]
    sizes = [len(rows) for rows in before]
    return list(zip(before, after.split(sizes), strict=True))


def test_positions_are_counted_without_padding_and_end_with_the_vectors(model):
    for before, after in _steered(model, st.Add(SITE, ROWS), PROMPTS, SITE):
        n = min(len(before), 4)
        assert torch.allclose(after[:n] - before[:n], ROWS[:n], atol=1e-4)
        assert torch.allclose(after[n:], before[n:], atol=1e-4)


def test_a_selection_takes_part_of_the_vectors(gpt2):
    kept = st.Add(SITE, ROWS).at(st.after(1))
    for before, after in _steered(gpt2, kept, PROMPTS, SITE):
        n = min(len(before), 4)
        assert torch.allclose(after[:2], before[:2], atol=1e-4)
        assert torch.allclose(after[2:n] - before[2:n], ROWS[2:n], atol=1e-4)


def test_vectors_of_a_head_change_this_head_only(gpt2):
    site, neighbor = st.head(1, 2), st.head(1, 3)
    v = st.Add(site, ROWS[:, :8])
    for before, after in _steered(gpt2, v, PROMPTS[:1], site):
        assert torch.allclose(after - before, ROWS[: len(before), :8], atol=1e-5)
    for before, after in _steered(gpt2, v, PROMPTS[:1], neighbor):
        assert torch.equal(after, before)


@pytest.mark.parametrize("engine", ["hf", "bridge"])
def test_generated_tokens_have_positions_too(models, engine):
    # Six positions: some in the prompt, some generated (one token per step, from a cache), and
    # the steps after them are steered by nothing.
    model, longer = models("gpt2", engine), torch.cat([ROWS, ROWS])[:6]
    v = 20 * st.Add(SITE, longer)
    with st.steer(model, v):
        cached = st.generate(model, PROMPTS, chat=False, max_new_tokens=8)
    with st.steer(model, v.at(st.prompt)):
        prompt_only = st.generate(model, PROMPTS, chat=False, max_new_tokens=8)
    for prompt, text in zip(PROMPTS, cached, strict=True):
        whole = prompt
        with st.steer(model, v):
            for _ in range(len(text.split())):
                whole += " " + st.generate(model, whole, chat=False, max_new_tokens=1)
        assert whole == f"{prompt} {text}"
    assert cached[0] != prompt_only[0]
    assert cached[1] == prompt_only[1]  # its prompt has more than six tokens


def test_vectors_have_strengths_of_their_own_per_sample(gpt2):
    v = st.Add(SITE, ROWS)
    with st.steer(gpt2, v, torch.tensor([1.0, 0.0, -2.0])):
        found = st.logits(gpt2, PROMPTS, chat=False)[:, -1]
    for row, (prompt, strength) in enumerate(zip(PROMPTS, (1.0, 0.0, -2.0), strict=True)):
        with st.steer(gpt2, strength * v):
            alone = st.logits(gpt2, prompt, chat=False)[0, -1]
        assert torch.allclose(found[row], alone, atol=1e-4)


def test_vectors_learn(gpt2):
    rows = torch.zeros(4, 32, requires_grad=True)
    with st.steer(gpt2, st.Add(SITE, rows)):
        st.logits(gpt2, ["sun", "the dog"], chat=False)[:, -1, 9].sum().backward()
    assert rows.grad.isfinite().all()
    assert (rows.grad[:3].abs().amax(1) > 0).all()  # BOS and at most two words
    assert not rows.grad[3].any()


def test_vectors_of_another_width_do_not_fit(gpt2):
    with pytest.raises(ValueError, match="have 32 numbers, the edit has 31"):
        st.steer(gpt2, st.Add(SITE, ROWS[:, :31]))
    with pytest.raises(ValueError, match="have 8 numbers, the edit has 32"):
        st.steer(gpt2, st.Add(st.head(0, 1), ROWS))
