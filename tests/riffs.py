"""How near riffs stay to a recording: ``python -m tests.riffs [FILE ...]`` writes the table of docs/evaluation.md.

Without files it takes the recordings of ``tests.recordings`` that are installed. Two clips of each are made at every
strength, for four prompts. musicnn compares their sound with the recording, and with the clip of strength 1.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.seed_clip import SeedClip
from riffstream.errors import MediaWarning
from riffstream.evaluation.tagger import Heard, Tagger
from riffstream.journey.journey import Journey
from riffstream.models.songs import SongParts, read_song
from riffstream.spectrogram.vocoder import Vocoder
from tests.recordings import recordings

PROMPTS: Final = ("church organ", "deep house, sub bass", "solo piano", "death metal, distorted guitar")
STRENGTHS: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 0.875, 1.0)


def parts(files: Sequence[Path], family: MiniFamily) -> list[tuple[SeedClip, float]]:
    """The third and the fifth clip of each file, and its tempo; of a shorter one the first."""
    found = []
    for path in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MediaWarning)
            song = read_song(path)
        music = SongParts(song, family)
        places = (2, 4) if music.frames >= 5 * family.frames else (0,)
        found += [(music.part(place * family.frames, family.frames), song.bpm) for place in places]
    return found


@torch.no_grad()
def main(files: Sequence[Path]) -> None:
    """Print the table."""
    family, tagger = MiniFamily.load(), Tagger.load()
    vocoder, clips = Vocoder(family.params), parts(files, family)

    def heard(mels: Sequence[torch.Tensor]) -> Heard:
        waves = (vocoder(mel, hop=family.params.hop(bpm)).numpy().T for mel, (_, bpm) in zip(mels, clips, strict=True))
        return tagger.listen(waves)

    def rendered(prompt: str, strength: float, seeds: Sequence[SeedClip]) -> list[torch.Tensor]:
        engine = Engine(family)
        specs = (Journey.single(prompt, seed=i, denoising=strength).clip(0) for i in range(len(seeds)))
        return [engine.render(ClipRequest(spec, seed_image=seed)).mel for spec, seed in zip(specs, seeds, strict=True)]

    real = heard([clip.sound.float() for clip, _ in clips if clip.sound is not None])
    bare = [SeedClip(clip.latents) for clip, _ in clips]
    print(
        f"{len(clips)} clips of {len(files)} recordings; codec alone {heard(rendered('', 0, bare)).likeness(real):.3f}"
    )
    print("| strength | like the recording | like strength 1 |\n|---|---|---|")
    ends = {prompt: heard(rendered(prompt, 1.0, [clip for clip, _ in clips])) for prompt in PROMPTS}
    for strength in STRENGTHS:
        made = {prompt: heard(rendered(prompt, strength, [clip for clip, _ in clips])) for prompt in PROMPTS}
        near, far = np.mean([(each.likeness(real), each.likeness(ends[name])) for name, each in made.items()], 0)
        print(f"| {strength:g} | {near:.3f} | {far:.3f} |", flush=True)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or [each.path for each in recordings() if each.path.is_file()])
