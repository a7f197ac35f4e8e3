"""Captions: many ways of asking for what a clip sounds like.

Each clip gets several, from a bare style name to a whole sentence, because a prompt is only understood if something
like it was a caption. What they say is what is in the window: the instruments by loudness, whether drums play, the
tempo in words, the mode, the mood, the colour of the production.
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
    """What is true of one clip.

    Attributes:
        tags, moods, scenes: the style's.
        description: the groove's own words, or "".
        instruments: sounding ones, loudest first.
        lead: the instrument with the tune, or "".
        section: key of the arrangement ("full", "breakdown", ...).
        drums: whether drums sound; drums_in_song: whether they do elsewhere in the song.
        bpm: tempo.
        minor: A minor rather than C major.
        beats_per_bar: 4 or 3.
        look: words for the production, may be empty.
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
    """Ways of saying a tempo.

    >>> tempo_words(60)[0]
    'very slow'
    """
    return next(words for limit, words in _TEMPO if bpm < limit)


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _line(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


class _Writer:
    """Words for one clip, chosen once, and the sentences made of them."""

    def __init__(self, facts: ClipFacts, rng: np.random.Generator) -> None:
        self.facts, self.rng = facts, rng
        self.tag, self.mood = self.pick(facts.tags), self.pick(facts.moods)
        self.tempo = self.pick(tempo_words(facts.bpm))
        self.names = list(dict.fromkeys(facts.instruments))
        self.melodic = [name for name in self.names if "drum" not in name] or self.names
        # A breakdown is only heard as one in a song that has drums elsewhere.
        known = facts.section in _SECTIONS and (facts.section != "breakdown" or facts.drums_in_song)
        self.section = self.pick(_SECTIONS[facts.section]) if known else ""
        self.bare = facts.section in ("drums alone", "groove")  # nothing but rhythm: do not promise a tune
        self.mode = self.pick(_MINOR if facts.minor else _MAJOR)
        self.look = self.pick(facts.look) if facts.look else ""

    def pick(self, options: Sequence[str]) -> str:
        return str(options[int(self.rng.integers(len(options)))])

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def style(self) -> str:
        """The bare style, as most people type it; where only drums play, say so."""
        name = self.facts.tags[0] if self.chance(0.5) else self.tag
        form = self.pick(_FORMS) if self.chance(0.35) else "{s}"
        return _line(form.format(s=name), self.section if self.bare or self.chance(0.35) else "")

    def instruments(self) -> str:
        """Instruments first."""
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
        """As a user would ask who knows no style names."""
        scene = self.pick(self.facts.scenes)
        return scene if self.chance(0.7) and not self.bare else _line(scene, self.section or self.tag)

    def everything(self) -> str:
        """All that is known, as a list of tags."""
        tempo = self.tempo if self.chance(0.6) else f"{round(self.facts.bpm)} bpm"
        meter = self.pick(_THREE) if self.facts.beats_per_bar == 3 else ""
        mode = self.mode if self.chance(0.7) else ""
        return _line(self.tag, self.mood, tempo, mode, *self.names[:4], self.section, self.look, meter)

    def tune(self) -> str:
        """The tune, or the groove's own words, or a wish."""
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
        """What is special about the window, if anything is."""
        if self.section and not self.bare and self.chance(0.8):
            return _line(self.tag, self.section)
        if len(self.melodic) == 1 and not self.facts.drums:
            return self.pick(_ALONE).format(i=self.melodic[0])
        moods = list(dict.fromkeys([self.mood, self.pick(self.facts.moods)]))
        return f"{' and '.join(moods)} {self.tag}, {self.tempo}"


def captions(facts: ClipFacts, rng: np.random.Generator) -> list[str]:
    """Up to eight different captions of one clip, short ones and long ones.

    Args:
        facts: what is true of it.
        rng: source of chance.
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
