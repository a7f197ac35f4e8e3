"""Seed images of the users' own: what is taken, what is refused, and that nothing a file does harms the server."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from aiohttp import ClientSession, FormData
from PIL import Image

from riffstream.config import Config
from riffstream.errors import ParameterError
from riffstream.models.uploads import read_upload
from riffstream.server.app import Server
from riffstream.server.uploads.intake import WORKER, Uploads
from riffstream.spectrogram.image import image_from_amplitudes, save_image
from riffstream.spectrogram.params import ExifTag, SpectrogramParams
from tests.audio.signals import RATE, bursts, cadence, clicks, noise
from tests.server.conftest import Running, running
from tests.server.fakes import FakeHub
from tests.server.test_registry import until
from tests.server.test_sockets import joined

FREE = {"upload_interval_s": 0.0}  # most tests upload more often than people do


def sound(kind: str = "flac", bpm: float = 125.0, seconds: float = 6.0) -> bytes:
    """A file of clicks."""
    target = io.BytesIO()
    wave = clicks(bpm, seconds).T
    if kind == "m4a":
        with av.open(target, "w", format="ipod") as container:
            stream = container.add_stream("aac", rate=RATE)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave.T), "fltp", "stereo")
            frame.sample_rate = RATE
            for packet in (*stream.encode(frame), *stream.encode(None)):
                container.mux(packet)
    else:
        format_ = {"opus": ("OGG", "OPUS"), "ogg": ("OGG", "VORBIS")}.get(kind, (kind.upper(), None))
        for part in range(0, len(wave), 48_000):  # libsndfile's Vorbis encoder takes a whole write on the stack
            if part == 0:
                file = soundfile.SoundFile(target, "w", RATE, 2, format=format_[0], subtype=format_[1])
            file.write(wave[part : part + 48_000])
        file.close()
    return target.getvalue()


def picture(tmp_path: Path, name: str = "a.png", params: SpectrogramParams | None = None, width: int = 600) -> bytes:
    """A spectrogram with a beat every 50 frames, from frame 20 on."""
    params = params or SpectrogramParams.riffusion()
    rng = np.random.default_rng(0)
    amplitudes = rng.random((params.channels, params.num_frequencies, width)).astype(np.float32) * 0.01
    for at in range(20, width, 50):
        amplitudes[..., at : at + 8] += rng.random((params.num_frequencies, 1)) * np.linspace(
            1, 0.2, min(8, width - at)
        )
    save_image(image_from_amplitudes(amplitudes, params), tmp_path / name)
    return (tmp_path / name).read_bytes()


async def post(
    served: Running, data: bytes, status: int = 201, *, query: str = "", token: str = "", **fields: str
) -> dict[str, Any]:
    """Upload a file as the player does, or bare where there is no field."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    form: Any = io.BytesIO(data)
    if fields:
        form = FormData()
        for key, value in fields.items():
            if key != "filename":
                form.add_field(key, value)
        form.add_field("file", data, filename=fields.get("filename", "loop.wav"))
    async with (
        ClientSession() as session,
        session.post(f"{served.url}/api/seeds{query}", data=form, headers=headers) as response,
    ):
        answer = await response.json()
        assert response.status == status, answer
        if status >= 400:
            assert answer["message"]
            answer["retry_after"] = response.headers.get("Retry-After")
        return answer


async def listed(served: Running) -> dict[str, Any]:
    async with ClientSession() as session, session.get(f"{served.url}/api/seeds") as response:
        return await response.json()


def left_over(served: Running) -> list[Path]:
    """Whatever of work in progress was not cleaned away."""
    return [path for path in served.server.uploads.folder.iterdir() if path.name.startswith(".")]


async def test_a_loop_becomes_a_seed_with_its_tempo_title_and_picture(live: Running) -> None:
    made = await post(live, sound(bpm=125), filename="my loop.flac", name="  My\u202e loop\n ")
    assert set(made) >= {"name", "title", "seconds", "bpm", "preview"}
    assert made["title"] == "My loop"
    assert made.pop("notes") == ["key unclear: no clear notes, so it is not transposed"]
    assert made["bpm"] == pytest.approx(125, rel=0.01)
    assert made["seconds"] == pytest.approx(480 / made["bpm"], abs=0.01)
    answer = await listed(live)
    assert answer["uploads"] is True
    assert answer["limits"] == {"bytes": 20_000_000, "seconds": 900.0, "pixels": 16_000_000}
    assert {**answer["seeds"][0], "remove_key": made["remove_key"]} == made
    assert set(made) - {"remove_key"} == set(answer["seeds"][1])  # the same keys as the library's
    async with ClientSession() as session, session.get(f"{live.url}/api/{made['preview']}") as response:
        assert response.content_type == "image/png"
        with Image.open(io.BytesIO(await response.read())) as shown:
            assert shown.size == (512, 256)
            assert np.asarray(shown).std() > 10
    folder = live.server.uploads.folder
    assert read_upload(folder, made["name"]) is not None
    loop, rate = soundfile.read(folder / made["name"] / "loop.wav")
    assert rate == 48_000
    assert len(loop) == round(480 / made["bpm"] * 48_000)
    assert np.abs(loop[:480]).max() > 0.05  # it begins with a beat
    assert left_over(live) == []


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "opus", "m4a"])
async def test_audio_of_every_kind_is_read(kind: str) -> None:
    async with running(limits=FREE) as served:
        made = await post(served, sound(kind, seconds=5.0))
        assert made["bpm"] == pytest.approx(125, rel=0.015)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("model", ["riffusion", "mini"])
async def test_spectrograms_are_read(live: Running, tmp_path: Path, name: str, model: str) -> None:
    params = getattr(SpectrogramParams, model)()
    made = await post(live, picture(tmp_path, name, params), filename=name)
    assert made["title"] == "a"
    assert made["bpm"] == pytest.approx(120, rel=0.02)  # a beat every 50 frames of 10 ms; or what the hop says
    with Image.open(live.server.uploads.folder / made["name"] / "loop.png") as loop:
        assert loop.size == (512 if model == "mini" else pytest.approx(400, abs=8), params.num_frequencies)
        assert SpectrogramParams.from_exif(loop.getexif()) == params


async def test_the_librarys_own_pictures_can_come_back(live: Running) -> None:
    answer = await listed(live)
    async with ClientSession() as session, session.get(f"{live.url}/api/{answer['seeds'][0]['preview']}") as response:
        data = await response.read()
    assert (await post(live, data))["bpm"] == 120.0


async def test_a_given_tempo_counts_and_the_query_serves_bare_bodies() -> None:
    data = sound(bpm=125)
    async with running(limits=FREE) as served:
        made = await post(served, data, query="?bpm=90&name=slow")
        assert (made["bpm"], made["title"]) == (90, "slow")
        made = await post(served, data, bpm="62.5", name="")
        assert (made["bpm"], made["seconds"]) == (62.5, 7.68)
        for bpm in ("1000", "x", "nan", "-5"):
            assert "allowed: 40 to 240" in (await post(served, data, 400, bpm=bpm))["message"]


async def test_the_key_is_found_told_or_left_alone() -> None:
    async with running(limits=FREE) as served:
        target = io.BytesIO()
        soundfile.write(target, cadence(2).T, RATE, format="FLAC")
        found = await post(served, target.getvalue(), name="in D")
        assert found["key"] == 2
        left = await post(served, target.getvalue(), name="in D", key="0")
        assert left["key"] == 0
        told = await post(served, target.getvalue(), query="?key=-1.5")
        assert told["key"] == -1.5
        assert len({each["name"] for each in (found, left, told)}) == 3
        assert (await post(served, sound(), name="drums"))["key"] == 0
        answer = await post(served, target.getvalue(), 400, name="x", key="13")
        assert answer["message"] == "key is '13'; allowed: -6 to 6 semitones"
        assert [each["key"] for each in (await listed(served))["seeds"][:4]] == [0, -1.5, 0, 2]


async def test_short_sounds_become_loops_of_8_beats(live: Running) -> None:
    made = await post(live, sound("wav", bpm=120, seconds=2.4), query="?bpm=120")
    loop, _ = soundfile.read(live.server.uploads.folder / made["name"] / "loop.wav")
    assert len(loop) == 4 * 48_000
    assert np.allclose(loop[:96_000], loop[96_000:])  # four beats twice


async def test_the_same_music_is_kept_once(live: Running) -> None:
    one, two = await post(live, sound()), await post(live, sound(), name="again", query="")
    assert one["name"] == two["name"]
    assert [each["name"] for each in (await listed(live))["seeds"]].count(one["name"]) == 1


# -- hostile files ----------------------------------------------------------------------------------------------------


def wav(samples: np.ndarray) -> bytes:
    target = io.BytesIO()
    soundfile.write(target, samples, RATE, format="WAV", subtype="FLOAT")
    return target.getvalue()


def png_bomb(width: int, height: int) -> bytes:
    """A picture whose header claims this size, with as many zeros as a few kilobytes can hold."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(20_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def claims_a_gigabyte() -> bytes:
    data = bytearray(sound("wav"))
    data[4:8] = struct.pack("<I", 2**30)
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 2**30)
    return bytes(data)


def claims_ten_hours() -> bytes:
    """A FLAC stream whose header tells of 36,000 s."""
    data = bytearray(sound("flac", seconds=2.0))
    data[21:26] = bytes([data[21] & 0xF0]) + struct.pack(">I", 0x66FF3000)
    return bytes(data)


def silence_bomb() -> bytes:
    """An hour and a half of silence in some 100 kB of FLAC."""
    target = io.BytesIO()
    with soundfile.SoundFile(target, "w", 8000, 1, format="FLAC") as file:
        for _ in range(90):
            file.write(np.zeros(60 * 8000, np.int16))
    return target.getvalue()


def broken_exif(tmp_path: Path, **wrong: Any) -> bytes:
    from riffstream.spectrogram.params import ExifTag

    with Image.open(io.BytesIO(picture(tmp_path))) as image:
        exif = image.getexif()
        for name, value in wrong.items():
            if value is None:
                del exif[ExifTag[name]]
            else:
                exif[ExifTag[name]] = value
        target = io.BytesIO()
        image.save(target, "PNG", exif=exif)
    return target.getvalue()


@pytest.mark.parametrize(
    ("case", "status", "says"),
    [
        ("text", 415, "neither audio nor a readable picture"),
        ("random", 415, "neither audio nor a readable picture"),
        ("empty", 400, "file is missing or empty"),
        ("silence", 400, "file is silent"),
        ("offset", 400, "file is silent"),
        ("nan", 400, "not numbers"),
        ("too short", 400, "allowed: 0.25 to 900 s"),
        ("cut wav header", 415, "neither audio nor a readable picture"),
        ("cut png", 400, "not readable as an image"),
        ("png bomb", 413, "at most 16 million"),
        ("png that lacks pixels", 400, "not readable as an image"),
        ("ten hours", 413, "36000 s long; allowed: up to 900 s"),
        ("silence bomb", 413, "5400 s long; allowed: up to 900 s"),
        ("white picture", 400, "empty picture"),
        ("exif lacks", 400, "its EXIF lacks min_frequency"),
        ("exif range", 400, "sample_rate is 7; allowed: 1000 to 384000 Hz"),
        ("exif type", 400, "sample_rate is 'x'; allowed: a number"),
        ("exif height", 400, "file is 512 pixels high; its EXIF says 100"),
    ],
)
async def test_what_cannot_be_a_seed_is_refused_and_explained(
    live: Running, tmp_path: Path, case: str, status: int, says: str
) -> None:
    white = io.BytesIO()
    Image.new("RGB", (600, 512), "white").save(white, "PNG")
    data = {
        "text": lambda: b"hello, this is a text\n" * 100,
        "random": lambda: np.random.default_rng(0).bytes(100_000),
        "empty": lambda: b"",
        "silence": lambda: wav(np.zeros((RATE, 2))),
        "nan": lambda: wav(np.full((RATE, 2), np.nan)),
        "too short": lambda: wav(noise(100)),
        "offset": lambda: wav(np.full((RATE, 2), 0.3)),
        "cut wav header": lambda: sound("wav")[:30],
        "cut png": lambda: picture(tmp_path)[:4000],
        "png bomb": lambda: png_bomb(60_000, 60_000),
        "png that lacks pixels": lambda: png_bomb(3_000, 3_000),
        "ten hours": claims_ten_hours,
        "silence bomb": silence_bomb,
        "white picture": white.getvalue,
        "exif lacks": lambda: broken_exif(tmp_path, MIN_FREQUENCY=None),
        "exif range": lambda: broken_exif(tmp_path, SAMPLE_RATE=7),
        "exif type": lambda: broken_exif(tmp_path, SAMPLE_RATE="x"),
        "exif height": lambda: broken_exif(tmp_path, NUM_FREQUENCIES=100),
    }[case]()
    answer = await post(live, data, status, name="x")
    assert answer["code"] == "bad_request"
    assert says in answer["message"]
    assert str(live.server.uploads.folder) not in answer["message"]
    assert not live.server.uploads.entries
    assert left_over(live) == []


async def test_damaged_files_give_what_can_be_read(live: Running) -> None:
    assert (await post(live, claims_a_gigabyte()))["bpm"] == pytest.approx(125, rel=0.01)
    assert (await post(live, sound("mp3", seconds=8)[:90_000]))["seconds"] > 0


@pytest.mark.parametrize(
    ("program", "status", "says"),
    [
        ("import time; time.sleep(60)", 413, "takes too long to read; allowed: up to 1 s"),
        ("while True: pass", 413, "takes too long"),
        ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)", 413, "takes too long"),
        ("import os; os.kill(os.getpid(), 11)", 400, "cannot be decoded"),
        ("import os; os._exit(3)", 400, "cannot be decoded"),
        ("open(sys.argv[2] + '/result.json', 'w').write('[')", 400, "cannot be decoded"),
        ("open(sys.argv[2] + '/result.json', 'w').write(' ' * 10**6)", 400, "cannot be decoded"),
        ("import subprocess; subprocess.Popen(['sleep', '60']).wait()", 413, "takes too long"),
        ("limit_process(RULES); bytearray(2**31)", 400, "cannot be decoded"),
        ("limit_process(RULES); open(sys.argv[2] + '/x', 'wb').write(bytes(2**27))", 400, "cannot be decoded"),
    ],
)
async def test_a_decoder_that_hangs_or_dies_harms_nobody(program: str, status: int, says: str) -> None:
    start = "import sys; from riffstream.server.uploads.worker import *\nRULES = Rules(memory_mb=500.0)\n"
    patience = 1.0 if status == 413 else 30.0  # what ends by itself may take a while on a busy machine
    async with running(speed=2.0, limits={**FREE, "upload_s": patience}) as served, joined(served) as listener:
        served.server.uploads.command = (sys.executable, "-c", start + program)
        await listener.message("welcome")
        assert says in (await post(served, b"anything", status))["message"]
        assert left_over(served) == []
        frames = await listener.audio(20)
        assert [frame.seq for frame in frames] == list(range(frames[0].seq, frames[0].seq + 20))
        patient = Config.from_dict({"limits": {**FREE, "upload_s": 60.0}})
        served.server.uploads.command, served.server.uploads.limits = WORKER, patient.limits
        await post(served, sound())


async def test_real_decoding_keeps_to_its_memory(live: Running, tmp_path: Path) -> None:
    async with running(limits={**FREE, "upload_mpixels": 1000.0, "upload_memory_mb": 300.0}) as served:
        big = io.BytesIO()
        Image.new("RGB", (20_000, 4000), "red").save(big, "PNG")
        answer = await post(served, big.getvalue(), 413)
        assert answer["message"] == "file needs more memory than the 300 MB allowed"


# -- limits -----------------------------------------------------------------------------------------------------------


async def test_large_files_are_refused_with_and_without_a_length() -> None:
    async with running(limits={**FREE, "upload_mb": 0.05}) as served:
        assert "file is 0.1 MB; allowed: up to 0.05 MB" in (await post(served, bytes(100_000), 413))["message"]
        assert "allowed: 1 to 50000 bytes" in (await post(served, bytes(60_000), 413, name="x"))["message"]

        async def endless() -> Any:
            while True:
                yield bytes(10_000)

        async with ClientSession() as session, session.post(f"{served.url}/api/seeds", data=endless()) as response:
            assert response.status == 413
        headers = {"Content-Encoding": "deflate"}  # a body that grows by inflating
        body = zlib.compress(bytes(10_000_000))
        assert len(body) < 50_000
        async with (
            ClientSession() as session,
            session.post(f"{served.url}/api/seeds", data=body, headers=headers) as response,
        ):
            assert response.status == 413
        assert left_over(served) == []


async def test_slow_bodies_are_given_up() -> None:
    async with running(limits={**FREE, "body_timeout_s": 0.3}) as served:

        async def trickle() -> Any:
            for _ in range(100):
                yield b"RIFF"
                await asyncio.sleep(0.1)

        async with ClientSession() as session, session.post(f"{served.url}/api/seeds", data=trickle()) as response:
            assert response.status == 408
            assert "32 kB/s" in (await response.json())["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x\r\n",
        b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\nabc",
        b"--x\r\n\xff\xfe: y\r\n\r\n--x--",
        b"--x\r\nContent-Disposition: form-data; name=other\r\n\r\nabc\r\n--x--\r\n",
        b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\nz\r\n--y--\r\n--x--\r\n",
        b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n" * 50 + b"--x--\r\n",
        b"--x\r\nContent-Length: 99999999999\r\n\r\nab\r\n--x--\r\n",
        b"--x\r\nContent-Transfer-Encoding: nonsense\r\n\r\nab\r\n--x--\r\n",
    ],
)
async def test_bodies_that_are_no_form_are_400(body: bytes) -> None:
    async with running(limits=FREE) as served, ClientSession() as session:
        for kind in (
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            f"multipart/mixed; boundary={'y' * 200}",
        ):
            headers = {"Content-Type": kind}
            async with session.post(f"{served.url}/api/seeds", data=body, headers=headers) as response:
                assert response.status == 400, kind
        assert served.server.context.counters["errors"] == 0


async def test_the_rate_is_limited_for_each_address() -> None:
    async with running(limits={"upload_burst": 2, "upload_interval_s": 60.0}) as served:
        for _ in range(2):
            await post(served, b"text", 415)
        refused = await post(served, sound(), 429)
        assert refused["code"] == "rate_limited"
        assert "2 at once, then one every 60 s" in refused["message"]
        assert 1 <= int(refused["retry_after"]) <= 60


async def test_more_than_a_few_at_once_are_503() -> None:
    async with running(limits=FREE) as served, ClientSession() as session:
        served.server.uploads.command = (sys.executable, "-c", "import time; time.sleep(60)")
        waiting = [asyncio.create_task(session.post(f"{served.url}/api/seeds", data=b"x")) for _ in range(4)]
        await until(lambda: len(left_over(served)) == 4)
        assert (await post(served, b"x", 503))["retry_after"] == "5"
        for each in waiting:
            each.cancel()
        await until(lambda: left_over(served) == [])


async def test_whoever_goes_away_stops_the_decoder(tmp_path: Path) -> None:
    async with running(limits=FREE) as served:
        flag = tmp_path / "pid"
        program = f"import os, time; open({str(flag)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
        served.server.uploads.command = (sys.executable, "-c", program)
        posting = asyncio.create_task(post(served, b"x"))
        await until(lambda: flag.exists() and flag.read_text() != "")
        posting.cancel()
        await until(lambda: not Path(f"/proc/{flag.read_text()}").exists() and left_over(served) == [])


@pytest.mark.parametrize(("token", "status"), [("", 403), ("listen", 403), ("wrong", 401), ("dj", 201), ("owner", 201)])
async def test_uploading_needs_the_right_to_steer(token: str, status: int) -> None:
    access = {"dj_token": "dj", "owner_token": "owner", "listen_token": ""}
    async with running(access=access) as served:
        if token == "listen":
            token = ""
        await post(served, sound(), status, token=token)


async def test_a_page_of_another_site_cannot_upload(live: Running) -> None:
    headers = {"Origin": "https://evil.example"}
    async with (
        ClientSession() as session,
        session.post(f"{live.url}/api/seeds", data=io.BytesIO(sound()), headers=headers) as response,
    ):
        assert response.status == 403


async def test_uploads_can_be_turned_off() -> None:
    async with running(limits={"uploads": 0}) as served:
        assert (await listed(served))["uploads"] is False
        await post(served, sound(), 403)


# -- what is kept -----------------------------------------------------------------------------------------------------


async def test_the_oldest_that_nobody_plays_is_dropped() -> None:
    async with running(limits={**FREE, "uploads": 2}) as served:
        names = [(await post(served, sound(bpm=bpm)))["name"] for bpm in (100, 110)]
        served.station.state = type(served.station.state)(prompts=served.station.state.prompts, seed_image=names[0])
        third = (await post(served, sound(bpm=120)))["name"]
        assert list(served.server.uploads.entries) == [names[0], third]
        assert {path.name for path in served.server.uploads.folder.iterdir()} == {names[0], third}
        async with (
            ClientSession() as session,
            session.get(f"{served.url}/api/seeds/{names[1]}/preview.png") as response,
        ):
            assert response.status == 404


async def test_bytes_are_bounded_as_well() -> None:
    async with running(limits={**FREE, "uploads_mb": 4.0}) as served:
        for bpm in (100, 110, 120, 130):
            await post(served, sound(bpm=bpm))
        files = [file for file in served.server.uploads.folder.rglob("*") if file.is_file()]
        assert sum(file.stat().st_size for file in files) < 4e6
        assert 1 <= len(served.server.uploads.entries) < 4


async def test_uploads_go_with_the_server_unless_they_have_a_place(tmp_path: Path) -> None:
    async with running(limits=FREE) as served:
        await post(served, sound())
        folder = served.server.uploads.folder
    assert not folder.exists()
    for n in range(2):
        async with running(server={"state_dir": str(tmp_path)}, limits=FREE) as served:
            if n == 0:
                made = await post(served, sound())
                del made["notes"]  # remarks are for the uploader
                (tmp_path / "seeds" / ".work-old").mkdir()
            else:
                del made["remove_key"]
                assert (await listed(served))["seeds"][0] == made
                assert not (tmp_path / "seeds" / ".work-old").exists()
    (tmp_path / "seeds" / made["name"] / "seed.json").write_text("[")
    server = Server(Config.from_dict({"server": {"state_dir": str(tmp_path)}}), FakeHub())
    assert not server.uploads.entries
    shutil.rmtree(tmp_path)


def test_names_of_uploads_are_no_paths(tmp_path: Path) -> None:
    (tmp_path / "seed.json").write_text(json.dumps({"name": "x", "title": "x", "bpm": 1.0, "seconds": 1.0}))
    (tmp_path / "inner").mkdir()
    for name in ("", ".", "..", "../..", "/etc", "upload-", "upload-../../../x", "upload-00000000000\0", "x" * 5000):
        assert read_upload(tmp_path / "inner", name) is None


def test_a_state_folder_that_cannot_be_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match=r"state_dir is .*; allowed: a folder that can be written to"):
        Uploads(Config.from_dict({"server": {"state_dir": str(tmp_path / "file")}}))


def changed(data: bytes, change: str) -> bytes:
    """A picture as editors and chat programs leave it; its EXIF is lost."""
    with Image.open(io.BytesIO(data)) as opened:
        image = Image.fromarray(np.array(opened))
    if change == "16 bits":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif change == "transparent":
        pixels = np.array(image.convert("RGBA"))
        pixels[pixels[..., 0] == 255] = 0  # paper that was erased
        image = Image.fromarray(pixels)
    target = io.BytesIO()
    image.save(target, "WEBP" if change == "webp" else "PNG", **({"lossless": True} if change == "webp" else {}))
    return target.getvalue()


@pytest.mark.parametrize("change", ["16 bits", "transparent", "webp"])
async def test_changed_pictures_sound_as_the_original(change: str, tmp_path: Path) -> None:
    async with running(limits=FREE) as served:
        original = picture(tmp_path)
        want = await post(served, original)
        made = await post(served, changed(original, change))
        assert any("EXIF" in note for note in made["notes"])
        folder = served.server.uploads.folder
        with Image.open(folder / want["name"] / "loop.png") as a, Image.open(folder / made["name"] / "loop.png") as b:
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


async def test_a_picture_of_the_models_height_without_exif_is_read_as_its_own_and_that_is_said(live: Running) -> None:
    noise = np.random.default_rng(0).integers(60, 255, (256, 512), np.uint8)
    target = io.BytesIO()
    Image.fromarray(noise).save(target, "PNG")
    made = await post(live, target.getvalue())
    assert "no EXIF; read as a picture of the embedded model" in made["notes"][0]


async def test_a_stereo_picture_without_exif_is_stereo_or_what_the_field_says(tmp_path: Path) -> None:
    async with running(limits=FREE) as served:
        bare = changed(picture(tmp_path, params=SpectrogramParams.riffusion(stereo=True)), "")
        folder = served.server.uploads.folder
        for query, stereo in (("", True), ("?stereo=1", True), ("?stereo=0", False)):
            made = await post(served, bare, query=query)
            with Image.open(folder / made["name"] / "loop.png") as loop:
                assert (dict(loop.getexif())[ExifTag.STEREO] == 1) is stereo
        assert "stereo is 'maybe'" in (await post(served, bare, 400, query="?stereo=maybe"))["message"]


async def test_joined_recordings_of_different_formats_are_read(live: Running) -> None:
    wave = clicks(125.0, 2.88).T  # six beats
    first, second = io.BytesIO(), io.BytesIO()
    soundfile.write(first, wave[:, :1], RATE, format="OGG", subtype="VORBIS")
    soundfile.write(second, wave[::2], RATE // 2, format="FLAC")
    made = await post(live, first.getvalue() + second.getvalue())
    assert made["bpm"] == pytest.approx(125, rel=0.015)
    assert [note for note in made.get("notes", ()) if "key unclear" not in note] == []


async def test_damage_is_said_in_the_answer(live: Running) -> None:
    made = await post(live, sound("wav")[:-200_000])
    assert "cut short" in made["notes"][0]


async def test_what_is_in_use_is_asked_when_the_file_is_kept(tmp_path: Path) -> None:
    async with running(limits=FREE | {"uploads": 1}) as served:
        uploads = served.server.uploads
        first = await post(served, sound(bpm=125))
        decode, used = uploads._decode, set[str]()

        async def slow(*given: Any) -> Any:
            result = await decode(*given)
            used.add(first["name"])  # a station begins to play it meanwhile
            return result

        uploads._decode = slow  # type: ignore[method-assign]
        with uploads.workplace() as place:
            (place / "source").write_bytes(sound(bpm=100))
            with pytest.raises(Exception, match=r"being played|Unavailable"):
                await uploads.make(place / "source", place, "other", lambda: used)
        assert first["name"] in uploads.entries


async def test_what_is_heard_of_a_recording() -> None:
    """Silence before the music, an inverted channel, an offset, and a tempo that nobody could tell."""
    unclear = "tempo unclear: taken as"
    late = np.concatenate([np.zeros((63 * RATE, 2)), clicks(125, 8).T])
    async with running(limits=FREE | {"upload_mb": 50}) as served:
        for wave, bpm, note in (
            (late, 125, None),
            (clicks(125, 8).T * [1, -1], 125, None),
            (clicks(125, 8).T * 0.2 + 0.4, 125, None),
            (noise(8 * RATE), None, unclear),
            (bursts(np.array([1.0]), 4).T, None, unclear),
        ):
            made = await post(served, wav(wave))
            if bpm:
                assert made["bpm"] == pytest.approx(bpm, rel=0.01)
            said = [text for text in made.get("notes", ()) if "tempo" in text]
            assert [text.startswith(note or "-") for text in said] == ([True] if note else [])
            loop, _ = soundfile.read(served.server.uploads.folder / made["name"] / "loop.wav")
            assert np.sqrt((loop**2).mean()) == pytest.approx(0.1, rel=0.01)
            assert np.abs(loop.mean(0)).max() < 0.01


async def test_a_soft_beginning_belongs_to_a_loop_that_would_lack_it(live: Running) -> None:
    """Eight beats, of which the last four are much louder."""
    wave = bursts(np.arange(0.0, 4.0, 0.5), 4, np.array([0.065] * 4 + [0.6] * 4)).T
    made = await post(live, wav(wave), query="?bpm=120")
    loop, _ = soundfile.read(live.server.uploads.folder / made["name"] / "loop.wav")
    first, second = np.abs(loop[: 2 * RATE]).max(), np.abs(loop[2 * RATE :]).max()
    assert second > 3 * first
