"""Uploaded seed images: receiving, decoding in a worker process, keeping and dropping.

Threading model
  Event loop     every method; nothing here decodes or waits for the disk.
  Threads        write received data, list and delete folders.
  Worker         a process for each file (``worker.py``), at most ``AT_ONCE``; killed when it takes too long, or
                 when whoever uploads goes away.
  close()        idempotent; deletes the folder unless it was configured to stay (``locked_folder.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import msgspec
from aiohttp import web

from riffstream.config import Config
from riffstream.config.sections import LimitsSettings
from riffstream.errors import ParameterError
from riffstream.models.uploads import ABOUT, Upload, read_upload
from riffstream.server import logs
from riffstream.server.answers import UploadLimits
from riffstream.server.context import refuse
from riffstream.server.limits import AddressBuckets
from riffstream.server.uploads.locked_folder import FolderTakenError, LockedFolder
from riffstream.server.uploads.worker import Result, Rules

__all__ = ["UPLOADS", "TooLargeError", "Uploads", "is_taken", "seeds_folder"]

AT_ONCE = 2  # maximum number of files in decoding; as many more may wait
RESULT_BYTES = 64 * 1024
WORKER = (sys.executable, "-m", "riffstream.server.uploads.worker")
SAME = "this music was uploaded before; its first uploader or the server's owner may remove it"


class TooLargeError(web.HTTPClientError):
    """HTTP 413 with a free message, unlike aiohttp's own class."""

    status_code = 413


class Uploads:
    """Store of uploaded seed images, with their limits and their worker processes.

    Args:
        config: limits, and the folder.
        command: command of a worker; tests replace it.

    Raises:
        ParameterError: the folder cannot be created, or another running server uses it.

    Attributes:
        folder: folder for the generator; None if no folder is writable.
        entries: kept uploads by name, the oldest first.
    """

    def __init__(self, config: Config, *, command: Sequence[str] = WORKER) -> None:
        self.limits = config.limits
        self.command = command
        self._place = _hold_folder(config.server.state_dir)
        self.folder = None if self._place is None else self._place.path
        self.entries: OrderedDict[str, Upload] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._addresses: dict[str, str] = {}  # upload -> address of its uploader in this run
        self._buckets = AddressBuckets(self.limits.upload_interval_s, self.limits.upload_burst)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._keeping = asyncio.Lock()
        self._busy = 0
        self._closed = False
        self._load()

    @property
    def open(self) -> bool:
        """Whether uploads are accepted."""
        return self.closed_because is None

    @property
    def closed_because(self) -> str | None:
        """Reason why uploads are refused; None if they are accepted."""
        if self.limits.uploads == 0:
            return "this server takes no uploads (limits.uploads is 0)"
        return None if self.folder is not None else "this server has no writable folder (server.state_dir)"

    @property
    def generator_folder(self) -> Path | None:
        """Folder that the generator reads; None if this server takes neither uploads nor live inputs."""
        return self.folder if self.open or self.limits.inputs else None

    def file(self, name: str, part: str) -> Path:
        """Path of a file of a kept upload."""
        assert self.folder is not None
        return self.folder / name / part

    def public_limits(self) -> UploadLimits:
        """Limits on uploads for clients."""
        limits = self.limits
        return UploadLimits(
            bytes=int(limits.upload_mb * 1e6),
            seconds=limits.upload_length_s,
            pixels=int(limits.upload_mpixels * 1e6),
        )

    def take_turn(self, address: str) -> None:
        """Count an upload of an address. Raises 429 above the rate limit, 503 if too many others wait."""
        if wait := self._buckets.wait_s(address):
            allowed = f"{self.limits.upload_burst} at once, then one every {self.limits.upload_interval_s:g} s"
            raise refuse(
                web.HTTPTooManyRequests, "rate_limited", f"too many uploads; allowed: {allowed}", retry_after_s=wait
            )
        self._check_open()
        if self._busy >= 2 * AT_ONCE:
            raise refuse(web.HTTPServiceUnavailable, "busy", "other files are being read", retry_after_s=5)

    @contextlib.contextmanager
    def workplace(self) -> Iterator[Path]:
        """Temporary folder for one upload during the ``with`` block."""
        assert self.folder is not None
        self._busy += 1
        place = Path(tempfile.mkdtemp(prefix=".work-", dir=self.folder))
        try:
            yield place
        finally:
            self._busy -= 1
            shutil.rmtree(place, ignore_errors=True)

    async def make(
        self,
        source: Path,
        place: Path,
        title: str,
        used: Callable[[], Collection[str]],
        *,
        bpm: float | None = None,
        key: float | None = None,
        stereo: bool | None = None,
        address: str | None = None,
    ) -> tuple[Upload, list[str], str | None]:
        """Decode a file and keep the result.

        Args:
            source: the received file, in ``place``.
            place: temporary folder of this upload.
            title: display name.
            used: function that returns the names in use, which must not be dropped.
            bpm: the user's tempo; None: detect it.
            key: the user's key; None: detect it.
            stereo: whether a picture is stereo; None: by its EXIF or its planes.
            address: address of an uploader with the quota ``limits.uploads_per_address``; None: without it.

        Returns:
            The upload, remarks on its file (damage, assumptions), and the key that removes it. The key is None if the
            same music was there already.

        Raises:
            HTTPException: 400, 413 or 415 with the fault of the file; 503 if all kept uploads are in use.
        """
        made = place / "made"
        made.mkdir()
        async with self._turns:
            result = await self._decode(source, made, bpm, key, stereo)
        self._check_open()
        if result.status != 201:
            kind = {413: TooLargeError, 415: web.HTTPUnsupportedMediaType}.get(result.status, web.HTTPBadRequest)
            raise refuse(kind, "bad_request", result.message[:300])
        remove_key = secrets.token_urlsafe(16)
        entry = Upload(
            name=f"upload-{result.digest}",
            title=title,
            bpm=round(result.bpm, 1),
            key=result.key,
            seconds=result.seconds,
            beats=result.beats,
            kind=result.kind,
            at=time.time(),
            remover=_hashed(remove_key),
        )
        await asyncio.to_thread(_finish, made, entry)
        notes = [note[:300] for note in result.notes[:10]]
        if await self._keep(entry, made, used, address):
            return entry, notes, remove_key
        return self.entries[entry.name], [*notes, SAME], None

    async def _decode(
        self, source: Path, made: Path, bpm: float | None, key: float | None, stereo: bool | None
    ) -> Result:
        limits = self.limits
        rules = Rules(
            length_s=limits.upload_length_s,
            pixels=limits.upload_mpixels * 1e6,
            cpu_s=limits.upload_s,
            memory_mb=limits.upload_memory_mb,
            bpm=bpm,
            key=key,
            stereo=stereo,
        )
        process = await asyncio.create_subprocess_exec(
            *self.command,
            str(source),
            str(made),
            msgspec.json.encode(rules).decode(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,
        )
        late = False
        try:
            await asyncio.wait_for(process.wait(), limits.upload_s)
        except TimeoutError:
            late = True
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    if hasattr(os, "killpg"):
                        os.killpg(process.pid, signal.SIGKILL)
                    else:
                        process.kill()
                await asyncio.shield(process.wait())
        if late:
            return Result(status=413, message=f"file takes too long to read; allowed: up to {limits.upload_s:g} s")
        try:
            path = made / "result.json"
            if path.stat().st_size > RESULT_BYTES:
                raise ValueError
            return msgspec.json.decode(path.read_bytes(), type=Result)
        except (OSError, ValueError):  # no result: a decoder crashed, or memory ran out
            return _without_result(process.returncode, limits)

    async def _keep(self, entry: Upload, made: Path, used: Callable[[], Collection[str]], address: str | None) -> bool:
        """Keep an upload; False if the same music was there already."""
        async with self._keeping:
            if entry.name in self.entries:
                self.entries.move_to_end(entry.name)
                return False
            size = sum(file.stat().st_size for file in made.iterdir())
            while going := self._over_quota(address, used()) or self._to_drop(size, used()):
                await self.drop(going[0])  # one at a time, because the music changes meanwhile
            made.rename(self.file(entry.name, ""))
            self.entries[entry.name] = entry
            self._sizes[entry.name] = size
            if address is not None:
                self._addresses[entry.name] = address
            return True

    def _over_quota(self, address: str | None, used: Collection[str]) -> list[str]:
        """Oldest unused upload of an address with a full quota. Raises 503 if all of them are in use."""
        own = [name for name, by in self._addresses.items() if by == address]
        if address is None or len(own) < self.limits.uploads_per_address:
            return []
        idle = [name for name in own if name not in used]
        if not idle:
            why = f"all {len(own)} uploads of your address are being played (limits.uploads_per_address)"
            raise refuse(web.HTTPServiceUnavailable, "busy", why, retry_after_s=60)
        return idle[:1]

    async def remove(self, name: str) -> bool:
        """Remove an upload; False for an unknown name."""
        async with self._keeping:
            if name not in self.entries:
                return False
            await self.drop(name)
            return True

    def may_remove(self, name: str, key: str) -> bool:
        """Whether ``key`` is the one that :meth:`make` returned for an upload."""
        remover = self.entries[name].remover
        return bool(remover) and hmac.compare_digest(_hashed(key), remover)

    def _to_drop(self, size: int, used: Collection[str]) -> list[str]:
        """Oldest unused uploads to drop for a new one of ``size`` bytes. Raises 503 if they are not enough."""
        count, total = len(self.entries) + 1, sum(self._sizes.values()) + size
        going: list[str] = []
        for name in self.entries:
            if count <= self.limits.uploads and total <= self.limits.uploads_mb * 1e6:
                break
            if name not in used:
                going.append(name)
                count, total = count - 1, total - self._sizes[name]
        if count > self.limits.uploads or total > self.limits.uploads_mb * 1e6:
            raise refuse(
                web.HTTPServiceUnavailable, "busy", "every uploaded seed image is being played", retry_after_s=60
            )
        return going

    async def drop(self, name: str) -> None:
        """Forget an upload."""
        assert self.folder is not None
        self.entries.pop(name, None)
        self._sizes.pop(name, None)
        self._addresses.pop(name, None)
        # Renamed first, so that the generator never sees a part of it.
        going = self.folder / f".work-{name}"
        with contextlib.suppress(OSError):
            (self.folder / name).rename(going)
        await asyncio.to_thread(shutil.rmtree, going, ignore_errors=True)

    def _load(self) -> None:
        """Load the uploads of an earlier run."""
        if self.folder is None:
            return
        found: list[Upload] = []
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith(".work-"):
                shutil.rmtree(path, ignore_errors=True)
            elif (entry := read_upload(self.folder, path.name)) is not None:
                found.append(entry)
                self._sizes[entry.name] = sum(file.stat().st_size for file in path.iterdir())
        for entry in sorted(found, key=lambda each: each.at):
            self.entries[entry.name] = entry

    def _check_open(self) -> None:
        """Raise 503 once the folder is another server's."""
        if self._closed:
            raise refuse(web.HTTPServiceUnavailable, "busy", "the server is about to restart", retry_after_s=2)

    async def close(self) -> None:
        """Accept no more uploads, and delete a temporary folder. Idempotent."""
        self._closed = True
        if self._place is not None:
            await asyncio.to_thread(self._place.close)


def seeds_folder(config: Config) -> Path | None:
    """Folder that the generator of a server with ``server.state_dir`` reads; None as for ``generator_folder``."""
    if not (config.limits.uploads or config.limits.inputs):
        return None
    return Path(config.server.state_dir).expanduser().resolve() / "seeds"


def is_taken(state_dir: str) -> bool:
    """Whether another running server uses a ``server.state_dir``."""
    if not state_dir:
        return False
    try:
        LockedFolder.lasting(Path(state_dir).expanduser().resolve() / "seeds").close()
    except FolderTakenError:
        return True
    except (OSError, RuntimeError):  # Uploads says why
        return False
    return False


def _hold_folder(state_dir: str) -> LockedFolder | None:
    """The configured folder, else a temporary one; None where none can be made, as in a container without ``/tmp``."""
    if not state_dir:
        try:
            return LockedFolder.temporary("riffstream-seeds-")
        except OSError as error:
            why = "no temporary folder can be written to, so nothing can be uploaded; set TMPDIR or server.state_dir"
            logs.event(why, level=logging.WARNING, error=error.strerror)
            return None
    try:
        return LockedFolder.lasting(Path(state_dir).expanduser().resolve() / "seeds")
    except FolderTakenError:
        raise ParameterError("server.state_dir", state_dir, "a folder that no other running server uses") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: "~" of a user without a home
        allowed = f"a folder that can be written to ({getattr(error, 'strerror', error)})"
        raise ParameterError("server.state_dir", state_dir, allowed) from None


def _without_result(code: int | None, limits: LimitsSettings) -> Result:
    """Result for a worker that ended without one, by its exit code."""
    if code == -getattr(signal, "SIGXCPU", 24):
        return Result(status=413, message=f"file takes too long to read; allowed: up to {limits.upload_s:g} s")
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    most = f"{limits.upload_memory_mb:g} MB"
    return Result(status=400, message=f"file cannot be decoded ({how}): damaged, or needs more than {most}")


def _hashed(key: str) -> str:
    return hashlib.blake2b(key.encode(errors="replace"), digest_size=16).hexdigest()


def _finish(made: Path, entry: Upload) -> None:
    (made / "result.json").unlink()
    (made / ABOUT).write_bytes(msgspec.json.encode(entry))


UPLOADS = web.AppKey("riffstream-uploads", Uploads)
