"""Clips for training: features of songs for the codec, cached latents and caption embeddings for the denoiser."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from riffstream.corpus.data import SongFile, find_songs
from riffstream.corpus.mels import amplitudes
from riffstream.diffusion.mini.codec import Codec, CodecConfig, mel_to_features
from riffstream.diffusion.mini.text import MiniTextEncoder
from riffstream.journey.conditions import SIZE
from riffstream.training.asked import COLUMNS, clip_conditions
from riffstream.training.loop import load_state, save_state

__all__ = ["LatentSet", "pick_captions", "song_features"]

FRAMES = 512


def song_features(
    song: SongFile, config: CodecConfig, windows: Sequence[int] | None = None, frames: slice = slice(None)
) -> Tensor:
    """Codec features [windows, 2, mels, frames] float32 of a song, or of some of its windows and frames."""
    codes = np.load(song.path, mmap_mode="r")[..., frames]
    chosen = codes if windows is None else codes[list(windows)]
    return mel_to_features(torch.from_numpy(amplitudes(np.asarray(chosen))), config)


class LatentSet:
    """Latents and captions of a corpus, in memory; ``refresh`` adds new songs.

    Attributes:
        codec: encoder of the latents.
        text: encoder of the captions.
        latents: [N, C, rows, columns] float16; clips in 3/4 fill the first columns, the rest is zero.
        triple: whether a clip is in 3/4, [N] bool.
        held_out: whether a clip is held out, [N] bool.
        previous: index of the preceding window, [N]; -1 for a song's first.
        conditions: [N, COLUMNS, SIZE] float16, zeros for unknown values (``asked.py``).
        captions: rows of ``tokens`` for each clip.
        style: index into ``styles``, [N].
        tokens: caption embeddings [K, S, D] float16; row 0 is the empty caption.
        mask: mask of the tokens, [K, S] float32.
    """

    def __init__(
        self, corpus: Path, codec: Codec, text: MiniTextEncoder, *, tokens: int = 32, per_clip: int = 5
    ) -> None:
        self._corpus = corpus
        self.codec = codec
        self.text = text
        self._length = tokens
        self._per_clip = per_clip
        self._known: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        grid = (codec.config.channels, codec.config.mels // codec.config.patch, FRAMES // codec.config.patch)
        self.latents = torch.zeros(0, *grid, dtype=torch.float16)
        self.conditions = torch.zeros(0, COLUMNS, SIZE, dtype=torch.float16)
        self.triple = torch.zeros(0, dtype=torch.bool)
        self.held_out = torch.zeros(0, dtype=torch.bool)
        self.previous = torch.zeros(0, dtype=torch.long)
        self.style = torch.zeros(0, dtype=torch.long)
        self.styles: list[str] = []
        self.wanted: list[list[str]] = []
        self.captions: list[list[int]] = []
        self.names: list[str] = []
        self.texts: list[str] = []
        self.tokens = torch.zeros(0, tokens, text.config.width, dtype=torch.float16)
        self.mask = torch.zeros(0, tokens)
        self.add_texts([""])

    def __len__(self) -> int:
        return len(self.latents)

    @torch.no_grad()
    def refresh(self, limit: int = 1 << 30) -> int:
        """Encode up to ``limit`` new songs; returns how many were added."""
        fresh = [song for song in find_songs(self._corpus) if song.name not in self._known][:limit]
        device = self.codec.basis.device
        latents, conditions, triple, held, previous, style = [], [], [], [], [], []
        before = len(self.wanted)
        start = len(self.latents)
        for song in fresh:
            self._known[song.name] = song.stamp
            coded = self.codec.encode(song_features(song, self.codec.config).to(device)).cpu()
            count, width = coded.shape[0], coded.shape[-1]
            latents.append(torch.nn.functional.pad(coded, (0, self.latents.shape[-1] - width)).half())
            known = np.stack([clip_conditions(facts, song.beats) for facts in song.facts])
            conditions.append(torch.from_numpy(known).half())
            triple.append(torch.full((count,), song.beats == 6))
            held.append(torch.full((count,), song.held_out))
            previous.append(torch.tensor([-1, *range(start, start + count - 1)]))
            start += count
            if song.style not in self.styles:
                self.styles.append(song.style)
            style.append(torch.full((count,), self.styles.index(song.style)))
            for window, texts in enumerate(song.captions):
                self.wanted.append(pick_captions(texts, self._per_clip, seed=sum(map(ord, song.name)) + window))
                self.names.append(f"{song.name}/{window}")
        if fresh:
            self.add_texts([text for texts in self.wanted[before:] for text in texts])
            self.captions += [[self._rows[text] for text in texts] for texts in self.wanted[before:]]
            self.latents = torch.cat([self.latents, *latents])
            self.conditions = torch.cat([self.conditions, *conditions])
            self.triple = torch.cat([self.triple, *triple])
            self.held_out = torch.cat([self.held_out, *held])
            self.previous = torch.cat([self.previous, *previous])
            self.style = torch.cat([self.style, *style])
        return len(fresh)

    def add_texts(self, texts: Sequence[str]) -> None:
        """Embed the new texts among ``texts``."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if not fresh:
            return
        tokens = torch.zeros(len(fresh), self._length, self.tokens.shape[-1], dtype=torch.float16)
        mask = torch.zeros(len(fresh), self._length)
        order = sorted(range(len(fresh)), key=lambda i: len(fresh[i]))  # similar lengths in a batch need little padding
        for k in range(0, len(order), 32):
            rows = order[k : k + 32]
            embedding, _ = self.text.encode([fresh[i] for i in rows])
            assert embedding.mask is not None
            kept = min(embedding.tokens.shape[1], self._length)
            tokens[rows, :kept] = embedding.tokens[:, :kept].half().cpu()
            mask[rows, :kept] = embedding.mask[:, :kept].cpu()
        for text in fresh:
            self._rows[text] = len(self._rows)
            self.texts.append(text)
        self.tokens = torch.cat([self.tokens, tokens])
        self.mask = torch.cat([self.mask, mask])

    _CLIPS = ("latents", "triple", "held_out", "previous", "style", "styles", "wanted", "names")

    def save(self, folder: Path) -> None:
        """Save all data for the next run, as ``latents.pt`` and ``texts.pt``."""
        state = {name: getattr(self, name) for name in self._CLIPS}
        save_state(folder / "latents.pt", {**state, "known": self._known, "codec": fingerprint(self.codec)})
        self.save_texts(folder)

    def save_texts(self, folder: Path) -> None:
        """Save the caption embeddings, which do not depend on the codec."""
        save_state(folder / "texts.pt", {"texts": self.texts, "tokens": self.tokens, "mask": self.mask})

    def restore(self, folder: Path) -> None:
        """Read the files of :meth:`save`. Missing files are not an error.

        Latents of another codec are ignored, as are latents of songs with a newer file: songs of another corpus have
        the same names.
        """
        texts = load_state(folder / "texts.pt", torch.device("cpu"))
        if texts is not None and texts["tokens"].shape[1:] == self.tokens.shape[1:]:
            self.texts, self.tokens, self.mask = texts["texts"], texts["tokens"], texts["mask"]
            self._rows = {text: row for row, text in enumerate(self.texts)}
        state = load_state(folder / "latents.pt", torch.device("cpu"))
        if state is None or state["codec"] != fingerprint(self.codec):
            return
        songs = find_songs(self._corpus)
        stamps = {song.name: song.stamp for song in songs}
        if any(stamps.get(name, stamp) != stamp for name, stamp in state["known"].items()):
            return
        for name in self._CLIPS:
            setattr(self, name, state[name])
        self._known = state["known"]
        known = {f"{song.name}/{k}": (facts, song.beats) for song in songs for k, facts in enumerate(song.facts)}
        # Always recomputed: the cost is small, and the reference values may change between versions.
        rows = [clip_conditions(*known.get(name, ((), 8))) for name in self.names]
        self.conditions = torch.from_numpy(np.stack(rows)).half() if rows else self.conditions
        self.add_texts([text for texts in self.wanted for text in texts])
        self.captions = [[self._rows[text] for text in texts] for texts in self.wanted]

    def __getstate__(self) -> dict[str, object]:
        # Gradient helpers only get the data: pickling would copy the networks.
        return {name: value for name, value in self.__dict__.items() if name not in ("codec", "text", "_rows")}

    def rows(self, *, held_out: bool) -> Tensor:
        """Indices of the training clips, or of the held-out ones."""
        return torch.nonzero(self.held_out == held_out).flatten()


def fingerprint(codec: Codec) -> str:
    """A fingerprint of the encoding part of ``codec``: it changes with the latents."""
    digest = hashlib.sha256()
    for name, value in sorted(codec.state_dict().items()):
        if name.startswith(("encoder", "basis", "mean", "latent")):
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def pick_captions(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """Up to ``count`` of a clip's captions, spread over the list with a rotation per clip."""
    if len(texts) <= count:
        return list(texts)
    step = len(texts) / count
    return [texts[int(seed + i * step) % len(texts)] for i in range(count)]
