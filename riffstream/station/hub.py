"""The hub: all stations of a server, and the generators that they share.

Threading model
  Event loop   makes every call. Nothing blocks.
  close()      idempotent; at most a few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from riffstream.config import Config, StationConfig, check_station_name
from riffstream.errors import ParameterError, RiffstreamError
from riffstream.generator.cluster.launch import Cluster
from riffstream.generator.messages import Configure, Failed, FromGenerator, Info, Pcm
from riffstream.generator.packages import check_installed
from riffstream.generator.pool import DEFAULT, Model, Pool, Seat
from riffstream.generator.single_clips import SingleClip, SingleClips, seat_name
from riffstream.generator.supervisor import GeneratorError, Supervisor, configuration
from riffstream.journey.keyframe import SONG, ClipSpec
from riffstream.models.songs import Song, read_song
from riffstream.station.audition import AUDITION, AuditionError, Auditions
from riffstream.station.saved import SavedStation
from riffstream.station.station import Station

__all__ = ["GeneratorError", "Hub", "TooManyStationsError", "UnknownStationError", "UnplayableError"]

log = logging.getLogger(__name__)

CREATE_S = 10.0  # wait for the sound of a new station; a slower one may still start later


class UnknownStationError(ParameterError):
    """There is no station with this name."""


class TooManyStationsError(RiffstreamError):
    """The limit on stations is reached."""


class UnplayableError(RiffstreamError):
    """The model cannot play a station's first clip, for example because its seed image does not exist."""


class Hub:
    """Owner of all stations and of the pool of generators.

    Args:
        config: stations, models, lengths and limits.
        clock: monotonic clock, seconds.
        configure: first message to the processes of ``config.generator``; by default from its settings.
        uploads: folder of uploaded seed images (``models/uploads.py``) for the generator.
        process: a generator process started earlier by ``supervisor.start_process``.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], float] = time.monotonic,
        configure: Configure | None = None,
        uploads: Path | None = None,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self._saved: dict[str, SavedStation] = {}
        self.config = config
        self._clock = clock
        self._configures = {name: configuration(settings, uploads) for name, settings in config.generators().items()}
        if configure is not None:
            self._configures[DEFAULT] = configure
        self._process = process
        self._stations: dict[str, Station] = {}
        self._seats: dict[str, Seat] = {}
        self._refusals: dict[str, asyncio.Future[str]] = {}  # reasons why a station's first clip failed
        self._pool: Pool | None = None
        self._clusters: dict[str, Cluster] = {}
        self._songs: dict[str, Song] = {}
        audition = Seat(
            AUDITION,
            DEFAULT,
            on_ready=lambda info: None,
            on_lost=lambda reason, blame: self._auditions.lost(reason),
            on_report=lambda message, pcm: self._auditions.report(message, pcm),
            light=True,
        )
        self._auditions = Auditions(audition.send)
        self._light = [audition]
        self._single_clips = {model: self._clips_of(model) for model in self._configures}
        self._closed = False

    def _clips_of(self, model: str) -> SingleClips:
        """The single clips of a model, with their seat."""
        clips = SingleClips(lambda messages: seat.send(messages), model, clock=self._clock)
        seat = Seat(
            seat_name(model),
            model,
            on_ready=lambda info: clips.connect(),
            on_lost=lambda reason, blame: clips.disconnect(blame=blame),
            on_report=clips.report,
            light=True,
        )
        self._light.append(seat)
        return clips

    @property
    def upstream(self) -> None:
        """None: the stations are made here."""

    @property
    def stations(self) -> Mapping[str, Station]:
        """Stations by name, read only."""
        return MappingProxyType(self._stations)

    @property
    def ready(self) -> bool:
        """Whether every configured station has sound. Stations made later do not count."""
        configured = [station for name, station in self._stations.items() if name in self.config.stations]
        stations = configured or list(self._stations.values())
        return bool(stations) and all(station.ready for station in stations)

    @property
    def info(self) -> Info | None:
        """Properties of the default model; None until it was ready once."""
        return None if self._pool is None else self._pool.info()

    @property
    def pool(self) -> Pool:
        """The generators. Raises RuntimeError before :meth:`start`."""
        if self._pool is None:
            raise RuntimeError("the hub is not started")
        return self._pool

    @property
    def supervisor(self) -> Supervisor:
        """Supervisor of the default model's first generator. Raises RuntimeError before :meth:`start`."""
        return self.pool.first

    async def start(self) -> None:
        """Start the generators and open the configured stations; :meth:`wait_ready` waits for sound.

        Raises:
            ParameterError, MediaError: a station whose journey or song cannot be read.
        """
        warm = self._pool is not None
        pool = self._pool or await self._make_pool()
        for name, station in self.config.stations.items():
            self._open(name, station)
        self._reopen()
        if not warm:
            pool.start()

    async def warm_up(self) -> None:
        """Start the generators before the stations, and wait until their models are loaded.

        Raises:
            GeneratorError: a model cannot be loaded.
            ParameterError, MediaError: a station whose journey or song cannot be read.
        """
        for station in self.config.stations.values():
            station.plan()
        pool = await self._make_pool()
        pool.start()
        await pool.wait_settled()

    def continue_from(self, saved: Mapping[str, SavedStation]) -> None:
        """Set the states of stations by name, which they continue, before :meth:`start`.

        Stations without a configuration are opened again.
        """
        self._saved = dict(saved)

    async def _make_pool(self) -> Pool:
        await self._read_songs()
        pool = self._pool = Pool(self._models(), clock=self._clock, process=self._process)
        for seat in self._light:
            pool.join(seat)
        return pool

    def _models(self) -> dict[str, Model]:
        models = {}
        for name, settings in self.config.generators().items():
            launch = None
            check_installed(settings)
            if settings.on_ray:
                if settings.backend not in self._clusters:
                    self._clusters[settings.backend] = Cluster(settings.backend)
                launch = self._clusters[settings.backend].launcher(settings)
            models[name] = Model(settings, self._configures[name], launch)
        return models

    def _reopen(self) -> None:
        """Open the stations that an earlier process has made over the API."""
        for name, state in tuple(self._saved.items()):
            if state.settings is None or len(self._stations) >= self.config.limits.stations:
                log.warning("station %s is not in the configuration any more, or there are too many; it ends", name)
                continue
            try:
                check_station_name(name)
                self._open(name, StationConfig.from_table(state.settings, name))
            except RiffstreamError as error:
                log.warning("station %s cannot go on: %s", name, error)
        self._saved.clear()

    async def _read_songs(self) -> None:
        """Measure the songs of the stations, and add them to the first messages of their generators."""
        for name, station in self.config.stations.items():
            if station.song:
                self._songs[name] = await asyncio.to_thread(read_song, station.song, bpm=station.bpm, key=station.key)
                for remark in self._songs[name].remarks:
                    log.warning("station %s, song %s: %s", name, station.song, remark)
        for model, configure in self._configures.items():
            songs = {name: song for name, song in self._songs.items() if self.config.stations[name].model == model}
            if songs and "model" in configure.options:
                options = {**configure.options, "songs": msgspec.to_builtins(songs)}
                self._configures[model] = msgspec.structs.replace(configure, options=options)

    async def wait_ready(self, timeout_s: float | None = None) -> None:
        """Wait until every configured station has sound.

        Raises:
            GeneratorError: the model cannot be loaded.
            UnplayableError: the model cannot play a station's first clip.
            TimeoutError: not within ``timeout_s``.
        """
        async with asyncio.timeout(timeout_s):
            await self.pool.wait_settled()
            await asyncio.gather(*(self._sound_of(name) for name in self.config.stations if name in self._stations))

    async def _sound_of(self, name: str) -> None:
        """Wait until a station has sound or is closed. Raises UnplayableError if its first clip fails."""
        refusal = self._refusals[name]
        sound = asyncio.ensure_future(self._stations[name].wait_ready())
        try:
            either: set[asyncio.Future[Any]] = {sound, refusal}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sound.cancel()
        if refusal.done():
            raise UnplayableError(f"station {name}: {refusal.result()}")

    def get(self, name: str) -> Station:
        """Station by name. Raises UnknownStationError."""
        if name not in self._stations:
            raise UnknownStationError("station", name, ", ".join(self._stations) or "none: there are no stations")
        return self._stations[name]

    async def create(self, name: str, station: StationConfig | None = None) -> Station:
        """Open another station and wait for its sound.

        Raises:
            ParameterError: an invalid name, a name in use, an unknown model, or an invalid journey.
            UnplayableError: the model cannot play its first clip; the station is closed again.
            TooManyStationsError: there are ``limits.stations`` already.
            CancelledError: the call was cancelled; the station is closed again.
        """
        check_station_name(name)
        if name in self._stations:
            raise ParameterError("station", name, "a name that is not taken")
        if len(self._stations) >= self.config.limits.stations:
            raise TooManyStationsError(
                f"there are {len(self._stations)} stations already; allowed: {self.config.limits.stations}"
            )
        station = station or StationConfig()
        self.config.generator_of(station)
        opened = self._open(name, station)
        if self.pool.info(station.model) is not None:  # otherwise the model is loading, which may take minutes
            try:
                async with asyncio.timeout(CREATE_S):
                    await self._sound_of(name)
            except TimeoutError:
                pass
            except (UnplayableError, asyncio.CancelledError):  # cancelled: the caller would not know of it
                if self._stations.get(name) is opened:
                    await self.delete(name)
                raise
        return opened

    async def delete(self, name: str) -> None:
        """Close a station and notify its listeners. Raises UnknownStationError."""
        self.get(name)
        self._refusals.pop(name)
        self._stations.pop(name).close()
        self.pool.leave(self._seats.pop(name))

    async def audition(self, name: str, *, bpm: float, key: float = 0.0, beats: int = 8) -> Pcm:
        """Audio of a seed image, [n, 2] float32 at 48 kHz, rendered when no station needs the generator.

        Args:
            name: name of a seed image.
            bpm: tempo in beats per minute.
            key: transposition in semitones.
            beats: beats in the seed image.

        Raises:
            AuditionError: the generator is not ready, fails or is too busy.
        """
        info = self.info
        if info is None or not self.pool.ready():
            raise AuditionError("the generator is not ready")
        return await self._auditions.render(info, name, bpm=bpm, key=key, beats=beats)

    async def clip(
        self,
        spec: ClipSpec,
        *,
        steps: int | None = None,
        guided: bool = True,
        mask: str | None = None,
        bpm: float | None = None,
        key: float = 0.0,
        meter: int | None = None,
        model: str = DEFAULT,
    ) -> SingleClip:
        """Make a single clip outside stations (see :meth:`SingleClips.render`).

        Args:
            meter: beats to the bar; None: the model's.
            model: name of the model.

        Raises:
            SingleClipError: the generator cannot make it.
            GeneratorError: the model is still loading, or cannot be loaded.
        """
        info = None if self._pool is None else self._pool.info(model)
        if info is None:
            raise GeneratorError("the model is still loading" if not self._closed else "the server is about to restart")
        if (failure := self.pool.failure(model)) is not None:
            raise GeneratorError(failure)
        info = info if meter is None else info.in_meter(meter)
        clips = self._single_clips[model]
        return await clips.render(spec, info, steps=steps, guided=guided, mask=mask, bpm=bpm, key=key)

    def _open(self, name: str, settings: StationConfig) -> Station:
        if (song := self._songs.get(name)) is not None:
            settings = msgspec.structs.replace(
                settings, seed_image=f"{SONG}{name}", song="", bpm=song.bpm, key=song.key
            )
        self.config.generator_of(settings)
        seat = Seat(
            name,
            settings.model,
            on_ready=lambda info: self._connect(station, info),
            on_lost=lambda reason, blame: station.disconnect(reason, blame=blame),
            on_report=lambda message, pcm: self._report(station, message, pcm),
        )
        station = Station(name, settings, self.config, seat.send, clock=self._clock, saved=self._saved.pop(name, None))
        self._stations[name], self._seats[name] = station, seat
        self._refusals[name] = asyncio.get_running_loop().create_future()
        self.pool.join(seat)
        return station

    def _connect(self, station: Station, info: Info) -> None:
        try:
            station.connect(info)
        except RiffstreamError as error:  # this model does not support its journey
            self._refuse(station, str(error))
        except Exception as error:
            log.exception("station %s cannot begin", station.name)
            self._refuse(station, f"{type(error).__name__}: {error}")

    def _report(self, station: Station, message: FromGenerator, pcm: Pcm) -> None:
        if isinstance(message, Failed) and message.kind == "parameter" and not (station.ready or station.rev):
            self._refuse(station, message.message)
        station.report(message, pcm)

    def _refuse(self, station: Station, reason: str) -> None:
        """Record that a station cannot get any sound."""
        refusal = self._refusals[station.name]
        if not refusal.done():
            refusal.set_result(reason)

    def drain(self) -> None:
        """Stop replacing the generator, because the server is about to exit. Playback continues."""
        if self._pool is not None:
            self._pool.drain()

    def save(self) -> dict[str, SavedStation]:
        """States of the stations for a later process, by name."""
        return self._states(lambda station, settings: station.save(settings))

    def freeze(self, recent_s: float = 0.0) -> dict[str, SavedStation]:
        """Fade out and commit nothing more, because the process is about to exit; return the last states.

        Args:
            recent_s: length of the last audio in each state, seconds.
        """
        return self._states(lambda station, settings: station.freeze(settings, recent_s=recent_s))

    def _states(
        self, state_of: Callable[[Station, dict[str, Any] | None], SavedStation | None]
    ) -> dict[str, SavedStation]:
        found = {}
        for name, station in self._stations.items():
            settings = None if name in self.config.stations else msgspec.to_builtins(station.settings)
            try:
                state = state_of(station, settings)
            except Exception:  # the others must be saved too
                log.exception("station %s cannot be saved", name)
                continue
            if state is not None:
                found[name] = state
        return found

    def health(self) -> dict[str, Any]:
        """State and counters of the generator and of every station, as JSON values."""
        generator = self._pool.health() if self._pool is not None else {"state": "stopped"}
        return {
            "ready": self.ready,
            "generator": generator,
            "stations": {name: station.stats() for name, station in self._stations.items()},
        }

    async def close(self) -> None:
        """Close every station and end the generator. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for clips in self._single_clips.values():
            clips.close()
        for station in self._stations.values():
            station.close("shutdown")
        self._stations.clear()
        if self._pool is not None:
            await self._pool.close()
        for cluster in self._clusters.values():
            await asyncio.to_thread(cluster.close)
