"""Record ten seconds of a station as float samples and save them: python examples/record.py"""

import numpy as np
import soundfile

from riffstream.client import blocks

samples = [block.samples for block in blocks("http://localhost:8080", seconds=10)]
soundfile.write("station.flac", np.concatenate(samples), 48_000)
