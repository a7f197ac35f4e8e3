"""The training corpus: composition, synthesis, captions, files. Contains no neural network."""
