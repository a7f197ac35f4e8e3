"""Playlists against the rules of RFC 8216."""

from __future__ import annotations

import datetime
import re

from riffstream.protocol import SAMPLE_RATE
from riffstream.server.hls.playlists import LISTED, Title, master_playlist, media_playlist
from riffstream.server.hls.rendition import SLOT, Segment

BEGAN = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC).timestamp()


def segments(first: int, count: int, *, broken: int | None = None, empty: int | None = None) -> list[Segment]:
    return [
        Segment(number, number * SLOT, SLOT, number == broken, b"" if number == empty else b"data")
        for number in range(first, first + count)
    ]


def tags(text: str, name: str) -> list[str]:
    return [line.partition(":")[2] for line in text.splitlines() if line.partition(":")[0] == f"#{name}"]


def test_a_media_playlist_lists_the_newest_segments() -> None:
    text = media_playlist(segments(100, 15), 0, "f/64", BEGAN)
    assert text.startswith("#EXTM3U\n")
    assert tags(text, "EXT-X-MEDIA-SEQUENCE") == [str(115 - LISTED)]
    uris = [line for line in text.splitlines() if not line.startswith("#")]
    assert uris == [f"f/64/{number}.m4s" for number in range(115 - LISTED, 115)]
    assert tags(text, "EXT-X-MAP") == ['URI="f/64/init.mp4"']
    assert max(round(float(each.rstrip(","))) for each in tags(text, "EXTINF")) <= int(
        tags(text, "EXT-X-TARGETDURATION")[0]
    )
    assert "EXT-X-ENDLIST" not in text  # it is live


def test_its_time_is_the_stations_clock() -> None:
    text = media_playlist(segments(30, 3), 0, "f/64", BEGAN)
    assert tags(text, "EXT-X-PROGRAM-DATE-TIME") == ["2026-01-01T12:01:00.000Z"]


def test_breaks_and_gaps_are_said_and_counted() -> None:
    text = media_playlist(segments(0, 4, broken=2, empty=1), 0, "f/64", BEGAN)
    lines = text.splitlines()
    assert lines[lines.index("f/64/2.m4s") - 3] == "#EXT-X-DISCONTINUITY"
    assert lines[lines.index("f/64/1.m4s") - 2] == "#EXT-X-GAP"
    assert lines.count("#EXT-X-DISCONTINUITY") == lines.count("#EXT-X-GAP") == 1
    # A break that has left the list goes on counting, whether its segment is still kept or not.
    kept = segments(0, LISTED + 4, broken=2)
    assert tags(media_playlist(kept, 5, "f/64", BEGAN), "EXT-X-DISCONTINUITY-SEQUENCE") == ["6"]
    assert tags(media_playlist(kept[3:], 6, "f/64", BEGAN), "EXT-X-DISCONTINUITY-SEQUENCE") == ["6"]


def test_prompts_are_date_ranges() -> None:
    titles = [Title(0, "old"), Title(SLOT, "now"), Title(11 * SLOT + 24_000, 'a "quoted"\nline, #EXT-X-ENDLIST')]
    ranges = tags(media_playlist(segments(10, 3), 0, "f/64", BEGAN, titles), "EXT-X-DATERANGE")
    assert [re.search(r'X-TITLE="([^"]*)"', each)[1] for each in ranges] == [  # type: ignore[index]
        "now",
        "a 'quoted' line, #EXT-X-ENDLIST",
    ]
    assert 'START-DATE="2026-01-01T12:00:22.500Z"' in ranges[1]
    assert len({re.search(r'ID="([^"]*)"', each)[1] for each in ranges}) == 2  # type: ignore[index]


def test_the_master_playlist_names_every_rendition_with_a_bandwidth_that_holds() -> None:
    text = master_playlist([64_000, 128_000, 256_000])
    assert [line for line in text.splitlines() if not line.startswith("#")] == ["128.m3u8", "64.m3u8", "256.m3u8"]
    for info, rate in zip(tags(text, "EXT-X-STREAM-INF"), (128_000, 64_000, 256_000), strict=True):
        assert f"AVERAGE-BANDWIDTH={rate}" in info
        assert int(re.match(r"BANDWIDTH=(\d+)", info)[1]) > rate  # type: ignore[index]
        assert 'CODECS="mp4a.40.2"' in info


def test_times_hold_for_a_day() -> None:
    day = 24 * 3600 // 2
    text = media_playlist(segments(day, 3), 0, "f/64", BEGAN)
    assert tags(text, "EXT-X-PROGRAM-DATE-TIME") == ["2026-01-02T12:00:00.000Z"]
    assert day * SLOT == SAMPLE_RATE * 24 * 3600
