"""Small random models of the four tested architectures, made once per session, and a real one."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
import torch

import steerlib as st

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The same examples in every run, and no clock: the machine may be busy.
hypothesis.settings.register_profile("steerlib", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steerlib")

ARCHITECTURES = ("gpt2", "llama", "gemma2", "qwen2")
SPECIAL = ["<pad>", "<unk>", "<bos>", "<eos>", "<system>", "<user>", "<assistant>"]
WORDS = (
    "tell me about the dog . cat bird fish rain sun wind happy sad good bad a story once upon time "
    "there was little girl boy who went to park and saw big red ball"
).split()
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _tokenizer(name: str):
    """Qwen-2's own kind (bytes, no BOS token); else words, with a chat template for GPT-2 only."""
    return _byte_tokenizer() if name == "qwen2" else _word_tokenizer(template=name == "gpt2")


def _word_tokenizer(template: bool):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(SPECIAL + list(dict.fromkeys(WORDS)))}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.add_special_tokens(SPECIAL)
    raw.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    names = {f"{kind}_token": f"<{kind}>" for kind in ("unk", "pad", "bos", "eos")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, add_bos_token=True, **names)
    if template:
        tokenizer.chat_template = TEMPLATE
    return tokenizer


def _byte_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator([" ".join(WORDS)] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>")


def _config(name: str, size: int):
    from transformers import Gemma2Config, GPT2Config, LlamaConfig, Qwen2Config

    common = {"vocab_size": size, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    if name == "gpt2":
        return GPT2Config(n_embd=32, n_layer=4, n_head=4, n_positions=64, n_ctx=64, **common)
    common |= {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
    common |= {"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64}
    if name == "gemma2":
        return Gemma2Config(head_dim=8, query_pre_attn_scalar=8, sliding_window=16, **common)
    return (LlamaConfig if name == "llama" else Qwen2Config)(**common)


def _build(folder: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM

    tokenizer = _tokenizer(name)
    model = AutoModelForCausalLM.from_config(_config(name, len(tokenizer)))
    # Our own numbers, the same under every version of transformers, and far from its initial ones:
    # biases count, attention is not uniform, Gemma's soft caps bite.
    random = torch.Generator().manual_seed(20 + ARCHITECTURES.index(name))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            centre = 2.0 if "norm.weight" in key or ("ln_" in key and "weight" in key) else 0.0
            parameter.copy_(centre + 0.06 * torch.randn(parameter.shape, generator=random))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    # transformers 5 writes a class that AutoTokenizer replaces by the architecture's own.
    file.write_text(file.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with a small random model for each architecture."""
    root = tmp_path_factory.mktemp("models")
    for name in ARCHITECTURES:
        _build(root / name, name)
    return {name: root / name for name in ARCHITECTURES}


@pytest.fixture(scope="session")
def models(folders: dict[str, Path]):
    """`models(architecture, engine)`: each is loaded once and never changed."""
    loaded: dict[tuple[str, str], st.Model] = {}

    def get(name: str, engine: str = "hf") -> st.Model:
        if (name, engine) not in loaded:
            loaded[name, engine] = st.load(folders[name], engine=engine)
        return loaded[name, engine]

    return get


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, models) -> st.Model:
    """Each architecture in turn, on the Hugging Face engine."""
    return models(request.param)


@pytest.fixture
def gpt2(models) -> st.Model:
    """The small GPT-2, which has a chat template."""
    return models("gpt2")


@pytest.fixture
def llama(models) -> st.Model:
    """The small Llama, which has none."""
    return models("llama")


@pytest.fixture(scope="session")
def external() -> Path:
    """The folder of real data and models."""
    folder = os.environ.get("STEERLIB_EXTERNAL")
    if not folder:
        pytest.skip("STEERLIB_EXTERNAL names no folder with real data and models")
    return Path(folder)


@pytest.fixture(scope="session")
def stories(external: Path) -> st.Model:
    """A real Llama of 260k parameters that writes short stories."""
    return st.load(external / "models" / "stories260k", engine="hf")


@pytest.fixture(scope="session")
def stories_bridge(external: Path) -> st.Model:
    """The same on the bridge."""
    return st.load(external / "models" / "stories260k")


@pytest.fixture
def vector():
    """`vector(n, seed)`: a random direction of length 1."""

    def make(size: int = 32, seed: int = 0) -> torch.Tensor:
        direction = torch.randn(size, generator=torch.Generator().manual_seed(seed))
        return direction / direction.norm()

    return make
