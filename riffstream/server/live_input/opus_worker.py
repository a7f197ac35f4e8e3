"""Process that decodes the untrusted Opus packets of one live input, so that a packet cannot harm the server.

``python -m riffstream.server.live_input.opus_worker CHANNELS`` reads packets from stdin, each after its length and its
number of samples (u16, u16), and writes as many samples for each (s16, interleaved) to stdout. A damaged packet is
silence. The process limits its own memory, and has no files and no network
(:mod:`riffstream.server.sandbox`).
"""

from __future__ import annotations

import struct
import sys
from typing import IO, Final

__all__ = ["HEAD", "decode"]

HEAD: Final = struct.Struct("<HH")
MEMORY_MB: Final = 512
CPU_S: Final = 24 * 3600  # a day of input takes about five minutes


def decode(source: IO[bytes], target: IO[bytes], channels: int) -> None:
    """Decode packets until ``source`` ends."""
    import av
    import numpy as np

    def decoder() -> av.AudioCodecContext:
        made = av.AudioCodecContext.create("opus", "r")
        assert isinstance(made, av.AudioCodecContext)
        made.sample_rate = 48_000
        made.layout = "stereo" if channels == 2 else "mono"
        made.format = "flt"
        return made

    opus = decoder()
    while len(head := source.read(HEAD.size)) == HEAD.size:
        size, wanted = HEAD.unpack(head)
        packet = source.read(size)
        if len(packet) < size:
            return
        samples = np.zeros((wanted, channels), "<i2")
        try:
            frames = opus.decode(av.Packet(packet)) if packet else []
            planes = [frame.to_ndarray() for frame in frames]
            if planes:
                wave = np.concatenate([p.T if frames[0].format.is_planar else p.reshape(-1, channels) for p in planes])
                wave = np.clip(wave * 32767.0, -32768, 32767) if wave.dtype.kind == "f" else wave
                kept = min(wanted, len(wave))
                samples[:kept] = wave[:kept]
        except (av.FFmpegError, ValueError):
            opus = decoder()
        target.write(samples.tobytes())
        target.flush()


def main() -> None:
    """Entry point of the process."""
    import av  # noqa: F401 -- before its libraries may be out of reach

    from riffstream.server.sandbox import code_folders, confine
    from riffstream.server.uploads.worker import Rules, limit_process

    limit_process(Rules(memory_mb=MEMORY_MB, cpu_s=CPU_S))
    confine(code_folders())
    decode(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]))


if __name__ == "__main__":
    main()
