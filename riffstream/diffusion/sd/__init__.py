"""Stable Diffusion checkpoints: layouts, weights, LoRA."""
