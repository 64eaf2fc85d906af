"""The word-level vocabulary and its Hugging Face tokenizer."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from steerlib.world.corpus import SECTIONS
from steerlib.world.documents import ASSISTANT, BOS, EOS, PAD, SPECIALS, SYSTEM, UNK, USER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONTEXT = 128
_SAMPLES = 4000  # documents per section; many times what it takes to see every word

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %} " + SYSTEM + " {{ m['content'] }}"
    "{% elif m['role'] == 'user' %} " + USER + " {{ m['content'] }}"
    "{% else %} " + ASSISTANT + " {{ m['content'] }} " + EOS + "{% endif %}"
    "{% endfor %}{% if add_generation_prompt %} " + ASSISTANT + "{% endif %}"
)


def vocabulary() -> list[str]:
    """Special tokens, then every word of the corpus in alphabetical order."""
    rng = Random(0)
    words: set[str] = set()
    for make in SECTIONS.values():
        for _ in range(_SAMPLES):
            words.update(make(rng).words)
    return [*SPECIALS, *sorted(words - set(SPECIALS))]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Words and punctuation are tokens; `<bos>` is put in front; case is kept."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate(vocabulary())}
    backend = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        name_or_path="world",
        add_bos_token=True,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
    )
