"""``POST /run_inference/``: the interface of Riffusion's server, for its web app and other clients of it.

One request is one clip: a picture, its audio, and its duration. The rules of the payload are Riffusion's
(``journey/inference_input.py``), with ranges and with errors as JSON. The embedded model plays every clip at one tempo
(:data:`BPM`), because Riffusion's clients expect clips of one length.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from aiohttp import web

from riffstream.errors import ParameterError
from riffstream.generator.messages import Info
from riffstream.journey.inference_input import InferenceInput, PayloadError, PromptInput
from riffstream.journey.keyframe import ClipSpec, Keyframe
from riffstream.journey.prompts import PromptPart
from riffstream.protocol import ProtocolError, clean_text
from riffstream.ranges import RANGES
from riffstream.server.answers import RiffusionClip, json_answer
from riffstream.server.bodies import json_body, refused
from riffstream.server.context import CONTEXT, Context, refuse
from riffstream.server.making_clips import check_rate, data_url, made, mp3_file, turn
from riffstream.server.moderation import Texts
from riffstream.server.openapi import Answer, Body, described

__all__ = ["clip_spec", "routes", "sampler_steps"]

routes = web.RouteTableDef()

BPM: Final = 93.75  # 8 beats are 5.12 s, the 512 columns of 10 ms of Riffusion's pictures
GUIDANCE: Final = 7.0  # Riffusion's default. Models with a beat grid have their own in its place
ALPHA_SLACK: Final = 1e-3  # Riffusion's web app adds up alpha and lets it exceed 1 by this
ID_CHARS: Final = 200


@routes.post("/run_inference")
@routes.post("/run_inference/")
@described(
    "clips",
    Answer(RiffusionClip, "the clip"),
    errors=(400, 403, 408, 413, 429, 503),
    body=Body({"application/json": InferenceInput}, "Riffusion's payload; its content type does not matter"),
    right="steer",
)
async def run_inference(request: web.Request) -> web.Response:
    """Make a clip between two prompts: a picture and its audio."""
    context = request.app[CONTEXT]
    context.steering(request, "making clips")
    if context.config.limits.clips == 0:
        raise refuse(web.HTTPForbidden, "forbidden", "this server makes no single clips (limits.clips is 0)")
    with context.admitted(request):
        inputs = await _inputs(request)
        info = context.hub.info
        if info is None:
            raise refuse(web.HTTPServiceUnavailable, "busy", "the model is still loading", retry_after_s=5)
        try:
            spec = clip_spec(inputs, info, context.config.limits.prompt_chars)
            steps = sampler_steps(inputs.num_inference_steps, info)
        except ParameterError as error:
            raise refuse(web.HTTPBadRequest, "bad_request", " ".join(str(error).split())) from None
        except ProtocolError as error:
            raise refused(error) from None
        check_rate(context, context.asked(request).address)
        spec = await _moderated(context, spec)
        with turn(context):
            bpm = BPM if info.bpm is not None else None
            clip = await made(context, spec, renamed=_renamed, steps=steps, mask=inputs.mask_image_id or None, bpm=bpm)
            audio, duration_s = await asyncio.to_thread(mp3_file, clip.pcm, context.config.timeline)
    context.counters["clips"] += 1
    return json_answer(
        RiffusionClip(
            image=data_url("image/jpeg", clip.picture), audio=data_url("audio/mpeg", audio), duration_s=duration_s
        )
    )


async def _moderated(context: Context, spec: ClipSpec) -> ClipSpec:
    """A clip with the texts that the rules for prompts allow. Raises web.HTTPException."""
    keyframes = []
    for keyframe in (spec.start, spec.end):
        texts = Texts(tuple(part.text for part in keyframe.prompts), keyframe.negative)
        try:
            texts = await context.moderation.decide(texts, station="", way="clip")
        except ProtocolError as error:
            raise refused(error) from None
        prompts = tuple(replace(part, text=text) for part, text in zip(keyframe.prompts, texts.prompts, strict=True))
        keyframes.append(replace(keyframe, prompts=prompts, negative=texts.negative))
    return replace(spec, start=keyframes[0], end=keyframes[1])


async def _inputs(request: web.Request) -> InferenceInput:
    body = await json_body(request)
    try:
        return InferenceInput.from_payload(body)
    except PayloadError as error:
        raise refuse(web.HTTPBadRequest, "bad_request", str(error)[:500]) from None


def _renamed(message: str) -> str:
    """The generator's message with the payload's names."""
    for ours, theirs in (("seed_image is", "seed_image_id is"), ("mask is", "mask_image_id is")):
        if message.startswith(ours):
            return theirs + message[len(ours) :]
    return message


def clip_spec(inputs: InferenceInput, info: Info, prompt_chars: int) -> ClipSpec:
    """The clip of a payload.

    Raises:
        ParameterError: a value out of its range, by the payload's name.
        ProtocolError: a prompt that is too long.
    """
    for name in ("seed_image_id", "mask_image_id"):
        given = getattr(inputs, name)
        if given is not None and (len(given) > ID_CHARS or not given.isprintable()):
            raise ParameterError(name, given[:40], f"a name of up to {ID_CHARS} characters")
    alpha = _checked("alpha", inputs.alpha, slack=ALPHA_SLACK)
    start = _keyframe(inputs.start, "start", inputs.seed_image_id, info, prompt_chars)
    end = _keyframe(inputs.end, "end", inputs.seed_image_id, info, prompt_chars)
    return ClipSpec(start, end, alpha)


def _keyframe(part: PromptInput, where: str, seed_image: str, info: Info, prompt_chars: int) -> Keyframe:
    guidance = _checked("guidance", part.guidance, where)
    if info.bpm is not None:
        guidance = min(guidance / GUIDANCE * info.guidance, RANGES["guidance"].high)
    return Keyframe(
        (PromptPart(clean_text(part.prompt, limit=prompt_chars, field=f"{where}.prompt")),),
        negative=clean_text(part.negative_prompt or "", limit=prompt_chars, field=f"{where}.negative_prompt"),
        seed=int(_checked("seed", part.seed, where)),
        denoising=_checked("denoising", part.denoising, where),
        guidance=guidance,
        seed_image=seed_image or None,
        bpm=BPM if info.bpm is not None else None,
    )


def sampler_steps(asked: int, info: Info) -> int:
    """Sampler steps of a payload's ``num_inference_steps``; models with a beat grid take at most their own number.

    They are distilled to it, and more steps are slower and no better. Riffusion's default is 50. Raises ParameterError.
    """
    steps = int(_checked("steps", asked, field="num_inference_steps"))
    return min(steps, info.steps) if info.bpm is not None else steps


def _checked(name: str, value: float, where: str = "", *, slack: float = 0.0, field: str | None = None) -> float:
    """Check a number against :data:`RANGES`; a number that exceeds it by ``slack`` becomes its end."""
    rule = RANGES[name]
    if not rule.low - slack <= value <= rule.high + slack:
        shown = f"{where}.{name}" if where else field or name
        raise ParameterError(shown, _shown(value), rule.words)
    return min(max(value, rule.low), rule.high)


def _shown(value: float) -> float | str:
    """A number for a message; integers may have thousands of digits."""
    return "a huge number" if isinstance(value, int) and abs(value) > 10**18 else value
