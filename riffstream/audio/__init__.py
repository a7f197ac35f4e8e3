"""Audio processing after the model: fades, loudness, resampling, encoders, files.

Arrays are numpy float32 ``[n, channels]`` in [-1, 1]. Nothing here imports torch or asyncio. Streaming objects share
one interface: ``push(block)``, ``flush()`` or ``close()``, ``reset()``. The output does not depend on how the input was
cut into blocks, and later input never changes earlier output.

Threading model
  No object here has a lock: only one thread at a time may call it (the station's timeline, or the encoder thread).
  The compiled parts (libopus, LAME, libav, soxr) release the interpreter while they work.
"""
