"""Print every beat at its time, for lights or games: python examples/react_to_beats.py"""

import asyncio

import riffstream


async def main() -> None:
    async with riffstream.connect("http://localhost:8080") as radio:
        last = None
        async for block in radio:
            now = radio.now  # musical position; the server sends it at every clip and every change
            if now is None or not now.state.bpm:
                continue
            beat = int(now.beat + (block.sample_pos - now.sample_pos) * now.state.bpm / 60 / 48_000)
            if beat != last:
                print("ONE" if beat % 4 == 0 else " . ", f"beat {beat}: {now.state.prompts[0].text}", flush=True)
                last = beat


asyncio.run(main())
