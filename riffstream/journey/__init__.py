"""Journeys: the path from keyframe to keyframe, and the request for each clip. No torch, no asyncio."""
