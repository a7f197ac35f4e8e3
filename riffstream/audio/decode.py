"""Block-by-block decoding of audio files with libav, and with libsndfile for formats that libav does not open.

The content decides the format, never the name. libav is limited to container formats that cannot refer to other files
or to the network. The parts of a joined file (see ``joined``) are decoded one by one.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, Protocol

import av
import numpy as np
import soundfile
from av.audio.stream import AudioStream

from riffstream.audio.checks import Pcm
from riffstream.audio.joined import Part, Section, parts_of
from riffstream.errors import MediaError

__all__ = ["Decoded", "Source", "downmix", "open_source"]

BLOCK = 65_536
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,iff,loas,matroska,webm,mov,mp4,mp3,mpc,mpc8,mpeg,mpegts,"
    "ogg,tak,tta,voc,w64,wav,wv"
)
# Containers whose stated length is that of the sound, to the sample, and in which a seek lands on a known sample: the
# first ones for PCM only.
EXACT = {"aiff", "au", "caf", "w64", "wav"}
SEEKABLE = {"flac", "mov"}
# Containers whose stated length is the sound's but for rounding; elsewhere libav guesses it from the bit rate.
STATED = EXACT | SEEKABLE | {"ape", "asf", "matroska", "ogg", "tta", "wv"}
PREROLL_S = 0.5  # after a seek, codecs with memory need this long until their output is exact
TAGS = (b"ID3", b"TAG", b"APE")  # of MP3 files, also between joined ones; not audio
PADDING = 8192  # samples; more than this after the stated end are audio, and the stated length is wrong
SHORTFALL_S = 0.1  # a file that ends this much before its stated length is truncated
ROOT_HALF = 0.7071067811865476

_FAILURES = (av.FFmpegError, soundfile.SoundFileError, OSError, ValueError, IndexError, RuntimeError, TypeError)


class Decoded(NamedTuple):
    """Decoded audio.

    Attributes:
        samples: float32 [n, channels].
        sample_rate: Hz.
        speakers: names of the channels; None if the file has none.
    """

    samples: Pcm
    sample_rate: int
    speakers: tuple[str, ...] | None = None

    def part(self, start: int, stop: int | None) -> Decoded:
        """The block's samples from ``start`` to ``stop``."""
        return self._replace(samples=self.samples[start:stop])


class Source(Protocol):
    """Decoder of one open file.

    Attributes:
        sample_rate: Hz at the beginning of the file; each block has its own.
        channels: at the beginning of the file; each block has its own.
        seconds: length stated by the file; None if it, or a part of it, states none.
        exact: True if ``seconds`` is exact to the sample and ``blocks`` can begin anywhere without delay.
        notes: faults found so far, as clauses for messages.
    """

    sample_rate: int
    channels: int
    seconds: float | None
    exact: bool
    notes: list[str]

    def blocks(self, start_s: float) -> Iterator[Decoded]:
        """Yield the audio from ``start_s`` seconds on, as far as it can be decoded."""

    def close(self) -> None:
        """Release the file."""


class _Libsndfile:
    """Decoder of one file with libsndfile."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._file = soundfile.SoundFile(file)
        self.sample_rate, self.channels = int(self._file.samplerate), int(self._file.channels)
        self.seconds: float | None = self._file.frames / self.sample_rate
        self.exact = False  # some of these formats seek to a wrong position
        self.notes: list[str] = []

    def blocks(self, start_s: float) -> Iterator[Decoded]:
        skip = round(start_s * self.sample_rate)
        with contextlib.suppress(soundfile.LibsndfileError):
            while len(samples := self._file.read(BLOCK, dtype="float32", always_2d=True)):
                if skip < len(samples):
                    yield Decoded(samples[skip:], self.sample_rate)
                skip = max(0, skip - len(samples))

    def close(self) -> None:
        self._file.close()


class _Libav:
    """Decoder of one file with libav."""

    def __init__(self, file: BinaryIO, *, counted: bool) -> None:
        file.seek(0)
        # Tags may be in any encoding. They are not used and must not prevent decoding.
        self._container = av.open(file, "r", options={"format_whitelist": FORMATS}, metadata_errors="replace")
        try:
            self._stream = self._choose()
            context = self._stream.codec_context
            if context is None:
                raise MediaError("no decoder for its sound is installed")
            context.options = {"err_detect": "crccheck"}  # without it a damaged FLAC frame becomes noise
            self.sample_rate, self.channels = int(self._stream.rate or 0), int(self._stream.channels)
        except BaseException:
            self._container.close()
            raise
        name = self._container.format.name.partition(",")[0]
        self.exact = name in SEEKABLE or (name in EXACT and context.name.startswith("pcm_"))
        # Where these state the end within the last packet, libav does not always stop there.
        self._gapless = name in ("mov", "ogg")
        self._damaged, self._lost_s, self._gaps_s = 0, 0.0, 0.0
        self.seconds = self._stated_length() if counted or name in STATED else None
        if self.seconds is None:
            self.exact = False

    def _choose(self) -> AudioStream:
        streams = self._container.streams.audio
        if not streams:
            raise MediaError("it holds no audio")
        chosen = next((each for each in streams if each.disposition & av.stream.Disposition.default), streams[0])
        self.notes: list[str] = []
        if len(streams) > 1:
            number = list(streams).index(chosen) + 1
            self.notes.append(f"it has {len(streams)} audio streams; number {number} was read")
        return chosen

    def _stated_length(self) -> float | None:
        duration, base = self._stream.duration, self._stream.time_base
        if duration and base:
            # An Opus stream's length counts what a decoder drops at the start.
            skipped = self._stream.codec_context.delay if self._stream.codec_context.name == "opus" else 0
            return float(duration * base) - skipped / self.sample_rate
        return self._container.duration / 1e6 if self._container.duration else None

    def blocks(self, start_s: float) -> Iterator[Decoded]:
        origin = (self._stream.start_time or 0) * (self._stream.time_base or 0)
        seeks = bool(start_s) and self.exact
        if seeks:
            self._container.seek(int(max(0.0, start_s - PREROLL_S + float(origin)) * 1e6))
        at_s: float | None = None if seeks else 0.0
        padding: list[Decoded] = []
        for block, pts_s in self._plain():
            if at_s is None:
                at_s = 0.0 if pts_s is None else pts_s - float(origin)
            begin, rate = at_s, block.sample_rate
            at_s += len(block.samples) / rate
            if at_s <= start_s:
                continue
            # Both are rounded: of a start halfway between two samples, each seek would else choose another one.
            block = block.part(max(0, round(start_s * rate) - round(begin * rate)), None)
            if self._gapless and self.seconds and at_s > self.seconds:
                kept = max(0, len(block.samples) - round((at_s - max(begin, self.seconds)) * rate))
                padding.append(block.part(kept, None))
                block = block.part(0, kept)
                if sum(len(each.samples) for each in padding) > PADDING:
                    self._gapless = False
            if len(block.samples):
                yield block
            if not self._gapless:
                yield from padding
                padding = []
        self._sum_up(at_s or 0.0)

    def _sum_up(self, decoded_s: float) -> None:
        """Note what was wrong, once the end is reached."""
        if self._damaged:
            packets = "1 damaged packet was" if self._damaged == 1 else f"{self._damaged} damaged packets were"
            self.notes.append(f"{packets} left out ({self._lost_s:.2f} s)")
        if self.seconds and decoded_s + self._lost_s < self.seconds - SHORTFALL_S:
            self.notes.append(f"it is cut short: {decoded_s:.2f} of {self.seconds:.2f} s are there")
        elif self._gaps_s > self._lost_s + SHORTFALL_S:
            self.notes.append(f"its clock leaves out {self._gaps_s:.2f} s; the sound before and after was joined")

    def _plain(self) -> Iterator[tuple[Decoded, float | None]]:
        """Decoded frames, some tens of thousands of samples at a time, with the time stamp of the first."""
        waiting: list[Pcm] = []
        kind: tuple[Any, ...] = ()
        first_s = expected_s = None
        for frame in self._frames():
            if not frame.samples or not frame.sample_rate:
                continue
            now = (frame.sample_rate, frame.layout.name, frame.layout.nb_channels)
            pts_s = None if frame.pts is None or not frame.time_base else float(frame.pts * frame.time_base)
            if pts_s is not None:
                if expected_s is not None and pts_s > expected_s + SHORTFALL_S / 2:
                    self._gaps_s += pts_s - expected_s
                expected_s = pts_s + frame.samples / frame.sample_rate
            if waiting and (now != kind or sum(map(len, waiting)) >= BLOCK):
                yield Decoded(np.concatenate(waiting), kind[0], _speakers(kind[1])), first_s
                waiting = []
            if not waiting:
                kind, first_s = now, pts_s
            waiting.append(_as_float(frame))
        if waiting:
            yield Decoded(np.concatenate(waiting), kind[0], _speakers(kind[1])), first_s

    def _frames(self) -> Iterator[av.AudioFrame]:
        stuck = 0
        packets = self._container.demux(self._stream)
        while stuck < 10:
            try:
                packet = next(packets)
            except (StopIteration, EOFError):
                return
            except av.FFmpegError:  # damage in the container: libav looks for the next packet
                stuck += 1
                packets = self._container.demux(self._stream)
                continue
            try:
                frames = packet.decode()
            except EOFError:
                continue
            except av.FFmpegError as error:
                if isinstance(error, MemoryError):
                    raise
                if packet.size and bytes(packet)[:3] not in TAGS:
                    self._damaged += 1
                    self._lost_s += float((packet.duration or 0) * (packet.time_base or 0))
                continue
            stuck = 0
            yield from (frame for frame in frames if isinstance(frame, av.AudioFrame))

    def close(self) -> None:
        self._container.close()


def _as_float(frame: av.AudioFrame) -> Pcm:
    """[n, channels], exact: integers of up to 24 bits are multiples of a power of two."""
    given: np.ndarray[Any, Any] = frame.to_ndarray()
    given = given.T if frame.format.is_planar else given.reshape(-1, frame.layout.nb_channels)
    if given.dtype.kind == "f":
        return given.astype(np.float32)
    bits = 8 * given.dtype.itemsize
    if bits == 8:
        return (given.astype(np.float32) - np.float32(128)) / np.float32(128)
    plain: Pcm = given.astype(np.float32) * np.float32(2.0 ** (1 - bits))
    return plain


def _speakers(layout: str) -> tuple[str, ...] | None:
    """Names of a layout's channels, as FL or LFE; None where the file does not name them."""
    try:
        names = tuple(channel.name for channel in av.AudioLayout(layout).channels)
    except ValueError:
        return None
    return names if all(name in _SIDES for name in names) else None


class _Joined:
    """Several files one after the other."""

    def __init__(self, file: BinaryIO, parts: list[Part]) -> None:
        self._file, self._parts = file, parts
        first = _open_part(file, parts[0])
        self.sample_rate, self.channels, self.exact = first.sample_rate, first.channels, False
        self.notes: list[str] = []
        first.close()
        self.seconds = self._total()

    def _total(self) -> float | None:
        lengths = []
        for part in self._parts:
            with contextlib.suppress(*_FAILURES):
                opened = _open_part(self._file, part)
                lengths.append(opened.seconds)
                opened.close()
        known = [length for length in lengths if length is not None]
        return sum(known) if len(known) == len(lengths) else None

    def blocks(self, start_s: float) -> Iterator[Decoded]:
        left_s = start_s
        for number, part in enumerate(self._parts, start=1):
            try:
                opened = _open_part(self._file, part)
            except _FAILURES as error:
                self.notes.append(f"part {number} of {len(self._parts)} was left out: {_reason(error)}")
                continue
            try:
                for block in opened.blocks(0.0):
                    skip = min(len(block.samples), round(left_s * block.sample_rate))
                    left_s -= skip / block.sample_rate
                    if skip < len(block.samples):
                        yield block.part(skip, None)
            finally:
                opened.close()
                self.notes += [f"part {number} of {len(self._parts)}: {note}" for note in opened.notes]

    def close(self) -> None:
        """Nothing is open between two calls."""


def open_source(file: BinaryIO) -> Source:
    """Open a binary file for decoding.

    Raises:
        MediaError: nothing here can decode it; the message is a clause without the file's name.
    """
    parts = parts_of(file)
    try:
        if len(parts) > 1:
            return _Joined(file, parts)
    except _FAILURES:
        pass  # what looked like a header within it was none
    return _open_part(file, parts[0]._replace(end=file.seek(0, io.SEEK_END)))


def _open_part(file: BinaryIO, part: Part) -> Source:
    whole = part.start == 0 and part.end == file.seek(0, io.SEEK_END)

    def section() -> BinaryIO:
        return file if whole else Section(file, part.start, part.end)  # type: ignore[return-value]

    try:
        opened = _Libav(section(), counted=part.counted)
        if part.missing:
            there, whole_size = part.end - part.start, part.end - part.start + part.missing
            opened.notes.append(f"it is cut short: {there} of {whole_size} bytes are there")
        return opened
    except _FAILURES as error:
        reason = error
    with contextlib.suppress(*_FAILURES):
        return _Libsndfile(section())
    raise MediaError(_reason(reason)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, MediaError):
        return str(error)
    if isinstance(error, OSError) and not isinstance(error, av.FFmpegError) and error.strerror:
        return error.strerror.lower()
    return "it is not audio in any known format, or its start is damaged"


# Who speaks into the left channel, by number of channels in WAVE order; the right mirrors it. The LFE is left out,
# centre and surrounds come in at -3 dB as in ITU-R BS.775, and the sum is scaled so that nothing can clip.
_LEFT = {
    3: (1, 0, ROOT_HALF),  # L R C
    4: (1, 0, ROOT_HALF, 0),  # L R Ls Rs
    5: (1, 0, ROOT_HALF, ROOT_HALF, 0),  # L R C Ls Rs
    6: (1, 0, ROOT_HALF, 0, ROOT_HALF, 0),  # L R C LFE Ls Rs
    7: (1, 0, ROOT_HALF, 0, 0.5, ROOT_HALF, 0),  # L R C LFE Cs Ls Rs
    8: (1, 0, ROOT_HALF, 0, ROOT_HALF, 0, ROOT_HALF, 0),  # L R C LFE Lb Rb Ls Rs
}
_RIGHT = {
    3: (0, 1, ROOT_HALF),
    4: (0, 1, 0, ROOT_HALF),
    5: (0, 1, ROOT_HALF, 0, ROOT_HALF),
    6: (0, 1, ROOT_HALF, 0, 0, ROOT_HALF),
    7: (0, 1, ROOT_HALF, 0, 0.5, 0, ROOT_HALF),
    8: (0, 1, ROOT_HALF, 0, 0, ROOT_HALF, 0, ROOT_HALF),
}


# The same by the speakers' names, where a file has them.
_SIDES = {
    "FL": (1, 0), "FR": (0, 1), "FC": (ROOT_HALF, ROOT_HALF), "LFE": (0, 0), "LFE2": (0, 0),
    "BL": (ROOT_HALF, 0), "BR": (0, ROOT_HALF), "SL": (ROOT_HALF, 0), "SR": (0, ROOT_HALF), "BC": (0.5, 0.5),
    "FLC": (ROOT_HALF, 0), "FRC": (0, ROOT_HALF), "DL": (1, 0), "DR": (0, 1), "TC": (0.5, 0.5),
    "TFL": (ROOT_HALF, 0), "TFR": (0, ROOT_HALF), "TFC": (0.5, 0.5), "TBL": (ROOT_HALF, 0), "TBR": (0, ROOT_HALF),
    "TBC": (0.5, 0.5),
}  # fmt: skip


def downmix(block: Pcm, channels: int, speakers: tuple[str, ...] | None = None) -> Pcm:
    """Bring [n, any] to [n, channels].

    One channel is copied to two. Three to eight are mixed by the matrices of ITU-R BS.775 in WAVE order, scaled so that
    the sum cannot clip; ``speakers`` names the channels where their order is another one. Of more than eight, even
    channels go left and odd ones right. Mono is the mean of left and right. More than two channels are made of fewer or
    of others for a file whose number of channels changes: left and right as they are, the others silent.
    """
    given = block.shape[1]
    if given == channels:
        return block
    if channels > 2:
        wider = np.zeros((len(block), channels), np.float32)
        wider[:, :2] = downmix(block, 2, speakers)
        return wider
    if given == 1:
        return np.repeat(block, 2, axis=1)
    if given > 2:
        if speakers and len(speakers) == given and any(sum(_SIDES[name]) for name in speakers):
            matrix = np.array([_SIDES[name] for name in speakers], np.float32)
            matrix = np.where(matrix.sum(axis=0) > 0, matrix, matrix[:, ::-1])
        elif given in _LEFT:
            matrix = np.array([_LEFT[given], _RIGHT[given]], np.float32).T
        else:
            matrix = np.zeros((given, 2), np.float32)
            matrix[0::2, 0] = matrix[1::2, 1] = 1
        block = block @ (matrix / matrix.sum(axis=0))
    mixed: Pcm = block if channels == 2 else block.mean(axis=1, keepdims=True, dtype=np.float32)
    return mixed
