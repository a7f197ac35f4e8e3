"""Text files as Windows, macOS, spreadsheets and old programs write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from riffstream.cli import main
from riffstream.config import load_config
from riffstream.diffusion.mini.files import read_json
from riffstream.errors import CheckpointError, MediaError
from riffstream.journey.journey import Journey
from riffstream.station.steering_log import read_log
from riffstream.text_files import decode_text, parse_json, parse_toml, read_notes, readable

TOML = '[server]\nport = 9000\n\n[stations.main]\ntitle = "Café ♫"\n'
ENCODED = {
    "utf-8": TOML.encode(),
    "utf-8 with a mark": b"\xef\xbb\xbf" + TOML.encode(),
    "utf-8 with two marks": b"\xef\xbb\xbf\xef\xbb\xbf" + TOML.encode(),
    "joined files": b"\xef\xbb\xbf[server]\nport = 9000\n" + b"\xef\xbb\xbf" + TOML[TOML.index("[stations") :].encode(),
    "utf-16": TOML.encode("utf-16"),
    "utf-16, big end first": b"\xfe\xff" + TOML.encode("utf-16-be"),
    "utf-16 without a mark": TOML.encode("utf-16-le"),
    "utf-16 without a mark, big end first": TOML.encode("utf-16-be"),
    "utf-32": TOML.encode("utf-32"),
    "utf-32 without a mark": TOML.encode("utf-32-le"),
    "utf-32 without a mark, big end first": TOML.encode("utf-32-be"),
    "CRLF": TOML.replace("\n", "\r\n").encode(),
    "CR": TOML.replace("\n", "\r").encode(),
    "Ctrl-Z": TOML.encode() + b"\x1a",
    "NUL bytes at the end": TOML.encode() + b"\0\0\0",
}


@pytest.mark.parametrize("how", ENCODED)
def test_settings_are_read_from_every_unicode_encoding(how: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(ENCODED[how])
    config = load_config(file, environment={})
    assert (config.server.port, config.stations["main"].title) == (9000, "Café ♫")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'[server]\nport = 9000\n[stations.main]\ntitle = "Caf\xe9"\n', "line 4: byte 0xe9 is not UTF-8.*'é'.*save"),
        (b"\xff\xfe[\x00s\x00e\x00r", "damaged UTF-16 text; save it as UTF-8"),
        (b"[server]\rport = \x00 9000\r", "line 2: a NUL byte"),
        ("[server]\nhost = “127.0.0.1”".encode(), "line 2.*“ is a typographic quote"),
        ("[server]\nport\u00a0= 9000".encode(), r"column 5 holds a no-break space \(U\+00A0\)"),
        (b"[timeline]\ncrossfade_s = 1,5 # seconds\n", "write 1.5"),
        (b'[generator]\nmodel = "C:\\Users\\me\\model"', "single quotes"),
        (b"[stations.main]\nsteer = True\n", "true or false"),
        (b"[server]\nport: 9000\n", "key = value"),
        (b"[stations.main]\ntitle = Radio\n", "straight double quotes"),
        (b"[stations.main]\ntitle = \n", "at line 2"),
        (b"a = " + b"[" * 100_000, "too many levels"),
    ],
)
def test_settings_that_are_no_text_or_no_toml_name_the_line_and_the_remedy(
    data: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(data)
    with pytest.raises(MediaError, match=words) as refused:
        load_config(file, environment={})
    assert str(refused.value).startswith(f"config {file}: ")
    assert main(["config", "--config", str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [".toml", ".json"])
def test_journeys_may_come_from_windows(mark: bytes, end: str, tmp_path: Path) -> None:
    text = '[[keyframe]]\r\nprompt = "café"\r\n' if end == ".toml" else '{"keyframe": [{"prompt": "café"}]}\r\n'
    (tmp_path / f"j{end}").write_bytes(mark + text.encode())
    (tmp_path / f"wide{end}").write_bytes(text.encode("utf-16"))
    assert Journey.from_file(tmp_path / f"j{end}") == Journey.from_file(tmp_path / f"wide{end}")
    (tmp_path / f"latin{end}").write_bytes(mark + text.encode("latin-1"))
    with pytest.raises(MediaError, match=rf"journey .*latin\{end}: line \d: byte 0xe9"):
        Journey.from_file(tmp_path / f"latin{end}")


def test_configs_of_checkpoints_may_come_from_windows(tmp_path: Path) -> None:
    for data in (b'\xef\xbb\xbf{"a": 1}', '{"a": 1}'.encode("utf-16"), b'{"a": 1}\r\n\x1a'):
        (tmp_path / "config.json").write_bytes(data)
        assert read_json(tmp_path / "config.json") == {"a": 1}
    (tmp_path / "config.json").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read: line 1: byte 0xe9"):
        read_json(tmp_path / "config.json")


def test_steering_logs_may_come_from_windows_and_keep_their_torn_end(tmp_path: Path) -> None:
    lines = '{"entry":"header"}\n{"entry":"steer","text":"café"}\n'
    for data in (
        lines.replace("\n", "\r\n").encode("utf-8-sig"),
        lines.encode("utf-16"),
        lines.encode() + b'{"e\xc3\0',
    ):
        (tmp_path / "log").write_bytes(data)
        assert [entry["entry"] for entry in read_log(tmp_path / "log")] == ["header", "steer"]
        assert read_log(tmp_path / "log")[1]["text"] == "café"


@pytest.mark.parametrize(
    ("data", "text", "words"),
    [
        ("\ufeffgentle rain\r\nsnöw".encode(), "gentle rain\nsnöw", None),
        ("snöw".encode("cp1252"), "snöw", "read as Windows-1252"),
        (b"it\x92s \x8d", "it’s \x8d", "read as Windows-1252"),
        (b"a\0b\x1a", "ab", "NUL bytes were left out"),
        ("snöw".encode("utf-16")[:-1], "snö\ufffd", "damaged UTF-16"),
    ],
)
def test_free_text_is_always_read_and_guesses_are_said(
    data: bytes, text: str, words: str | None, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_bytes(data)
    found, remark = read_notes(tmp_path / "notes.txt")
    assert found == text
    assert words is None if remark is None else words is not None and words in remark


def test_text_that_is_long_enough_to_be_sure_is_not_taken_for_utf_16() -> None:
    assert decode_text("日本語\n".encode()) == "日本語\n"
    with pytest.raises(MediaError, match="NUL"):
        decode_text(b"a\0" + b"plain text" * 20)


def test_json_names_the_line_and_the_quote() -> None:
    with pytest.raises(MediaError, match=r"line 2 column 1.*typographic quote"):
        parse_json("{\n“a”: 1}")
    with pytest.raises(MediaError, match="too many levels"):
        parse_json("[" * 100_000)
    with pytest.raises(MediaError, match="digits"):
        parse_json("1" * 5000)
    assert parse_toml("a = 1") == {"a": 1}


def test_names_become_text_that_every_encoder_takes() -> None:
    assert readable(os.fsdecode(b"caf\xe9 \x93live\x94")) == "café “live”"
    assert readable("cafe\u0301") == "café"
    assert readable("\ud83d") == "?"
