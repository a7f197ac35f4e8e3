"""Captions: many descriptions of a clip, in the style of user prompts.

Each clip gets several captions, from a style name to a whole sentence: a model only understands prompts that resemble
its training captions. Captions describe the window: instruments by loudness, presence of drums, tempo in words, mode,
mood and production.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["ClipFacts", "captions", "tempo_words"]

_TEMPO = (
    (66, ("very slow", "slow", "drifting tempo", "extremely slow")),
    (84, ("slow", "slow tempo", "unhurried", "laid-back tempo")),
    (104, ("moderate tempo", "relaxed tempo", "medium slow", "walking pace")),
    (124, ("mid-tempo", "medium tempo", "moderate tempo", "steady tempo")),
    (144, ("upbeat", "fast", "up-tempo", "lively tempo")),
    (400, ("very fast", "fast tempo", "fast", "breakneck tempo")),
)
_SECTIONS = {
    "breakdown": ("breakdown without drums", "no drums", "without drums", "quiet breakdown", "drumless"),
    "drums alone": ("drums only", "drum solo", "just drums", "drum break", "drums alone, no melody"),
    "groove": ("just drums and bass", "drum and bass groove, no melody", "bare rhythm section"),
    "no lead": ("instrumental backing", "backing track", "accompaniment without melody", "no melody"),
    "thin": ("sparse arrangement", "stripped down", "sparse"),
    "duo": ("solo over bass", "sparse solo", "bare duo"),
}
_LEAD = ("{i} solo", "{i} melody", "melody on {i}", "{i} playing the tune", "solo {i}", "lead {i}")
_ALONE = ("solo {i}", "{i} solo", "only {i}", "{i} alone", "just {i}", "{i} and nothing else")
_FORMS = ("{s} music", "{s} track", "instrumental {s}", "a piece of {s}", "{s} loop", "{s} song", "some {s}")
_WITH = ("with", "featuring", "played on", "with")
_MINOR = ("in a minor key", "minor key", "minor", "sad minor chords")
_MAJOR = ("in a major key", "major key", "major", "bright major chords")
_THREE = ("3/4", "waltz time", "in three", "triple time")
_WISHES = (
    "something {m}",
    "{m} music",
    "play something {m}",
    "i want to hear {m} {s}",
    "some {m} {s}",
    "{m} {s} please",
)


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """Facts of one clip.

    Attributes:
        tags: names of the style.
        moods: adjectives of the style.
        scenes: phrases of the style.
        description: description of the groove, or "".
        instruments: audible instruments, loudest first.
        lead: instrument that plays the melody, or "".
        section: key of the arrangement ("full", "breakdown", ...).
        drums: whether the clip has drums.
        drums_in_song: whether another part of the song has drums.
        bpm: tempo in beats per minute.
        minor: whether the key is A minor instead of C major.
        beats_per_bar: 4 or 3.
        look: words for the production; may be empty.
    """

    tags: Sequence[str]
    moods: Sequence[str]
    scenes: Sequence[str]
    description: str
    instruments: Sequence[str]
    lead: str
    section: str
    drums: bool
    drums_in_song: bool
    bpm: float
    minor: bool
    beats_per_bar: int
    look: Sequence[str]


def tempo_words(bpm: float) -> tuple[str, ...]:
    """Words for a tempo.

    >>> tempo_words(60)[0]
    'very slow'
    """
    return next(words for limit, words in _TEMPO if bpm < limit)


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _line(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


class _Writer:
    """Random words for one clip, and captions built from them."""

    def __init__(self, facts: ClipFacts, rng: np.random.Generator) -> None:
        self.facts, self.rng = facts, rng
        self.tag, self.mood = self.pick(facts.tags), self.pick(facts.moods)
        self.tempo = self.pick(tempo_words(facts.bpm))
        self.names = list(dict.fromkeys(facts.instruments))
        self.melodic = [name for name in self.names if "drum" not in name] or self.names
        # A breakdown is only recognisable in a song with drums elsewhere.
        known = facts.section in _SECTIONS and (facts.section != "breakdown" or facts.drums_in_song)
        self.section = self.pick(_SECTIONS[facts.section]) if known else ""
        self.bare = facts.section in ("drums alone", "groove")  # rhythm only: the caption must not name a melody
        self.mode = self.pick(_MINOR if facts.minor else _MAJOR)
        self.look = self.pick(facts.look) if facts.look else ""

    def pick(self, options: Sequence[str]) -> str:
        return str(options[int(self.rng.integers(len(options)))])

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def style(self) -> str:
        """The style alone, the commonest prompt; a clip of drums alone is captioned as such."""
        name = self.facts.tags[0] if self.chance(0.5) else self.tag
        form = self.pick(_FORMS) if self.chance(0.35) else "{s}"
        return _line(form.format(s=name), self.section if self.bare or self.chance(0.35) else "")

    def instruments(self) -> str:
        """A caption that begins with the instruments."""
        if not self.melodic or self.bare:
            return _line(self.section or "drums", self.tag)
        head = _list(self.melodic[: int(self.rng.integers(1, 4))])
        return _line(head, self.tag if self.chance(0.75) else self.mood, self.section if self.chance(0.4) else "")

    def sentence(self) -> str:
        """Tempo, mood, style and some instruments."""
        some = self.names[: int(self.rng.integers(1, 4))]
        if some and self.chance(0.6):
            body = f"{self.tempo} {self.mood} {self.tag} {self.pick(_WITH)} {_list(some)}"
        else:
            body = _line(f"{self.mood} {self.tag}", self.tempo, _list(some) if some else "")
        return _line(body, self.section, self.look)

    def scene(self) -> str:
        """A caption without a style name."""
        scene = self.pick(self.facts.scenes)
        return scene if self.chance(0.7) and not self.bare else _line(scene, self.section or self.tag)

    def everything(self) -> str:
        """All facts as a list of tags."""
        tempo = self.tempo if self.chance(0.6) else f"{round(self.facts.bpm)} bpm"
        meter = self.pick(_THREE) if self.facts.beats_per_bar == 3 else ""
        mode = self.mode if self.chance(0.7) else ""
        return _line(self.tag, self.mood, tempo, mode, *self.names[:4], self.section, self.look, meter)

    def tune(self) -> str:
        """The melody, the groove's description, or a request."""
        facts = self.facts
        if facts.lead and self.chance(0.75):
            lead = self.pick(_LEAD).format(i=facts.lead)
            under = self.tag if self.chance(0.7) else f"over {self.tag}"
            return _line(
                f"{self.mood} {lead}" if self.chance(0.5) else lead, under, self.look if self.chance(0.4) else ""
            )
        if facts.description and self.chance(0.7):
            return _line(facts.description, "" if self.tag in facts.description else self.tag, self.section)
        return self.wish()

    def colour(self) -> str:
        """Mood, mode or production."""
        if self.look and self.chance(0.6):
            return _line(self.tag, self.look) if self.chance(0.6) else f"{self.look}, {self.mood} {self.tag}"
        if self.chance(0.5):
            return _line(f"{self.pick(self.facts.moods)} {self.tag}", self.mode)
        return self.wish()

    def wish(self) -> str:
        """A request in plain words."""
        return self.pick(_WISHES).format(m=self.pick(self.facts.moods), s=self.pick(self.facts.tags))

    def extra(self) -> str:
        """The special feature of the window, if there is one."""
        if self.section and not self.bare and self.chance(0.8):
            return _line(self.tag, self.section)
        if len(self.melodic) == 1 and not self.facts.drums:
            return self.pick(_ALONE).format(i=self.melodic[0])
        moods = list(dict.fromkeys([self.mood, self.pick(self.facts.moods)]))
        return f"{' and '.join(moods)} {self.tag}, {self.tempo}"


def captions(facts: ClipFacts, rng: np.random.Generator) -> list[str]:
    """Up to eight different captions of one clip, short and long.

    Args:
        facts: facts of the clip.
        rng: random number generator.
    """
    writer = _Writer(facts, rng)
    made = [
        writer.style(),
        writer.instruments(),
        writer.sentence(),
        writer.scene(),
        writer.everything(),
        writer.tune(),
        writer.colour(),
        writer.extra(),
    ]
    return list(dict.fromkeys(" ".join(text.split()) for text in made))
