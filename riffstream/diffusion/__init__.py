"""The engine: model families, samplers, slots and ticks, seed images, checkpoints. No asyncio."""
