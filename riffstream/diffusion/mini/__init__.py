"""The embedded model: text encoder, denoiser, codec and their files."""
