"""The comparison with icecast2 gives both servers the same listeners and bytes."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from riffstream.bench import icecast
from riffstream.cli import main


@pytest.mark.slow
def test_both_servers_send_as_many_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    if why := icecast.missing():
        pytest.skip(why)
    assert main(["bench", "stream", "--only", "icecast", "--listeners", "10", "--seconds", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["icecast"]
    assert found["listeners"] == 10
    assert found["version"].startswith("2.")
    assert 60 < found["icecast_kbit_s"] < 300
    assert found["icecast_kbit_s"] == pytest.approx(found["riffstream_kbit_s"], rel=0.5)  # bursts, and two seconds only


def test_without_icecast_the_part_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["bench", "stream", "--only", "icecast", "--quiet"]) == 0
    assert "Not measured: icecast2 is not installed." in capsys.readouterr().out


def test_the_ratio_is_for_as_many_bytes() -> None:
    found = icecast.IcecastRun(100, 80.0, 40.0, 100.0, 200.0, "2.4.4")
    assert found.ratio == pytest.approx(0.25)


@pytest.mark.timeout(20)
def test_a_server_that_ends_the_stream_at_once_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)

        closing = threading.Thread(target=close)
        closing.start()
        with pytest.raises(icecast.IcecastError), icecast._source(server.getsockname()[1], 0):
            pass
        closing.join()
