"""Batch files: the three forms say the same, and mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from riffstream.commands.rendering.batch_file import ParameterSet, read_batch
from riffstream.errors import MediaError, MediaWarning, ParameterError, RiffstreamError

TOML = """
[defaults]
seconds = 10
bpm = 98.5

[[render]]
name = "bells"
prompt = "church bells"
seed = 7

[[render]]
prompts = ["jazz", "techno"]
parts = { drums = 0.0, pad = 0.5 }
bpm = 120
"""
SETS = [
    ParameterSet("bells", {"seconds": 10, "bpm": 98.5, "prompt": "church bells", "seed": 7}),
    ParameterSet(
        "002-jazz-techno",
        {"seconds": 10, "bpm": 120, "prompts": ["jazz", "techno"], "parts": {"drums": 0.0, "pad": 0.5}},
    ),
]
JSON = json.dumps(
    [
        {"name": "bells", "prompt": "church bells", "seconds": 10, "bpm": 98.5, "seed": 7},
        {"prompts": ["jazz", "techno"], "seconds": 10, "bpm": 120, "parts": {"drums": 0.0, "pad": 0.5}},
    ]
)
CSV = """name,prompt,prompts,seconds,bpm,seed,parts
bells,church bells,,10,98.5,7,

,,jazz|techno,10,120,,drums=0.0 pad=0.5
"""


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", TOML),
        ("a.json", JSON),
        ("a.csv", CSV),
        ("A.CSV", "\ufeff" + CSV.replace(",", ";").replace("98.5", "98,5").replace("\n", "\r\n")),  # a spreadsheet's
        ("tabs.csv", CSV.replace(",", "\t")),
    ],
)
def test_each_form_gives_the_same_sets(tmp_path: Path, name: str, text: str) -> None:
    assert read_batch(written(tmp_path, name, text)) == SETS


def test_lists_give_every_combination(tmp_path: Path) -> None:
    text = '[[render]]\nname = "x"\nprompt = ["a", "b"]\nseed = [1, 2]\nprompts = []\n'.replace("prompts = []\n", "")
    sets = read_batch(written(tmp_path, "a.toml", text))
    assert [(each.values["prompt"], each.values["seed"]) for each in sets] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert sets[0].name == "x-prompt-a-seed-1"


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("a.yaml", "", "toml, .json or .csv"),
        ("a.toml", "", "no parameter sets"),
        ("a.csv", "prompt\n", "no parameter sets"),
        ("a.toml", "[[render]\n", "line 1"),
        ("a.json", '{"renders": []}', "defaults and render"),
        ("a.json", "7", "a table or a list"),
        ("a.json", '[{"promt": "a"}]', "did you mean 'prompt'"),
        ("a.csv", "promt\na\n", "did you mean 'prompt'"),
        ("a.json", '[{"prompt": 7}]', "render[0].prompt is 7"),
        ("a.json", '[{"prompts": [7]}]', "a list of strings"),
        ("a.json", '[{"seed": true}]', "a whole number"),
        ("a.csv", "prompt,seed\na,1.5\n", "line 2, seed is '1.5'"),
        ("a.csv", "prompt,parts\na,drums\n", "PART=LEVEL"),
        ("a.csv", "prompt\na,b\n", "1 cells"),
        ("a.csv", 'prompt\n"a\n', "unexpected end"),
        ("a.json", '[{"name": "../up", "prompt": "a"}]', "letters, digits"),
        ("a.json", '[{"name": "index", "prompt": "a"}]', "not index"),
        ("a.json", '[{"name": "X", "prompt": "a"}, {"name": "x", "prompt": "a"}]', "rendering 1 has it"),
        ("a.json", '{"defaults": 3}', "defaults is 3"),
        ("a.json", '[{"prompt": "a", "seed": ' + str(list(range(10_001))) + "}]", "more than 10000"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, name: str, text: str, shown: str) -> None:
    with pytest.raises(RiffstreamError) as raised:
        read_batch(written(tmp_path, name, text))
    assert shown in str(raised.value)
    assert isinstance(raised.value, ParameterError | MediaError)


def test_a_missing_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="No such file"):
        read_batch(tmp_path / "none.toml")


PLAYGROUND = {
    "params": {
        "checkpoint": "riffusion/riffusion-model-v1",
        "scheduler": "DPMSolverMultistepScheduler",
        "num_inference_steps": 50,
        "guidance": 7.0,
        "width": 512,
    },
    "entries": [
        {"prompt": "Church bells", "seed": 42},
        {"prompt": "electronic beats", "negative_prompt": "drums"},
    ],
}


def test_a_file_of_riffusions_playground_is_read_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path, "inputs.json", json.dumps(PLAYGROUND))
    with pytest.warns(MediaWarning, match="checkpoint, scheduler .* not used, see --model and --sampler"):
        sets = read_batch(path)
    shared = {"seed": 42, "steps": 50, "guidance": 7.0, "seconds": pytest.approx(5.12)}
    assert sets == [
        ParameterSet("001-church-bells", {**shared, "prompt": "Church bells"}),
        ParameterSet("002-electronic-beats", {**shared, "prompt": "electronic beats", "negative": "drums"}),
    ]


def test_options_of_the_whole_batch_in_an_entry_are_reported(tmp_path: Path) -> None:
    entries = [{"prompt": "bells", "scheduler": "PNDMScheduler"}]
    path = written(tmp_path, "inputs.json", json.dumps({"entries": entries}))
    with pytest.warns(MediaWarning, match="scheduler .* not used, see --sampler"):
        assert read_batch(path)[0].values["prompt"] == "bells"


def test_several_params_of_the_playground_stand_side_by_side(tmp_path: Path) -> None:
    params = [{"name": "short", "width": 256, "seed": 3}, {"num_inference_steps": 20}]
    path = written(tmp_path, "inputs.json", json.dumps({**PLAYGROUND, "params": params}))
    sets = read_batch(path)
    assert [(each.values.get("steps"), each.values["seed"]) for each in sets] == [
        (None, 42),  # the entry's own
        (20, 42),
        (None, 3),
        (20, 42),
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"entries": {}}, "entries is {}"),
        ({"entries": ["bells"]}, r"entries\[0\] is 'bells'"),
        ({"entries": [{"promt": "bells"}]}, r"entries\[0\] is 'promt'.*did you mean 'prompt'"),
        ({"entries": [{"prompt": "bells", "seed": "7"}]}, r"entries\[0\].seed is '7'; allowed: a whole number"),
        ({"params": {"width": "512"}}, "params.width is '512'; allowed: a number"),
        ({"params": [3]}, r"params\[0\] is 3"),
        ({"render": []}, "batch is 'render'; allowed: the keys params and entries"),
    ],
)
def test_a_mistake_in_a_playground_file_is_named(change: dict[str, object], words: str, tmp_path: Path) -> None:
    path = written(tmp_path, "inputs.json", json.dumps({**PLAYGROUND, **change}))
    with pytest.raises(RiffstreamError, match=words):
        read_batch(path)
