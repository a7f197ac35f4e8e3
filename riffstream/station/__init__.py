"""A station in time: takes, splices, mixing, loudness, playout, steering. No HTTP, no torch."""
