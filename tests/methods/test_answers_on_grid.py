"""Answers under many interventions: what `classify` gives under each, in fewer passes."""

from dataclasses import replace

import pytest
import torch

import steerlib as st
from steerlib.core.edits import LowRank
from steerlib.methods.answers_on_grid import Stacked, answers_on_grid
from tests.conftest import ARCHITECTURES

# Of 2 to 25 tokens: they are padded, and some are longer than Gemma's window of 16.
PROMPTS = (
    "sun",
    "a little girl went to the park and saw a big red ball . once upon a time there was a boy who "
    "went to the park",
    "tell me about the dog",
    "once upon a time there was a little girl who went to the park and saw a big red ball",
    "the happy cat",
)
CLASSES = ("happy", "sad", "cat")
OFFSETS = (-1.0, 0.5, 2.0, 6.0)
EVERYWHERE, EARLIER = st.everywhere, st.prompt - st.last


def _problems(prompts=PROMPTS):
    return [st.Problem(p, CLASSES[k % 3], CLASSES, chat=False) for k, p in enumerate(prompts)]


def _direction(seed):
    return torch.randn(32, generator=torch.Generator().manual_seed(seed))


def _half_spaces(layers, positions, gate=None):
    """For each offset, a half-space that all layers are moved into, as MERA does."""

    def make(offset):
        parts = [st.HalfSpace(st.resid(n), _direction(n), 8 * offset) for n in layers]
        whole = sum(parts[1:], parts[0]).at(positions)
        return whole if gate is None else whole.when(gate)

    return [make(offset) for offset in OFFSETS]


def _gate(model, pool="last"):
    """A condition that some prompts meet and others do not."""
    readout = st.Readout(st.resid(0), _direction(9), pool=pool)
    scores = readout.score(model, list(PROMPTS))
    gate = readout > float(scores.sort().values[1:3].mean())
    assert 0 < gate.holds(scores).sum() < len(PROMPTS)
    return gate


def _expected(model, interventions, problems):
    found = []
    for intervention in interventions:
        with st.steer(model, intervention):
            found.append(st.classify(model, problems))
    return found


def _assert_same(found, expected, atol=1e-4):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one.log_p, other.log_p, atol=atol)
        assert torch.allclose(one.mass, other.mass, atol=atol)
        assert torch.equal(one.truth, other.truth)
        assert torch.equal(one.found, other.found)
        assert one.classes == other.classes


def _assert_differ(answers):
    """Each intervention does something of its own."""
    for n, one in enumerate(answers):
        for other in answers[:n]:
            assert (one.log_p - other.log_p).abs().max() > 1e-3


class _Passes:
    """Counts the forward passes through the first block, and the tokens in them."""

    def __init__(self, model):
        self.model, self.tokens, self.calls = model, 0, 0

    def __enter__(self):
        self.handle = self.model.blocks[0].register_forward_pre_hook(self._count)
        return self

    def _count(self, module, inputs):
        self.tokens += inputs[0].shape[0] * inputs[0].shape[1]
        self.calls += 1

    def __exit__(self, *_):
        self.handle.remove()

    @property
    def both(self):
        return self.tokens, self.calls


def _width(model, prompts=PROMPTS):
    from steerlib.core.prompts import encode

    return max(len(ids) for ids in encode(model, list(prompts), chat=False))


# --- parity


@pytest.mark.parametrize("engine", ["hf", "bridge"])
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("layers", [(1,), (0, 2, 3)])
@pytest.mark.parametrize("gated", [False, True])
def test_steps_at_the_last_token_are_those_of_classify(models, name, engine, layers, gated):
    model, gate = models(name, engine), _gate(models(name)) if gated else None
    steps = _half_spaces(layers, st.last, gate)
    expected = _expected(model, steps, _problems())
    _assert_differ(expected)
    for size in (64, 2):
        _assert_same(answers_on_grid(model, _problems(), steps, batch_size=size), expected)


@pytest.mark.parametrize("engine", ["hf", "bridge"])
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("positions", [EVERYWHERE, EARLIER])
@pytest.mark.parametrize("gated", [False, True])
def test_steps_at_other_tokens_are_those_of_classify(models, name, engine, positions, gated):
    model, gate = models(name, engine), _gate(models(name), "mean") if gated else None
    steps = _half_spaces((0, 2), positions, gate)
    # The shortest prompt has nothing before its last token but BOS, or only itself.
    expected = _expected(model, steps, _problems())
    _assert_differ(expected)
    for size in (64, 2 * len(steps), 2):
        _assert_same(answers_on_grid(model, _problems(), steps, batch_size=size), expected)


def _unlike(model):
    """Interventions that have no form in common."""
    w, gate = _direction(3), _gate(model)
    several = st.HalfSpace(st.resid(1), w, 1.0) + st.HalfSpace(st.resid(2), w, 1.0)
    return [
        st.Add(st.resid(1), w),
        st.Scale(st.resid(1), 0.5),
        several,
        several.when(gate),
        several.when(replace(gate, threshold=gate.threshold + 1)),
        st.HalfSpace(st.resid(1), w, 1.0).at(st.prompt - st.bos),
        st.HalfSpace(st.attn_out(1), w, 1.0),
        st.Clamp(st.resid(1), w, 0.1, w, 3.0),
    ]


@pytest.mark.parametrize("engine", ["hf", "bridge"])
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_interventions_of_any_kind_are_those_of_classify(models, name, engine):
    model, steps = models(name, engine), _unlike(models(name))
    expected = _expected(model, steps, _problems())
    for size in (64, 2):
        _assert_same(answers_on_grid(model, _problems(), steps, batch_size=size), expected)
    last = [step.at(st.last) for step in steps]  # different edits share a prefix all the same
    _assert_same(answers_on_grid(model, _problems(), last), _expected(model, last, _problems()))


def test_conditions_that_differ_are_told_apart(llama):
    """Two settings with one step and two gates, or a gate and none, are not one intervention."""
    (step,) = _half_spaces((1,), EVERYWHERE)[2:3]
    gate = _gate(llama)
    readout = gate.readout
    others = [
        None,
        gate,
        replace(gate, threshold=gate.threshold + 100),
        replace(gate, above=False),
        replace(gate, readout=replace(readout, pool="mean")),
        replace(gate, readout=replace(readout, b=50.0)),
        replace(gate, readout=replace(readout, w=-readout.w)),
        replace(gate, readout=replace(readout, site=st.resid_pre(1))),
    ]
    steps = [step if g is None else step.when(g) for g in others]
    for pair in ([steps[1], other] for other in (steps[0], *steps[2:])):
        for at in (EVERYWHERE, st.last):
            both = [s.at(at) for s in pair]
            found = answers_on_grid(llama, _problems(), both)
            _assert_same(found, _expected(llama, both, _problems()))


def test_steps_at_other_tokens_or_sites_are_told_apart(llama):
    step = st.HalfSpace(st.resid(1), _direction(1), 4.0)
    elsewhere = st.HalfSpace(st.resid(2), _direction(1), 4.0)
    others = [step.at(EARLIER), step.at(st.after(1)), elsewhere, step + elsewhere]
    for other in others:
        for pair in ([step, other], [other, step]):
            expected = _expected(llama, pair, _problems())
            _assert_differ(expected)
            _assert_same(answers_on_grid(llama, _problems(), pair), expected)


def test_heads_and_several_directions_are_stacked(llama):
    read, write = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(1))
    wide = [
        st.Intervention((replace(t, edit=LowRank(read, torch.full((3,), x), write, floor)),))
        for t in st.HalfSpace(st.resid(1), read[0]).terms
        for x, floor in ((1.0, torch.zeros(3)), (-0.5, torch.tensor([-torch.inf, 0.2, 1.0])))
    ]
    heads = [
        st.HalfSpace(st.head(1, 2), _direction(4)[:8], x) + st.HalfSpace(st.head(2, 0), w, x)
        for w in (_direction(5)[:8],)
        for x in (1.0, 5.0)
    ]
    for steps in (wide, heads):
        expected = _expected(llama, steps, _problems())
        _assert_differ(expected)
        with _Passes(llama) as passes:
            _assert_same(answers_on_grid(llama, _problems(), steps), expected)
        assert passes.calls == 1


# --- in how many passes


def test_a_prefix_is_read_once_for_all_steps_at_the_last_token(models):
    for name in ("llama", "gemma2"):
        model, n, k = models(name), len(PROMPTS), len(OFFSETS)
        width = _width(model)
        for gate in (None, _gate(model)):
            steps = _half_spaces((1, 2), st.last, gate)
            with _Passes(model) as passes:
                answers_on_grid(model, _problems(), steps)
            assert passes.both == (n * (width - 1) + k * n, 1 + k)
    with _Passes(model) as passes:
        answers_on_grid(model, _problems(), _half_spaces((1,), st.last), batch_size=2)
    assert passes.calls == 3 * (1 + k)


def test_a_grid_of_one_setting_is_run_as_one_batch(llama):
    n, k, width = len(PROMPTS), len(OFFSETS), _width(llama)
    mean, most = _gate(llama, "mean"), _gate(llama, "max")
    for gate in (None, mean):
        for at in (EVERYWHERE, EARLIER):
            with _Passes(llama) as passes:
                answers_on_grid(llama, _problems(), _half_spaces((1, 2), at, gate))
            assert passes.both == (k * n * width, 1)
    # A batch holds as many rows as it may; one prompt with all its copies at least.
    for size, calls in ((2 * k, 3), (2 * k + 1, 3), (k, 5), (1, 5)):
        with _Passes(llama) as passes:
            answers_on_grid(llama, _problems(), _half_spaces((1,), EVERYWHERE), batch_size=size)
        assert passes.calls == calls
    # Conditions that read earlier tokens need them, wherever the step is.
    with _Passes(llama) as passes:
        answers_on_grid(llama, _problems(), _half_spaces((1,), st.last, most))
    assert passes.both == (k * n * width, 1)


def test_what_has_no_form_in_common_is_run_one_by_one(llama):
    steps, n, width = _unlike(llama), len(PROMPTS), _width(llama)
    with _Passes(llama) as passes:
        answers_on_grid(llama, _problems(), steps)
    assert passes.both == (len(steps) * n * width, len(steps))


def test_steps_do_not_see_one_another(models):
    """Each starts from the same cache, though its own token is written into it."""
    for name in ("llama", "gemma2"):
        model = models(name)
        for at in (st.last, EVERYWHERE):
            a, b, c = _half_spaces((0, 2), at)[1:]
            found = answers_on_grid(model, _problems(), [a, b, a, c])
            turned = answers_on_grid(model, _problems(), [c, a, b, a])
            assert torch.equal(found[0].log_p, found[2].log_p)
            for one, other in zip([*found[3:], *found[:3]], turned, strict=True):
                assert torch.allclose(one.log_p, other.log_p, atol=1e-6)


# --- special cases


@pytest.mark.parametrize("engine", ["hf", "bridge"])
@pytest.mark.parametrize("at", [st.last, EVERYWHERE])
def test_an_outer_steer_acts_first(models, engine, at):
    model = models("gemma2", engine)
    for outer in (st.last, st.prompt - st.last, st.tokens("park")):
        push = st.Add(st.resid(0), 5 * _direction(8) / _direction(8).norm()).at(outer)
        steps = _half_spaces((1, 2), at, _gate(models("gemma2")))
        with st.steer(model, push):
            expected = _expected(model, steps, _problems())
            _assert_same(answers_on_grid(model, _problems(), steps), expected)
        plain = _expected(model, steps[:1], _problems())[0]
        assert (plain.log_p - expected[0].log_p).abs().max() > 1e-3


def test_strengths_of_an_outer_steer_follow_their_problems(llama):
    push, steps = st.Add(st.resid(0), _direction(8)), _half_spaces((1,), st.last)
    with st.steer(llama, push, torch.linspace(-1, 1, len(PROMPTS))):
        expected = _expected(llama, steps, _problems())
        _assert_same(answers_on_grid(llama, _problems(), steps, batch_size=2), expected)


@pytest.mark.parametrize("engine", ["hf", "bridge"])
def test_a_prompt_of_one_token_has_no_prefix(models, engine):
    for name in ("gpt2", "gemma2"):
        model, problems = models(name, engine), _problems(["", *PROMPTS])
        steps = _half_spaces((1, 2), st.last)
        expected = _expected(model, steps, problems)
        for size in (64, 1):
            found = answers_on_grid(model, problems, steps, batch_size=size)
            _assert_same(found, expected)
        alone = answers_on_grid(model, problems[:1], steps)
        _assert_same(alone, [one.of([0]) for one in expected])


def test_a_token_need_not_be_in_every_batch(llama):
    """`classify` asks that positions match somewhere, and so does a grid."""
    for steps in (
        _half_spaces((1, 2), st.tokens("dog")),
        [s.at(st.tokens("dog")) for s in _unlike(llama)],
    ):
        expected = _expected(llama, steps, _problems())
        for size in (64, 2, 1):
            found = answers_on_grid(llama, _problems(), steps, batch_size=size)
            _assert_same(found, expected)
    with pytest.raises(ValueError, match=r"tokens\('fish'\) of the edit .* matched no token"):
        answers_on_grid(llama, _problems(), _half_spaces((1,), st.tokens("fish")))


def test_problems_keep_their_order(models):
    model, problems = models("gpt2"), _problems()
    for at in (st.last, EVERYWHERE):
        steps = _half_spaces((1,), at)
        whole = answers_on_grid(model, problems, steps, batch_size=2)
        turned = answers_on_grid(model, problems[::-1], steps, batch_size=2)
        _assert_same([one.of(range(4, -1, -1)) for one in turned], whole)


def test_no_interventions_give_no_answers(llama):
    assert answers_on_grid(llama, _problems(), []) == []


@pytest.mark.parametrize("at", [st.last, EVERYWHERE])
def test_what_classify_and_steer_refuse_is_refused(models, at):
    llama, steps = models("llama"), _half_spaces((1,), at)
    with pytest.raises(ValueError, match="at least one; got none"):
        answers_on_grid(llama, [], steps)
    other = st.Problem("sun", "sad", ("sad", "cat"), chat=False)
    with pytest.raises(ValueError, match="share their classes"):
        answers_on_grid(llama, [*_problems(), other], steps)
    foreign = st.random_direction(models("gpt2"), st.resid(1)).origin
    foreign = [replace(step, origin=foreign) for step in steps]
    for mixed in (foreign, [steps[0], foreign[1]]):
        with pytest.raises(ValueError, match=r"this intervention was made for .*gpt2"):
            answers_on_grid(llama, _problems(), mixed)
    with pytest.raises(ValueError, match="have 32 numbers, the edit has 31"):
        answers_on_grid(llama, _problems(), [*steps, st.HalfSpace(st.resid(1), torch.ones(31))])


def test_no_hook_and_no_gradient_is_left(llama):
    def hooks():
        modules = llama.runner.modules()
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)

    before = hooks()
    for at in (st.last, EVERYWHERE):
        w = _direction(1).requires_grad_()
        steps = [st.HalfSpace(st.resid(1), w, x).at(at) for x in (1.0, 2.0)]
        for answers in answers_on_grid(llama, _problems(), steps):
            assert not answers.log_p.requires_grad
    assert hooks() == before


# --- edits side by side


def test_stacked_edits_change_each_part_as_its_own_edit_does():
    random = torch.Generator().manual_seed(0)
    edits = [
        LowRank(
            torch.randn(2, 6, generator=random),
            torch.randn(2, generator=random),
            torch.randn(2, 6, generator=random),
            torch.tensor([floor, -torch.inf]),
        )
        for floor in (0.0, 0.5, 2.0)
    ]
    h = torch.randn(12, 5, 6, generator=random)
    stacked = Stacked.of(edits)
    expected = torch.cat([e.delta(x, None) for e, x in zip(edits, h.chunk(3), strict=True)])
    assert torch.allclose(stacked.delta(h, None), expected, atol=1e-5)
    assert torch.allclose(stacked.scaled(-2.0).delta(h, None), -2 * expected, atol=1e-5)
    assert stacked.width == 6
    assert set(stacked.tensors) == set(edits[0].tensors)
