"""The default journey: a seeded random walk over moods, so that an unattended station keeps changing.

Only musically close moods follow each other, the tempo follows the mood, each stop adds another instrument to its
style, and seeds do not repeat. No torch here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from riffstream.journey.form import FormName
from riffstream.journey.journey import Journey, Keyframe, PromptPart
from riffstream.ranges import check

__all__ = ["ARC_CLIPS", "MOODS", "Mood", "wander"]

ARC_CLIPS = 36  # of a stop with its way to the next, where a form plans it: 72 bars, three minutes at 96 bpm
STOPS = 48  # of 14 clips of about 5 s: 55 minutes until the order of prompts repeats (with other seeds)


@dataclass(frozen=True, slots=True)
class Mood:
    """A group of related styles.

    Attributes:
        bpm: lowest and highest tempo, beats per minute.
        styles: complete prompts.
        colours: instruments that suit all styles.
        near: names of the moods that may follow.
    """

    bpm: tuple[int, int]
    styles: tuple[str, ...]
    colours: tuple[str, ...]
    near: tuple[str, ...]


MOODS: dict[str, Mood] = {
    "calm": Mood(
        (66, 84),
        ("ambient piano", "slow ballad with strings", "soft new age pads", "gentle lullaby", "church hymn on organ"),
        ("warm pads", "harp", "cello", "flute", "soft choir"),
        ("acoustic", "lounge", "lofi"),
    ),
    "acoustic": Mood(
        (80, 108),
        ("folk guitar fingerpicking", "country waltz", "bluegrass banjo", "celtic fiddle tune", "acoustic ballad"),
        ("acoustic guitar", "violin", "accordion", "harmonica", "upright bass"),
        ("calm", "swing", "latin", "rock"),
    ),
    "lofi": Mood(
        (72, 92),
        ("lo-fi hip hop beat", "slow trip hop groove", "mellow electric piano groove", "dub reggae"),
        ("electric piano", "vinyl bass", "vibraphone", "muted guitar"),
        ("calm", "lounge", "soul"),
    ),
    "lounge": Mood(
        (84, 116),
        ("bossa nova", "cool jazz trio", "smooth jazz saxophone", "slow rumba", "jazz waltz"),
        ("saxophone", "nylon guitar", "piano", "double bass", "vibraphone"),
        ("calm", "lofi", "swing", "latin"),
    ),
    "swing": Mood(
        (112, 152),
        ("big band swing", "ragtime piano", "dixieland jazz", "jump blues", "gypsy jazz guitar"),
        ("trumpet", "clarinet", "trombone", "piano", "walking bass"),
        ("lounge", "acoustic", "rock", "latin"),
    ),
    "latin": Mood(
        (96, 132),
        ("salsa piano montuno", "samba percussion", "cha cha", "tango with accordion", "merengue brass"),
        ("congas", "trumpet", "nylon guitar", "piano", "marimba"),
        ("lounge", "swing", "soul", "dance"),
    ),
    "soul": Mood(
        (92, 118),
        ("funk bass and clavinet", "soul groove with organ", "disco strings", "motown rhythm", "reggae skank"),
        ("slap bass", "brass section", "electric organ", "wah guitar"),
        ("lofi", "latin", "dance", "rock"),
    ),
    "rock": Mood(
        (104, 140),
        ("rock guitar riff", "surf rock", "blues shuffle", "rock and roll piano", "driving hard rock"),
        ("distorted guitar", "electric organ", "electric bass", "drums"),
        ("acoustic", "swing", "soul", "electronic"),
    ),
    "dance": Mood(
        (116, 130),
        ("deep house", "disco house with piano chords", "euro dance", "funky house bass line"),
        ("synth bass", "piano stabs", "string machine", "claps"),
        ("soul", "latin", "electronic"),
    ),
    "electronic": Mood(
        (122, 140),
        ("trance arpeggio", "techno beat", "synthwave", "acid bass line", "melodic electronica"),
        ("supersaw synth", "acid synth", "analog pads", "808 drums"),
        ("dance", "rock", "lofi"),
    ),
}


def wander(seed: int = 0, *, stay: int = 10, travel: int = 4, stops: int = STOPS, form: FormName = "song") -> Journey:
    """Endless journey over :data:`MOODS`, determined by ``seed``.

    Args:
        seed: seed of the walk and of the first noise, 0 to 2**32 - 1.
        stay: clips at each stop.
        travel: clips from one stop to the next.
        stops: number of stops until the walk returns to the first.
        form: planner for models that follow one.
    """
    draw = random.Random(check("seed", seed))
    mood = draw.choice(sorted(MOODS))
    recent: list[str] = []
    keyframes: list[Keyframe] = []
    for _ in range(stops):
        style = draw.choice([s for s in MOODS[mood].styles if s not in recent] or list(MOODS[mood].styles))
        colour = draw.choice(MOODS[mood].colours)
        recent = [*recent, style][-12:]
        low, high = MOODS[mood].bpm
        keyframes.append(
            Keyframe(
                (PromptPart(style), PromptPart(colour, draw.choice((0.2, 0.3, 0.4)))),
                bpm=float(draw.randrange(low, high + 1, 2)),
                key=float(draw.choice((-4, -2, -1, 0, 0, 1, 3))),
            )
        )
        if draw.random() < 0.6:
            mood = draw.choice(MOODS[mood].near)
    keyframes[0] = keyframes[0].shifted(seed)
    stops_seeded = Journey.along(keyframes, stay=stay, travel=travel).stops
    return Journey(stops_seeded, "evolve", name="wander", form=form)
