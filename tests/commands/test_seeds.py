"""``riffstream seeds``: the library, the seeds of a running server, and those of a stopped one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from riffstream.models.seeds import SeedLibrary
from tests.commands.conftest import RunResult, make_song
from tests.server.conftest import running
from tests.server.uploads.test_intake import FREE, sound

Run = Callable[..., RunResult]


@pytest.fixture
def loop_file(tmp_path: Path) -> Path:
    path = tmp_path / "my loop.flac"
    path.write_bytes(sound(bpm=120))
    return path


def test_show_prints_what_is_known_of_a_seed(run: Run) -> None:
    entry = SeedLibrary().entries[0]
    code, out, _ = run("seeds", "show", entry.name)
    assert code == 0
    assert {str(entry.bpm), entry.caption} <= {line.split(maxsplit=1)[1] for line in out.splitlines()}
    shown = json.loads(run("seeds", "show", entry.name, "--json")[1])
    assert (shown["name"], shown["beats"]) == (entry.name, entry.beats)
    code, _, err = run("seeds", "show", entry.name[:-1])
    assert code == 2
    assert entry.name in err  # the nearest


def test_a_library_seed_is_exported_as_audio(run: Run, tmp_path: Path) -> None:
    entry = SeedLibrary().entries[0]
    assert run("seeds", "export", entry.name, "-o", tmp_path / "a.wav")[0] == 0
    info = soundfile.info(tmp_path / "a.wav")
    assert info.duration == pytest.approx(entry.beats * 60 / entry.bpm, abs=0.01)


async def test_seeds_of_a_running_server(run: Run, tmp_path: Path, loop_file: Path) -> None:
    access = {"dj_token": "deejay", "owner_token": "boss"}
    async with running(limits=FREE, access=access) as served:

        async def seeds(*words: object, token: str = "deejay") -> RunResult:
            return await asyncio.to_thread(run, "seeds", *words, "--to", f"{served.url}/embed/main", "--token", token)

        code, out, err = await seeds("add", loop_file, "--name", "my loop", "--json")
        assert code == 0, err
        made = json.loads(out)
        assert (made["title"], round(made["bpm"])) == ("my loop", 120)
        assert made["name"] in (await seeds("list", "loop MY"))[1]  # each word, as in the library
        assert "my loop" in (await seeds("show", made["name"]))[1]
        target = tmp_path / "again.wav"
        assert (await seeds("export", made["name"], "-o", target))[0] == 0
        assert soundfile.info(target).duration == pytest.approx(made["seconds"], abs=0.01)
        code, _, err = await seeds("remove", made["name"])
        assert code == 2
        assert "only its uploader" in err
        assert (await seeds("remove", made["name"], "--remove-key", made["remove_key"]))[0] == 0
        code, out, _ = await seeds("add", loop_file)
        assert "--remove-key" in out
        assert (await seeds("remove", made["name"], token="boss"))[0] == 0
        for words, problem in (
            (("show", "upload-x"), "no seed"),
            (("add", tmp_path / "missing.wav"), "No such file"),
            (("search", "piano"), "library only"),
        ):
            code, _, err = await seeds(*words)
            assert code == 2
            assert problem in err
            assert len(err.splitlines()) == 1
    code, _, err = await asyncio.to_thread(run, "seeds", "list", "--to", served.url)
    assert code == 2
    assert "cannot reach" in err


@pytest.mark.parametrize("body", [b"hello", b"{}", b'{"seeds": 1}'])
async def test_a_server_of_another_kind_is_one_line(run: Run, body: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        code, _, err = await asyncio.to_thread(run, "seeds", "list", "--to", f"http://127.0.0.1:{port}")
    assert code == 2
    assert "does not answer like riffstream" in err


async def test_seeds_of_a_stopped_server_are_there_when_it_starts(run: Run, tmp_path: Path, loop_file: Path) -> None:
    where = ("--state-dir", tmp_path / "state")
    code, out, err = await asyncio.to_thread(run, "seeds", "add", loop_file, *where, "--json")
    assert code == 0, err
    made = json.loads(out)
    assert made["title"] == "my loop"
    assert made["name"] in (await asyncio.to_thread(run, "seeds", "list", *where))[1]
    target = tmp_path / "a.mp3"
    assert (await asyncio.to_thread(run, "seeds", "export", made["name"], "-o", target, *where))[0] == 0
    assert target.stat().st_size > 10_000
    async with running(server={"state_dir": str(tmp_path / "state")}) as served:
        assert made["name"] in served.server.uploads.entries
        code, _, err = await asyncio.to_thread(run, "seeds", "list", *where)
        assert code == 2
        assert "no other running server" in err
    assert (await asyncio.to_thread(run, "seeds", "remove", made["name"], *where))[0] == 0
    code, _, err = await asyncio.to_thread(run, "seeds", "show", made["name"], *where)
    assert code == 2
    assert "there is none" in err


def test_bad_input_names_the_field(run: Run, tmp_path: Path) -> None:
    song = make_song(tmp_path / "song.wav", seconds=0.01)
    for words, problem in (
        (("add", song), "--to"),
        (("remove", "upload-x"), "--to"),
        (("add", "--state-dir", tmp_path), "text is ''"),
        (("add", song, "--bpm", 7, "--state-dir", tmp_path), "bpm is 7"),
        (("add", song, "--state-dir", tmp_path), "allowed: 0.25 to 900 s"),
        (("list", "--count", 3), "--count is 3"),
        (("show", "techno", "-o", "a.png"), "with export only, not with show"),
        (("search", "piano", "--bpm", 120), "--bpm is 120"),
        (("list", "--remove-key", "x"), "--remove-key is"),
        (("search", "  "), "a prompt to search for"),
        (("list", "--parts", "drums=0", "drums=1"), "parts.drums is 'drums=1'; allowed: one level for each part"),
    ):
        code, _, err = run("seeds", *words)
        assert code == 2
        assert problem in err, words
