"""Bridges to the machines of a room: OSC, MIDI clock and Ableton Link, over a station's public protocol."""
