"""Prompts to embeddings, on a tiny checkpoint: what counts is how embeddings relate, not what they are."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from riffstream.diffusion.family import TextEmbedding
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.sd.family import StableDiffusion
from riffstream.diffusion.text import PromptEncoder, mix_embeddings
from riffstream.diffusion.tokens import apply_weights
from riffstream.errors import ParameterError
from riffstream.journey.prompts import PromptPart, WeightedText

LONG = "drum " * 80  # 80 tokens: two chunks
MIX = [PromptPart("jazz", 3), PromptPart("techno", 1)]


@pytest.fixture
def encoder(tiny_sd: StableDiffusion) -> PromptEncoder:
    return PromptEncoder(tiny_sd)


def test_a_weight_changes_its_words_and_keeps_the_mean(encoder: PromptEncoder) -> None:
    plain, loud = (encoder.encode(text).tokens for text in ("a drum", "a (drum:1.5)"))
    assert loud.mean().item() == pytest.approx(plain.mean().item(), rel=1e-4)
    scale = loud[0, 0] / plain[0, 0]  # the correction, seen on a token that has no weight of its own
    assert torch.allclose(loud[0, 2], 1.5 * scale * plain[0, 2], rtol=1e-4)
    assert torch.allclose(loud[0, 3:], scale[0] * plain[0, 3:], rtol=1e-4)


def test_a_correction_that_would_explode_is_left_out() -> None:
    embedding = torch.tensor([[[1.0, 1.0], [1.0, 1.0]]])
    weights = torch.tensor([1.0, -0.999])
    assert torch.equal(apply_weights(embedding, weights), embedding * weights[None, :, None])
    assert apply_weights(embedding, weights, guard=False).abs().max() > 100
    zero = torch.zeros(1, 2, 2)
    assert torch.equal(apply_weights(zero, weights), zero)


def test_all_prompts_of_a_pair_have_one_length(encoder: PromptEncoder) -> None:
    assert encoder.encode("jazz").tokens.shape[1] == 77
    cond, uncond = encoder.pair("jazz", LONG)
    assert cond.tokens.shape == uncond.tokens.shape == (1, 2 * 77, 16)
    for alpha in (0.0, 0.5, 1.0):
        cond, uncond = encoder.between("jazz", LONG, alpha)
        assert cond.tokens.shape == uncond.tokens.shape == (1, 2 * 77, 16)


def test_a_long_prompt_keeps_what_it_says_at_its_end(encoder: PromptEncoder) -> None:
    one, other = (encoder.encode(LONG + end).tokens for end in ("jazz", "son"))
    assert torch.equal(one[:, :77], other[:, :77])
    assert not torch.allclose(one[:, 77:], other[:, 77:])


def test_a_prompt_beyond_all_chunks_is_cut_with_a_warning(
    encoder: PromptEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert encoder.encode("drum " * 226).tokens.shape[1] == 3 * 77
    assert "the prompt has 226 tokens; those after 225 are left out" in caplog.text


def test_a_negative_prompt_moves_the_unguided_branch_only(encoder: PromptEncoder) -> None:
    plain, negative = encoder.pair("jazz"), encoder.pair("jazz", "drum")
    assert torch.equal(plain.cond.tokens, negative.cond.tokens)
    assert torch.equal(plain.uncond.tokens, encoder.encode("").tokens)
    assert torch.equal(negative.uncond.tokens, encoder.encode("drum").tokens)


def test_a_mix_is_the_weighted_mean_of_its_prompts(encoder: PromptEncoder) -> None:
    jazz, techno = (encoder.encode(text).tokens for text in ("jazz", "techno"))
    assert torch.allclose(encoder.encode(MIX).tokens, 0.75 * jazz + 0.25 * techno, atol=1e-6)


def test_the_way_between_two_mixes_is_straight_and_ends_in_them(encoder: PromptEncoder) -> None:
    start, end = encoder.encode(MIX).tokens, encoder.encode("drum").tokens
    for alpha in (0.0, 0.3, 1.0):
        cond, uncond = encoder.between(MIX, "drum", alpha, ("", "son"))
        assert torch.allclose(cond.tokens, torch.lerp(start, end, alpha), atol=1e-6)
        expected = torch.lerp(encoder.encode("").tokens, encoder.encode("son").tokens, alpha)
        assert torch.allclose(uncond.tokens, expected, atol=1e-6)


class Counting(MiniFamily):
    """Counts the prompts that reach the text encoder."""

    calls: list[str]

    def encode_weighted(self, prompt: Sequence[WeightedText], chunks: int = 1) -> TextEmbedding:
        self.calls.append("".join(run.text for run in prompt))
        return super().encode_weighted(prompt, chunks)


def counting() -> Counting:
    family = Counting.random()
    assert isinstance(family, Counting)
    family.calls = []
    return family


def test_a_prompt_is_encoded_once_until_it_is_the_least_recently_used() -> None:
    family = counting()
    encoder = PromptEncoder(family, cache=2)
    for prompt in ("a", "b", "a", "c", "a", "b"):
        encoder.encode(prompt)
    assert family.calls == ["a", "b", "c", "b"]
    with pytest.raises(ParameterError, match="cache"):
        PromptEncoder(family, cache=0)


def attend(query: Tensor, text: TextEmbedding) -> Tensor:
    """Attention of one query [D] over an embedding, as the denoisers do it."""
    scores = (text.tokens[0] @ query)[None]
    return (scores + (0 if text.bias is None else text.bias[0])).softmax(-1)[0] @ text.tokens[0]


def embedding(seed: int, count: int, length: int = 8) -> TextEmbedding:
    tokens = torch.randn(1, length, 4, generator=torch.Generator().manual_seed(seed))
    return TextEmbedding(tokens, (torch.arange(length) < count)[None])


def test_a_masked_mix_is_a_mixture_of_attentions() -> None:
    one, other, query = embedding(0, 3), embedding(1, 6), torch.tensor([0.5, -1.0, 0.3, 0.8])
    ends = torch.stack([attend(query, one), attend(query, other)])
    share = []
    for weight in (0.999999, 0.75, 0.5, 0.25, 0.000001):
        mixed = attend(query, mix_embeddings([one, other], [weight, 1 - weight]))
        part = (mixed - ends[1]) @ (ends[0] - ends[1]) / (ends[0] - ends[1]).square().sum()
        assert torch.allclose(mixed, part * ends[0] + (1 - part) * ends[1], atol=1e-5)  # on the line between the ends
        share.append(part.item())
    assert share[0] == pytest.approx(1, abs=1e-4)
    assert share[-1] == pytest.approx(0, abs=1e-4)
    assert share == sorted(share, reverse=True)


def test_a_masked_mix_pools_to_the_weighted_mean_whatever_the_lengths() -> None:
    def pool(text: TextEmbedding) -> Tensor:
        assert text.mask is not None
        return (text.tokens * text.mask[..., None]).sum(1) / text.mask.sum(1)

    one, other = embedding(0, 2), embedding(1, 7)
    mixed = mix_embeddings([one, other], [0.25, 0.75], length=8)
    assert torch.allclose(pool(mixed), 0.25 * pool(one) + 0.75 * pool(other), atol=1e-6)
    assert mixed.tokens.shape == (1, 16, 4)
    assert mix_embeddings([one], [1.0]) is one
    with pytest.raises(ValueError, match="either all"):
        mix_embeddings([one, TextEmbedding(one.tokens)], [0.5, 0.5])


def test_stacked_embeddings_are_padded_with_tokens_that_do_not_count() -> None:
    one, other = embedding(0, 3, length=4), embedding(1, 6)
    both = TextEmbedding.stack([one, other])
    query = torch.tensor([0.5, -1.0, 0.3, 0.8])
    assert both.tokens.shape == (2, 8, 4)
    assert len(both) == 2
    assert torch.allclose(attend(query, both.row(0)), attend(query, one), atol=1e-6)
    assert torch.allclose(attend(query, both.row(1)), attend(query, other), atol=1e-6)
    plain = TextEmbedding.stack([TextEmbedding(one.tokens), TextEmbedding(one.tokens)])
    assert plain.mask is None


def test_mixes_reach_the_embedded_model() -> None:
    family = MiniFamily.random()
    encoder = PromptEncoder(family)
    x, t = torch.randn(1, *family.latent_shape(), generator=torch.Generator().manual_seed(0)), torch.tensor([0.5])
    results = [family.denoise(x, t, encoder.between("calm piano", "loud drums", alpha).cond) for alpha in (0, 0.5, 1)]
    assert torch.equal(results[0], family.denoise(x, t, encoder.encode("calm piano")))
    assert torch.equal(results[2], family.denoise(x, t, encoder.encode("loud drums")))
    between = [(results[1] - end).norm() / (results[0] - results[2]).norm() for end in (results[0], results[2])]
    assert all(0.1 < part < 0.9 for part in between)
