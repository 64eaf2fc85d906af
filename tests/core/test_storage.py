"""Files: what is saved comes back, and what does not fit is refused with the reason."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import steerlib as st

SITE = st.resid(1)
PROMPTS = ["tell me about the dog", "a little girl went to the park and saw a big red ball"]


def _all_kinds(model, vector):
    """One intervention with every kind of edit, positions, a condition and an origin."""
    add = st.random_direction(model, SITE, seed=4).at(st.last | st.generation)
    parts = [
        st.Project(st.attn_out(0), vector(seed=1)).at(st.after(2) - st.tokens("dog")),
        st.HalfSpace(st.mlp_out(2), vector(seed=2), 0.3),
        st.Clamp(st.resid(2), vector(seed=3), -0.1, vector(seed=4), 3.0, 0.2),
        st.Scale(st.head(1, 2), 0.5),
        st.Scale(st.resid(3), 0.5, vector(seed=5), 0.1),
        st.Scale(st.resid_pre(0), torch.tensor([0.0, 0.5, 1.0])),
        st.LoReFT(st.resid(0), vector()[None], vector(seed=6)[None], torch.zeros(1)),
        st.Add(st.mlp_out(1), torch.stack([vector(seed=8), vector(seed=9)])).at(st.prompt),
        st.Add(st.resid(2), vector()).when(st.Readout(SITE, vector(seed=7), 0.5, "max") < 9.0),
    ]
    return sum(parts[1:], add + parts[0])


def _condition(term):
    if term.condition is None:
        return None
    readout = term.condition.readout
    parts = (readout.site, readout.w.tolist(), readout.b, readout.pool)
    return *parts, term.condition.threshold, term.condition.above


def test_what_is_saved_comes_back(gpt2, vector, tmp_path):
    before = _all_kinds(gpt2, vector)
    before.save(tmp_path / "v.safetensors")
    after = st.load_intervention(tmp_path / "v.safetensors", model=gpt2)
    assert after.origin == before.origin
    for old, new in zip(before.terms, after.terms, strict=True):
        assert (old.site, old.positions, type(old.edit)) == (
            new.site,
            new.positions,
            type(new.edit),
        )
        assert _condition(old) == _condition(new)
        for name, tensor in old.edit.tensors.items():
            assert torch.equal(tensor, new.edit.tensors[name])
    results = []
    for intervention in (before, after):
        with st.steer(gpt2, intervention):
            results.append(st.logits(gpt2, PROMPTS))
    assert torch.equal(*results)


def test_the_header_says_where_the_file_comes_from(gpt2, tmp_path):
    path = tmp_path / "v.safetensors"
    st.random_direction(gpt2, SITE, seed=4).save(path)
    size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]
    said = json.loads(header["steerlib"])
    assert said["origin"] == {
        "model": gpt2.id,
        "revision": gpt2.revision,
        "method": "random_direction",
        "seed": 4,
    }
    assert said["terms"][0]["site"] == "blocks.1.hook_resid_post"
    assert (said["basis"], said["steerlib"]) == ("raw", st.__version__)
    assert header["format"] == "steerlib-intervention-1"


def test_a_file_made_for_another_model_is_refused_at_once(gpt2, llama, tmp_path):
    path = tmp_path / "v.safetensors"
    st.random_direction(gpt2, SITE).save(path)
    with pytest.raises(ValueError, match=r"made for .*gpt2.* not for .*llama"):
        st.load_intervention(path, model=llama)


def test_a_file_made_for_another_model_is_refused_in_steer(gpt2, llama, tmp_path):
    path = tmp_path / "v.safetensors"
    st.random_direction(gpt2, SITE).save(path)
    foreign = st.load_intervention(path)
    with pytest.raises(ValueError, match=r"made for .*gpt2.* not for .*llama"):
        st.steer(llama, 2 * foreign)


def test_a_vector_of_another_width_is_refused_at_loading(gpt2, vector, tmp_path):
    path = tmp_path / "v.safetensors"
    st.Add(SITE, vector(31)).save(path)
    with pytest.raises(ValueError, match="have 32 numbers, the edit has 31"):
        st.load_intervention(path, model=gpt2)


def test_vectors_per_position_come_back(gpt2, vector, tmp_path):
    path, rows = tmp_path / "v.safetensors", torch.stack([vector(seed=n) for n in range(3)])
    (-2 * st.Add(st.head(1, 2), rows[:, :8]).at(st.prompt - st.last)).save(path)
    (term,) = st.load_intervention(path, model=gpt2).terms
    assert torch.equal(term.edit.vectors, -2 * rows[:, :8])
    assert (term.site, term.positions) == (st.head(1, 2), st.prompt - st.last)
    st.Add(SITE, rows[:, :8]).save(path)
    with pytest.raises(ValueError, match="have 32 numbers, the edit has 8"):
        st.load_intervention(path, model=gpt2)


def test_a_parameter_that_learns_is_saved_as_a_value(vector, tmp_path):
    path, rows = tmp_path / "v.safetensors", vector(12).view(3, 4).requires_grad_()
    st.Add(SITE, rows).save(path)
    (term,) = st.load_intervention(path).terms
    assert torch.equal(term.edit.vectors, rows.detach())
    assert not term.edit.vectors.requires_grad


@pytest.mark.parametrize("size", [0, 5, 100, -3])
def test_a_truncated_file_is_refused(gpt2, tmp_path, size):
    path = tmp_path / "v.safetensors"
    st.random_direction(gpt2, SITE).save(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="no complete safetensors file"):
        st.load_intervention(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "v.safetensors"
    save_file({"direction": torch.ones(4)}, path)
    with pytest.raises(ValueError, match="not written by steerlib"):
        st.load_intervention(path)


def test_a_pickle_is_refused_unread(tmp_path):
    path = tmp_path / "v.pt"
    torch.save({"direction": torch.ones(4)}, path)
    with pytest.raises(ValueError, match="no complete safetensors file"):
        st.load_intervention(path)


def _rewrite(path, change):
    """The file with a changed header."""
    size = int.from_bytes(path.read_bytes()[:8], "little")
    metadata = json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]
    header = json.loads(metadata["steerlib"])
    change(header)
    save_file(load_file(path), path, metadata | {"steerlib": json.dumps(header)})


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["terms"][0].update(edit="Rotate"),
        lambda header: header["terms"][0].update(site="blocks.1.nowhere"),
        lambda header: header["terms"][0].update(at={"before": 1}),
        lambda header: header["terms"].append(header["terms"][0]),
        lambda header: header.pop("origin"),
        lambda header: header["terms"].clear(),
    ],
)
def test_a_damaged_header_is_refused(gpt2, tmp_path, change):
    path = tmp_path / "v.safetensors"
    st.random_direction(gpt2, SITE).save(path)
    _rewrite(path, change)
    with pytest.raises(ValueError, match="damaged steerlib file"):
        st.load_intervention(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors"):
        st.load_intervention(tmp_path / "nothing.safetensors")


def test_positions_of_one_batch_cannot_be_saved(vector, tmp_path):
    edit = st.Add(SITE, vector()).at(st.mask(torch.tensor([True])))
    with pytest.raises(ValueError, match="cannot be stored"):
        edit.save(tmp_path / "v.safetensors")
