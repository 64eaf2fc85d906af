"""preview: which tokens are read, which are steered, and by how much."""

import pytest

import steerlib as st

PROMPT = "tell me about the dog"


def test_changes_are_those_of_steering_relative_to_the_activation(gpt2, vector):
    site, shown = st.resid(1), None
    shown = st.preview(gpt2, PROMPT, 3 * st.Add(site, vector()), chat=False)
    h = st.capture(gpt2, PROMPT, [site], at="prompt", include_bos=True)[site]
    assert [row.token for row in shown.rows] == ["<bos>", *PROMPT.split()]
    for row, activation in zip(shown.rows, h, strict=True):
        assert row.change == (pytest.approx(3 / activation.norm().item(), rel=1e-4),)
    assert shown.generated == (True,)


def test_only_selected_tokens_are_steered(gpt2, vector):
    edit = st.Add(st.resid(1), vector()).at(st.tokens("about")) + st.Add(st.resid(2), vector()).at(
        st.last
    )
    shown = st.preview(gpt2, PROMPT, edit, strength=2.0, chat=False)
    # Relative changes at the second site show what is added there, not what comes from before.
    assert [[c > 0 for c in row.change] for row in shown.rows] == [
        [False, False],
        [False, False],
        [False, False],
        [True, False],
        [False, False],
        [False, True],
    ]
    assert shown.generated == (False, False)


def test_a_selection_that_matches_nothing_is_shown_not_raised(gpt2, vector):
    shown = st.preview(gpt2, PROMPT, st.Add(st.resid(1), vector()).at(st.tokens("cat")))
    assert all(row.change == (0.0,) for row in shown.rows)


@pytest.mark.parametrize(("pool", "read"), [("last", [5]), ("mean", [1, 2, 3, 4, 5])])
def test_what_a_condition_reads_and_decides(gpt2, vector, pool, read):
    readout = st.Readout(st.resid(0), vector(), 0.0, pool)
    score = readout.score(gpt2, PROMPT).item()
    for threshold, met in ((score - 1, True), (score + 1, False)):
        edit = st.Add(st.resid(1), vector()).when(readout > threshold)
        shown = st.preview(gpt2, PROMPT, edit, chat=False)
        assert [n for n, row in enumerate(shown.rows) if row.is_read] == read
        assert shown.decisions == (met,)
        assert any(row.change[0] for row in shown.rows) == met


def test_it_prints_as_a_table_and_as_html(gpt2, vector):
    shown = st.preview(gpt2, PROMPT, st.Add(st.resid(1), vector()).at(st.last | st.generation))
    lines = str(shown).splitlines()
    assert lines[0].split() == ["token", "read", "blocks.1.hook_resid_post"]
    assert lines[-1].split() == ["(generated)", "steered"]
    assert lines[-2].split()[0] == "<assistant>"
    assert lines[-2].endswith("%")
    assert "<td>&lt;bos&gt;</td>" in shown._repr_html_()


def test_no_hook_is_left_behind(gpt2, vector):
    st.preview(gpt2, PROMPT, st.Add(st.resid(1), vector()))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in gpt2.hf.modules())


def test_one_prompt_at_a_time(gpt2, vector):
    with pytest.raises(ValueError, match="one prompt"):
        st.preview(gpt2, [PROMPT], st.Add(st.resid(1), vector()))


def test_an_edit_that_does_not_fit_is_refused(gpt2, vector):
    with pytest.raises(ValueError, match="32 numbers"):
        st.preview(gpt2, PROMPT, st.Add(st.resid(1), vector(31)))
