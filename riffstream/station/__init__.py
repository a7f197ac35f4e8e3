"""Stations: takes, splices, mixing, loudness, playout and steering in time. No HTTP, no torch."""
