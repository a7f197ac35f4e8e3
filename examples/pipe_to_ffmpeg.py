"""Send a station to ffmpeg, for a file or another server: python examples/pipe_to_ffmpeg.py station.m4a"""

import subprocess
import sys

from riffstream.client import blocks

ffmpeg = ["ffmpeg", "-loglevel", "error", "-y", "-f", "f32le", "-ar", "48000", "-ac", "2", "-i", "-", *sys.argv[1:]]
with subprocess.Popen(ffmpeg, stdin=subprocess.PIPE) as process:
    for block in blocks("http://localhost:8080", seconds=30):
        process.stdin.write(block.samples.tobytes())
