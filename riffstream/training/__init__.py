"""Training of the embedded model: codec, denoiser, distillation, export, fine-tuning."""
