"""A model whose activations are known: the stream before block 0 is a table of given rows.

Each word is one row, positions add nothing, so the row of the text "w7" is exactly row 7.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import steerlib as st

SITE = st.resid_pre(0)
SPECIAL = ["<pad>", "<unk>", "<bos>", "<eos>"]


def planted_model(rows: torch.Tensor) -> st.Model:
    """A GPT-2 that embeds the word `w<n>` as rows[n]."""
    n, d = rows.shape
    config = GPT2Config(
        n_embd=d, n_layer=1, n_head=1, n_positions=32, vocab_size=n + 4,
        bos_token_id=2, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    network = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        network.transformer.wpe.weight.zero_()
        network.transformer.wte.weight[4:] = rows
    return st.wrap(network, _tokenizer(n))


def _tokenizer(n: int) -> PreTrainedTokenizerFast:
    vocabulary = {w: i for i, w in enumerate([*SPECIAL, *(f"w{i}" for i in range(n))])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.add_special_tokens(SPECIAL)
    raw.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)]
    )
    names = {f"{kind}_token": f"<{kind}>" for kind in ("unk", "pad", "bos", "eos")}
    return PreTrainedTokenizerFast(tokenizer_object=raw, add_bos_token=True, **names)


def one_word_texts(labels: torch.Tensor) -> SimpleNamespace:
    """Labelled texts of one word each: text n is `w<n>`."""
    return SimpleNamespace(texts=[f"w{n}" for n in range(len(labels))], labels=labels.tolist())
