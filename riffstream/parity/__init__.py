"""Proof against the original Riffusion: its steps, and the comparison with its numbers."""
