"""The seed library: names, likeness, the command, and the shipped one."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from riffstream.cli import main
from riffstream.diffusion.mini.family import MODEL_FOLDER, MiniFamily
from riffstream.diffusion.mini.text import MiniTextEncoder
from riffstream.errors import CheckpointError, ParameterError
from riffstream.journey.conditions import Levels
from riffstream.models.seeds import RIFFUSION_NAMES, SEEDS_FOLDER, SeedEntry, SeedLibrary


@pytest.fixture(scope="module")
def encoder() -> MiniTextEncoder:
    return MiniTextEncoder.random(width=32)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, encoder: MiniTextEncoder) -> SeedLibrary:
    folder = tmp_path_factory.mktemp("seeds")
    entries = [
        SeedEntry("slow_piano", "piano", ("piano", "calm"), "slow calm piano", 70.0, 8),
        SeedEntry(
            "techno",
            "techno",
            ("909 drums",),
            "driving techno",
            130.0,
            8,
            ("for running",),
            "Am F / G",
            {"drums": 1.0, "lead": 0.0},
            0.8,
            0.9,
            0.6,
        ),
        SeedEntry("waltz", "waltz", ("strings",), "vienna waltz", 170.0, 6),
    ]
    latents = torch.arange(3.0)[:, None, None, None] + torch.zeros(3, 4, 16, 32)
    SeedLibrary.write(folder, entries, latents, encoder.sentences([entry.caption for entry in entries]))
    return SeedLibrary(folder)


def test_entries_and_latents_read_back(library: SeedLibrary) -> None:
    assert library.names == ["slow_piano", "techno", "waltz"]
    assert library["techno"].tags == ("909 drums",)
    assert library.latents("techno").shape == (4, 16, 32)
    assert torch.allclose(library.latents("techno"), torch.ones(()), atol=1e-6)
    assert library["techno"].levels == Levels({"drums": 1.0, "lead": 0.0}, 0.8, 0.9, 0.6)
    assert (library["techno"].chords, library["techno"].captions) == ("Am F / G", ("for running",))
    assert (library["waltz"].parts, library["waltz"].energy, library["waltz"].chords) == ({}, None, "")
    assert library.latents("waltz").shape == (4, 16, 24)  # two bars of 3/4


def test_eight_bits_are_within_a_255th_of_a_channels_range(tmp_path: Path) -> None:
    torch.manual_seed(0)
    latents = torch.randn(3, 4, 16, 32) * torch.logspace(-2, 2, 4)[:, None, None]
    latents[1, 2] = 0
    vectors = torch.nn.functional.normalize(torch.randn(3, 32), dim=-1)
    SeedLibrary.write(tmp_path, [SeedEntry(name, name, (), name, 100.0, 8) for name in "abc"], latents, vectors)
    read = SeedLibrary(tmp_path)
    step = latents.abs().amax((2, 3), keepdim=True) / 127
    assert ((read.stacked()[0] - latents).abs() <= step / 2 + 1e-6).all()
    assert torch.nn.functional.cosine_similarity(read.stacked()[1], vectors).min() > 0.9999
    for place, name in enumerate("abc"):  # one loop alone is the same
        assert torch.equal(read.latents(name), read.stacked()[0][place])
    assert (tmp_path / "seeds.safetensors").stat().st_size < 1.1 * (latents.numel() + vectors.numel())


def test_a_library_of_older_versions_is_read(tmp_path: Path) -> None:
    """Float16 without scales, and entries without conditions."""
    latents, vectors = torch.randn(2, 20, 16, 32).half(), torch.randn(2, 32).half()
    save_file({"latents": latents, "vectors": vectors}, tmp_path / "seeds.safetensors")
    rows = [
        {"name": name, "style": "x", "tags": ["a"], "caption": "b", "bpm": 99.5, "beats": beats}
        for name, beats in (("four", 8), ("three", 6))
    ]
    (tmp_path / "seeds.json").write_text(json.dumps(rows))
    library = SeedLibrary(tmp_path)
    assert torch.equal(library.latents("four"), latents[0].float())
    assert torch.equal(library.latents("three"), latents[1, ..., :24].float())
    assert torch.equal(library.stacked()[1], vectors.float())
    assert library.picture("three").shape == (256, 384, 3)
    assert (library["four"].parts, library["four"].density, library["four"].captions) == ({}, None, ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda held: held.pop("latents.scale"), "latents.scale"),
        (lambda held: held.update({"latents.scale": torch.ones(3, 5)}), "a scale is"),
        (lambda held: held.update(latents=held["latents"][:2]), "latents for 2 seeds, not 3"),
        (lambda held: held.pop("latents"), "latents"),
    ],
)
def test_damaged_tensors_are_reported(
    library: SeedLibrary, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], words: str
) -> None:
    held = load_file(library.folder / "seeds.safetensors")
    change(held)
    save_file(held, tmp_path / "seeds.safetensors")
    (tmp_path / "seeds.json").write_text((library.folder / "seeds.json").read_text())
    with pytest.raises(CheckpointError, match=words):
        SeedLibrary(tmp_path).latents("techno")
    with pytest.raises(CheckpointError, match=r"seeds\.safetensors cannot be read"):
        SeedLibrary(tmp_path).stacked()


def test_parts_and_levels_choose_among_loops_that_are_as_near(tmp_path: Path, encoder: MiniTextEncoder) -> None:
    rows: dict[str, tuple[dict[str, float], float | None]] = {
        "unknown": ({}, None),
        "full": ({"drums": 1.0, "lead": 1.0}, 0.9),
        "soft": ({"drums": 0.8, "lead": 0.1}, 0.2),
        "no_drums": ({"drums": 0.1, "lead": 1.0}, 0.8),
    }
    entries = [
        SeedEntry(name, "techno", (), "techno", 120.0, 8, parts=parts, energy=energy)
        for name, (parts, energy) in rows.items()
    ]
    vectors = encoder.sentences(["techno"] * len(entries))
    SeedLibrary.write(tmp_path, entries, torch.zeros(len(entries), 4, 16, 32), vectors)
    library = SeedLibrary(tmp_path)

    def order(parts: dict[str, float], **levels: float) -> list[str]:
        return [entry.name for entry, _ in library.nearest("techno", encoder, 4, asked=Levels(parts, **levels))]

    assert order({}) == list(rows), "words alone: as near as each other"
    assert order({"drums": 0.0}) == ["no_drums", "unknown", "full", "soft"]
    assert order({"drums": 0.7})[0] == "full"
    assert order({"lead": 0.0})[0] == "soft"
    assert order({}, energy=0.1)[0] in ("soft", "unknown")
    assert order({}, energy=0.1)[-1] == "full"
    assert order({"drums": 0.0, "lead": 0.0}, energy=0.1)[0] == "no_drums", "drums matter more"


def test_words_and_parts_filter_loops(library: SeedLibrary) -> None:
    assert [entry.name for entry in library.entries if entry.says("RUNNING techno")] == ["techno"]
    assert [entry.name for entry in library.entries if entry.says("slow techno")] == []
    assert [entry.name for entry in library.entries if entry.plays({})] == library.names
    assert [entry.name for entry in library.entries if entry.plays({"drums": 0.5})] == ["techno"]
    assert [entry.name for entry in library.entries if entry.plays({"drums": 1.0, "lead": 0.0})] == ["techno"]
    assert [entry.name for entry in library.entries if entry.plays({"drums": 0.0})] == []
    assert [entry.name for entry in library.entries if entry.plays({"pad": 0.0})] == [], "nobody says"


def test_riffusions_seed_images_are_loops_of_the_library() -> None:
    library = SeedLibrary()
    for theirs, ours in RIFFUSION_NAMES.items():
        assert theirs in library
        assert library[theirs].name == ours
        assert library[theirs].beats == 8
        assert torch.equal(library.latents(theirs), library.latents(ours))
        assert library.preview(theirs) == library.preview(ours)
    assert not set(RIFFUSION_NAMES) & set(library.names)


def test_a_library_without_the_loop_does_not_know_riffusions_name(library: SeedLibrary) -> None:
    assert "og_beat" not in library
    with pytest.raises(ParameterError, match="og_beat"):
        library.latents("og_beat")


def test_the_caption_itself_is_nearest(library: SeedLibrary, encoder: MiniTextEncoder) -> None:
    for entry in library.entries:
        best, likeness = library.nearest(entry.caption, encoder)[0]
        assert best.name == entry.name
        assert likeness > 0.99
    ranked = [likeness for _, likeness in library.nearest("piano", encoder, 3)]
    assert ranked == sorted(ranked, reverse=True)


def test_an_unknown_name_suggests_a_near_one(library: SeedLibrary) -> None:
    with pytest.raises(ParameterError, match="techno"):
        library.latents("tecno")
    assert library.load("tecno", MiniFamily.random()) is None


def test_the_engine_gets_latents_of_its_model_else_the_picture(library: SeedLibrary) -> None:
    family = MiniFamily.random()
    loaded = library.load("techno", family)
    assert isinstance(loaded, torch.Tensor)
    family.name = "other"  # type: ignore[misc]
    shipped = SeedLibrary()
    picture = shipped.load("techno", family)
    assert isinstance(picture, np.ndarray)
    assert (picture.shape, picture.dtype) == ((256, 512, 3), np.uint8)


def test_the_picture_of_a_loop_is_that_of_its_decoded_latents() -> None:
    library, family = SeedLibrary(), MiniFamily.load()
    for name in ("techno", "solo_piano", "viennese_waltz"):
        decoded = family.decode_image(library.latents(name)[None])[0]
        drawn = library.picture(name)
        assert drawn.shape == decoded.shape
        for channel in range(3):  # level, left and right, each in its own place
            assert np.corrcoef(drawn[..., channel].ravel(), decoded[..., channel].ravel())[0, 1] > 0.93
        assert np.abs(drawn.astype(float) - decoded).mean() < 8, "of 255"
        with Image.open(io.BytesIO(library.preview(name))) as image:
            assert (image.format, image.size) == ("PNG", (drawn.shape[1], 256))
            assert np.abs(np.asarray(image.convert("RGB"), dtype=float) - drawn).mean() < 8


def test_a_picture_needs_no_torch() -> None:
    code = """
import sys
from riffstream.models.seeds import SeedLibrary
SeedLibrary().preview("techno")
print("torch" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_a_library_with_other_latents_or_without_its_files_says_so(library: SeedLibrary, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be drawn"):
        library.picture("techno")  # four channels; the codec has twenty
    (tmp_path / "seeds.json").write_text((library.folder / "seeds.json").read_text())
    with pytest.raises(CheckpointError, match="cannot be read"):
        SeedLibrary(tmp_path).picture("techno")


def test_damage_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no seeds\.json"):
        SeedLibrary(tmp_path)
    (tmp_path / "seeds.json").write_text('[{"name": "x"}]')
    with pytest.raises(CheckpointError, match="cannot be read"):
        SeedLibrary(tmp_path)


def test_command_lists_and_exports(library: SeedLibrary, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--folder", str(library.folder)]
    assert main(["seeds", "list", "PIANO", "--json", *where]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["slow_piano"]
    assert main(["seeds", "list", *where]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main(["seeds", "list", "--json", "--parts", "drums=1", "lead=0", *where]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["techno"]
    assert main(["seeds", "show", "techno", *where]) == 0
    assert "parts      drums=1, lead=0" in capsys.readouterr().out
    assert main(["seeds", "list", "--parts", "flute=1", *where]) == 2
    assert "the keys arp, bass" in capsys.readouterr().err
    for suffix, own in ((".png", []), (".safetensors", where)):
        target = tmp_path / f"a{suffix}"
        assert main(["seeds", "export", "waltz", "-o", str(target), "--quiet", *own]) == 0
        assert target.stat().st_size > 50
    assert main(["seeds", "export", "waltz", "-o", "a.txt", *where]) == 2
    assert main(["seeds", "export", *where]) == 2
    assert "text is ''" in capsys.readouterr().err
    assert main(["seeds", "export", "waltz", "-o", str(tmp_path / "missing" / "a.png")]) == 2
    assert main(["seeds", "export", "vals", *where]) == 2
    assert "waltz" in capsys.readouterr().err


def test_shipped_library_fits_the_shipped_model() -> None:
    library = SeedLibrary()
    codec = json.loads((MODEL_FOLDER / "codec" / "config.json").read_text())
    assert len(library.entries) >= 64
    assert len(set(library.names)) == len(library.entries)
    for entry in library.entries:
        assert entry.tags, entry.name
    latents = library.latents(library.names[0])
    assert latents.shape[:2] == (codec["channels"], codec["mels"] // codec["patch"])
    assert torch.isfinite(latents).all()


def test_shipped_library_finds_what_is_asked() -> None:
    encoder = MiniTextEncoder.load(MODEL_FOLDER / "text_encoder", MODEL_FOLDER / "tokenizer")
    library = SeedLibrary()
    for prompt, style in {
        "techno": "techno",
        "solo piano": "piano",
        "bossa nova": "bossa",
        "church organ": "organ",
    }.items():
        names = " ".join(entry.name for entry, _ in library.nearest(prompt, encoder, 5))
        assert style in names, (prompt, names)


def test_a_reader_of_words_finds_the_style_that_words_mean(tmp_path: Path) -> None:
    """By captions alone "reggaeton" is near to reggae, and "smooth jazz for dinner" to mellow jazz."""
    encoder = MiniTextEncoder.load(MODEL_FOLDER / "text_encoder", MODEL_FOLDER / "tokenizer")
    (tmp_path / "seeds").symlink_to(SEEDS_FOLDER)
    plain, library = SeedLibrary(tmp_path / "seeds"), SeedLibrary()
    meant = {"reggaeton": "reggaeton", "smooth jazz for dinner": "smooth_jazz", "music box lullaby": "music_box"}
    for prompt, style in meant.items():
        assert library.nearest(prompt, encoder)[0][0].style == style
    assert any(plain.nearest(prompt, encoder)[0][0].style != style for prompt, style in meant.items())
    for level in (0.0, 1.0):
        best = library.nearest("afrobeat party", encoder, asked=Levels({"drums": level}))[0][0]
        assert (best.style, best.plays({"drums": level})) == ("afrobeat", True)


def test_a_damaged_reader_is_named(tmp_path: Path) -> None:
    encoder = MiniTextEncoder.load(MODEL_FOLDER / "text_encoder", MODEL_FOLDER / "tokenizer")
    (tmp_path / "seeds").symlink_to(SEEDS_FOLDER)
    tensors = load_file(MODEL_FOLDER / "reader.safetensors")
    wrong = {"outer.weight": torch.zeros(3, 512)}, {"instruments": torch.zeros(2000, 400)}
    for change, told in zip(wrong, ("39 classes.* 1 to 2", "400 classes.* 1 to 271"), strict=True):
        save_file(tensors | change, tmp_path / "reader.safetensors")
        with pytest.raises(CheckpointError, match=f"reader.*{told}"):
            SeedLibrary(tmp_path / "seeds").nearest("techno", encoder)
    (tmp_path / "reader.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="reader"):
        SeedLibrary(tmp_path / "seeds").nearest("techno", encoder)


def test_a_models_own_library_goes_before_the_shipped_one(library: SeedLibrary, tmp_path: Path) -> None:
    (tmp_path / "seeds").symlink_to(library.folder)
    assert SeedLibrary.of(tmp_path).names == library.names
    assert SeedLibrary.of("mini").names == SeedLibrary().names
