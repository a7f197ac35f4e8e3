"""The payload of ``/run_inference/`` is read as the original's server reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from riffstream.journey.inference_input import InferenceInput, PayloadError
from tests.diffusion.conftest import COMPACT

PAYLOADS = json.loads((COMPACT / "payloads.json").read_text())


@pytest.mark.parametrize("case", PAYLOADS, ids=lambda case: case["name"])
def test_a_payload_is_answered_as_by_the_original(case: dict[str, Any]) -> None:
    request = json.loads(case["request"]) if isinstance(case["request"], str) else case["request"]
    if case["status"] == 200:
        assert f"PASSED VALIDATION {InferenceInput.from_payload(request)}" == case["body"]
    else:
        with pytest.raises(PayloadError) as caught:
            InferenceInput.from_payload(request)
        assert str(caught.value) == case["body"]


def test_a_prompt_that_is_no_object_is_refused() -> None:
    with pytest.raises(PayloadError, match='"start" - should be "PromptInput"'):
        InferenceInput.from_payload({"start": "jazz", "end": {}, "alpha": 0.5})


def test_other_types_are_refused_in_the_words_of_the_original() -> None:
    ends = {"start": {"prompt": "a", "seed": 1, "negative_prompt": 3}, "end": {"prompt": "b", "seed": True}}
    with pytest.raises(PayloadError, match=r'"start.negative_prompt" - should be "typing.Optional\[str\]"'):
        InferenceInput.from_payload({**ends, "alpha": 0.5})
    ends["start"]["negative_prompt"] = None
    assert InferenceInput.from_payload({**ends, "alpha": True}).alpha is True
