"""The frames at the end of a clip lead to the next clip as frames inside a clip lead to the next beat."""

from __future__ import annotations

import torch

from riffstream.generator.joins import QUIET, complete, reach
from riffstream.spectrogram.params import SpectrogramParams
from riffstream.spectrogram.vocoder import Vocoder


def test_an_attack_rises_evenly_in_decibels() -> None:
    tail, head = torch.full((1, 1, 3), 0.1), torch.full((1, 1, 1), 100.0)
    torch.testing.assert_close(complete(tail, head), torch.tensor([[[1.0, 10.0]]]))


def test_what_ends_falls_evenly() -> None:
    tail, head = torch.full((1, 1, 3), 100.0), torch.full((1, 1, 1), 0.1)
    torch.testing.assert_close(complete(tail, head), torch.tensor([[[10.0, 1.0]]]))


def test_what_is_on_its_way_or_steady_stays() -> None:
    torch.testing.assert_close(
        complete(torch.tensor([[[0.1, 5.0, 50.0]]]), torch.tensor([[[100.0]]])), torch.tensor([[[5.0, 50.0]]])
    )
    steady = torch.full((2, 4, 3), 0.7)
    torch.testing.assert_close(complete(steady, steady[..., :1]), steady[..., 1:])
    assert complete(torch.zeros(1, 1, 3), torch.zeros(1, 1, 1)).max() <= QUIET + 1e-6


def test_reach_is_half_a_window() -> None:
    assert [reach(2048, hop) for hop in (375.0, 409.1, 700.0, 1100.0)] == [2, 2, 1, 0]


def test_completing_gives_the_attack_its_slope() -> None:
    params = SpectrogramParams.mini()
    vocoder = Vocoder(params, iterations=0)
    quiet, loud = torch.full((2, 256, 64), 0.02), torch.full((2, 256, 64), 2.0)
    bare = torch.cat([quiet, loud], -1)
    done = bare.clone()
    done[..., 62:64] = complete(bare[..., 61:64], bare[..., 64:65])
    rise = [vocoder(mel, hop=375.0)[0, 375 * 62 : 375 * 64].square().mean().sqrt() for mel in (bare, done)]
    assert rise[1] > 1.5 * rise[0]  # 1.8: half of these samples lie under windows that are all quiet
