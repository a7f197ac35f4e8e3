"""The payload of Riffusion's server (``POST /run_inference/``), with that server's rules for types. No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from riffstream.errors import RiffstreamError

__all__ = ["InferenceInput", "PayloadError", "PromptInput"]


class PayloadError(RiffstreamError, ValueError):
    """A payload that Riffusion's server rejects with status 400; the message is the body of its answer."""


@dataclass(frozen=True, slots=True)
class PromptInput:
    """One end of the interpolation.

    Attributes:
        prompt: prompt, with optional weights.
        seed: seed of the noise.
        negative_prompt: accepted and ignored, as in Riffusion.
        denoising: strength of img2img, nominally 0 to 1.
        guidance: scale of classifier-free guidance; guidance is on above 1.
    """

    prompt: str
    seed: int
    negative_prompt: str | None = None
    denoising: float = 0.75
    guidance: float = 7.0


@dataclass(frozen=True, slots=True)
class InferenceInput:
    """Inputs of ``riffuse``.

    Attributes:
        start: first end of the interpolation.
        end: second end of the interpolation.
        alpha: position between them, nominally 0 to 1.
        num_inference_steps: steps of the whole schedule; ``denoising`` selects a part of it.
        seed_image_id: name of the seed image.
        mask_image_id: name of the mask; without a mask the whole image is repainted.
    """

    start: PromptInput
    end: PromptInput
    alpha: float
    num_inference_steps: int = 50
    seed_image_id: str = "og_beat"
    mask_image_id: str | None = None

    @classmethod
    def from_payload(cls, payload: Any) -> InferenceInput:
        """Check a decoded JSON value. Unknown fields are ignored. A bool is a valid int, and an int a valid float; all
        other types must match.

        Raises:
            PayloadError: a missing field or a wrong type, with the original's message.
        """
        values = payload if isinstance(payload, Mapping) else {}
        start, end = (
            PromptInput(**_fields(PromptInput, _part(values, name), _PROMPT, f"{name}.")) for name in ("start", "end")
        )
        return cls(start=start, end=end, **_fields(cls, values, _INPUT, ""))


Types = tuple[str, tuple[type, ...]]  # name in messages, accepted types
_TEXT: Types = ("str", (str,))
_WHOLE: Types = ("int", (int,))
_NUMBER: Types = ("float", (int, float))
_OPTIONAL: Types = ("typing.Optional[str]", (str, type(None)))
_PROMPT: dict[str, Types] = {
    "prompt": _TEXT,
    "seed": _WHOLE,
    "negative_prompt": _OPTIONAL,
    "denoising": _NUMBER,
    "guidance": _NUMBER,
}
_INPUT: dict[str, Types] = {
    "alpha": _NUMBER,
    "num_inference_steps": _WHOLE,
    "seed_image_id": _TEXT,
    "mask_image_id": _OPTIONAL,
}


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if name not in values:
        raise PayloadError(f'missing value for field "{name}"')
    part = values[name]
    if not isinstance(part, Mapping):
        raise _wrong(name, "PromptInput", part)
    return part


def _fields(kind: type, values: Mapping[str, Any], types: Mapping[str, Types], prefix: str) -> dict[str, Any]:
    required = {field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING}
    found: dict[str, Any] = {}
    for name, (label, accepted) in types.items():
        if name in values:
            if not isinstance(values[name], accepted):
                raise _wrong(prefix + name, label, values[name])
            found[name] = values[name]
        elif name in required:
            raise PayloadError(f'missing value for field "{prefix}{name}"')
    return found


def _wrong(field: str, label: str, value: Any) -> PayloadError:
    return PayloadError(
        f'wrong value type for field "{field}" - should be "{label}" instead of value "{value}" of type '
        f'"{type(value).__name__}"'
    )
