"""Print every beat as it comes, for lights or games: python examples/react_to_beats.py"""

import asyncio

import riffstream
from riffstream.protocol import Now


async def main() -> None:
    async with riffstream.connect("http://localhost:8080", codec="none", steer=False) as radio:
        async for message in radio.messages():
            if isinstance(message, Now):
                print(f"clip {message.clip} at sample {message.sample_pos}: {message.state.prompts[0].text}")


asyncio.run(main())
