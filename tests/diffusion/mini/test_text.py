"""The shipped text encoder against the original's vectors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from riffstream.diffusion.mini.family import MODEL_FOLDER
from riffstream.diffusion.mini.text import MiniTextEncoder, TextConfig, WordPieceTokenizer, from_bert
from riffstream.errors import CheckpointError

# Sentence vectors of these prompts by transformers' BertModel with the original float32 weights, mean-pooled and unit.
GOLDEN = Path(__file__).parents[2] / "data" / "minilm_golden.safetensors"
PROMPTS = (
    "slow jazz ballad, grand piano and upright bass",
    "driving techno, acid synth and 909 drums",
    "something calm for studying",
    "bossa nova, nylon guitar and flute",
)


@pytest.fixture(scope="module")
def encoder() -> MiniTextEncoder:
    return MiniTextEncoder.load(MODEL_FOLDER / "text_encoder", MODEL_FOLDER / "tokenizer")


def test_int8_encoder_agrees_with_the_original(encoder: MiniTextEncoder) -> None:
    golden = load_file(str(GOLDEN))["sentences"].float()
    cosines = torch.nn.functional.cosine_similarity(encoder.sentences(PROMPTS), golden)
    assert (cosines > 0.999).all(), cosines


def test_like_texts_are_near(encoder: MiniTextEncoder) -> None:
    quiet, calm, loud = encoder.sentences(["a quiet piano piece", "calm piano music", "aggressive heavy metal"])
    assert quiet @ calm > quiet @ loud + 0.2


def test_words_are_split_as_word_pieces() -> None:
    ids, whole = WordPieceTokenizer(MODEL_FOLDER / "tokenizer" / "tokenizer.json")("Lo-fi beats", 64)
    assert ids == [101, 8840, 1011, 10882, 10299, 102]
    assert whole


def test_long_text_keeps_its_end_mark() -> None:
    ids, whole = WordPieceTokenizer(MODEL_FOLDER / "tokenizer" / "tokenizer.json")("jazz " * 50, 8)
    assert (len(ids), ids[0], ids[-1], whole) == (8, 101, 102, False)


def test_a_missing_tensor_is_named() -> None:
    tiny = MiniTextEncoder.random()
    weights = dict(tiny._weights)
    del weights["0.qkv.weight"]
    with pytest.raises(CheckpointError, match=r"text_encoder: tensor 0\.qkv\.weight is missing"):
        MiniTextEncoder(tiny.config, weights, tiny.tokenizer)


def test_bert_names_are_translated() -> None:
    config = TextConfig(vocab_size=10, width=4, layers=1, heads=1, mlp=8, positions=6)
    layer = "encoder.layer.0"
    shapes = {
        "embeddings.word_embeddings.weight": (10, 4),
        "embeddings.position_embeddings.weight": (6, 4),
        "embeddings.token_type_embeddings.weight": (2, 4),
        "embeddings.LayerNorm.weight": (4,),
        "embeddings.LayerNorm.bias": (4,),
        f"{layer}.intermediate.dense.weight": (8, 4),
        f"{layer}.intermediate.dense.bias": (8,),
        f"{layer}.output.dense.weight": (4, 8),
        f"{layer}.output.dense.bias": (4,),
    }
    for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
        shapes |= {f"{layer}.{part}.weight": (4, 4), f"{layer}.{part}.bias": (4,)}
    for part in ("attention.output.LayerNorm", "output.LayerNorm"):
        shapes |= {f"{layer}.{part}.weight": (4,), f"{layer}.{part}.bias": (4,)}
    bert = {name: torch.randn(shape) for name, shape in shapes.items()}
    encoder = MiniTextEncoder(config, from_bert(bert, config), MiniTextEncoder.random().tokenizer)
    torch.testing.assert_close(encoder._weights["0.qkv.weight"][4:8], bert[f"{layer}.attention.self.key.weight"])
    torch.testing.assert_close(encoder._weights["0.down.weight"], bert[f"{layer}.output.dense.weight"])
