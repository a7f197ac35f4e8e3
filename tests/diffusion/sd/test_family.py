"""Stable Diffusion as a family: shapes, rows that do not disturb each other, images, and the speed switches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from riffstream.diffusion.checkpoint import Checkpoint
from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.family import Family, TextEmbedding
from riffstream.diffusion.sd.codec import fit_image, image_to_pixels, mel_to_pixels, pixels_to_image, pixels_to_mel
from riffstream.diffusion.sd.family import SdOptions, StableDiffusion
from riffstream.errors import MediaError, ParameterError
from riffstream.journey.journey import Journey
from riffstream.spectrogram.image import amplitudes_from_image, image_from_amplitudes
from riffstream.spectrogram.params import SpectrogramParams
from tests.diffusion.tiny import write_tiny_vae

STEREO, MONO = SpectrogramParams.riffusion(stereo=True), SpectrogramParams.riffusion()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def load(folder: Path, options: SdOptions, dtype: str = "float32") -> StableDiffusion:
    family = Checkpoint.load(folder, device="cpu", dtype=dtype, options=options, progress=False)
    assert isinstance(family, StableDiffusion)
    return family


def test_the_shapes_of_a_clip_follow_its_frames(tiny_sd: StableDiffusion) -> None:
    assert tiny_sd.latent_shape() == (4, 8, 8)
    assert tiny_sd.latent_shape(65) == (4, 8, 12)
    latents = noise(2, *tiny_sd.latent_shape(65))
    assert tiny_sd.decode_mel(latents).shape == (2, 1, 64, 96)
    assert tiny_sd.decode_image(latents).shape == (2, 64, 96, 3)
    assert tiny_sd.encode_mel(torch.rand(1, 1, 64, 65)).shape == (1, *tiny_sd.latent_shape(65))
    with pytest.raises(ParameterError, match="frames"):
        tiny_sd.latent_shape(0)
    with pytest.raises(ParameterError, match="mel bins"):
        tiny_sd.encode_mel(torch.rand(1, 1, 32, 64))


def test_each_row_has_its_own_timestep_and_text(tiny_sd: StableDiffusion) -> None:
    text = tiny_sd.encode_text(["jazz", "drum son"])
    x, t = noise(2, 4, 8, 8), torch.tensor([900.0, 20.0])
    both = tiny_sd.denoise(x, t, text)
    assert both.dtype == torch.float32
    for row in range(2):
        alone = tiny_sd.denoise(x[row : row + 1], t[row : row + 1], text.row(row))
        assert torch.allclose(both[row], alone[0], atol=1e-5)  # other kernels for other batch sizes
    swapped = tiny_sd.denoise(x, t, tiny_sd.encode_text(["drum son", "jazz"]))
    assert (swapped - both).abs().max() > 1e-3
    assert (tiny_sd.denoise(x, t.flip(0), text) - both).abs().max() > 1e-3


def test_padded_text_does_not_count(tiny_sd: StableDiffusion) -> None:
    text, x, t = tiny_sd.encode_text(["jazz"]), noise(1, 4, 8, 8), torch.tensor([500])
    long = TextEmbedding(noise(1, 154, 16, seed=1))
    both = tiny_sd.denoise(x.expand(2, -1, -1, -1), t.expand(2), TextEmbedding.stack([text, long]))
    assert torch.allclose(both[0], tiny_sd.denoise(x, t, text)[0], atol=1e-5)


def test_the_clip_before_is_refused(tiny_sd: StableDiffusion) -> None:
    x = noise(1, 4, 8, 8)
    with pytest.raises(ValueError, match="mask"):
        tiny_sd.denoise(x, torch.tensor([500]), tiny_sd.encode_text(["jazz"]), previous=x)


def test_noise_samples_the_posterior(tiny_sd: StableDiffusion) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    mean, deviation = tiny_sd.moments(image_to_pixels(image))
    draw = noise(1, 4, 8, 8)
    assert torch.allclose(tiny_sd.encode_image(image), mean * tiny_sd.scaling)
    assert torch.allclose(tiny_sd.encode_image(image, noise=draw), (mean + deviation * draw) * tiny_sd.scaling)


def test_mel_and_image_of_a_clip_agree(tiny_sd: StableDiffusion) -> None:
    latents = noise(1, 4, 8, 8)
    mel, image = tiny_sd.decode_mel(latents), tiny_sd.decode_image(latents)
    grey = image[0].astype(np.float64).mean(-1)[::-1] / 255
    assert np.allclose((mel[0, 0].numpy() / 30e6) ** 0.25, 1 - grey, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("params", [MONO, STEREO])
def test_pixels_are_the_images_that_the_spectrogram_room_draws(params: SpectrogramParams) -> None:
    mel = torch.rand(1, params.channels, 64, 32) ** 4
    ours = pixels_to_image(mel_to_pixels(mel, params))[0].astype(int)
    theirs = np.asarray(image_from_amplitudes(mel[0].numpy(), params)).astype(int)
    assert np.abs(ours - theirs).max() <= 1  # theirs truncates, as the original does
    read = amplitudes_from_image(theirs.astype(np.uint8), stereo=params.stereo)
    assert np.allclose(pixels_to_mel(image_to_pixels(theirs.astype(np.uint8)), params)[0], read, rtol=1e-4, atol=1)


def test_other_channel_counts_are_mixed_and_silence_is_white() -> None:
    stereo = torch.rand(1, 2, 32, 32)
    mixed = mel_to_pixels(stereo, MONO)
    assert torch.equal(mixed, mel_to_pixels(stereo.mean(1, keepdim=True), MONO))
    doubled = mel_to_pixels(stereo[:, :1], STEREO)
    assert torch.equal(doubled[:, 1], doubled[:, 2])
    assert torch.equal(mel_to_pixels(torch.zeros(1, 1, 32, 32), MONO), torch.ones(1, 3, 32, 32))


def test_images_are_fitted_to_multiples_of_32() -> None:
    image = np.random.default_rng(0).integers(0, 256, (133, 150, 3), np.uint8)
    assert fit_image(image).shape == (128, 128, 3)
    assert np.array_equal(fit_image(image[:128, :128]), image[:128, :128])
    with pytest.raises(MediaError, match="20 x 150 pixels"):
        fit_image(np.zeros((150, 20, 3), np.uint8))
    with pytest.raises(MediaError, match="float64"):
        fit_image(image / 255)


def in_float64(family: StableDiffusion) -> StableDiffusion:
    """The same networks in float64: there rounding, which differs with layout and CPU, is far below any real change."""
    family.unet.double()
    family.vae.double()
    family.dtype = torch.float64
    return family


@pytest.mark.parametrize("options", [SdOptions(channels_last=True), SdOptions(fuse_qkv=True)])
def test_speed_switches_change_no_result(options: SdOptions, tiny_sd_folder: Path) -> None:
    plain, fast = (in_float64(load(tiny_sd_folder, each)) for each in (SdOptions(), options))
    text, x, t = plain.encode_text(["jazz"]), noise(1, 4, 8, 8), torch.tensor([500])
    torch.testing.assert_close(fast.denoise(x, t, text), plain.denoise(x, t, text), atol=1e-6, rtol=0)
    torch.testing.assert_close(fast.pixels(x), plain.pixels(x), atol=1e-10, rtol=0)


def test_compiling_takes_the_denoiser_and_the_decoder(tiny_sd_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def fake(function: Any) -> Any:  # the real one takes a minute here
        name = type(function).__name__ if isinstance(function, torch.nn.Module) else function.__name__
        return lambda *args, **options: (calls.append(name), function(*args, **options))[1]

    monkeypatch.setattr(torch, "compile", fake)
    load(tiny_sd_folder, SdOptions(compile=True)).warm_up()
    assert set(calls) == {"UNet2DConditionModel", "decode"}


def test_a_tiny_decoder_takes_the_decoding_over(tiny_sd: StableDiffusion, tiny_sd_folder: Path, tmp_path: Path) -> None:
    fast = load(tiny_sd_folder, SdOptions(tiny_vae=write_tiny_vae(tmp_path / "tiny_vae")))
    latents, image = noise(1, 4, 8, 8), np.full((64, 64, 3), 90, np.uint8)
    assert fast.decode_mel(latents).shape == tiny_sd.decode_mel(latents).shape
    assert not torch.allclose(fast.pixels(latents), tiny_sd.pixels(latents), atol=0.1)
    assert torch.equal(fast.encode_image(image), tiny_sd.encode_image(image))


def test_half_precision_stays_close(tiny_sd: StableDiffusion, tiny_sd_folder: Path) -> None:
    half = load(tiny_sd_folder, SdOptions(), "bfloat16")
    text, x, t = half.encode_text(["jazz"]), noise(1, 4, 8, 8), torch.tensor([500])
    assert text.tokens.dtype == torch.bfloat16
    full = tiny_sd.denoise(x, t, tiny_sd.encode_text(["jazz"]))
    result = half.denoise(x, t, text)
    assert result.dtype == torch.float32
    assert (result - full).norm() / full.norm() < 0.05  # bfloat16 keeps 8 bits


def test_warm_up_runs_every_part(tiny_sd: StableDiffusion) -> None:
    """The denoiser for one clip and for two: the first call of each batch size is slow."""
    ran: list[tuple[str, int]] = []
    parts = {"text": tiny_sd.text_encoder, "denoiser": tiny_sd.unet, "decoder": tiny_sd.vae.decoder}
    hooks = [
        part.register_forward_hook(lambda *call, name=name: ran.append((name, len(call[2][0]))))
        for name, part in parts.items()
    ]
    tiny_sd.warm_up()
    for hook in hooks:
        hook.remove()
    assert {name for name, _ in ran} == set(parts)
    assert {rows for name, rows in ran if name == "denoiser"} == {1, 2}


def test_the_engine_renders_a_clip(tiny_sd: StableDiffusion) -> None:
    family: Family = tiny_sd
    engine = Engine(family, steps=2)
    clip = engine.render(ClipRequest(Journey.single("jazz", seed=3).clip(0)))
    assert clip.mel.shape == (1, 64, 64)
    assert torch.isfinite(clip.mel).all()
    assert clip.mel.max() > 0
