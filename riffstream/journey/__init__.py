"""The path from keyframe to keyframe: what each clip is asked for. No torch, no asyncio."""
