"""How near prompts are to known styles: reported with audio, kept, and announced."""

from __future__ import annotations

from riffstream.generator.messages import Job, Piece
from riffstream.generator.renderer import Report, ToneRenderer
from riffstream.protocol import Likeness, Prompt, Scheduled
from riffstream.station.likenesses import KEPT, Likenesses
from tests.station.sim import Sim

SCORES = {"techno": 1.0, "asdfgh": 0.2, "first": 0.5}


def like(text: str) -> Likeness:
    return Likeness(text=text, style="ambient", score=SCORES.get(text, 0.0))


class Knowing(ToneRenderer):
    """Reports the likeness of its prompts with each piece."""

    def step(self) -> list[Report]:
        texts = {(job.take, job.number): [part.text for part in job.spec.prompts] for job in self._open()}
        return [
            (Piece(m.station, m.take, m.number, likeness=tuple(map(like, texts[m.take, m.number]))), pcm)
            if isinstance(m, Piece)
            else (m, pcm)
            for m, pcm in super().step()
        ]

    def _open(self) -> list[Job]:
        return [tone.job for tone in self._jobs]


def test_the_least_known_prompt_counts_and_unplayed_ones_leave_it_open() -> None:
    likenesses = Likenesses()
    likenesses.learn([like("techno"), like("asdfgh")])
    assert likenesses.of([Prompt(text="techno"), Prompt(text="asdfgh", weight=0.5)]) == like("asdfgh")
    assert likenesses.of([Prompt(text="techno"), Prompt(text="asdfgh", weight=0.0)]) == like("techno")
    assert likenesses.of([Prompt(text="techno"), Prompt(text="new")]) is None
    likenesses.learn(like(str(number)) for number in range(KEPT))
    assert likenesses.of([Prompt(text="techno")]) is None


def test_it_follows_in_the_state_and_comes_with_the_next_answer() -> None:
    sim = Sim(renderer=Knowing())
    sim.run(3)
    before = sim.timeline.moment(sim.timeline.playout.committed - 1)
    sim.steer("a", "asdfgh")
    first = sim.replies[-1]
    assert isinstance(first, Scheduled)
    assert first.likeness is None
    sim.run(3)
    pos = sim.timeline.playout.committed - 1
    assert sim.timeline.now(pos).state.likeness == like("asdfgh")
    assert sim.timeline.target().likeness == like("asdfgh")
    assert sim.timeline.moment(pos) != before
    sim.steer("b", "techno")
    sim.run(3)
    sim.steer("c", "asdfgh")
    again = [reply for reply in sim.replies if isinstance(reply, Scheduled)][-1]
    assert again.likeness == like("asdfgh")


def test_a_renderer_without_styles_has_none() -> None:
    sim = Sim()
    sim.run(3)
    assert sim.timeline.now(sim.timeline.playout.committed - 1).state.likeness is None
