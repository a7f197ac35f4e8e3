"""Playlists of an HLS stream (RFC 8216), as pure functions."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from riffstream.protocol import SAMPLE_RATE
from riffstream.server.hls.rendition import SEGMENT_S, Segment

__all__ = ["LISTED", "Title", "master_playlist", "media_playlist"]

LISTED = 8  # segments in a media playlist: 16 s; players begin 6 s before the end
CODECS = "mp4a.40.2"


@dataclass(frozen=True, slots=True)
class Title:
    """Title of a station from a sample on.

    Attributes:
        sample_pos: first sample on the station's clock.
        text: the prompts.
    """

    sample_pos: int
    text: str


def master_playlist(bit_rates: Sequence[int]) -> str:
    """Master playlist of the renditions. The middle bit rate comes first, because many players begin with the first.

    Args:
        bit_rates: bits a second, ascending.
    """
    middle = bit_rates[len(bit_rates) // 2]
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for rate in [middle, *(rate for rate in bit_rates if rate != middle)]:
        peak = rate * 12 // 10  # the encoder's rate varies
        lines.append(f'#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={rate},CODECS="{CODECS}"')
        lines.append(f"{rate // 1000}.m3u8")
    return "\n".join(lines) + "\n"


def media_playlist(
    kept: Sequence[Segment],
    breaks: int,
    folder: str,
    began_s: float,
    titles: Sequence[Title] = (),
    first_number: int = 0,
) -> str:
    """Media playlist with the newest segments of one rendition.

    Args:
        kept: one or more segments, oldest first.
        breaks: number of broken segments before the first one of ``kept``.
        folder: folder of the segments, relative to the playlist.
        began_s: POSIX time of the station's sample 0.
        titles: oldest first; those of the listed segments are written as date ranges.
        first_number: media sequence number of the segment at sample 0.
    """
    listed = kept[-LISTED:]
    first = listed[0]
    breaks += sum(segment.broken for segment in kept[: len(kept) - len(listed)])
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:8",
        f"#EXT-X-TARGETDURATION:{SEGMENT_S}",
        f"#EXT-X-MEDIA-SEQUENCE:{first_number + first.number}",
        f"#EXT-X-DISCONTINUITY-SEQUENCE:{breaks}",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="{folder}/init.mp4"',
    ]
    for segment in listed:
        if segment.broken:
            lines.append("#EXT-X-DISCONTINUITY")
        if segment.broken or segment is first:
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{_date(began_s, segment.sample_pos)}")
        if not segment.data:
            lines.append("#EXT-X-GAP")
        # Players add the durations: five decimals would leave the clock by 0.1 s a day.
        lines += [f"#EXTINF:{segment.n_samples / SAMPLE_RATE:.9f},", f"{folder}/{segment.number}.m4s"]
    lines += _date_ranges(titles, first.sample_pos, began_s)
    return "\n".join(lines) + "\n"


def _date_ranges(titles: Sequence[Title], begin: int, began_s: float) -> list[str]:
    """Date ranges of the titles from sample ``begin`` on."""
    older = [title for title in titles if title.sample_pos <= begin]
    shown = [*older[-1:], *(title for title in titles if title.sample_pos > begin)]
    return [
        f'#EXT-X-DATERANGE:ID="{title.sample_pos}",CLASS="x-riffstream-prompt",'
        f'START-DATE="{_date(began_s, title.sample_pos)}",X-TITLE="{_quoted(title.text)}"'
        for title in shown
    ]


def _date(began_s: float, sample_pos: int) -> str:
    when = datetime.datetime.fromtimestamp(began_s + sample_pos / SAMPLE_RATE, datetime.UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _quoted(text: str) -> str:
    """Text for a quoted string: one line without double quotes."""
    return " ".join(text.replace('"', "'").split())
