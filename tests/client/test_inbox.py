"""The client's inbox: what a player would have noticed."""

from __future__ import annotations

from riffstream import protocol
from riffstream.client.inbox import PLAYER_BUFFER_S, Inbox

FRAME = 9600  # 0.2 s


def arrive(times: list[float]) -> Inbox:
    """A frame of 0.2 s at each of these times."""
    now = iter(times)
    inbox = Inbox(1 << 30, lambda: next(now))
    for seq in range(len(times)):
        inbox.take(
            protocol.AudioFrame(
                seq=seq, sample_pos=seq * FRAME, n_samples=FRAME, rev=0, payload=bytes(4 * FRAME),
                codec=protocol.Codec.PCM_S16,
            )
        )  # fmt: skip
    return inbox


def test_a_stream_in_time_never_runs_dry() -> None:
    assert arrive([0.0, 0.0, 0.0, 0.3, 0.5, 0.75, 0.95]).underruns == 0
    assert arrive([0.0, 0.2 + PLAYER_BUFFER_S - 0.01]).underruns == 0, "as late as the buffer bears"


def test_each_time_it_would_have_run_dry_counts_once() -> None:
    late = 0.2 + PLAYER_BUFFER_S + 0.01
    assert arrive([0.0, late]).underruns == 1
    assert arrive([0.0, late, late + 0.2, late + 0.4]).underruns == 1, "then it plays on, later"
    assert arrive([0.0, late, late + 2.0]).underruns == 2
