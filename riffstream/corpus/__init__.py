"""The training corpus: composition, synthesis, captions, windows on disk. Knows no network."""
