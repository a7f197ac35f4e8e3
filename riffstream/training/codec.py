"""Train the latent codec: principal components first, then convolutions that restore the lost detail."""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from riffstream.corpus.data import SongFile, find_songs
from riffstream.diffusion.mini.codec import Codec, CodecConfig
from riffstream.errors import CheckpointError
from riffstream.training.checkpoints import resume_model
from riffstream.training.codec_critic import Sharpener
from riffstream.training.codec_losses import PATCH, POOL, band_loss, codec_loss, detail_loss, fold, local_rms, wavelet
from riffstream.training.guard import StepGuard
from riffstream.training.latents import song_features
from riffstream.training.loop import (
    Ema,
    Log,
    autocast,
    common_arguments,
    load_averaged,
    load_state,
    pick_device,
    save_state,
    step_size,
    until_terminated,
)

__all__ = [
    "PRESETS",
    "CodecPreset",
    "add_arguments",
    "evaluate_codec",
    "load_codec",
    "run",
    "train_codec",
]

WITH_CRITIC = 0.4  # factor of the step size
AUDIBLE = 30.0  # dB above the floor: threshold of loud places in the table


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecPreset:
    """Model sizes and batch of a preset. ``crop``: frames of an example; ``detail``, ``bands``: weights of losses."""

    config: CodecConfig
    batch: int = 8
    crop: int = 256
    rate: float = 1.5e-3
    warm_up: int = 50
    fit_windows: int = 160
    detail: float = 1.5
    bands: float = 1.0
    save_minutes: float = 3.0


PRESETS = {
    "cpu": CodecPreset(
        config=CodecConfig(
            decoder_blocks=3, fine_width=64, fine_blocks=3, detail_width=32, detail_blocks=2, row_biases=True
        )
    ),
    "gpu": CodecPreset(
        config=CodecConfig(
            channels=24, width=256, encoder_blocks=2, decoder_blocks=4, fine_width=128, fine_blocks=2,
            detail_width=48, row_biases=True,
        ),
        batch=64, crop=512, fit_windows=1024,
    ),
    "smoke": CodecPreset(
        config=CodecConfig(channels=8, width=16, fine_width=8, detail_width=4), batch=2, crop=128, fit_windows=8
    ),
}  # fmt: skip


@torch.no_grad()
def evaluate_codec(codec: Codec, songs: list[SongFile], count: int = 48) -> dict[str, float]:
    """Errors on up to ``count`` windows of ``songs``; keys with ``pca_`` are of the linear part alone.

    ``level_db``: mean absolute error of the level.
    ``loud_db``: mean absolute error of the level in places at least 30 dB above the floor.
    ``balance_db``: mean absolute error of the stereo balance in these places.
    ``variance``: preserved share of the level's variance.
    ``detail_db``: local energy of the finest wavelet bands relative to the original, mean over loud places. Negative
        values mean blur.
    ``pattern_db``: deviation of the level at each place of a patch, averaged over all patches of a row. It reveals
        equal dots in every patch.
    """
    config = codec.config
    linear = Codec(config)
    linear.load_state_dict(codec.state_dict())
    for layer in (linear.encoder_out, linear.fine_out, *([linear.detail.outer] if linear.detail else [])):
        layer.weight.zero_()
        assert layer.bias is not None
        layer.bias.zero_()
    result: dict[str, float] = {}
    windows = [song_features(song, config, [len(song.captions) // 2]) for song in songs[:count]]
    for prefix, model in (("", codec.eval()), ("pca_", linear.to(codec.basis.device))):
        sums = torch.zeros(9, dtype=torch.float64)
        for features in windows:
            wanted = features.to(codec.basis.device)
            made = model.decode(model.encode(wanted))
            error = (made - wanted).double().cpu()
            loud = features[:, 0] > AUDIBLE / config.span_db
            places = (F.avg_pool2d(features[:, :1], 2 * POOL) > AUDIBLE / config.span_db)[:, :, None].double()
            fine = [local_rms(wavelet(level[:, :1].cpu(), 1)[0]).double().log10() * 20 for level in (made, wanted)]
            centred = features[:, 0] - codec.mean[0].cpu()[:, None]
            sums += torch.tensor(
                [
                    error[:, 0].abs().mean(), error[:, 0].abs()[loud].sum(), error[:, 1].abs()[loud].sum(),
                    loud.sum(), error[:, 0].square().mean(), centred.square().mean(),
                    ((fine[0] - fine[1]).mean(2, keepdim=True) * places).sum(), places.sum(),
                    fold(error[:, 0], PATCH).mean(-2).abs().mean(),
                ],
                dtype=torch.float64,
            )  # fmt: skip
        level, loud_level, loud_balance, n_loud, squares, variance, detail, n_places, pattern = sums.tolist()
        n_loud = max(n_loud, 1.0)
        result[f"{prefix}level_db"] = level / len(windows) * config.span_db
        result[f"{prefix}loud_db"] = loud_level / n_loud * config.span_db
        result[f"{prefix}balance_db"] = loud_balance / n_loud * config.span_db / config.balance
        result[f"{prefix}variance"] = 1 - squares / variance
        result[f"{prefix}pattern_db"] = pattern / len(windows) * config.span_db
        result[f"{prefix}detail_db"] = detail / max(n_places, 1.0)
    return result


def split_songs(songs: list[SongFile]) -> tuple[list[SongFile], list[SongFile]]:
    """Training songs and held-out songs. In a small corpus without held-out songs, every eighth song is held out."""
    held = [song for song in songs if song.held_out] or songs[::8]
    names = {song.name for song in held}
    return [song for song in songs if song.name not in names] or held, held


def train_codec(
    corpus: Path,
    out: Path,
    preset: CodecPreset,
    *,
    minutes: float,
    device: torch.device,
    seed: int = 0,
    quiet: bool = False,
    decoder_only: bool = False,
    critic: bool = False,
) -> dict[str, Any]:
    """Train for ``minutes`` from ``out/codec.pt``, or from scratch. The step size falls over the last half.

    Args:
        decoder_only: keep the encoder and the linear part. The latents stay the same, so cached latents and all
            denoisers trained on them stay valid. The sizes of the decoder may change.
        critic: train against a critic too (``codec_critic.py``), for a decoder of good quality that is to be sharper.

    Returns:
        The errors of :func:`evaluate_codec` and the number of steps.

    Raises:
        RiffstreamError: the corpus has no songs.
        CheckpointError: the sizes in ``out/codec.pt`` differ from ``preset``.
        TrainingError: ten steps in a row were not finite; the last saved state is valid.
    """
    log = Log(out, "codec", quiet=quiet)
    songs, held = split_songs(find_songs(corpus))
    random.Random(seed).shuffle(songs)
    torch.manual_seed(seed)
    # Half the time of a step on a CPU with bfloat16.
    codec = Codec(preset.config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = load_state(out / "codec.pt", device)
    if state is None:
        per_song = max(1, -(-preset.fit_windows // len(songs)))
        chosen = songs[: preset.fit_windows]
        windows = [
            song_features(song, preset.config, _some(len(song.captions), per_song, seed + i))
            for i, song in enumerate(chosen)
            if song.beats == 8 or len(chosen) < 8
        ]
        narrowest = min(window.shape[-1] for window in windows)
        codec.fit_linear(torch.cat([window[..., :narrowest] for window in windows]).to(device))
    elif decoder_only and state["config"] != asdict(preset.config):
        _keep_encoder(codec, load_codec(out / "codec.pt", device), out)
        state = None
    elif state["config"] != asdict(preset.config):
        raise CheckpointError(f"{out}/codec.pt was trained with other sizes; choose another --out, or --decoder-only")
    for name, parameter in codec.named_parameters():
        parameter.requires_grad_(not (decoder_only and name.startswith("encoder")))
    learning = [parameter for parameter in codec.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learning, preset.rate, weight_decay=1e-3, betas=(0.9, 0.98))
    ema = Ema(codec, 0.998)
    sharpener = Sharpener(device) if critic else None
    step = 0
    if state is not None:
        codec.load_state_dict(state["codec"])
        ema.restore(state["ema"])
        if decoder_only:  # the latents are the averaged encoder's, which would go on towards the last one
            with torch.no_grad():
                for name, parameter in codec.named_parameters():
                    if not parameter.requires_grad:
                        parameter.copy_(ema.values[name])
        step = state["step"]
        steps = state.get("optimiser")  # a model's codec has none
        if steps and len(steps["param_groups"][0]["params"]) == len(learning):
            optimiser.load_state_dict(steps)
        if sharpener and state.get("sharpener"):
            sharpener.restore(state["sharpener"])
    started = saved = time.monotonic()
    running, begun = 0.0, step
    guard = StepGuard()

    def keep() -> None:
        weights = {"codec": codec.state_dict(), "optimiser": optimiser.state_dict(), "ema": ema.state(), "step": step}
        kept = {"config": asdict(preset.config), "sharpener": sharpener.state() if sharpener else None}
        save_state(out / "codec.pt", {**weights, **kept})

    with until_terminated() as ended:
        while (spent := (time.monotonic() - started) / 60) < minutes and not ended():
            picks = random.Random(f"{seed}-{step}")
            batch = []
            for song in picks.choices(songs, k=preset.batch):
                frames = 64 * song.beats
                crop = min(preset.crop, frames)
                at = picks.randrange(0, (frames - crop) // 16 + 1) * 16
                batch.append(_crop(song, preset.config, picks.randrange(len(song.captions)), at, crop, preset.crop))
            wanted = torch.stack(batch).to(device)
            factor = step_size(step, preset.warm_up, 1 - spent / minutes, 0.5)
            for group in optimiser.param_groups:
                group["lr"] = preset.rate * factor * (WITH_CRITIC if critic else 1)
            with autocast(device):
                latents = codec.encode(wanted)
                noisy = latents + torch.randn_like(latents) * (0.1 * torch.rand(len(latents), 1, 1, 1, device=device))
                made = codec.decode(noisy)
            errors = codec_loss(made.float(), wanted) + preset.bands * band_loss(made.float(), wanted)
            loss = errors + preset.detail * detail_loss(made.float(), wanted)
            optimiser.zero_grad(set_to_none=True)
            if sharpener is None:
                loss.backward()  # type: ignore[no-untyped-call]
            else:
                (slope,) = torch.autograd.grad(loss, made)
                made.backward(sharpener.gradient(made, wanted, slope))
            step += 1
            if not guard.passes(loss, torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)):
                continue
            optimiser.step()
            ema.update(codec)
            running = loss.item() if running == 0 else 0.98 * running + 0.02 * loss.item()
            if step % 100 == 0:
                log(step=step, loss=running, rate=(step - begun) * preset.batch / (time.monotonic() - started))
            if (time.monotonic() - saved) / 60 > preset.save_minutes:
                keep()
                saved = time.monotonic()
    keep()
    with ema.applied(codec):
        result: dict[str, Any] = {"step": step, **evaluate_codec(codec, held)}
    log(**result)
    return result


def _keep_encoder(codec: Codec, before: Codec, out: Path) -> None:
    """Copy the encoder, the linear part, and all tensors of equal shape from ``before``."""
    own, given = codec.state_dict(), before.state_dict()
    for name, value in own.items():
        same = name in given and given[name].shape == value.shape
        if same:
            value.copy_(given[name])
        elif name.startswith(("encoder", "basis", "mean", "latent")):
            raise CheckpointError(f"{out}/codec.pt has an encoder of other sizes; --decoder-only cannot change it")


def _some(count: int, wanted: int, seed: int) -> list[int]:
    """Up to ``wanted`` distinct numbers below ``count``, in random order."""
    return random.Random(seed).sample(range(count), min(wanted, count))


def _crop(song: SongFile, config: CodecConfig, window: int, at: int, length: int, padded: int) -> Tensor:
    """Features [2, mels, padded] of ``length`` frames of a window from frame ``at``, padded with zeros."""
    features = song_features(song, config, [window], slice(at, at + length))[0]
    return F.pad(features, (0, padded - length))


def load_codec(path: Path, device: torch.device) -> Codec:
    """The averaged codec of a training state, ready to use.

    Raises:
        CheckpointError: there is none.
    """
    state = load_state(path, device)
    if state is None:
        raise CheckpointError(f"{path} is missing; train it with: riffstream train codec")
    codec = Codec(CodecConfig(**state["config"])).to(device)
    load_averaged(codec, state, "codec")
    return codec.eval().requires_grad_(False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``riffstream train codec``."""
    common_arguments(parser, minutes=25)
    parser.add_argument(
        "--decoder-only",
        action="store_true",
        help="train the decoder only; denoisers trained on the latents stay valid",
    )
    parser.add_argument(
        "--resume-from", default=None, help="mini or a model folder: initial codec of a run folder without one"
    )
    parser.add_argument("--critic", action="store_true", help="train against a critic too, for a sharper decoder")


def run(args: argparse.Namespace) -> int:
    """``riffstream train codec``."""
    if args.resume_from:
        resume_model(args.resume_from, args.out)
    result = train_codec(
        args.corpus, args.out, PRESETS[args.preset], minutes=args.minutes, device=pick_device(args.device),
        seed=args.seed, quiet=args.quiet, decoder_only=args.decoder_only, critic=args.critic,
    )  # fmt: skip
    if args.json:
        print(json.dumps(result))
    return 0
