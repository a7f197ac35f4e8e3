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


def captions(facts: ClipFacts, rng: np.random.Generator, count: int = 7) -> list[str]:
    """Different captions of one clip, short ones and long ones.

    Args:
        facts: what is true of it.
        rng: source of chance.
        count: how many to aim for; equal ones are dropped.
    """

    def pick(options: Sequence[str]) -> str:
        return str(options[int(rng.integers(len(options)))])

    tag, mood, tempo = pick(facts.tags), pick(facts.moods), pick(tempo_words(facts.bpm))
    names = list(dict.fromkeys(facts.instruments))
    some = names[: int(rng.integers(1, 4))] if names else []
    melodic = [name for name in names if "drum" not in name] or names
    section = pick(_SECTIONS[facts.section]) if facts.section in _SECTIONS else ""
    if facts.section == "breakdown" and not facts.drums_in_song:
        section = ""
    mode = (
        pick(("in a minor key", "minor key", "minor", "sad minor chords"))
        if facts.minor
        else pick(("in a major key", "major key", "major", "bright major chords"))
    )
    look = pick(facts.look) if facts.look else ""
    lead = pick(_LEAD).format(i=facts.lead) if facts.lead else ""
    meter = pick(("3/4", "waltz time", "in three", "triple time")) if facts.beats_per_bar == 3 else ""
    bare = facts.section in ("drums alone", "groove")

    def line(*parts: str) -> str:
        return ", ".join(part for part in parts if part)

    def with_(parts: Sequence[str]) -> str:
        return f"{pick(facts.tags)} {pick(('with', 'featuring', 'played on', 'with'))} {_list(parts)}" if parts else tag

    out: list[str] = []
    # 1. the bare style, as most people type it; where only drums play, say so.
    out.append(line(facts.tags[0] if rng.random() < 0.5 else tag, section if bare or rng.random() < 0.35 else ""))
    # 2. instruments first
    if melodic and not bare:
        head = _list(melodic[: int(rng.integers(1, 4))])
        out.append(line(head, tag if rng.random() < 0.75 else mood, section if rng.random() < 0.4 else ""))
    elif names:
        out.append(line(section or "drums", tag))
    # 3. a sentence
    out.append(
        line(
            f"{tempo} {mood} {with_(some)}"
            if rng.random() < 0.6
            else f"{mood} {tag}, {tempo}, {_list(some) if some else ''}".rstrip(", "),
            section,
            look,
        )
    )
    # 4. as a user would ask
    out.append(
        pick(facts.scenes) if rng.random() < 0.7 and not bare else line(pick(facts.scenes), section or pick(facts.tags))
    )
    # 5. everything
    out.append(
        line(
            tag,
            mood,
            tempo if rng.random() < 0.6 else f"{round(facts.bpm)} bpm",
            mode if rng.random() < 0.7 else "",
            *names[:4],
            section,
            look,
            meter,
        )
    )
    # 6. the tune, the groove's own words, or the mood
    if lead and rng.random() < 0.75:
        out.append(
            line(
                f"{mood} {lead}" if rng.random() < 0.5 else lead,
                tag if rng.random() < 0.7 else f"over {tag}",
                look if rng.random() < 0.4 else "",
            )
        )
    elif facts.description and rng.random() < 0.7:
        out.append(line(facts.description, tag if tag not in facts.description else "", section))
    else:
        out.append(pick(_WISHES).format(m=mood, s=tag))
    # 7. mood, mode, look
    if look and rng.random() < 0.6:
        out.append(
            line(tag, look) if rng.random() < 0.6 else f"{tag} with {look}" if "with" not in look else f"{tag} {look}"
        )
    elif rng.random() < 0.5:
        out.append(
            f"{pick(facts.moods)} {mode if 'key' not in mode else ''} {tag}".replace("  ", " ")
            if "chords" not in mode
            else line(f"{mood} {tag}", mode)
        )
    else:
        out.append(pick(_WISHES).format(m=pick(facts.moods), s=pick(facts.tags)))
    if section and not bare and rng.random() < 0.8:
        out.append(line(tag, section))
    elif melodic and len(melodic) == 1 and not facts.drums:
        out.append(pick(("solo {i}", "{i} solo", "only {i}", "{i} alone", "just {i}")).format(i=melodic[0]))
    return list(dict.fromkeys(" ".join(text.split()) for text in out if text))[: max(count, 1) + 1]
