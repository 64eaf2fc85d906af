"""steer: cache, padding, batches, nesting, conditions, and what it leaves behind."""

import pytest
import torch
from torch import nn

import steerlib as st
from steerlib.core.capture import positions_and_mask
from steerlib.core.prompts import pad
from steerlib.core.sites import attach, resolve

PROMPTS = ["tell me about the dog", "a little girl went to the park and saw a big red ball", "sun"]
POSITIONS = {
    "everywhere": st.everywhere,
    "last and generation": st.last | st.generation,
    "generation": st.generation,
    "prompt": st.prompt,
    "after BOS": st.after(0),
    "after 7": st.after(7),
    "prompt without BOS": st.prompt - st.bos,
}


def _ids(model, prompt):
    from steerlib.core.prompts import encode

    return encode(model, prompt, chat=False)[0]


def _is_steered(name: str, position: int, length: int) -> bool:
    """What each selection means, written down a second time."""
    return {
        "everywhere": True,
        "last and generation": position >= length - 1,
        "generation": position >= length,
        "prompt": position < length,
        "after BOS": position > 0,
        "after 7": position > 7,
        "prompt without BOS": 0 < position < length,
    }[name]


def _uncached(model, prompt, direction, name, steps):
    """Greedy decoding without cache or sessions: the whole text is read for each token."""
    ids, length = _ids(model, prompt), len(_ids(model, prompt))
    for _ in range(steps):
        steered = [float(_is_steered(name, position, length)) for position in range(len(ids))]
        change = torch.tensor(steered)[:, None] * direction
        handle = attach(resolve(model, st.resid(1)), lambda h, change=change: h + change)
        with torch.no_grad():
            ids.append(int(model.hf(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        handle.remove()
        if ids[-1] in model.eos_ids:
            break
    return model.tokenizer.decode(ids[length:], skip_special_tokens=True)


@pytest.mark.parametrize("name", POSITIONS)
@pytest.mark.parametrize("engine", ["hf", "bridge"])
def test_decoding_with_the_cache_equals_the_uncached_run(models, vector, engine, name):
    for architecture in ("gpt2", "llama", "gemma2", "qwen2"):
        model, direction = models(architecture, engine), 4 * vector()
        with st.steer(model, st.Add(st.resid(1), direction).at(POSITIONS[name])):
            text = st.generate(model, PROMPTS[1], max_new_tokens=8, chat=False)
        assert text == _uncached(models(architecture), PROMPTS[1], direction, name, 8)


def test_an_edit_that_reads_its_activation_does_so_in_every_step(llama, vector):
    site, u = st.resid(1), vector()
    edits = {
        "project": (3 * st.Project(site, u), lambda h: h - 3 * (h @ u)[..., None] * u),
        "scale": (st.Scale(site, -1.5), lambda h: -0.5 * h),
    }
    plain = st.generate(llama, PROMPTS[1], max_new_tokens=8)
    for edit, change in edits.values():
        with st.steer(llama, edit):
            ours = st.generate(llama, PROMPTS[1], max_new_tokens=8)
        handle = attach(resolve(llama, site), change)
        by_hand = st.generate(llama, PROMPTS[1], max_new_tokens=8)
        handle.remove()
        assert ours == by_hand != plain


@pytest.mark.parametrize("name", POSITIONS)
def test_a_left_padded_batch_equals_one_by_one(model, vector, name):
    edit = st.Add(st.resid(1), 4 * vector()).at(POSITIONS[name])
    with st.steer(model, edit):
        batch = st.generate(model, PROMPTS, max_new_tokens=10, chat=False)
        scores = st.logits(model, PROMPTS, chat=False)[:, -1]
    for row, prompt in enumerate(PROMPTS):
        with st.steer(model, edit):
            assert batch[row] == st.generate(model, prompt, max_new_tokens=10, chat=False)
        if name not in ("generation", "after 7"):
            with st.steer(model, edit):
                alone = st.logits(model, prompt, chat=False)[0, -1]
            assert torch.allclose(scores[row], alone, atol=1e-5)


def test_right_padding_is_told_apart_too(gpt2, vector):
    ids = torch.tensor([_ids(gpt2, PROMPTS[0]) + [gpt2.pad_id] * 2])
    mask = (ids != gpt2.pad_id).long()
    last = mask.sum() - 1
    with st.steer(gpt2, st.Add(st.resid(1), 4 * vector()).at(st.last)):
        padded = gpt2.hf(ids, attention_mask=mask).logits[0, last]
        alone = gpt2.hf(ids[:, : last + 1]).logits[0, -1]
    assert torch.allclose(padded, alone, atol=1e-5)


def test_strengths_in_one_batch_equal_two_runs(model, vector):
    edit, prompts = st.Add(st.resid(1), 3 * vector()), [PROMPTS[0], PROMPTS[0]]
    with st.steer(model, edit, strength=torch.tensor([0.0, 2.0])):
        both = st.generate(model, prompts, max_new_tokens=10, chat=False)
        scores = st.logits(model, prompts, chat=False)
    plain = st.generate(model, PROMPTS[0], max_new_tokens=10, chat=False)
    with st.steer(model, 2 * edit):
        strong = st.generate(model, PROMPTS[0], max_new_tokens=10, chat=False)
        strong_scores = st.logits(model, PROMPTS[0], chat=False)[0]
    assert both == [plain, strong]
    assert torch.allclose(scores[1], strong_scores, atol=1e-5)
    assert not torch.allclose(scores[0], scores[1], atol=1e-2)


def test_strengths_stay_with_their_samples_when_texts_are_sorted_by_length(gpt2, vector):
    edit, strengths = st.Add(st.resid(1), vector()), torch.tensor([3.0, -2.0, 1.0])
    with st.steer(gpt2, edit, strength=strengths):
        batch = st.capture(gpt2, PROMPTS, [st.resid(2)], batch_size=2)[st.resid(2)]
    for prompt, strength, row in zip(PROMPTS, strengths, batch, strict=True):
        with st.steer(gpt2, edit, strength=float(strength)):
            alone = st.capture(gpt2, prompt, [st.resid(2)])[st.resid(2)][0]
        assert torch.allclose(row, alone, atol=1e-5)


def test_strengths_keep_their_order_in_a_call_of_the_user_after_one_of_ours(gpt2, vector):
    ids = torch.tensor([_ids(gpt2, PROMPTS[0])] * 3)
    with st.steer(gpt2, st.Add(st.resid(1), vector()), strength=torch.tensor([3.0, -2.0, 1.0])):
        before = gpt2.hf(ids).logits
        st.capture(gpt2, PROMPTS, [st.resid(2)])
        assert torch.equal(gpt2.hf(ids).logits, before)


def test_the_wrong_number_of_strengths_is_refused(gpt2, vector):
    with (
        pytest.raises(ValueError, match="2 strengths for a batch of 3"),
        st.steer(gpt2, st.Add(st.resid(1), vector()), strength=torch.ones(2)),
    ):
        gpt2.hf(torch.ones(3, 4, dtype=torch.long))


@pytest.mark.parametrize(
    "strength", [float("nan"), torch.ones(2, 2), torch.tensor([1.0, torch.inf])]
)
def test_a_strength_that_is_no_number_per_sample_is_refused(gpt2, vector, strength):
    with pytest.raises(ValueError, match="strength is"):
        st.steer(gpt2, st.Add(st.resid(1), vector()), strength=strength)


def test_nested_adds_equal_their_sum(model, vector):
    a, b = st.Add(st.resid(1), vector(seed=1)), 2 * st.Add(st.resid(1), vector(seed=2))
    with st.steer(model, a), st.steer(model, b):
        nested = st.logits(model, PROMPTS)[:, -1]
    with st.steer(model, a + b):
        assert torch.allclose(nested, st.logits(model, PROMPTS)[:, -1], atol=1e-5)


def test_nested_scales_do_not_equal_their_sum(gpt2):
    a, b, site = st.Scale(st.resid(1), 0.5), st.Scale(st.resid(1), 1.0), st.resid(1)
    plain = st.capture(gpt2, PROMPTS[0], [site])[site]
    with st.steer(gpt2, a), st.steer(gpt2, b):
        assert torch.allclose(st.capture(gpt2, PROMPTS[0], [site])[site], 3.0 * plain)
    with st.steer(gpt2, a + b):
        assert torch.allclose(st.capture(gpt2, PROMPTS[0], [site])[site], 2.5 * plain)


def test_the_outer_edit_comes_first(gpt2, vector):
    add, scale, site = st.Add(st.resid(1), vector()), st.Scale(st.resid(1), 1.0), st.resid(1)
    plain = st.capture(gpt2, PROMPTS[0], [site])[site]
    with st.steer(gpt2, add), st.steer(gpt2, scale):
        assert torch.allclose(st.capture(gpt2, PROMPTS[0], [site])[site], 2 * (plain + vector()))
    with st.steer(gpt2, scale), st.steer(gpt2, add):
        assert torch.allclose(st.capture(gpt2, PROMPTS[0], [site])[site], 2 * plain + vector())


def test_one_context_can_be_entered_again_inside_itself(gpt2, vector):
    site, context = st.resid(1), st.steer(gpt2, st.Add(st.resid(1), vector()))
    plain = st.capture(gpt2, PROMPTS[0], [site])[site]
    with context:
        with context:
            assert torch.allclose(
                st.capture(gpt2, PROMPTS[0], [site])[site], plain + 2 * vector(), atol=1e-6
            )
        assert torch.allclose(
            st.capture(gpt2, PROMPTS[0], [site])[site], plain + vector(), atol=1e-6
        )
    assert torch.equal(st.capture(gpt2, PROMPTS[0], [site])[site], plain)


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2"])
def test_a_constant_equals_a_bias_baked_into_the_last_projection(folders, vector, name):
    # Not Gemma-2: a norm follows its MLP.
    model, direction = st.load(folders[name], engine="hf"), 3 * vector()
    with st.steer(model, st.Add(st.resid(1), direction)):
        steered = st.logits(model, PROMPTS, chat=False)[:, -1]
        text = st.generate(model, PROMPTS, max_new_tokens=10, chat=False)
    mlp = model.blocks[1].mlp
    projection = mlp.c_proj if name == "gpt2" else mlp.down_proj
    bias = torch.zeros(32) if projection.bias is None else projection.bias.detach()
    projection.bias = nn.Parameter(bias + direction)
    assert (st.logits(model, PROMPTS, chat=False)[:, -1] - steered).abs().max() <= 1e-5
    assert st.generate(model, PROMPTS, max_new_tokens=10, chat=False) == text


@pytest.mark.parametrize("engine", ["hf", "bridge"])
@pytest.mark.parametrize("positions", [st.everywhere, st.last | st.generation, st.generation])
def test_the_users_own_generate_is_steered_alike(models, vector, engine, positions):
    from steerlib.core.prompts import encode, pad

    for name in ("gpt2", "llama", "gemma2", "qwen2"):
        model = models(name, engine)
        ids, mask = pad(model, encode(model, PROMPTS, chat=False))
        with st.steer(model, st.Add(st.resid(1), 4 * vector()).at(positions)):
            ours = st.generate(model, PROMPTS, max_new_tokens=8, chat=False)
            theirs = model.runner.generate(
                ids, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0
            )
        new = model.tokenizer.batch_decode(theirs[:, ids.shape[1] :], skip_special_tokens=True)
        assert ours == new


def test_the_bridges_own_generate_is_steered_alike(models, vector):
    model = models("llama", "bridge")
    ids = torch.tensor([_ids(model, PROMPTS[1])])
    with st.steer(model, st.Add(st.resid(1), 4 * vector()).at(st.last | st.generation)):
        ours = st.generate(model, PROMPTS[1], max_new_tokens=8)
        theirs = model.module.generate(ids, max_new_tokens=8, do_sample=False, verbose=False)
    assert ours == model.tokenizer.decode(theirs[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strength_zero_is_bit_identical(folders, vector, dtype):
    model = st.load(folders["llama"], engine="hf", dtype=dtype)
    edits = [
        st.Add(st.resid(1), vector()),
        st.Project(st.attn_out(1), vector()),
        st.HalfSpace(st.mlp_out(2), vector(), 1.0),
        st.Scale(st.head(1, 2), 0.5),
    ]
    plain = st.logits(model, PROMPTS)
    for edit in edits:
        for steering in (st.steer(model, edit, 0.0), st.steer(model, 0 * edit)):
            with steering:
                assert torch.equal(st.logits(model, PROMPTS), plain)


def test_an_edit_is_computed_in_float32_and_cast_back(folders, vector):
    model, site = st.load(folders["llama"], engine="hf", dtype=torch.bfloat16), st.resid(1)
    plain = st.capture(model, PROMPTS[0], [site])[site]
    with st.steer(model, 1e-3 * st.Add(site, vector()) + 2 * st.Add(site, vector(seed=1))):
        steered = st.capture(model, PROMPTS[0], [site])[site]
    expected = plain + (1e-3 * vector() + 2 * vector(seed=1))
    assert torch.equal(steered, expected.bfloat16().float())


# --- conditions


def _gate(model, vector):
    """A readout and a threshold that split PROMPTS: some hold, some do not."""
    readout = st.Readout(st.resid(0), vector(seed=5))
    scores = readout.score(model, PROMPTS)
    threshold = float(scores.sort().values[:2].mean())
    assert 0 < (scores > threshold).sum() < len(PROMPTS)
    return readout > threshold, (scores > threshold).tolist()


@pytest.mark.parametrize("engine", ["hf", "bridge"])
def test_a_condition_is_decided_at_the_prefill_for_each_sample_and_holds(models, vector, engine):
    model = models("llama", engine)
    condition, holds = _gate(model, vector)
    edit = st.Add(st.resid(1), 6 * vector())
    plain = st.generate(model, PROMPTS, max_new_tokens=10)
    with st.steer(model, edit):
        steered = st.generate(model, PROMPTS, max_new_tokens=10)
    with st.steer(model, edit.when(condition)):
        gated = st.generate(model, PROMPTS, max_new_tokens=10)
    assert all(a != b for a, b in zip(plain, steered, strict=True))
    assert gated == [s if hold else p for p, s, hold in zip(plain, steered, holds, strict=True)]


def test_a_condition_is_decided_anew_for_each_prompt(llama, vector):
    condition, holds = _gate(llama, vector)
    edit = st.Add(st.resid(1), 6 * vector())
    with st.steer(llama, edit.when(condition)):
        gated = [st.generate(llama, prompt, max_new_tokens=6) for prompt in PROMPTS]
    for prompt, hold, text in zip(PROMPTS, holds, gated, strict=True):
        with st.steer(llama, edit, strength=float(hold)):
            assert text == st.generate(llama, prompt, max_new_tokens=6)


def test_a_condition_reads_the_stream_as_steered_so_far(llama, vector):
    w, site = vector(seed=5), st.resid(0)
    condition = st.Readout(site, w) > float(st.Readout(site, w).score(llama, PROMPTS).max()) + 1
    edit = st.Add(st.resid(1), vector()).when(condition)
    plain = st.logits(llama, PROMPTS[0])
    with st.steer(llama, edit):
        assert torch.equal(st.logits(llama, PROMPTS[0]), plain)
    with st.steer(llama, st.Add(site, 1000 * w)):
        outer = st.logits(llama, PROMPTS[0])
        with st.steer(llama, edit):
            assert not torch.allclose(st.logits(llama, PROMPTS[0]), outer)


def test_a_condition_can_gate_a_single_term(llama, vector):
    never = st.Readout(st.resid(0), vector()) > 1e6
    a, b = st.Add(st.resid(1), vector(seed=1)), st.Add(st.resid(1), vector(seed=2))
    with st.steer(llama, a):
        only_a = st.logits(llama, PROMPTS[0])
    with st.steer(llama, a + b.when(never)):
        assert torch.equal(st.logits(llama, PROMPTS[0]), only_a)


@pytest.mark.parametrize("positions", [st.last, st.last | st.generation, st.after(0)])
def test_a_condition_and_positions_must_both_hold(llama, vector, positions):
    condition, holds = _gate(llama, vector)
    site, edit = st.resid(1), st.Add(st.resid(1), vector()).at(positions)
    plain = st.capture(llama, PROMPTS, [site], at="prompt")[site]
    with st.steer(llama, edit):
        always = st.capture(llama, PROMPTS, [site], at="prompt")[site]
    with st.steer(llama, edit.when(condition)):
        gated = st.capture(llama, PROMPTS, [site], at="prompt")[site]
    lengths = [len(_ids(llama, prompt)) - 1 for prompt in PROMPTS]
    chosen = torch.tensor([hold for hold, n in zip(holds, lengths, strict=True) for _ in range(n)])
    assert torch.equal(gated, torch.where(chosen[:, None], always, plain))
    assert not torch.equal(gated, plain)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_a_condition_on_all_tokens_needs_the_whole_prompt(llama, vector, pool):
    condition = st.Readout(st.resid(0), vector(), pool=pool) > 0
    output = llama.hf(torch.tensor([_ids(llama, PROMPTS[0])]), use_cache=True)
    with (
        pytest.raises(ValueError, match="whole prompt"),
        st.steer(llama, st.Add(st.resid(1), vector()).when(condition)),
    ):
        llama.hf(torch.tensor([[7]]), past_key_values=output.past_key_values)


@pytest.mark.parametrize("cut", [1, 3])
@pytest.mark.parametrize("engine", ["hf", "bridge"])
def test_a_condition_on_the_last_token_can_be_decided_after_a_cached_prefix(
    models, vector, engine, cut
):
    for name in ("llama", "gemma2", "gpt2"):
        model = models(name, engine)
        condition, holds = _gate(model, vector)
        edit = st.Add(st.resid(1), 6 * vector()).at(st.last).when(condition)
        ids, attention = pad(model, [_ids(model, prompt) for prompt in PROMPTS])
        inputs = positions_and_mask(attention)
        with torch.no_grad(), st.steer(model, edit):
            whole = model.runner(ids, use_cache=False, **inputs).logits[:, -1]
        early = {key: value[:, :-cut] for key, value in inputs.items()}
        late = {"attention_mask": attention, "position_ids": inputs["position_ids"][:, -cut:]}
        with torch.no_grad():
            plain = model.runner(ids, use_cache=False, **inputs).logits[:, -1]
            cache = model.runner(ids[:, :-cut], use_cache=True, **early).past_key_values
            with st.steer(model, edit):
                parts = model.runner(ids[:, -cut:], past_key_values=cache, **late).logits[:, -1]
        assert torch.allclose(parts, whole, atol=1e-5)
        assert (parts - plain).abs().amax(1).gt(1e-2).tolist() == holds


def test_what_follows_a_prompt_in_two_parts_keeps_its_decision(llama, vector):
    """The second part ends the prompt; tokens after it are generated and decide nothing."""

    def read(tokens, cache=None):
        kept, handle = [], attach(resolve(llama, st.resid(1)), lambda h: kept.append(h))
        with torch.no_grad():
            llama.hf(torch.tensor([tokens]), past_key_values=cache)
        handle.remove()
        return kept[0][0]

    condition, holds = _gate(llama, vector)
    edit, more = st.Add(st.resid(1), 6 * vector()).when(condition), (7, 9, 11)
    for prompt, hold in zip(PROMPTS, holds, strict=True):
        ids = _ids(llama, prompt)
        cache = llama.hf(torch.tensor([ids[:-1]]), use_cache=True).past_key_values
        with st.steer(llama, edit):
            parts = [read([token], cache) for token in (ids[-1], *more)]
        change = (torch.cat(parts) - read([*ids, *more])[-4:]).norm(dim=-1)
        assert change[0].item() == pytest.approx(6.0 * hold, abs=1e-4)
        assert ((change > 3) == hold).all()


@pytest.mark.parametrize("earlier", [[PROMPTS[1]], ["sun", "cat"]], ids=["longer", "more"])
def test_a_cached_prefix_of_another_text_starts_a_new_prompt(llama, vector, earlier):
    def read_after_a_cached_prefix():
        kept, handle = [], attach(resolve(llama, st.resid(1)), lambda h: kept.append(h))
        llama.hf(torch.tensor([[9, 10, 11]]), past_key_values=caches.pop())
        handle.remove()
        return kept[0]

    prefix = torch.tensor([_ids(llama, "tell me")])
    caches = [llama.hf(prefix).past_key_values for _ in range(2)]
    plain = read_after_a_cached_prefix()
    with st.steer(llama, st.Add(st.resid(1), vector()).at(st.last)):
        llama.hf(torch.tensor([_ids(llama, prompt) for prompt in earlier]))
        changed = (read_after_a_cached_prefix() - plain).norm(dim=-1)[0] > 0.5
    assert changed.tolist() == [False, False, True]


# --- what is left behind, and what is refused


def _hooks(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.runner.modules())


def _run_and_fail(model, edit, hooks):
    with st.steer(model, edit), st.steer(model, edit):
        st.capture(model, PROMPTS, [st.resid(2)])
        assert _hooks(model) == hooks
        raise RuntimeError("stop")


@pytest.mark.parametrize("engine", ["hf", "bridge"])
def test_no_hook_is_left_behind_after_an_exception(models, vector, engine):
    model = models("gpt2", engine)
    plain = st.logits(model, PROMPTS)  # the first run of a bridge adds hooks of its own
    before = _hooks(model)
    edit = st.Add(st.resid(1), vector()).when(st.Readout(st.resid(0), vector()) > 0)
    with pytest.raises(RuntimeError, match="stop"):
        _run_and_fail(model, edit, hooks=before + 6)
    assert _hooks(model) == before
    assert torch.equal(st.logits(model, PROMPTS), plain)


def test_an_error_inside_a_hook_leaves_none_behind(gpt2, vector):
    before = _hooks(gpt2)
    with (
        pytest.raises(ValueError, match="strengths"),
        st.steer(gpt2, st.Add(st.resid(1), vector()), strength=torch.ones(5)),
    ):
        gpt2.hf(torch.ones(2, 3, dtype=torch.long))
    assert _hooks(gpt2) == before


@pytest.mark.parametrize("positions", [st.tokens("cat"), st.generation, st.last & st.bos])
def test_a_selection_that_never_matched_is_an_error_at_the_end(gpt2, vector, positions):
    with (
        pytest.raises(ValueError, match="matched no token"),
        st.steer(gpt2, st.Add(st.resid(1), vector()).at(positions)),
    ):
        st.logits(gpt2, PROMPTS)


def test_an_unused_context_is_no_error(gpt2, vector):
    with st.steer(gpt2, st.Add(st.resid(1), vector()).at(st.tokens("cat"))):
        pass


def test_an_error_of_the_user_is_not_hidden_by_one_of_ours(gpt2, vector):
    def fails():
        with st.steer(gpt2, st.Add(st.resid(1), vector()).at(st.tokens("cat"))):
            st.logits(gpt2, PROMPTS)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fails()


def test_a_direction_of_the_wrong_width_is_refused(gpt2, vector):
    with pytest.raises(ValueError, match=r"have 32 numbers, the edit has 31"):
        st.steer(gpt2, st.Add(st.resid(1), vector(31)))


def test_a_readout_of_the_wrong_width_is_refused(gpt2, vector):
    condition = st.Readout(st.resid(0), vector(31)) > 0
    with pytest.raises(ValueError, match=r"have 32 numbers, the readout 31"):
        st.steer(gpt2, st.Add(st.resid(1), vector()).when(condition))


def test_a_vector_made_on_another_model_is_refused(gpt2, llama):
    foreign = st.random_direction(llama, st.resid(1))
    with pytest.raises(ValueError, match=r"made for .*llama.* not for .*gpt2"):
        st.steer(gpt2, foreign)


def test_something_else_than_an_intervention_is_refused(gpt2, vector):
    with pytest.raises(TypeError, match="takes an Intervention"):
        st.steer(gpt2, vector())


def test_a_mask_that_is_not_two_dimensional_is_refused(gpt2, vector):
    mask = torch.zeros(1, 1, 3, 3)
    with (
        pytest.raises(ValueError, match="2-D attention mask"),
        st.steer(gpt2, st.Add(st.resid(1), vector())),
    ):
        gpt2.hf(torch.ones(1, 3, dtype=torch.long), attention_mask=mask)


def test_a_parameter_that_is_learned_gets_its_gradient(gpt2):
    direction = nn.Parameter(torch.zeros(32))
    with st.steer(gpt2, st.Add(st.resid(1), direction)):
        st.logits(gpt2, PROMPTS, chat=False)[:, -1, 5].sum().backward()
    assert direction.grad is not None
    assert direction.grad.norm() > 0
