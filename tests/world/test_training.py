"""Training on a tiny scale: it learns, it resumes exactly, and its folder is an ordinary one."""

import json

import pytest
import torch

from steerlib.world.train import (
    Recipe,
    build_model,
    build_optimizers,
    collate,
    learning_rate,
    load_checkpoint,
    train,
)

TINY = Recipe(tokens=300_000, layers=1, width=32, heads=2, batch_tokens=1024, lr=1e-2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model, tokenizer, progress = train(TINY, 0, folder / "checkpoint.safetensors")
    return model, tokenizer, progress


def test_the_loss_of_a_tiny_model_falls(trained):
    _, _, progress = trained
    first, last = progress.curve[0][1], progress.curve[-1][1]
    assert first > 4
    assert last < 2.6


def test_a_killed_run_ends_as_an_unbroken_one(trained, tmp_path, monkeypatch):
    """Stop after some steps as a kill would, start again from the checkpoint, compare weights."""
    import steerlib.world.train as module

    path, step = tmp_path / "checkpoint.safetensors", module._step
    calls = 0

    def interrupted(*args):
        nonlocal calls
        calls += 1
        if calls == 101:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(module, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, 0, path, every=0.0)
    monkeypatch.setattr(module, "_step", step)
    model, _, progress = train(TINY, 0, path)
    assert progress.step == trained[2].step
    for (name, a), b in zip(model.named_parameters(), trained[0].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)


def test_no_checkpoint_is_a_fresh_start(tmp_path):
    from steerlib.world.tokenizer import build_tokenizer

    model = build_model(TINY, build_tokenizer())
    assert load_checkpoint(tmp_path / "none", model, build_optimizers(model, 1.0)) is None


def test_the_rate_rises_stays_and_falls():
    recipe = Recipe(tokens=100, warmup_steps=10, decay_from=0.5, final=0.1)
    assert learning_rate(recipe, 0, 0) == pytest.approx(0.1)
    assert learning_rate(recipe, 50, 40) == 1.0
    assert learning_rate(recipe, 50, 75) == pytest.approx(0.5)
    assert learning_rate(recipe, 50, 100) == pytest.approx(0.1)


def test_padding_and_what_is_given_are_no_targets(trained):
    from steerlib.world.documents import chat, plain

    ids = trained[1].get_vocab()
    documents = [plain("the dog is ~old ."), chat([("is it good ?", "yes")])]
    tokens, targets = collate(documents, ids, ids["<bos>"], ids["<pad>"])
    told = trained[1].convert_ids_to_tokens(tokens[:, 1:][targets])
    assert told == ["the", "dog", "is", ".", "<eos>", "yes", "<eos>"]
    assert (tokens[:, 0] == ids["<bos>"]).all()


def test_a_document_beyond_the_context_is_refused(trained):
    from steerlib.world.documents import plain

    ids = trained[1].get_vocab()
    with pytest.raises(ValueError, match="does not fit the context of 128"):
        collate([plain("dog " * 200)], ids, 2, 0)


def test_the_folder_is_an_ordinary_hugging_face_model(trained, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import steerlib.world.export as module

    monkeypatch.setattr(module, "measure", lambda reader: {"tiny": {"figure": 0.0}})
    before = {n: p.detach().clone() for n, p in trained[0].named_parameters()}
    module.export(tmp_path, *trained[:2], TINY, trained[2], seed=0)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert model.dtype == torch.float32
    assert tokenizer.tokenize("the dog is old .") == "the dog is old .".split()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p, before[name].half().float(), rtol=0, atol=0)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["figures"] == {"tiny": {"figure": 0.0}}
    assert report["tokens"] == trained[2].tokens
    assert not list(tmp_path.glob("*.bin"))
