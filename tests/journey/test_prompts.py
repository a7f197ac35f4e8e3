"""Weights in prompts and mixes of prompts."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riffstream.errors import ParameterError
from riffstream.journey.prompts import PromptPart, blend_mixes, normalise_mix, parse_weights
from tests.diffusion.conftest import COMPACT

PARSED = json.loads((COMPACT / "parsed.json").read_text())
SYNTAX = "()[]\\"


def runs(prompt: str) -> list[list[object]]:
    return [[run.text, run.weight] for run in parse_weights(prompt)]


@pytest.mark.parametrize(("prompt", "expected"), PARSED, ids=[prompt[:20] for prompt, _ in PARSED])
def test_weights_are_read_as_by_riffusion(prompt: str, expected: list[list[object]]) -> None:
    assert runs(prompt) == expected


@given(st.text(max_size=40))
def test_escaped_text_comes_back_as_it_was(text: str) -> None:
    escaped = "".join(f"\\{character}" if character in SYNTAX else character for character in text)
    assert runs(escaped) == [[text, 1.0]]


@given(st.text(alphabet=st.sampled_from("ab :.1-()[]\\"), max_size=24))
def test_any_text_is_a_prompt(text: str) -> None:
    parsed = parse_weights(text)
    assert parsed
    assert all(math.isfinite(run.weight) for run in parsed)
    assert "".join(run.text for run in parsed).count("a") == text.count("a")
    assert all(one.weight != other.weight for one, other in itertools.pairwise(parsed))


def test_brackets_of_both_kinds_may_interleave() -> None:
    assert runs("(a [b) c]") == [["a ", 1.1], ["b", pytest.approx(1.0)], [" c", 1 / 1.1]]


def test_a_weight_that_is_no_number_is_text() -> None:
    assert runs("(a:1.2.3)") == [["a:1.2.3", 1.1]]
    assert runs("a:1.2)") == [["a:1.2)", 1.0]]


def test_mixes_that_mean_the_same_are_equal() -> None:
    once = normalise_mix([PromptPart("jazz", 3), PromptPart("techno", 1)])
    assert once == (PromptPart("jazz", 0.75), PromptPart("techno", 0.25))
    parts = [PromptPart("jazz", 1), PromptPart("techno", 1), PromptPart("polka", 0), PromptPart("jazz", 2)]
    assert normalise_mix(parts) == once
    assert normalise_mix("jazz") == (PromptPart("jazz", 1.0),)


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ([], "prompts is 0; allowed: 1 to 16"),
        ([PromptPart(str(number)) for number in range(17)], "prompts is 17"),
        ([PromptPart("jazz", 0), PromptPart("techno", 0)], "at least one weight above 0"),
    ],
)
def test_a_mix_that_means_nothing_is_refused(mix: list[PromptPart], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        normalise_mix(mix)


@pytest.mark.parametrize("weight", [-0.5, math.nan, math.inf])
def test_weights_outside_the_range_are_refused(weight: float) -> None:
    with pytest.raises(ParameterError, match="weight"):
        normalise_mix([PromptPart("jazz", 1), PromptPart("techno", weight)])


@given(st.floats(0, 1))
def test_a_blend_moves_shares_linearly(alpha: float) -> None:
    start = [PromptPart("jazz", 1), PromptPart("drums", 1)]
    shares = {part.text: part.weight for part in blend_mixes(start, "drums", alpha)}
    assert shares.get("jazz", 0.0) == pytest.approx((1 - alpha) / 2)
    assert shares["drums"] == pytest.approx((1 + alpha) / 2)


def test_a_blend_ends_in_its_mixes() -> None:
    assert blend_mixes("jazz", "techno", 0) == normalise_mix("jazz")
    assert blend_mixes("jazz", "techno", 1) == normalise_mix("techno")
    with pytest.raises(ParameterError, match="alpha"):
        blend_mixes("jazz", "techno", 1.01)


def test_reading_prompts_needs_no_torch() -> None:
    code = (
        "import sys, riffstream.journey.prompts, riffstream.journey.inference_input; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
