"""Steer a station to a new mood every half minute: python examples/steering_bot.py"""

import asyncio
import random

import riffstream

MOODS = ["calm solo piano", "jazz trio, brushed drums", "deep house", "church bells", "acoustic guitar picking"]


async def main() -> None:
    async with riffstream.connect("http://localhost:8080", codec="none") as radio:
        while True:
            applied = await radio.steer(random.choice(MOODS), bpm=random.randint(80, 125), at="bar", ramp_s=4)
            print(f"revision {applied.rev} is audible from sample {applied.audible_at}")
            await asyncio.sleep(30)


asyncio.run(main())
