"""The embedded model: text to beat-synchronous stereo mel clips in one key, small enough for two CPU cores.

``docs/mini.md`` describes the folder and the training. Importing this loads neither diffusers nor transformers.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from riffstream.diffusion.family import Defaults, Family, Runtime, TextEmbedding, TrainingSchedule
from riffstream.diffusion.mini import sounds
from riffstream.diffusion.mini.codec import Codec, CodecConfig, features_to_mel, mel_to_features
from riffstream.diffusion.mini.denoiser import Denoiser, DenoiserConfig
from riffstream.diffusion.mini.ear import EAR, TrainedEar
from riffstream.diffusion.mini.emphasis import emphasised
from riffstream.diffusion.mini.files import (
    load_module,
    quantise,
    read_config,
    read_json,
    read_tensors,
    write_config,
    write_tensors,
)
from riffstream.diffusion.mini.text import MiniTextEncoder
from riffstream.diffusion.seed_clip import SeedClip
from riffstream.diffusion.tokens import weigh_tokens
from riffstream.errors import CheckpointError, ParameterError
from riffstream.journey.conditions import SIZE
from riffstream.journey.prompts import WeightedText
from riffstream.spectrogram.params import SpectrogramParams

if TYPE_CHECKING:
    from riffstream.diffusion.compiled.network import CompiledDenoiser

__all__ = ["MODEL_FOLDER", "MiniFamily"]

MODEL_FOLDER = Path(__file__).parents[2] / "models" / "mini"
WEIGHTS = "diffusion_pytorch_model.safetensors"
PARTS = {"text_encoder": "MiniTextEncoder", "tokenizer": "WordPiece", "denoiser": "Denoiser", "codec": "Codec"}
# Guidance makes latents slightly larger than those of music (their median RMS is this). Without a limit, a stream of
# continued clips would become harsher and harsher, so the previous clip is scaled down to this RMS.
PREVIOUS_LIMIT = 1.0
# Receptive field of the decoder on either side of a column, as far as it is audible. A continued clip is decoded
# together with this many last columns of the previous clip.
CONTEXT = 4
LOUDEST = 6e4  # amplitude that half precision holds
# Distance from a seed image, and the time t at which sampling starts. A flow decides most of a clip close to noise: up
# to t = 0.7 it keeps what it started from, from t = 0.9 on nearly nothing. Here half the distance is half the change.
# The default distance 0.875 starts at 0.875.
DISTANCES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.875, 0.95, 1.0)
TIMES = (0.0, 0.35, 0.55, 0.68, 0.74, 0.785, 0.815, 0.84, 0.86, 0.875, 0.93, 1.0)
IMAGE_DB = 80.0  # dynamic range of a picture: black to white


def _read_shift(path: Path) -> float:
    """Read ``shift`` of a rectified flow; older models without it have even steps."""
    shift = read_json(path).get("shift", 1.0)
    if isinstance(shift, bool) or not isinstance(shift, int | float) or not 0 < shift <= 100:
        raise CheckpointError(f"scheduler: shift is {shift!r}; allowed: above 0, at most 100")
    return float(shift)


def _read_defaults(index: dict[str, Any]) -> Defaults | None:
    """Read ``defaults`` of ``model_index.json``; older models lack some of them."""
    if not index.get("defaults"):
        return None
    defaults = Defaults(**index["defaults"])
    for name, low, high in (("silence", 0.0, 10), ("contrast", 0.1, 10), ("above", 0.0, 1), ("tries", 1, 16)):
        value = getattr(defaults, name)
        if name == "above" and value is None:
            continue
        kind = int if name == "tries" else int | float
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            raise CheckpointError(f"model_index.json: {name} is {value!r}; allowed: {low:g} to {high}")
    return defaults


class MiniFamily(Family):
    """The embedded model, loaded by ``Checkpoint.load("mini")``.

    Clips have 512 frames = 8 beats; 384 frames (6 beats, two bars of 3/4) are the other trained size. Latents are
    [C, 16, frames / 16] float32 for any compute dtype.
    """

    name = "mini"
    continues = True
    frames = 512
    beats = 8
    context = CONTEXT
    noise_limit = 2.0
    low_first = True

    def __init__(
        self,
        text_encoder: MiniTextEncoder,
        denoiser: Denoiser,
        codec: Codec,
        *,
        params: SpectrogramParams | None = None,
        defaults: Defaults | None = None,
        shift: float = 1.0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype or preferred_dtype(self.device)
        self.text_encoder = text_encoder
        self.denoiser = denoiser.to(self.device, self.dtype).eval().requires_grad_(False)
        self.codec = codec.to(self.device).eval().requires_grad_(False)
        for layer in codec.modules():  # the linear part and the scales stay float32
            if isinstance(layer, torch.nn.Conv2d):
                layer.to(self.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.compiled: CompiledDenoiser | None = None
        self.params = params or SpectrogramParams.mini()
        self.exact_alone = self.device.type == "cpu"
        self.schedule = TrainingSchedule(kind="flow", prediction="flow", shift=shift)
        self.defaults = defaults or Defaults(sampler="euler", steps=8, guidance=1.0, denoising=0.75, bpm=110.0)
        self.text_length = text_encoder.config.length
        self.conditions = denoiser.config.conditions
        self.condition_columns = denoiser.config.columns // denoiser.config.patch
        if self.params.num_frequencies != codec.config.mels:
            raise CheckpointError(f"codec: made for {codec.config.mels} mels, not {self.params.num_frequencies}")
        if denoiser.config.channels != codec.config.channels:
            raise CheckpointError(
                f"denoiser: {denoiser.config.channels} latent channels; the codec has {codec.config.channels}"
            )
        if denoiser.config.text_width != text_encoder.config.width:
            raise CheckpointError(
                f"denoiser: text width {denoiser.config.text_width}; the text encoder's is {text_encoder.config.width}"
            )
        if self.conditions not in (0, SIZE):
            raise CheckpointError(f"denoiser: takes {self.conditions} conditions; this version writes {SIZE}")

    @classmethod
    def load(
        cls,
        folder: str | Path = MODEL_FOLDER,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> MiniFamily:
        """Load a checkpoint folder.

        Args:
            folder: folder with ``model_index.json``, ``text_encoder/``, ``tokenizer/``, ``denoiser/`` and ``codec/``,
                and with ``sounds.safetensors`` and ``ear.safetensors`` where the model has opening sounds and an ear.
            device: torch device.
            dtype: compute dtype of denoiser and codec; None: bfloat16 on devices that compute it fast, else float32.

        Raises:
            CheckpointError: naming the part that is missing, unreadable or of the wrong shape.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise CheckpointError(f"no checkpoint folder {folder}")
        index = read_json(folder / "model_index.json")
        if index.get("_class_name") != cls.__name__:
            raise CheckpointError(f"{folder}/model_index.json is of {index.get('_class_name')}, not {cls.__name__}")
        for part in PARTS:
            if not (folder / part).is_dir():
                raise CheckpointError(f"{folder} holds no {part}/")
        denoiser = Denoiser(read_config(folder / "denoiser", DenoiserConfig))
        load_module(denoiser, read_tensors(folder / "denoiser" / WEIGHTS), "denoiser")
        codec = Codec(read_config(folder / "codec", CodecConfig))
        load_module(codec, read_tensors(folder / "codec" / WEIGHTS), "codec")
        family = cls(
            MiniTextEncoder.load(folder / "text_encoder", folder / "tokenizer", device),
            denoiser,
            codec,
            params=SpectrogramParams.from_dict(index["params"]) if "params" in index else None,
            defaults=_read_defaults(index),
            shift=_read_shift(folder / "scheduler" / "config.json"),
            device=device,
            dtype=dtype,
        )
        made_by, shape, reader = sounds.fingerprint(codec), family.latent_shape(), None
        if os.path.lexists(folder / sounds.FILE):
            family.sounds = opened = sounds.Sounds(folder / sounds.FILE, shape, made_by)
            reader = opened.reader
        if os.path.lexists(folder / EAR):
            family.ear = TrainedEar(folder / EAR, shape, denoiser.config.columns_triple, made_by, reader)
        return family

    @classmethod
    def random(
        cls,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        conditions: int = 0,
    ) -> MiniFamily:
        """Make a tiny untrained model with the real clip size, without files, for tests and experiments.

        Its output depends on every input, as with a trained model. ``conditions``: 0 or ``conditions.SIZE``.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            text = MiniTextEncoder.random(seed=seed)
            sizes = DenoiserConfig(channels=4, width=16, layers=2, heads=2, mlp=32, text_width=text.config.width)
            denoiser = Denoiser(replace(sizes, conditions=conditions))
            codec = Codec(CodecConfig(channels=4, width=8, fine_width=8, floor_db=-30.0))
            for parameter in denoiser.parameters():
                if not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.1)
            torch.nn.init.orthogonal_(codec.basis)
            codec.latent_scale.fill_(4.0)
            codec.mean[0].fill_(2.0)
        return cls(text, denoiser, codec, device=device, dtype=dtype)

    def save(self, folder: str | Path) -> None:
        """Write the checkpoint folder without ``tokenizer/`` and opening sounds, which the caller copies.

        The denoiser's matrices are stored as int8 with a scale for each row, the codec in bfloat16 and its linear part
        in float32.
        """
        folder = Path(folder)
        if not (folder / "text_encoder").is_dir():
            self.text_encoder.save(folder / "text_encoder")
        buffers = {key for key, _ in self.codec.named_buffers()}
        coded = self.codec.state_dict()
        tensors = {key: value.float() if key in buffers else value.bfloat16() for key, value in coded.items()}
        for name, module, stored in (
            ("denoiser", self.denoiser, quantise(self.denoiser.state_dict())),
            ("codec", self.codec, tensors),
        ):
            assert isinstance(module, Denoiser | Codec)
            write_tensors(folder / name / WEIGHTS, stored)
            write_config(folder / name, {"_class_name": PARTS[name], **asdict(module.config)})
        flow = {"_class_name": "RectifiedFlow", "prediction": "flow", "shift": self.schedule.shift}
        write_config(folder / "scheduler", flow, "config.json")
        index = {
            "_class_name": type(self).__name__,
            **{part: ["riffstream", kind] for part, kind in PARTS.items()},
            "params": self.params.to_dict(),
            "defaults": asdict(self.defaults),
        }
        write_config(folder, index, "model_index.json")

    def latent_shape(self, frames: int | None = None) -> tuple[int, int, int]:
        frames = self.frames if frames is None else frames
        step = self.codec.config.patch * self.denoiser.config.patch
        if frames % step or not 0 < frames <= self.frames:
            raise ParameterError("frames", frames, f"a multiple of {step}, at most {self.frames}")
        return self.codec.config.channels, self.denoiser.config.rows, frames // self.codec.config.patch

    def encode_text(self, texts: Sequence[str]) -> TextEmbedding:
        embedding, whole = self.text_encoder.encode(texts)
        if not whole:
            warnings.warn(f"prompt cut to {self.text_length} tokens", stacklevel=2)
        return embedding

    def encode_weighted(self, prompt: Sequence[WeightedText], chunks: int = 1) -> TextEmbedding:
        """Encode one prompt; the weights become the attention mask. A negative weight counts as 0."""
        if all(run.weight == 1 for run in prompt):
            return self.encode_text(["".join(run.text for run in prompt)])
        start, *_, end = self.text_encoder.tokenizer("", self.text_length)[0]
        ids, weights = weigh_tokens(lambda text: self.text_encoder.tokenizer(text, 1 << 20)[0][1:-1], prompt)
        room = self.text_length - 2
        if len(ids) > room:
            warnings.warn(f"prompt cut to {self.text_length} tokens", stacklevel=2)
        mask = [1.0, *(max(weight, 0.0) for weight in weights[:room]), 1.0]
        return self.text_encoder.encode_ids([[start, *ids[:room], end]], [mask])

    def lean(self, text: TextEmbedding) -> TextEmbedding:
        return text if self.sounds is None else self.sounds.lean(text)

    @torch.no_grad()
    def denoise(
        self,
        x: Tensor,
        t: Tensor,
        text: TextEmbedding,
        *,
        previous: Tensor | None = None,
        previous_mask: Tensor | None = None,
        conditions: Tensor | None = None,
    ) -> Tensor:
        tokens, mask = text.tokens, text.mask
        if previous is not None:
            loudness = previous.float().square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            previous = previous * (PREVIOUS_LIMIT / loudness.clamp_min(1e-6)).clamp_max(1.0)
        if conditions is not None and self.conditions:
            conditions = emphasised(conditions, self.defaults.silence, self.defaults.contrast)
        if self.compiled is not None:
            made = self.compiled(x, t, tokens, mask, previous, previous_mask, conditions)
            if made is not None:
                return made
        result = self.denoiser(
            x.to(self.device, self.dtype),
            t.to(self.device),
            tokens.to(self.device, self.dtype),
            None if mask is None else mask.to(self.device).float(),
            None if previous is None else previous.to(self.device, self.dtype),
            None if previous_mask is None else previous_mask.to(self.device),
            conditions=None if conditions is None else conditions.to(self.device, self.dtype),
        )
        return result.float()  # type: ignore[no-any-return]

    @torch.no_grad()
    def encode_mel(self, mel: Tensor, *, noise: Tensor | None = None) -> Tensor:
        # The codec is deterministic: there is no posterior for ``noise`` to sample.
        if mel.shape[1] == 1:
            mel = mel.expand(-1, 2, -1, -1)
        self.latent_shape(mel.shape[-1])
        return self.codec.encode(mel_to_features(mel.to(self.device), self.codec.config))

    @torch.no_grad()
    def decode_mel(self, latents: Tensor) -> Tensor:
        return features_to_mel(self.codec.decode(latents.to(self.device)), self.codec.config)

    def seed_clip(self, mel: Tensor) -> SeedClip:
        sides = mel.expand(2, -1, -1).to(self.device)
        return SeedClip(self.encode_mel(mel[None])[0], sides.clamp_max(LOUDEST).half())

    def picture_clip(self, image: np.ndarray) -> SeedClip:
        return self.seed_clip(self._shown(image))

    def start_time(self, denoising: float) -> float:
        return float(np.interp(denoising, DISTANCES, TIMES))

    def distance(self, start: float) -> float:
        return float(np.interp(start, TIMES, DISTANCES))

    def restore(self, mel: Tensor, decoded: Tensor, sound: Tensor, share: Tensor) -> Tensor:
        config = self.codec.config
        made, known, given = (mel_to_features(each[None], config) for each in (mel, decoded, sound))
        return features_to_mel(made + share * (given - known), config)[0]

    def encode_image(self, image: np.ndarray, *, noise: Tensor | None = None) -> Tensor:
        """Encode a picture in the form of :meth:`decode_image`: green is left, blue is right (grey: mono)."""
        return self.encode_mel(self._shown(image)[None])

    def _shown(self, image: np.ndarray) -> Tensor:
        """Amplitudes [2, M, T] that a picture shows."""
        if image.ndim != 3 or image.shape[2] != 3 or image.shape[0] != self.codec.config.mels:
            raise ParameterError("image", tuple(image.shape), f"[{self.codec.config.mels}, width, 3]")
        sides = torch.from_numpy(np.ascontiguousarray(image[::-1, :, 1:].transpose(2, 0, 1))).float()
        top = self.codec.config.floor_db + IMAGE_DB
        decibels = top - sides / 255 * IMAGE_DB
        return torch.exp(decibels * (np.log(10) / 20)) * (sides < 255)

    def decode_image(self, latents: Tensor) -> np.ndarray:
        """Decode to pictures: low notes at the bottom, loud is dark; red is the mean level, green left, blue right."""
        mel = self.decode_mel(latents).cpu()
        mel = torch.cat([mel.square().mean(1, keepdim=True).sqrt(), mel], dim=1)
        top = self.codec.config.floor_db + IMAGE_DB
        shade = ((top - 20 * mel.clamp_min(1e-9).log10()) / IMAGE_DB).clamp(0, 1) * 255
        return np.ascontiguousarray(shade.round().byte().permute(0, 2, 3, 1).numpy()[:, ::-1])

    def use_openvino(self) -> CompiledDenoiser:
        """Let OpenVINO evaluate the denoiser as soon as its network is ready. Until then and after a fault torch does.

        Raises:
            ParameterError: OpenVINO is not installed, or the model is not on the CPU.
        """
        from riffstream.diffusion.compiled.network import CompiledDenoiser, check_runtime

        check_runtime(self.device)
        self.compiled = CompiledDenoiser(self.denoiser, self.dtype)
        self.compiled.start(self.denoiser.config.columns)
        return self.compiled

    @property
    def runtime(self) -> Runtime:
        return Runtime() if self.compiled is None else self.compiled.runtime

    def warm_up(self) -> None:
        """Run text encoder, denoiser and decoder once."""
        x = torch.zeros(1, *self.latent_shape())
        self.denoise(x, torch.ones(1), self.encode_text([""]))
        self.decode_mel(x)


def preferred_dtype(device: torch.device) -> torch.dtype:
    """Default dtype of a device: bfloat16 on GPUs and CPUs with hardware support, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512":
        supports = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        if supports is not None and supports():
            return torch.bfloat16
    return torch.float32
