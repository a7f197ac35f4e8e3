"""A station's music starts from noise, or from the library's nearest loop where that is the default."""

from __future__ import annotations

from pathlib import Path

from riffstream.generator.model_renderer import make_renderer
from riffstream.journey.journey import ClipSpec, Keyframe
from riffstream.models.seeds import SeedLibrary
from riffstream.models.uploads import SeedSources, UploadedSeeds


def test_the_generator_can_search_its_library_beside_uploads(tmp_path: Path) -> None:
    renderer = make_renderer({"model": "mini", "uploads": str(tmp_path)}, lambda what: None)
    assert renderer.info.seed_image is None, "conditions are obeyed best from noise"
    engine = renderer._engine
    vector = engine.family.text_encoder.sentences(["church organ hymn"])[0]
    library = SeedLibrary()
    expected = library.nearest("church organ hymn", engine.family.text_encoder)[0][0].name
    assert engine.seed_images.nearest(vector, 0, beats=8) == expected
    assert SeedSources(UploadedSeeds(tmp_path)).like(vector, engine.family, beats=8, count=4) == []


def test_the_default_can_be_configured() -> None:
    renderer = make_renderer({"model": "mini", "seed_image": "auto"}, lambda what: None)
    assert renderer.info.seed_image == "auto"


def test_denoising_counts_where_the_default_is_a_loop() -> None:
    plain = Keyframe.of("techno", denoising=0.6)
    spec = ClipSpec(plain, plain, 0.5)
    assert spec.denoising(0.9, seed_image="auto") == 0.6
    assert spec.denoising(0.9) == spec.denoising(0.9, seed_image="none") == 1.0
