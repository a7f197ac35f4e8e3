import argparse
import itertools
import json
import math

import numpy as np
import pytest

from riffstream.bench.common import (
    check_ranges,
    environment,
    environment_lines,
    markdown_table,
    report,
    time_runs,
    to_json,
)
from riffstream.bench.material import drum_hits, rendered_midi, synthetic_piece
from riffstream.bench.soak import write_json
from riffstream.cli import main
from riffstream.errors import ParameterError


def test_time_runs_gives_median_and_95th_percentile():
    ticks = itertools.accumulate(itertools.chain.from_iterable((0, step) for step in (1, 2, 3, 4, 100)))
    calls = []
    timing = time_runs(lambda: calls.append(1), runs=5, warm_up=2, clock=lambda: float(next(ticks)))
    assert (timing.median_s, timing.p95_s, timing.runs) == (3.0, 100.0, 5)
    assert len(calls) == 7


def test_markdown_table_aligns_and_rounds():
    text = markdown_table(("name", "s"), [("a", 0.0123456), ("bb", 1234.5), ("c", None)])
    assert text.splitlines() == [
        "| name | s      |",
        "| ---- | ------ |",
        "| a    | 0.0123 |",
        "| bb   | 1234   |",
        "| c    |        |",
    ]


def test_what_is_no_number_is_null_in_json(tmp_path):
    """``NaN`` and ``Infinity`` are errors for every other reader of JSON."""
    value = {"a": [math.nan, (math.inf, 1.5)], "b": {"c": -math.inf, "d": None, "e": "NaN"}}
    write_json(tmp_path / "soak.json", value)
    for text in (to_json(value), (tmp_path / "soak.json").read_text()):
        found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
        assert found == {"a": [None, [None, 1.5]], "b": {"c": None, "d": None, "e": "NaN"}}


def test_options_are_checked_with_their_names():
    args = argparse.Namespace(at_once=5, seconds=math.nan, steers=None)
    check_ranges(args, at_once=(1, 5), steers=(1, 2))
    with pytest.raises(ParameterError, match=r"^--at-once is 5; allowed: 0.5 to 4$"):
        check_ranges(args, at_once=(0.5, 4))
    with pytest.raises(ParameterError, match=r"--seconds"):
        check_ranges(args, seconds=(0, 1_000_000))


def test_report_names_machine_and_versions():
    facts = environment(("numpy", "no-such-package"))
    line = environment_lines(facts)
    assert f"numpy {np.__version__}" in line
    assert "no-such-package not installed" in line
    assert str(facts["commit"]) in line
    page = report("Title", [("Heading", "body")], facts)
    assert page.startswith("# Title\n\n")
    assert page.endswith("## Heading\n\nbody")


def test_material_is_stereo_finite_and_repeatable():
    piece = synthetic_piece(8000, bars=1)
    assert piece.shape == (2, 16000)
    assert np.isfinite(piece).all()
    assert 0.5 < np.abs(piece).max() <= 1
    assert np.array_equal(piece, synthetic_piece(8000, bars=1))


def test_drum_hits_start_out_of_silence():
    wave, onsets = drum_hits(48000)
    assert len(onsets) > 4
    for start in onsets:
        assert np.abs(wave[start - 960 : start]).max() < 1e-3
        assert np.abs(wave[start : start + 960]).max() > 0.1


def test_midi_piece_is_played(need_tool):
    need_tool("fluidsynth")
    wave = rendered_midi(22050, bars=1)
    if wave is None:
        pytest.skip("no General MIDI sound font is installed")
    assert wave.shape == (2, 44100)
    assert np.abs(wave).max() > 0.05


def test_bench_command_lists_benchmarks(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "--help"])
    assert stopped.value.code == 0
    assert "riffstream bench dsp --quick" in capsys.readouterr().out


def test_bench_command_refuses_an_unknown_benchmark(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "disk"])
    assert stopped.value.code == 2
    assert "dsp" in capsys.readouterr().err
