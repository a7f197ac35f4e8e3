"""The embedded model's family on random weights, and its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.family import TextEmbedding
from riffstream.diffusion.mini.codec import Codec, CodecConfig, features_to_mel, mel_to_features
from riffstream.diffusion.mini.denoiser import Denoiser, DenoiserConfig
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.mini.files import quantise
from riffstream.diffusion.mini.text import ByteTokenizer, MiniTextEncoder
from riffstream.errors import CheckpointError, ParameterError
from riffstream.journey.journey import ClipSpec, Journey, Keyframe
from riffstream.journey.prompts import parse_weights


@pytest.fixture(scope="module")
def family() -> MiniFamily:
    return MiniFamily.random()


def run(family: MiniFamily, x: torch.Tensor, prompts: list[str], t: float = 0.5, **more: torch.Tensor) -> torch.Tensor:
    return family.denoise(x, torch.full((len(x),), t), family.encode_text(prompts), **more)


def test_prediction_depends_on_every_input(family: MiniFamily) -> None:
    x = torch.randn(1, *family.latent_shape(), generator=torch.Generator().manual_seed(1))
    base = run(family, x, ["jazz"])
    assert base.shape == x.shape
    assert base.dtype == torch.float32
    others = {
        "text": run(family, x, ["techno"]),
        "t": run(family, x, ["jazz"], t=0.9),
        "x": run(family, x + 0.1, ["jazz"]),
        "previous": run(family, x, ["jazz"], previous=x),
    }
    for name, other in others.items():
        assert (other - base).abs().max() > 1e-4, name


def test_a_masked_row_of_previous_is_ignored(family: MiniFamily) -> None:
    x = torch.randn(2, *family.latent_shape())
    none = run(family, x, ["a", "b"])
    mixed = run(family, x, ["a", "b"], previous=x, previous_mask=torch.tensor([True, False]))
    torch.testing.assert_close(mixed[1], none[1])
    assert (mixed[0] - none[0]).abs().max() > 1e-4


def test_a_clip_does_not_depend_on_its_batch_mates(family: MiniFamily) -> None:
    x = torch.randn(3, *family.latent_shape())
    alone = run(family, x[:1], ["slow piano"])
    together = run(family, x, ["slow piano", "a much longer prompt than that", ""])
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-4)


def test_tokens_that_do_not_count_have_no_effect(family: MiniFamily) -> None:
    x = torch.randn(1, *family.latent_shape())
    text = family.encode_text(["jazz"])
    assert text.mask is not None
    padded = TextEmbedding(
        torch.cat([text.tokens, torch.randn(1, 5, text.tokens.shape[2])], 1),
        torch.cat([text.mask, torch.zeros(1, 5)], 1),
    )
    t = torch.tensor([0.4])
    torch.testing.assert_close(family.denoise(x, t, padded), family.denoise(x, t, text), atol=1e-5, rtol=1e-4)


def test_triple_time_has_a_narrower_grid(family: MiniFamily) -> None:
    channels, rows, columns = family.latent_shape()
    assert family.latent_shape(384) == (channels, rows, columns * 3 // 4)
    x = torch.randn(1, *family.latent_shape(384))
    assert run(family, x, ["waltz"]).shape == x.shape
    assert family.decode_mel(x).shape == (1, 2, 256, 384)


@pytest.mark.parametrize("frames", [512, 384])
def test_a_clip_is_decoded_with_the_end_of_the_one_before(frames: int) -> None:
    family = MiniFamily.random()
    # Else only the linear part speaks, patch by patch.
    torch.nn.init.normal_(family.codec.fine_out.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    engine = Engine(family, steps=1)
    journey = Journey.single("jazz", seed=3)
    first = engine.render(ClipRequest(journey.clip(0), frames=frames))
    torch.testing.assert_close(first.mel, family.decode_mel(first.latents[None])[0])
    second = engine.render(ClipRequest(journey.clip(1), frames=frames, previous=first.latents))
    assert second.mel.shape == first.mel.shape
    joint = family.decode_mel(torch.cat([first.latents, second.latents], -1)[None])[0, ..., frames:]
    alone = family.decode_mel(second.latents[None])[0]
    torch.testing.assert_close(second.mel, joint)
    assert float((second.mel - alone)[..., :16].abs().max()) > 0.01 * float(alone.max())
    torch.testing.assert_close(second.mel[..., 96:], alone[..., 96:])


@pytest.mark.parametrize("frames", [0, 100, 1024, -32])
def test_other_lengths_are_refused(family: MiniFamily, frames: int) -> None:
    with pytest.raises(ParameterError, match="frames"):
        family.latent_shape(frames)


def test_weights_inside_a_prompt_are_the_mask(family: MiniFamily) -> None:
    plain = family.encode_weighted(parse_weights("slow piano"))
    strong = family.encode_weighted(parse_weights("slow (piano:1.5)"))
    torch.testing.assert_close(strong.tokens, plain.tokens)
    assert strong.mask is not None
    assert strong.mask[0].tolist() == [1.0] * 6 + [1.5] * 5 + [1.0]  # start, "slow ", "piano", end


def test_long_prompts_are_cut_with_a_warning(family: MiniFamily) -> None:
    with pytest.warns(UserWarning, match="cut"):
        assert family.encode_text(["x" * 500]).tokens.shape[1] <= family.text_length


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(-25, 40), st.floats(-20, 20))
def test_features_are_inverted(seed: int, level_db: float, balance_db: float) -> None:
    config = CodecConfig()
    generator = torch.Generator().manual_seed(seed)
    mel = 10 ** ((level_db + 10 * torch.randn(1, 2, 4, 8, generator=generator).clamp(-1, 1)) / 20)
    mel[:, 0] *= 10 ** (balance_db / 20)
    features = mel_to_features(mel, config)
    assert (features[:, 0] >= 0).all()
    back = mel_to_features(features_to_mel(features, config), config)
    heard = features[:, 0] > 0.5
    torch.testing.assert_close(back[:, 0][heard], features[:, 0][heard], atol=0.02, rtol=0)
    torch.testing.assert_close(back[:, 1][heard], features[:, 1][heard], atol=0.2, rtol=0)


def test_silence_decodes_to_exact_silence() -> None:
    config = CodecConfig()
    silent = mel_to_features(torch.zeros(1, 2, 4, 4), config)
    assert (features_to_mel(silent, config) == 0).all()


def test_the_linear_codec_is_the_best_linear_one() -> None:
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(3, 2 * 16 * 16, generator=generator)
    half = torch.randn(4, 8, 3, generator=generator)
    codes = torch.cat([half, -half], 1).view(64, 3)  # each row of patches has mean 0, so the mean takes no rank
    patches = (codes @ factors).view(1, 64, 2 * 16 * 16).transpose(1, 2).reshape(1, 512, 4, 16)
    features = torch.nn.functional.pixel_shuffle(patches, 16)
    codec = Codec(CodecConfig(mels=64, channels=4, width=8, fine_width=8))
    codec.fit_linear(features)
    with torch.no_grad():
        latents = codec.encode(features)
        torch.testing.assert_close(codec.decode(latents), features, atol=2e-2, rtol=1e-3)
    assert 0.5 < float(latents.square().mean()) < 2


def test_pictures_round_trip(family: MiniFamily) -> None:
    x = torch.randn(1, *family.latent_shape(), generator=torch.Generator().manual_seed(3)) * 0.3
    picture = family.decode_image(x)
    assert picture.shape == (1, 256, 512, 3)
    assert picture.dtype == np.uint8
    mel = family.decode_mel(x)
    direct, through = family.encode_mel(mel), family.encode_image(picture[0])
    assert (direct - through).abs().mean() < 0.15 * direct.abs().mean()  # eight bits, and 80 dB of range


def test_mono_mel_is_taken_as_both_sides(family: MiniFamily) -> None:
    mel = torch.rand(1, 1, 256, 512)
    torch.testing.assert_close(family.encode_mel(mel), family.encode_mel(mel.expand(-1, 2, -1, -1)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny = MiniFamily.random(seed=3)
    tiny.save(tmp_path)
    (tmp_path / "tokenizer").mkdir()
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    Tokenizer(WordLevel({"jazz": 5, "[UNK]": 6}, unk_token="[UNK]")).save(
        str(tmp_path / "tokenizer" / "tokenizer.json")
    )
    return tmp_path


def test_folder_round_trip(folder: Path) -> None:
    tiny, loaded = MiniFamily.random(seed=3), MiniFamily.load(folder, dtype=torch.float32)
    x, text = torch.randn(1, *tiny.latent_shape()), tiny.encode_text(["jazz"])
    t = torch.tensor([0.5])
    torch.testing.assert_close(loaded.denoise(x, t, text), tiny.denoise(x, t, text), atol=0.05, rtol=0.05)  # int8
    assert loaded.params == tiny.params
    assert loaded.defaults == tiny.defaults


def test_a_saved_model_is_readable_by_whoever_reads_other_files(folder: Path) -> None:
    modes = {path.suffix: path.stat().st_mode for path in (folder / "denoiser").iterdir()}
    assert modes[".safetensors"] == modes[".json"]


def test_stored_once_it_stays_the_same(folder: Path, tmp_path: Path) -> None:
    loaded = MiniFamily.load(folder, dtype=torch.float32)
    loaded.save(tmp_path / "again")
    first, second = (
        (part / "denoiser" / "diffusion_pytorch_model.safetensors").read_bytes()
        for part in (folder, tmp_path / "again")
    )
    assert first == second


@pytest.mark.parametrize("part", ["denoiser", "codec", "text_encoder", "tokenizer"])
def test_a_missing_part_is_named(folder: Path, part: str) -> None:
    for file in (folder / part).iterdir():
        file.unlink()
    (folder / part).rmdir()
    with pytest.raises(CheckpointError, match=part):
        MiniFamily.load(folder)


def test_a_part_of_the_wrong_shape_is_named(folder: Path) -> None:
    path = folder / "denoiser" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "width": 32}))
    with pytest.raises(CheckpointError, match=r"denoiser: tensor \S+ is .* asks for"):
        MiniFamily.load(folder)


def test_a_config_with_an_unknown_key_is_refused(folder: Path) -> None:
    path = folder / "codec" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "widht": 32}))
    with pytest.raises(CheckpointError, match="widht"):
        MiniFamily.load(folder)


def test_the_shift_of_the_flow_is_kept_and_checked(folder: Path, tmp_path: Path) -> None:
    path = folder / "scheduler" / "config.json"
    assert json.loads(path.read_text())["shift"] == 1.0
    path.write_text('{"shift": 2.5}')
    family = MiniFamily.load(folder)
    assert family.schedule.shift == 2.5
    family.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "scheduler" / "config.json").read_text())["shift"] == 2.5
    path.write_text("{}")
    assert MiniFamily.load(folder).schedule.shift == 1.0
    for wrong in ("0", "-1", "true", '"three"', "1e9"):
        path.write_text(f'{{"shift": {wrong}}}')
        with pytest.raises(CheckpointError, match="scheduler: shift is"):
            MiniFamily.load(folder)


def test_damaged_weights_are_named(folder: Path) -> None:
    path = folder / "codec" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="codec"):
        MiniFamily.load(folder)


def test_int8_weights_stay_close() -> None:
    text = MiniTextEncoder.random(width=32)
    stored = MiniTextEncoder(text.config, quantise(text._weights), ByteTokenizer())
    prompts = ["slow piano", "techno", "a waltz in the rain"]
    likeness = (text.sentences(prompts) * stored.sentences(prompts)).sum(-1)
    assert (likeness > 0.999).all()


def test_padding_does_not_change_a_text(family: MiniFamily) -> None:
    short = family.encode_text(["jazz"])
    batch = family.encode_text(["jazz", "a rather longer text"])
    torch.testing.assert_close(batch.tokens[0, : short.tokens.shape[1]], short.tokens[0])
    assert batch.mask is not None
    assert not batch.mask[0, short.tokens.shape[1] :].any()


def test_a_denoiser_with_context_treats_every_clip_of_a_mixed_batch_alone() -> None:
    torch.manual_seed(3)
    plain = Denoiser(DenoiserConfig(channels=4, width=16, layers=2, heads=2, mlp=32, text_width=8))
    for parameter in plain.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    model = plain.with_context(2)
    x, before, tokens = torch.randn(3, 4, 16, 32), torch.randn(3, 4, 16, 32), torch.randn(3, 5, 8)
    t = torch.tensor([0.2, 0.5, 0.9])
    triple, given = torch.tensor([True, False, False]), torch.tensor([True, True, False])
    x[0, ..., 24:] = 0
    mixed = model(x, t, tokens, None, before, given, triple)
    alone = (
        model(x[:1, ..., :24], t[:1], tokens[:1], None, before[:1, ..., :24]),
        model(x[1:2], t[1:2], tokens[1:2], None, before[1:2]),
        model(x[2:], t[2:], tokens[2:]),
    )
    for own, expected in zip(mixed, alone, strict=True):
        torch.testing.assert_close(own[..., : expected.shape[-1]], expected[0], atol=1e-5, rtol=1e-5)


def test_the_end_of_the_clip_before_stands_beside_the_clip() -> None:
    """One block's 3 x 3 filter reaches from the last column of the clip before into the first of the clip."""
    torch.manual_seed(4)
    plain = Denoiser(DenoiserConfig(channels=4, width=16, layers=1, heads=2, mlp=32, text_width=8))
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model = plain.with_context(1)
    torch.nn.init.zeros_(model.previous_in.weight)  # only the context may tell
    for name, parameter in model.named_parameters():
        if "attention.out" in name:
            torch.nn.init.zeros_(parameter)
    x, before, tokens = torch.randn(1, 4, 16, 32), torch.randn(1, 4, 16, 32), torch.randn(1, 3, 8)
    t, other = torch.tensor([0.5]), before.clone()
    other[..., -2:] += 1
    changed = (model(x, t, tokens, None, other) - model(x, t, tokens, None, before)).abs().amax((0, 1, 2))
    assert changed[:2].min() > 1e-4
    assert changed[2:].max() == 0


def test_weights_grow_a_context_without_losing_what_they_know() -> None:
    plain = Denoiser(DenoiserConfig(channels=4, width=16, layers=2, heads=2, mlp=32, text_width=8))
    model = plain.with_context(2)
    assert model.config.context == 2
    assert model.with_context(2) is model
    own, grown = plain.state_dict(), model.state_dict()
    assert {key for key in grown if key not in own} == {
        "context_in.weight", "context_in.bias", "context_none", "context_column",
    }  # fmt: skip
    assert all(torch.equal(own[key], grown[key]) for key in own)
    assert set(model.with_context(0).state_dict()) == set(own)


@pytest.mark.parametrize("span", [(0, 128), (77, 256), (100, 264), (480, 512)])
@pytest.mark.parametrize("continued", [False, True])
def test_a_span_of_a_clip_is_decoded_as_in_the_whole_clip(span: tuple[int, int], continued: bool) -> None:
    """Only the span and the columns that influence it are decoded."""
    family = MiniFamily.random()
    engine = Engine(family, steps=2)
    keyframe = Keyframe.of("jazz", seed=1)
    spec = ClipSpec(keyframe, keyframe, 0.0)
    previous = engine.render(ClipRequest(spec)).latents if continued else None
    widths: list[int] = []
    decode = family.decode_mel
    family.decode_mel = lambda latents: (widths.append(latents.shape[-1]), decode(latents))[1]  # type: ignore[method-assign]
    whole = engine.render(ClipRequest(spec, previous=previous)).mel
    part = engine.render(ClipRequest(spec, previous=previous, span=span)).mel
    assert torch.allclose(part, whole[..., span[0] : span[1]], rtol=1e-3, atol=1e-5)
    assert widths[1] <= (span[1] - span[0]) // 16 + 1 + 2 * family.context < widths[0]


def test_a_span_must_hold_frames() -> None:
    keyframe = Keyframe.of("jazz", seed=1)
    with pytest.raises(ParameterError, match="span"):
        ClipRequest(ClipSpec(keyframe, keyframe, 0.0), span=(64, 64))


def test_the_codec_decodes_in_bfloat16_as_in_float32() -> None:
    fine, half = MiniFamily.load(dtype=torch.float32), MiniFamily.load(dtype=torch.bfloat16)
    latents = torch.randn(2, *fine.latent_shape(), generator=torch.Generator().manual_seed(0))
    one, other = (family.decode_mel(latents).clamp_min(0.03).log10() * 20 for family in (fine, half))
    assert float((one - other).abs().mean()) < 0.3
