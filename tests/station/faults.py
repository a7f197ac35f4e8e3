"""A station beside a generator that goes wrong in every way, in any order.

``python -m tests.station.faults --minutes 30`` tries random rows and prints what was tried. ``--hours 12`` plays
that many simulated hours with a random fault every simulated minute, and prints how much memory it takes. ``--seed``
repeats a run.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from riffstream import protocol
from riffstream.config import TimelineSettings
from riffstream.errors import ParameterError
from riffstream.generator.isolation import BrokenRendererError, Isolation
from riffstream.generator.messages import Cancelled, Done, Failed, Job, Piece
from riffstream.generator.renderer import Report, ToneRenderer
from riffstream.journey.journey import Journey
from tests.station.sim import FRAME, Sim

HOME = "first"
WORDS = ("second", "third", "fourth")
POISON = ("raise", "die", "stall", "refuse")
STALL_S = 3.0  # a generator that does nothing for so long is killed
BACK_S = 90.0  # after the last fault there is sound again: the longest wait for a clip, for a generator, and both again
FINAL = (protocol.Applied, protocol.Superseded, protocol.Rejected)
TAPE_S = 240.0  # of audio that a station holds, in all its takes


class End(BaseException):
    """The process ends."""


class Poisoned(ToneRenderer):
    """Does what the words of a job say, and what words came to mean later."""

    def __init__(self, meaning: dict[str, str]) -> None:
        super().__init__(waits=3, clicks=False)
        self.meaning = meaning
        self.stalled = False
        self.failing: list[str] = []  # kinds of the failures of the next clips

    def submit(self, job: Job) -> None:
        if self._of(job) == "refuse":
            raise ParameterError("seed_image", "x", "another")
        super().submit(job)

    def step(self) -> list[Report]:
        if self.stalled:
            return []
        for tone in self._jobs:
            match self._of(tone.job):
                case "raise":
                    raise ValueError("broken on purpose")
                case "die":
                    raise End
                case "stall":
                    self.stalled = True
                    return []
        if self.failing and self._jobs:
            job = self._jobs[0].job
            self.drop(job.station, job.take)
            return [(Failed(job.station, job.take, job.number, self.failing.pop(), "on purpose"), None)]
        return super().step()

    def _of(self, job: Job) -> str:
        words = [part.text for part in job.spec.prompts]
        return next((self.meaning.get(word, word) for word in words if self.meaning.get(word, word) in POISON), "")


@dataclass
class Line:
    """The pipe from the generator, which may keep, double, exchange and lose messages."""

    messages: deque[tuple[float, Report]] = field(default_factory=deque)
    delay: float = 0.0
    double: int = 0
    exchange: int = 0
    lose: int = 0

    def put(self, report: Report, now: float) -> None:
        if self.lose > 0 and isinstance(report[0], Piece | Done | Cancelled | Failed):
            self.lose -= 1
            return
        due = now + self.delay
        self.messages.append((due, report))
        if self.double > 0:
            self.double -= 1
            self.messages.append((due, report))
        if self.exchange > 0 and len(self.messages) > 1:
            self.exchange -= 1
            self.messages[-1], self.messages[-2] = self.messages[-2], self.messages[-1]

    def take(self, now: float) -> list[Report]:
        taken = []
        while self.messages and self.messages[0][0] <= now:
            taken.append(self.messages.popleft()[1])
        return taken


class World(Sim):
    """A simulation with a supervisor in it, and everything that may go wrong.

    Attributes:
        done: how often each thing was done.
    """

    def __init__(self, journey: Journey | None = None, timeline: TimelineSettings | None = None) -> None:
        self.meaning: dict[str, str] = {}
        self.poisoned = Poisoned(self.meaning)
        self.line = Line()
        self.home = journey or Journey.single(HOME)
        super().__init__(
            renderer=Isolation(self.poisoned),
            settings=timeline or TimelineSettings(loudness_lufs=None, repeats=2),
            journey=self.home,
        )
        self.done: Counter[str] = Counter()
        self.idents: list[str] = []
        self.finals: Counter[str] = Counter()
        self.seconds = 0.0
        self.last_job = self.last_sound = 0.0
        self._lost_jobs = 0
        self._back_at = self._alone_since = 0.0
        self._restarts = 0
        self._position = 0

    # -- what happens in the meantime -----------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time go by. At every moment blocks follow each other and nothing grows."""
        for _ in range(max(1, round(seconds * 10))):
            if not self.alive and self.time >= self._back_at:
                self._begin_again()
            jobs = len(self.jobs)
            try:
                self.render(self.steps if self.alive else 0)
            except (End, BrokenRendererError):
                self.kill()
            self._watch()
            if len(self.jobs) > jobs:
                self.last_job = self.time
            block = self.timeline.commit(FRAME)
            if block is not None:
                assert block.pos == self._position, "the sample clock jumps"
                assert len(block.pcm) == FRAME
                self._position += FRAME
                if not block.silent and self.timeline.playout.mixer.current.kind == "take":
                    self.last_sound = self.time
            self.time += 0.1
            self._check()
        self.jobs = self.jobs[-4:]

    def render(self, steps: int) -> None:
        self._obey()
        for report in self.line.take(self.time):
            super()._deliver(report)
        for _ in range(steps):
            for report in self.renderer.step():
                self._deliver(report)
            self._obey()

    def _deliver(self, report: Report) -> None:
        self.line.put(report, self.time)
        for each in self.line.take(self.time):
            super()._deliver(each)

    def _obey(self) -> None:
        super()._obey()
        if self._lost_jobs and self.jobs and self.poisoned.pending + self.renderer.pending:
            self._lost_jobs -= 1
            job = self.jobs[-1]
            self.renderer.drop(job.station, job.take)

    def _watch(self) -> None:
        """The supervisor: an idle generator is told of, a stalled one is killed."""
        if not self.alive:
            return
        if self.poisoned.stalled:
            self._alone_since = self._alone_since or self.time
            if self.time - self._alone_since > STALL_S:
                self.kill()
        elif not self.renderer.pending and not self.line.messages:
            self.timeline.idle(self.time)

    def _check(self) -> None:
        timeline = self.timeline
        timeline.playout.events.clear()
        planner = timeline._planner
        assert len(planner.takes) <= 8
        assert len(timeline._waiting) <= 8
        assert len(timeline.playout.mixer.coming) <= 12
        if timeline.playout.lead is not None and timeline.playout.frozen is None:
            assert timeline.playout.mixer.last.kind != "pause", "it stays paused"
        for take in planner.takes.values():
            whole = take.beats.sample(take.next_beat) + 1 if take.number else 0
            assert take.tape.end <= whole, "more audio than its clips have"
        held = {id(take): take.tape for take in (*planner.takes.values(), *timeline.playout._takes.values())}
        held |= {id(take): take.tape for take in timeline.playout._heard.takes}
        assert sum(tape.end - tape.begin for tape in held.values()) < TAPE_S * 48_000

    def kill(self, down: float | None = None) -> None:
        """The process ends, and another one is there after a while; what is in the pipe is lost."""
        self.line.messages.clear()
        self.timeline.disconnect("killed")
        self._alone_since = 0.0
        self.alive = False
        wait = min(8.0, 0.25 * 2.0**self._restarts) if down is None else down
        self._restarts = min(self._restarts + 1, 5)
        self._back_at = self.time + wait

    def _begin_again(self) -> None:
        self.poisoned = Poisoned(self.meaning)
        self.renderer = Isolation(self.poisoned)
        self.restart()

    # -- what people do -------------------------------------------------------------------------------------------

    def ask(self, **fields: Any) -> None:
        """A steer."""
        ident = f"s{len(self.idents)}"
        self.idents.append(ident)
        self.steer(ident, **fields)

    def operate(self, op: protocol.Op) -> None:
        """A transport message."""
        ident = f"t{len(self.idents)}"
        self.idents.append(ident)
        self.transport(op, ident)

    # -- faults ---------------------------------------------------------------------------------------------------

    def do(self, action: Action) -> None:
        """Something happens, and then a while goes by."""
        name, value, then = action
        self.done[name] += 1
        getattr(self, f"_do_{name}")(value)
        if then:
            self.run(then)

    def _do_steer(self, fields: dict[str, Any]) -> None:
        self.ask(**fields)

    def _do_operate(self, op: protocol.Op) -> None:
        self.operate(op)

    def _do_kill(self, down: float) -> None:
        if self.alive:
            self.kill(down)

    def _do_fail(self, kinds: list[str]) -> None:
        self.poisoned.failing += kinds

    def _do_fail_all(self, kind: str) -> None:
        """Everything that the generator has in hand fails, in one order or the other (memory ran out)."""
        jobs = [tone.job for tone in self.poisoned._jobs]
        for job in jobs if kind == "internal" else jobs[::-1]:
            self.renderer.drop(job.station, job.take)
            self._deliver((Failed(job.station, job.take, job.number, kind, "on purpose"), None))

    def _do_slow(self, steps: int) -> None:
        self.steps = steps

    def _do_stall(self, _: None) -> None:
        self.poisoned.stalled = True

    def _do_spoil(self, words: tuple[str, str]) -> None:
        word, meaning = words
        self.meaning[word] = meaning

    def _do_spoil_playing(self, meaning: str) -> None:
        lead = self.timeline.playout.lead
        if lead is not None and lead.entries:
            for part in lead.entries[-1].spec.prompts:
                self.meaning[part.text] = meaning

    def _do_mend(self, word: str) -> None:
        self.meaning.pop(word, None)

    def _do_delay(self, seconds: float) -> None:
        self.line.delay = seconds

    def _do_double(self, count: int) -> None:
        self.line.double += count

    def _do_exchange(self, count: int) -> None:
        self.line.exchange += count

    def _do_lose(self, count: int) -> None:
        self.line.lose += count

    def _do_lose_job(self, _: None) -> None:
        self._lost_jobs += 1

    def _do_repeat_answers(self, _: None) -> None:
        """Late answers to jobs that are over."""
        for job in self.jobs:
            for message in (Cancelled, Done):
                super()._deliver((message(job.station, job.take, job.number - 1), None))
            super()._deliver((Failed(job.station, job.take, job.number - 1, "internal", "late"), None))

    # -- the end --------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """The faults end.

        Words that people steered to stay spoiled: what plays then has to give way to something that can be made.
        """
        self.meaning.pop(HOME, None)
        if len(self.home.stops) > 1:
            self.meaning.clear()
        self.poisoned.failing.clear()
        self._restarts = self._lost_jobs = 0
        self.line.delay = 0.0
        self.line.double = self.line.exchange = self.line.lose = 0
        self.steps = 12
        self._back_at = min(self._back_at, self.time)
        if self.timeline.paused:
            self.operate("resume")

    def forget_answers(self) -> None:
        """Keep no more than who got a final answer, so that only what the station keeps takes memory."""
        self.finals.update(reply.id for reply in self.replies if isinstance(reply, FINAL))
        self.replies.clear()

    def settle(self) -> None:
        """No more faults: the station asks again, its sound comes back, and everybody gets one final answer."""
        self.heal()
        until = self.time + BACK_S
        while self.time < until and not (self.time - self.last_sound < 0.15 and self.seconds > 8.0):
            self.run(0.1)
            self.seconds = 0.0 if self.time - self.last_sound > 0.15 else self.seconds + 0.1
        assert self.time - self.last_sound < 1.0, f"silent for {self.time - self.last_sound:.1f} s"
        self.run(20.0)
        quiet = self.time - self.last_job
        assert quiet < 10.0 + self.timeline.playout.horizon_s, f"nothing was asked for in {quiet:.1f} s"
        assert self.time - self.last_sound < 0.15
        scheduled = [reply for reply in self.replies if isinstance(reply, protocol.Scheduled)]
        assert len({reply.id for reply in scheduled}) == len(scheduled), "scheduled once"
        assert [reply.rev for reply in scheduled] == sorted(reply.rev for reply in scheduled)
        self.forget_answers()
        assert self.finals == Counter(self.idents), "one final answer each"
        for _ in range(300):  # clips that were made in a hurry show that they have no guidance
            if (shown := self.timeline.now(self.timeline.playout.committed - 1).state) == (
                target := self.timeline.target()
            ):
                break
            self.run(0.1)
        assert shown == target


Action = tuple[str, Any, float]
STEER: dict[str, list[Any]] = {
    "at": ["asap", "beat", "bar", "clip"],
    "prompt": [*WORDS, HOME, *POISON],
    "bpm": [80.0, 100.0, 123.4, None],
    "key": [-3.0, 0.0, 4.0],
    "seed": [0, 1, 2, 3],
    "guidance": [1.0, 4.0],
    "ramp_s": [0.0, 3.0, 20.0],
}
VALUES: dict[str, list[Any]] = {
    "operate": ["pause", "resume", "reset", "skip"],
    "kill": [0.0, 0.3, 2.0, 8.0, 30.0],
    "fail_all": ["internal", "parameter"],
    "slow": [0, 1, 2, 12],
    "stall": [None],
    "spoil_playing": list(POISON),
    "mend": [*WORDS, HOME],
    "delay": [0.0, 0.2, 3.0, 20.0],
    "double": [1, 2, 6],
    "exchange": [1, 2, 6],
    "lose": [1, 2, 4],
    "lose_job": [None],
    "repeat_answers": [None],
}


def actions() -> st.SearchStrategy[list[Action]]:
    """Rows of things that happen, each with the simulated seconds that go by after it."""
    words = st.sampled_from((*WORDS, HOME))
    fields = st.fixed_dictionaries(
        {"at": st.sampled_from(STEER["at"])},
        optional={name: st.sampled_from(values) for name, values in STEER.items() if name != "at"},
    )
    what: dict[str, st.SearchStrategy[Any]] = {name: st.sampled_from(values) for name, values in VALUES.items()}
    what |= {
        "steer": fields,
        "spoil": st.tuples(words, st.sampled_from(POISON)),
        "fail": st.lists(st.sampled_from(VALUES["fail_all"]), min_size=1, max_size=5),
    }
    after = st.sampled_from([0.0, 0.0, 0.1, 0.3, 1.0, 3.0, 10.0])
    each = st.one_of(*(st.tuples(st.just(name), values, after) for name, values in what.items()))
    steer = st.tuples(st.just("steer"), fields, after)
    return st.lists(st.one_of(each, each, steer), min_size=1, max_size=20)


def action(draw: random.Random) -> Action:
    """One of them."""
    name = draw.choice([*VALUES, "steer", "spoil", "fail"])
    if name == "steer":
        return name, {key: draw.choice(values) for key, values in STEER.items() if draw.random() < 0.4}, 0.0
    if name == "spoil":
        return name, (draw.choice(WORDS), draw.choice(POISON)), 0.0
    if name == "fail":
        return name, [draw.choice(VALUES["fail_all"]) for _ in range(draw.randint(1, 5))], 0.0
    return name, draw.choice(VALUES[name]), 0.0


def journeys() -> st.SearchStrategy[Journey]:
    """One prompt, or several in turn."""
    return st.sampled_from([Journey.single(HOME), Journey.visit([HOME, "second", "third"], 2, 1)])


def play(journey: Journey, row: list[Action], warm_s: float = 0.0) -> World:
    """Everything in a row, and then no more."""
    world = World(journey)
    if warm_s:
        world.run(warm_s)
    for action in row:
        world.do(action)
    world.settle()
    return world


def rows(minutes: float, first: int) -> dict[str, Any]:
    """Random rows for so long. Raises AssertionError with the shortest row that was found to fail."""
    done: Counter[str] = Counter()
    examples, simulated, number = 0, 0.0, 0
    end = time.monotonic() + 60 * minutes

    def one(journey: Journey, row: list[Action], warm_s: float) -> None:
        nonlocal examples, simulated
        world = play(journey, row, warm_s)
        examples += 1
        simulated += world.time
        done.update(world.done)

    while time.monotonic() < end:
        checked: Callable[[], None] = given(journeys(), actions(), st.sampled_from([0.0, 5.0, 20.0]))(one)
        checked = settings(
            max_examples=50,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )(seed(first + number)(checked))
        checked()
        number += 1
    return {"examples": examples, "simulated_hours": round(simulated / 3600, 1), "done": dict(done.most_common())}


def hours(count: float, first: int, *, every: int = 60) -> dict[str, Any]:
    """One station for so many simulated hours, with a fault every minute that lasts for half a minute; memory is
    measured and printed to stderr ``every`` minutes."""
    draw = random.Random(first)
    world = World(timeline=TimelineSettings(repeats=2))
    memory: list[dict[str, float]] = []
    silent = 0.0
    for minute in range(round(60 * count)):
        wait = draw.uniform(0, 10)
        world.run(wait)
        world.do(action(draw))
        world.run(30.0)
        world.heal()
        world.run(30.0 - wait)  # 20 s at least
        silent = max(silent, world.time - world.last_sound)
        world.forget_answers()
        if (minute + 1) % every == 0:
            gc.collect()
            memory.append({"minute": minute + 1, "objects": len(gc.get_objects()), "rss_mb": round(_rss_mb(), 1)})
            print(memory[-1], file=sys.stderr, flush=True)
    world.settle()
    timeline = world.timeline
    return {
        "simulated_hours": round(world.time / 3600, 2),
        "longest_without_music_after_20_s": round(silent, 1),
        "underruns": timeline.playout.underruns,
        "repeats": timeline.playout.repeats,
        "revs": timeline.rev,
        "done": dict(world.done.most_common()),
        "memory": memory,
    }


def _rss_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


def main(argv: list[str] | None = None) -> int:
    """A long run; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--hours", type=float, default=None)
    parser.add_argument("--seed", type=int, default=None, help="(default: random; it is printed)")
    args = parser.parse_args(argv)
    first = random.SystemRandom().randrange(2**31) if args.seed is None else args.seed
    print(json.dumps({"seed": first}), flush=True)
    report = rows(args.minutes, first) if args.hours is None else hours(args.hours, first)
    print(json.dumps(report, indent=1), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
