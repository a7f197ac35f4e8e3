"""Everything between rendered samples and the listener's ear: fades, loudness, resampling, encoders, files.

Arrays are numpy float32 ``[n, channels]`` in [-1, 1]. Nothing here imports torch or asyncio. Streaming objects share
one shape: ``push(block)``, ``flush()`` or ``close()``, ``reset()``; the samples that come out do not depend on how the
input was cut into blocks, and later input never changes earlier output.

Threading model
  No object here holds a lock: one thread at a time calls it (the station's timeline, or its codec's encoder thread).
  The compiled parts (libopus, LAME, libav, soxr) release the interpreter while they work.
"""
