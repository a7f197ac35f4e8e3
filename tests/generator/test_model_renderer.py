"""The real renderer on a tiny untrained model: takes are one stream, known clips are not sampled again."""

from __future__ import annotations

import io
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from riffstream.config import StationConfig, TimelineSettings
from riffstream.diffusion.clip import ClipRequest
from riffstream.diffusion.engine import Engine
from riffstream.diffusion.mini.family import MiniFamily
from riffstream.diffusion.past import LATE, LATE_CHORDS, Past
from riffstream.diffusion.removal import without
from riffstream.generator import model_renderer
from riffstream.generator.messages import Cancelled, Done, Failed, Job, Pcm, Picture, Piece
from riffstream.generator.model_renderer import ModelRenderer
from riffstream.generator.take_stream import TakeStream, complete
from riffstream.journey.conditions import PARTS, SIZE
from riffstream.journey.journey import ClipSpec, Journey, Keyframe
from riffstream.models.seeds import SeedLibrary
from riffstream.spectrogram.vocoder import Vocoder
from riffstream.station.offline import replay, run
from riffstream.station.score import Score
from tests.station.sim import Sim

HOP = 375.0


@pytest.fixture(scope="module")
def family() -> MiniFamily:
    torch.set_num_threads(1)
    return MiniFamily.random(seed=1)


@pytest.fixture
def renderer(family: MiniFamily) -> ModelRenderer:
    return ModelRenderer(Engine(family, steps=2), Vocoder(family.params))


def job(number: int, *, take: int = 0, clip: int | None = None, **rest: object) -> Job:
    spec = Journey.single("jazz", seed=3).clip(number)
    hops = rest.pop("hops", (HOP,) * 8)
    return Job(
        station="s", take=take, number=number, clip=number if clip is None else clip, spec=spec, hops=hops, **rest
    )  # type: ignore[arg-type]


def finish(renderer: ModelRenderer) -> tuple[list[object], dict[int, Pcm]]:
    reports, audio = [], {}
    while renderer.pending:
        for message, pcm in renderer.step():
            reports.append(message)
            if isinstance(message, Piece) and pcm is not None:
                audio.setdefault(message.take, []).append(pcm)
    return reports, {take: np.concatenate(parts) for take, parts in audio.items()}


def test_a_clip_becomes_as_many_samples_as_its_beats_last(renderer: ModelRenderer) -> None:
    renderer.submit(job(0, final=True, hops=(HOP,) * 4 + (300.0,) * 4))
    reports, audio = finish(renderer)
    assert audio[0].shape == (4 * 64 * 375 + 4 * 64 * 300, 2)
    assert np.isfinite(audio[0]).all()
    done = reports[-1]
    assert isinstance(done, Done)
    assert done.evaluations > 0


def test_audio_comes_in_beats_long_before_the_clip_is_done(renderer: ModelRenderer) -> None:
    renderer.submit(job(0))
    reports, audio = finish(renderer)
    assert len([each for each in reports if isinstance(each, Piece)]) >= 7
    assert len(audio[0]) > 7 * 24_000


def first_audio(renderer: ModelRenderer, *jobs: Job) -> int:
    """Number of evaluations of the network before the first audio."""
    before = renderer._engine.stats.rows
    for each in jobs:
        renderer.submit(each)
    while not any(isinstance(message, Piece) for message, _ in renderer.step()):
        pass
    return renderer._engine.stats.rows - before


def test_a_draft_is_heard_first_and_the_clip_follows(family: MiniFamily) -> None:
    engine = Engine(family, steps=8)
    plain, drafting = (ModelRenderer(engine, Vocoder(family.params)) for _ in range(2))
    whole, drafted = job(0, start_frame=40), job(0, start_frame=40, draft_steps=3, draft_end=192)
    assert (first_audio(plain, whole), first_audio(drafting, drafted)) == (8, 3)
    reports, _ = finish(drafting)
    assert isinstance(reports[-1], Done)
    assert reports[-1].evaluations == 11
    assert torch.equal(drafting._clips("s")[0][0], plain._clips("s")[0][0])  # the next clip continues the clip itself


def test_a_draft_chooses_the_try_for_its_clip(family: MiniFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clip is the one without a draft, and the ear is asked once."""

    class Ear:
        identity = "fake"

        def __init__(self) -> None:
            self.asked = 0

        def fit(self, clips: torch.Tensor, *_: object) -> torch.Tensor:
            self.asked += 1
            return torch.eye(len(clips))[2]

    monkeypatch.setattr(family, "ear", ear := Ear())
    engine = Engine(family, steps=8)
    plain, drafting = (ModelRenderer(engine, Vocoder(family.params)) for _ in range(2))
    assert (first_audio(plain, job(0)), first_audio(drafting, job(0, draft_steps=3, draft_end=192))) == (11, 6)
    finish(drafting)
    assert ear.asked == 2
    assert torch.equal(drafting._clips("s")[0][0], plain._clips("s")[0][0])


def test_the_audio_of_a_draft_ends_at_its_frame(family: MiniFamily) -> None:
    """Up to ``draft_end`` the audio is that of the clip with fewer steps, then that of the clip."""
    engine, vocoder = Engine(family, steps=8), Vocoder(family.params)
    mels: list[torch.Tensor] = []
    renderer = ModelRenderer(engine, vocoder)
    renderer.submit(job(0, final=True, draft_steps=3, draft_end=192))
    push = TakeStream.push
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TakeStream, "push", lambda self, mel, *rest: (mels.append(mel), push(self, mel, *rest))[1])
        _, audio = finish(renderer)
    heard = torch.cat(mels, -1)
    spec = Journey.single("jazz", seed=3).clip(0)
    draft, clip = (engine.render(ClipRequest(spec, steps=steps)).mel for steps in (3, 8))
    assert heard.shape == clip.shape
    assert torch.allclose(heard[..., :192], draft[..., :192], rtol=1e-3, atol=1e-4)
    assert torch.equal(heard[..., 200:], clip[..., 200:])
    assert not torch.allclose(draft[..., 200:], clip[..., 200:], rtol=1e-2)
    between = heard[..., 192:200] + 1e-5
    low, high = (function(draft[..., 192:200], clip[..., 192:200]) for function in (torch.minimum, torch.maximum))
    assert ((between >= 0.99 * low) & (between <= 1.01 * high + 2e-5)).all()
    assert len(audio[0]) == 512 * 375


def test_a_drafted_job_gives_the_same_samples_again(family: MiniFamily) -> None:
    audio = []
    for _ in range(2):
        renderer = ModelRenderer(Engine(family, steps=8), Vocoder(family.params))
        renderer.submit(job(0, draft_steps=3, draft_end=128))
        renderer.submit(job(0, take=1, clip=1, deadline=3.0))  # beside it, another one
        audio.append(finish(renderer)[1][0])
    assert np.array_equal(*audio)


def test_a_known_clip_needs_no_draft(renderer: ModelRenderer) -> None:
    renderer.submit(job(0))
    finish(renderer)
    assert first_audio(renderer, job(0, take=1, draft_steps=1, draft_end=128)) == 0
    reports, _ = finish(renderer)
    assert isinstance(reports[-1], Done)


def test_a_draft_can_be_dropped_and_cancelled(renderer: ModelRenderer) -> None:
    renderer.submit(job(0, draft_steps=1, draft_end=128))
    renderer.step()
    assert renderer.cancel("s", 0, 0) == [(Cancelled("s", 0, 0), None)]
    assert (renderer.pending, renderer._engine.pending) == (0, 0)
    first_audio(renderer, job(0, take=1, clip=1, draft_steps=1, draft_end=128))
    renderer.step()
    renderer.drop("s", 1)
    assert (renderer.pending, renderer._engine.pending) == (0, 0)


def test_what_is_heard_already_lets_other_stations_go_first(renderer: ModelRenderer) -> None:
    """A station whose first beats are out does not keep another's clip waiting for the rest."""
    renderer.submit(job(0, take=0, clip=0, deadline=1.0))
    renderer.submit(job(0, take=1, clip=1, deadline=3.0))
    order: list[int] = []
    while renderer.pending:
        order += [message.take for message, _ in renderer.step() if isinstance(message, Piece)]
    assert order.index(1) < len(order) - 1 - order[::-1].index(0)


def test_clips_of_a_take_are_one_stream(renderer: ModelRenderer) -> None:
    pieces = []
    for number in range(2):
        renderer.submit(job(number, previous=number - 1 if number else None, final=number == 1))
        pieces.append(finish(renderer)[1][0])
    joined = np.concatenate(pieces)
    first, second = (renderer._clips("s")[clip][0] for clip in (0, 1))
    led = complete(first[..., -3:], second[..., :1])
    whole = renderer._vocoder(torch.cat([first[..., :-2], led, second], -1), hop=HOP).numpy().T
    assert len(joined) == len(whole)
    assert np.abs(joined - whole).max() < 1e-4 * max(1.0, np.abs(whole).max())


CHANGES: list[tuple[tuple[dict[str, float] | None, ...], int | set[str], bool]] = [
    ((None, None), 0, False),
    ((None, {"drums": 1.0}), 0, False),
    (({"drums": 0.0}, {"drums": 0.0, "bass": 1.0}), 0, False),
    ((None, {"drums": 0.0}), {"drums"}, False),
    (({"bass": 0.0}, {"bass": 0.0, "drums": 0.0}), {"drums"}, False),
    ((None, {"bass": 0.0}), {"bass"}, False),
    ((None, {"drums": 0.0, "bass": 0.0}), {"drums", "bass"}, False),
    ((None, {"lead": 0.0}), 0, True),
    (({"energy": 0.5}, {"energy": 0.8}), 0, True),
    (({"energy": 0.5}, {"energy": 0.5, "brightness": 0.5}), 0, True),
    (({"density": 0.5}, {"density": 0.2, "drums": 0.0}), {"drums"}, True),
    (({"drums": 0.0}, None), 0, True),
    (({"bass": 0.0}, {"drums": 0.0}), {"drums"}, True),
    ((None, {"drums": 0.0}, None), 0, False),
    ((None, {"drums": 0.0}, {"drums": 0.0}, {"bass": 1.0}), 0, False),
    (({"drums": 0.0}, None, {"drums": 0.0}), 0, False),
]
# Parts and levels of successive clips; the sound that the last one continues: that of a clip, or of the clip before it
# without parts; whether it is late.


def conducted(family: MiniFamily) -> tuple[Engine, ModelRenderer]:
    torch.nn.init.normal_(family.codec.fine_out.weight, std=0.1)  # otherwise patches are decoded one by one
    engine = Engine(family, steps=8)
    return engine, ModelRenderer(engine, Vocoder(family.params))


def with_parts(number: int, parts: dict[str, float] | None, **more: object) -> Job:
    levels = {name: level for name, level in (parts or {}).items() if name not in PARTS}
    rest = {name: level for name, level in (parts or {}).items() if name in PARTS}
    keyframe = Keyframe.of("jazz", seed=number, parts=rest, **levels)
    return msgspec.structs.replace(job(number, **more), spec=ClipSpec(keyframe, keyframe, 0.0, number))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "sound", "late", "steered"),
    [*((*each, False) for each in CHANGES), *((*each, True) for each in CHANGES[::3])],
)
def test_where_parts_rest_or_return_a_clip_continues_another_sound(
    asked: tuple[dict[str, float] | None, ...], sound: int | set[str], late: bool, steered: bool
) -> None:
    """The network would continue the parts of the previous clip. Inside a take the join is decoded with both in any
    case. The first clip of a steered take continues the sound of the take before, without a join."""
    family = MiniFamily.random(seed=1, conditions=SIZE)
    engine, renderer = conducted(family)
    last = len(asked) - 1
    for number, parts in enumerate(asked):
        earlier = number - 1 if number else None
        if steered and number == last:
            finish(renderer)
            renderer.submit(with_parts(0, parts, take=1, clip=last, sound=earlier))
        else:
            renderer.submit(with_parts(number, parts, previous=earlier))
    finish(renderer)
    clips = renderer._clips("s")
    *before, latents = [past.latents for _, past in clips.values()]
    taken = clips[last - 1][1].mel
    spec = with_parts(0 if steered else last, asked[-1]).spec
    held = LATE if late else LATE_CHORDS if steered and sound == last - 1 else math.inf
    expected = str(sound) if isinstance(sound, int) else "+".join(sorted(sound))
    sounds = {
        str(last - 1): before[-1],
        expected: before[sound] if isinstance(sound, int) else without(family, taken, sound),
    }
    possible = [(name, time) for name in sounds for time in (math.inf, LATE_CHORDS, LATE)]

    def rendered(name: str, time: float) -> torch.Tensor:
        return engine.render(ClipRequest(spec, anew=True, recalled=sounds[name], late=time)).latents

    assert [each for each in possible if torch.equal(latents, rendered(*each))] == [(expected, held)]
    mel = clips[last][0]
    alone = family.decode_mel(latents[None])[0]
    joined = family.decode_mel(torch.cat([before[-1], latents], -1)[None])[0, ..., mel.shape[-1] :]
    torch.testing.assert_close(mel, alone if steered else joined)
    assert not torch.allclose(alone[..., :16], joined[..., :16])


def test_sounds_return_in_a_later_take() -> None:
    """Drums that a steer silences and another one brings back are those of before."""
    engine, renderer = conducted(MiniFamily.random(seed=1, conditions=SIZE))
    for take, parts in enumerate((None, {"drums": 0.0}, None)):
        renderer.submit(with_parts(0, parts, take=take, clip=take, sound=take - 1 if take else None))
        finish(renderer)
    first, _, last = (past.latents for _, past in renderer._clips("s").values())
    assert torch.equal(last, engine.render(ClipRequest(with_parts(0, None).spec, anew=True, recalled=first)).latents)


def test_a_steer_keeps_its_sound_while_others_replace_it(renderer: ModelRenderer) -> None:
    """Each steer of a row renders a clip; the audible clip, whose sound all of them continue, stays known."""
    renderer.submit(job(0))
    finish(renderer)
    memory = renderer._memory["s"]
    for clip in range(1, model_renderer.KEPT_CLIPS):
        memory.keep(clip, *memory.clips[0])
    renderer.submit(job(0, take=99, clip=99, sound=0))
    finish(renderer)
    assert 0 in renderer._clips("s")


def test_a_known_clip_is_only_voiced_again(renderer: ModelRenderer) -> None:
    renderer.submit(job(0))
    _, first = finish(renderer)
    renderer.submit(job(0, take=1, key=3.0, start_frame=100))
    reports, second = finish(renderer)
    done = reports[-1]
    assert isinstance(done, Done)
    assert done.evaluations == 0
    assert len(first[0]) - len(second[1]) == pytest.approx(100 * HOP, abs=512)  # what the vocoder holds back


def test_the_same_job_gives_the_same_samples(family: MiniFamily) -> None:
    audio = []
    for _ in range(2):
        renderer = ModelRenderer(Engine(family, steps=2), Vocoder(family.params))
        renderer.submit(job(0, previous=None))
        audio.append(finish(renderer)[1][0])
    assert np.array_equal(*audio)


def test_the_urgent_clip_is_heard_first(renderer: ModelRenderer) -> None:
    renderer.submit(job(0, take=0, clip=0, deadline=9.0, speculative=True))
    renderer.submit(job(0, take=1, clip=1, deadline=5.0))
    order = [each.take for each in finish(renderer)[0] if isinstance(each, Done)]
    assert order == [1, 0]


def test_a_clip_that_continues_waits_for_the_one_before(renderer: ModelRenderer) -> None:
    renderer.submit(job(0, take=0, clip=0, deadline=9.0))
    renderer.submit(job(0, take=1, clip=1, deadline=1.0, previous=0))
    order = [each.take for each in finish(renderer)[0] if isinstance(each, Done)]
    assert sorted(order) == [0, 1]
    renderer.submit(job(0, take=2, clip=2, previous=999))  # forgotten long ago: without it, then
    assert isinstance(finish(renderer)[0][-1], Done)


def test_jobs_are_cancelled_until_they_sound(renderer: ModelRenderer) -> None:
    renderer.submit(job(0))
    assert renderer.cancel("s", 0, 0) == [(Cancelled("s", 0, 0), None)]
    assert renderer.pending == 0
    renderer.submit(job(0))
    while not any(isinstance(message, Piece) for message, _ in renderer.step()):
        pass
    assert renderer.cancel("s", 0, 0) == []
    renderer.drop("s", 0)
    assert (renderer.pending, renderer._streams) == (0, {})
    renderer.forget("s")
    assert renderer._memory == {}


def test_what_the_model_refuses_is_reported(renderer: ModelRenderer) -> None:
    spec = Journey.single("jazz", seed_image="no such seed").clip(0)
    renderer.submit(Job(station="s", take=0, number=0, clip=0, spec=spec, hops=(HOP,) * 8))
    reports, _ = finish(renderer)
    assert isinstance(reports[-1], Failed)
    assert reports[-1].kind == "parameter"
    assert "no such seed" in reports[-1].message


@pytest.mark.parametrize("where", ["past", "text", "network", "vocoder"])
def test_an_exception_of_one_clip_fails_that_clip_alone(
    renderer: ModelRenderer, family: MiniFamily, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three clips in one batch; the one of take 1 raises while it is prepared, sampled or turned into audio."""

    def broken(*_: object, **__: object) -> None:
        raise ValueError("broken on purpose")

    if where == "past":
        monkeypatch.setattr(model_renderer.Past, "continuation", broken)
        mel = torch.zeros(2, 256, 8)
        past = Past.after(None, job(0).spec, torch.zeros(family.latent_shape()), mel, family)
        renderer._memory.setdefault("s", model_renderer._Memory()).keep(9, mel, past)
    elif where == "text":
        slot = renderer._engine._prepare.slot
        monkeypatch.setattr(
            renderer._engine._prepare, "slot", lambda ticket: broken() if ticket.request.rev == 1 else slot(ticket)
        )
    elif where == "network":
        step = renderer._engine._stepper.step
        monkeypatch.setattr(
            renderer._engine._stepper,
            "step",
            lambda slots: broken() if any(slot.ticket.request.rev == 1 for slot in slots) else step(slots),
        )
    else:
        stream = renderer._stream(("s", 1), 2)
        monkeypatch.setattr(stream, "push", broken)
    for take in range(3):
        renderer.submit(job(0, take=take, clip=take, rev=take, previous=9 if (where, take) == ("past", 1) else None))
    reports, audio = finish(renderer)
    (failed,) = [each for each in reports if isinstance(each, Failed)]
    assert (failed.take, failed.kind, failed.message) == (1, "internal", "the clip could not be made: ValueError")
    assert "broken on purpose" in failed.detail
    assert sorted(each.take for each in reports if isinstance(each, Done)) == [0, 2]
    assert np.abs(audio[0] - audio[2]).max() < 1e-3, "the same spec: the others are as they would be alone"
    assert ("s", 1) not in renderer._streams


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("injected"), RuntimeError("CUDA error: unspecified")])
def test_what_is_no_clips_fault_ends_the_process(
    renderer: ModelRenderer, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = renderer._stream(("s", 0), 2)

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(stream, "push", broken)
    renderer.submit(job(0))
    with pytest.raises(type(error)):
        finish(renderer)


def test_weights_are_told_apart(family: MiniFamily, renderer: ModelRenderer) -> None:
    other = MiniFamily.random(seed=2)
    assert renderer.info.weights
    assert ModelRenderer(Engine(family), Vocoder(family.params)).info.weights == renderer.info.weights
    assert ModelRenderer(Engine(other), Vocoder(other.params)).info.weights != renderer.info.weights


def test_memory_of_clips_is_bounded(renderer: ModelRenderer) -> None:
    mel = torch.zeros(2, 256, 8)
    for clip in range(40):
        renderer._clips("s")
        renderer._memory["s"].keep(clip, mel, Past.after(None, job(clip).spec, mel, mel, renderer._engine.family))
    assert list(renderer._clips("s")) == list(range(28, 40))


def test_the_model_plays_through_the_timeline(renderer: ModelRenderer) -> None:
    sim = Sim(renderer=renderer, settings=TimelineSettings())
    sim.run(6)
    sim.steer("a", bpm=150.0)
    sim.run(2)
    sim.steer("b", "rain")
    sim.run(3)
    assert [sim.answers(ident)[-1] for ident in "ab"] == ["Applied", "Applied"]
    assert sim.timeline.playout.underruns == 0
    assert np.abs(sim.pcm).max() <= 1


def test_rendering_offline_gives_the_length_that_was_asked_for(renderer: ModelRenderer) -> None:
    score = Score.of(StationConfig(bpm=140.0), renderer.info, Journey.single("jazz"))
    pcm = np.concatenate(list(run(score, renderer, 4 * 48_000 + 17, TimelineSettings(ahead_s=1.0))))
    assert pcm.shape == (4 * 48_000 + 17, 2)
    assert pcm.any()


def test_a_single_clip_has_its_picture_and_all_its_audio(renderer: ModelRenderer) -> None:
    renderer.submit(job(0, final=True, single=True, hops=(480.0,) * 8))
    reports, audio = finish(renderer)
    picture, *_, done = reports
    assert isinstance(picture, Picture)
    assert isinstance(done, Done)
    assert audio[0].shape == (512 * 480, 2)
    image = np.asarray(Image.open(io.BytesIO(picture.jpeg)))
    assert image.shape == (512, 512, 3)
    assert image.std() > 5  # not blank


def test_a_mask_keeps_a_part_of_a_single_clip(renderer: ModelRenderer) -> None:
    def latents(clip: int, mask: str | None) -> torch.Tensor:
        spec = Journey.single("jazz", seed=3, seed_image="hip_hop", denoising=1.0).clip(0)
        renderer.submit(msgspec.structs.replace(job(0, clip=clip, final=True, mask=mask, single=True), spec=spec))
        finish(renderer)
        return renderer._clips("s")[clip][1].latents

    renderer._engine.seed_images.source = SeedLibrary()
    kept = renderer._engine.seed_images.clip("hip_hop").latents
    half = latents(1, "left_half")
    assert torch.allclose(half[..., 16:], kept[..., 16:], atol=1e-5)
    assert not torch.allclose(half[..., :16], kept[..., :16], atol=0.1)
    renderer.submit(job(0, clip=7, final=True, mask="no_such_mask", single=True))
    failed = finish(renderer)[0][-1]
    assert isinstance(failed, Failed)
    assert "mask" in failed.message


def test_stems_are_drums_beside_the_same_music(family: MiniFamily) -> None:
    sounds = {}
    for stems in (False, True):
        renderer = ModelRenderer(Engine(family), Vocoder(family.params))
        for number in range(2):
            renderer.submit(job(number, stems=stems, previous=number - 1 if number else None, final=number == 1))
        sounds[stems] = np.concatenate([*finish(renderer)[1].values()])
    assert sounds[True].shape == (len(sounds[False]), 4)
    assert np.array_equal(sounds[True][:, :2], sounds[False])
    drums = sounds[True][:, 2:]
    assert drums.any()
    assert (drums**2).sum() < (sounds[False] ** 2).sum()


def test_a_log_with_drafts_replays_to_the_same_samples(family: MiniFamily, tmp_path: Path) -> None:
    engine = Engine(family, steps=8)
    sim = Sim(renderer=ModelRenderer(engine, Vocoder(family.params)), settings=TimelineSettings())
    sim.steps = 3  # an evaluation takes 33 ms
    sim.run(4)
    for ident, prompt in (("a", "rain"), ("b", "bells")):
        sim.steer(ident, prompt)
        sim.run(3)
    sim.steer("c", bpm=150.0)
    sim.run(2)
    drafted = [job for job in sim.jobs if job.draft_end]
    assert len(drafted) == 3  # the first clip, and each steer with a new clip
    assert all(job.number == 0 and job.draft_steps == 3 for job in drafted)
    assert [sim.answers(ident)[-1] for ident in "abc"] == ["Applied"] * 3
    assert (sim.timeline.playout.underruns, sim.timeline.playout.repeats) == (0, 0)
    path = tmp_path / "log.jsonl"
    sim.timeline.log.save(path)
    again = np.concatenate(list(replay(path, ModelRenderer(engine, Vocoder(family.params)), len(sim.pcm))))
    assert np.array_equal(again[:, 0], sim.pcm)


@pytest.mark.parametrize(
    ("gpus", "device", "devices"),
    [
        (2, "auto", ["auto", "cuda:1", "cuda:0", "cuda:1"]),
        (2, "cuda", ["cuda", "cuda:1", "cuda:0", "cuda:1"]),
        (2, "cpu", ["cpu"] * 4),
        (0, "auto", ["auto"] * 4),
        (1, "auto", ["auto", "cuda:0", "cuda:0", "cuda:0"]),
    ],
)
def test_workers_take_one_gpu_after_the_other(
    monkeypatch: pytest.MonkeyPatch, gpus: int, device: str, devices: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert [model_renderer._device(device, worker) for worker in range(4)] == devices
