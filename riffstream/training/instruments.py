"""The instruments: what captions call them, how they are made, where they play and how loud."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GM_NAMES", "INSTRUMENTS", "Instrument", "gm_name"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """One instrument.

    Attributes:
        words: what captions call it, the plainest first.
        program: General MIDI program, or None where ``patch`` makes it.
        patch: name in ``synths.PATCHES``; also the stand-in where no soundfont is installed.
        register: MIDI pitch that parts stay near.
        gain_db: against the other instruments.
    """

    words: tuple[str, ...]
    program: int | None
    patch: str
    register: int = 60
    gain_db: float = 0.0


def _table(rows: str) -> dict[str, Instrument]:
    out = {}
    for row in rows.strip().splitlines():
        name, words, program, patch, register, gain = (cell.strip() for cell in row.split("|"))
        choice = tuple(word.strip() for word in words.split(","))
        out[name] = Instrument(choice, int(program) if program != "-" else None, patch, int(register), float(gain))
    return out


INSTRUMENTS: dict[str, Instrument] = _table("""
piano         | grand piano, piano, acoustic piano                | 0  | electric_piano | 64 | 0
bright_piano  | bright piano, pop piano, piano                    | 1  | electric_piano | 64 | 0
honky_tonk    | honky-tonk piano, saloon piano, upright piano     | 3  | electric_piano | 64 | -1
rhodes        | rhodes, electric piano, rhodes piano              | 4  | electric_piano | 60 | 0
fm_piano      | electric piano, fm keys, 80s electric piano       | -  | electric_piano | 62 | 0
dx_piano      | dx electric piano, electric piano                 | 5  | electric_piano | 62 | 0
harpsichord   | harpsichord                                       | 6  | steel_string   | 64 | -2
clavinet      | clavinet, funky clavinet                          | 7  | muted_string   | 60 | -1
celesta       | celesta                                           | 8  | music_box      | 76 | -1
glockenspiel  | glockenspiel                                      | 9  | music_box      | 82 | -3
music_box     | music box                                         | -  | music_box      | 79 | 0
gm_music_box  | music box                                         | 10 | music_box      | 79 | 0
vibraphone    | vibraphone, vibes                                 | 11 | fm_bell        | 67 | 0
marimba       | marimba                                           | 12 | marimba        | 62 | 0
synth_marimba | marimba                                           | -  | marimba        | 64 | 0
xylophone     | xylophone                                         | 13 | marimba        | 72 | -2
kalimba       | kalimba, thumb piano                              | 108 | marimba       | 70 | 0
tubular       | tubular bells                                     | 14 | church_bell    | 67 | -1
church_bell   | church bells, bells, church bell                  | -  | church_bell    | 60 | 0
fm_bell       | synth bells, digital bells                        | -  | fm_bell        | 76 | -4
dulcimer      | dulcimer, hammered dulcimer                       | 15 | steel_string   | 67 | 0
hammond       | hammond organ, organ, drawbar organ               | 16 | organ          | 62 | -2
rock_organ    | rock organ, organ, overdriven organ               | 18 | organ          | 62 | -2
drawbar       | organ, drawbar organ                              | -  | organ          | 60 | -4
church_organ  | church organ, pipe organ, organ                   | 19 | organ          | 60 | -2
accordion     | accordion                                         | 21 | organ          | 67 | -1
harmonica     | harmonica                                         | 22 | organ          | 70 | -1
bandoneon     | bandoneon, accordion                              | 23 | organ          | 67 | -1
nylon         | nylon guitar, classical guitar, acoustic guitar   | 24 | nylon_string   | 60 | 1
steel         | steel-string guitar, acoustic guitar              | 25 | steel_string   | 60 | 1
ks_guitar     | acoustic guitar, steel-string guitar              | -  | steel_string   | 60 | 0
jazz_guitar   | jazz guitar, hollow-body guitar                   | 26 | nylon_string   | 62 | 0
clean_guitar  | clean electric guitar, electric guitar            | 27 | steel_string   | 60 | 0
muted_guitar  | muted guitar, palm-muted guitar                   | 28 | muted_string   | 57 | 0
amp_guitar    | distorted guitar, heavy guitar, driven electric guitar | 27 | steel_string | 58 | 0
lead_guitar   | lead guitar, overdriven guitar, electric guitar solo | 27 | steel_string | 69 | 1
ukulele       | ukulele                                           | 24 | nylon_string   | 69 | 0
banjo         | banjo                                             | 105 | muted_string  | 65 | 0
mandolin      | mandolin                                          | 25 | steel_string   | 74 | 0
sitar         | sitar                                             | 104 | steel_string  | 62 | 0
koto          | koto                                              | 107 | harp_string   | 64 | 0
shamisen      | shamisen                                          | 106 | muted_string  | 64 | 0
harp          | harp                                              | 46 | harp_string    | 67 | 1
upright_bass  | upright bass, double bass, acoustic bass          | 32 | nylon_string   | 38 | 3
finger_bass   | bass guitar, electric bass                        | 33 | saw_bass       | 38 | 2
pick_bass     | picked bass, bass guitar                          | 34 | saw_bass       | 38 | 2
fretless      | fretless bass                                     | 35 | sub_bass       | 38 | 2
slap_bass     | slap bass                                         | 36 | saw_bass       | 38 | 2
violin        | violin, fiddle                                    | 40 | string_machine | 74 | 0
fiddle        | fiddle                                            | 40 | string_machine | 72 | 0
viola         | viola                                             | 41 | string_machine | 65 | 0
cello         | cello                                             | 42 | string_machine | 50 | 1
contrabass    | double bass, orchestral basses                    | 43 | string_machine | 40 | 2
tremolo       | tremolo strings                                   | 44 | string_machine | 60 | 0
pizzicato     | pizzicato strings                                 | 45 | muted_string   | 62 | 1
timpani       | timpani                                           | 47 | sub_bass       | 42 | 2
strings       | strings, string section, string orchestra         | 48 | string_machine | 60 | 0
slow_strings  | slow strings, strings, lush strings               | 49 | string_machine | 60 | 0
synth_strings | synth strings, string machine                     | -  | string_machine | 60 | -3
choir         | choir, choir voices, choral voices                | 52 | choir          | 60 | 1
synth_choir   | choir, ethereal voices                            | -  | choir          | 60 | -1
voice_oohs    | voices, wordless vocals, oohs                     | 53 | choir          | 64 | 0
trumpet       | trumpet                                           | 56 | synth_brass    | 69 | -1
trombone      | trombone                                          | 57 | synth_brass    | 53 | -1
tuba          | tuba                                              | 58 | saw_bass       | 38 | 0
muted_trumpet | muted trumpet                                     | 59 | synth_brass    | 69 | 0
french_horn   | french horn, horns                                | 60 | synth_brass    | 57 | 0
brass         | brass section, brass, horn section                | 61 | synth_brass    | 62 | -1
synth_brass   | synth brass                                       | -  | synth_brass    | 60 | -4
soprano_sax   | soprano saxophone                                 | 64 | saw_lead       | 72 | -1
alto_sax      | saxophone, alto sax, sax                          | 65 | saw_lead       | 67 | -1
tenor_sax     | tenor saxophone, saxophone, sax                   | 66 | saw_lead       | 60 | -1
bari_sax      | baritone saxophone                                | 67 | saw_lead       | 50 | -1
oboe          | oboe                                              | 68 | square_lead    | 72 | -1
english_horn  | english horn                                      | 69 | square_lead    | 65 | -1
bassoon       | bassoon                                           | 70 | square_lead    | 50 | 0
clarinet      | clarinet                                          | 71 | square_lead    | 67 | -1
piccolo       | piccolo                                           | 72 | theremin       | 84 | -3
flute         | flute                                             | 73 | theremin       | 76 | -1
recorder      | recorder                                          | 74 | theremin       | 76 | -1
pan_flute     | pan flute                                         | 75 | theremin       | 74 | -1
shakuhachi    | shakuhachi, bamboo flute                          | 77 | theremin       | 70 | 0
whistle       | tin whistle, whistle                              | 78 | theremin       | 79 | -2
ocarina       | ocarina                                           | 79 | theremin       | 76 | -1
bagpipe       | bagpipes                                          | 109 | saw_lead      | 69 | -3
steel_drums   | steel drums, steelpan                             | 114 | fm_bell       | 67 | 0
supersaw      | supersaw, supersaw synth, trance synth            | -  | supersaw       | 64 | -4
super_pluck   | synth pluck, plucked synth, trance pluck          | -  | super_pluck    | 67 | -3
warm_pad      | warm synth pad, synth pad, analog pad             | -  | warm_pad       | 58 | -4
glass_pad     | glassy pad, shimmering pad, synth pad             | -  | glass_pad      | 64 | -4
noise_pad     | airy pad, breathy pad, atmospheric pad            | -  | noise_pad      | 60 | -3
acid          | acid bass, 303 acid synth, squelchy acid line     | -  | acid           | 42 | -1
sub_bass      | sub bass, deep bass                               | -  | sub_bass       | 35 | 2
bass_808      | 808 bass, booming 808                             | -  | bass_808       | 34 | 2
saw_bass      | synth bass, analog bass                           | -  | saw_bass       | 38 | 0
reese         | reese bass, growling bass                         | -  | reese          | 36 | 0
wobble        | wobble bass, dubstep bass                         | -  | wobble         | 36 | 0
square_lead   | synth lead, square lead                           | -  | square_lead    | 72 | -4
saw_lead      | synth lead, saw lead                              | -  | saw_lead       | 72 | -4
chip_lead     | chiptune lead, 8-bit lead, square wave            | -  | chip_25        | 74 | -5
chip_pulse    | pulse wave arpeggio, 8-bit arpeggio               | -  | chip_12        | 70 | -6
chip_square   | square wave, 8-bit synth                          | -  | chip_50        | 67 | -6
chip_bass     | triangle wave bass, 8-bit bass                    | -  | chip_triangle  | 43 | 0
theremin      | theremin                                          | -  | theremin       | 72 | -3
drone         | drone, deep drone, humming drone                  | -  | drone          | 45 | -2
ks_harp       | harp, plucked strings                             | -  | harp_string    | 67 | 0
""")

# General MIDI's programs in plain words, for tracks that MMA chooses itself.
GM_NAMES = (
    "piano;bright piano;electric grand piano;honky-tonk piano;electric piano;electric piano;harpsichord;clavinet;celesta;"
    "glockenspiel;music box;vibraphone;marimba;xylophone;tubular bells;dulcimer;organ;percussive organ;rock organ;"
    "church organ;reed organ;accordion;harmonica;bandoneon;nylon guitar;acoustic guitar;jazz guitar;electric guitar;"
    "muted guitar;overdriven guitar;distorted guitar;guitar harmonics;upright bass;bass guitar;picked bass;fretless bass;"
    "slap bass;slap bass;synth bass;synth bass;violin;viola;cello;double bass;tremolo strings;pizzicato strings;harp;"
    "timpani;strings;slow strings;synth strings;synth strings;choir;voices;synth voice;orchestra hit;trumpet;trombone;"
    "tuba;muted trumpet;french horn;brass section;synth brass;synth brass;soprano sax;alto sax;tenor sax;baritone sax;"
    "oboe;english horn;bassoon;clarinet;piccolo;flute;recorder;pan flute;blown bottle;shakuhachi;whistle;ocarina;"
    "square lead;saw lead;calliope;chiff lead;charang;voice lead;fifths lead;bass and lead;new age pad;warm pad;"
    "polysynth pad;choir pad;bowed pad;metallic pad;halo pad;sweep pad;rain pad;soundtrack pad;crystal synth;"
    "atmosphere pad;bright pad;goblin pad;echo pad;sci-fi pad;sitar;banjo;shamisen;koto;kalimba;bagpipes;fiddle;shanai;"
    "tinkle bell;agogo;steel drums;woodblock;taiko drum;melodic tom;synth drum;reverse cymbal;fret noise;breath noise;"
    "seashore;bird tweet;telephone;helicopter;applause;gunshot"
).split(";")


def gm_name(program: int) -> str:
    """A General MIDI program in words."""
    return GM_NAMES[program % 128]
