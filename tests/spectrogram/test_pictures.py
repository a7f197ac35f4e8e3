"""Pictures from elsewhere: the same spectrogram in every form that editors and chat programs make of it."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from riffstream.errors import MediaError, MediaWarning
from riffstream.spectrogram.image import (
    amplitudes_from_image,
    image_from_amplitudes,
    image_params,
    read_image,
    save_image,
)
from riffstream.spectrogram.params import ExifTag, SpectrogramParams
from riffstream.spectrogram.pictures import as_rgb, colouring, is_picture, open_picture

ROWS, COLUMNS = 64, 96


def picture(stereo: bool = False, *, exif: bool = True) -> Image.Image:
    """Decaying partials over silence, other ones on the right."""
    rows, time = np.arange(ROWS)[:, None], np.arange(COLUMNS)[None]
    sides = [np.exp(-((rows - place) ** 2) / 8) * np.exp(-(time % 24) / 9) * 1e6 for place in (12, 40)]
    params = SpectrogramParams.riffusion().replace(num_frequencies=ROWS)
    image = image_from_amplitudes(np.stack(sides[: 1 + stereo]).astype(np.float32), params)
    return image if exif else Image.fromarray(np.array(image))


def through(image: Image.Image, kind: str = "PNG", **options: object) -> Image.Image:
    """Saved and read again."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return open_picture(file.getvalue())


GREY = picture().convert("L")
PIXELS = np.asarray(picture())


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    erased = np.array(picture().convert("RGBA"))
    erased[10:20] = 0
    want = PIXELS.copy()
    want[10:20] = 255
    rgba = Image.fromarray(erased)
    for image in (
        rgba, rgba.convert("LA"), rgba.convert("RGBa"), rgba.convert("LA").convert("La"),
    ):  # fmt: skip
        np.testing.assert_array_equal(as_rgb(image), want, err_msg=image.mode)
    for kind in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        np.testing.assert_array_equal(through(rgba, kind, **options), want, err_msg=kind)
    assert not amplitudes_from_image(rgba)[:, ROWS - 20 : ROWS - 10].any()
    rgba.save(tmp_path / "a.png", exif=picture().getexif())
    assert image_params(read_image(tmp_path / "a.png")).num_frequencies == ROWS


def test_erased_parts_of_a_stereo_picture_leave_it_stereo() -> None:
    drawn = np.full((64, 64, 4), 180, np.uint8)
    drawn[..., 0], drawn[..., 3] = 0, 255
    drawn[:, 30:] = 0  # erased: all four numbers
    out = as_rgb(Image.fromarray(drawn))
    assert colouring(out) == "stereo"
    assert (np.asarray(out)[:, 30:] == (0, 255, 255)).all()


def test_half_transparent_pixels_are_half_as_dark() -> None:
    grey = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert np.abs(np.asarray(as_rgb(grey)).astype(int) - 127).max() <= 1


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_is_white(mode: str) -> None:
    # A pixel value of its own marks what was erased.
    values = np.minimum(np.asarray(GREY), 250)
    values[10:20] = 255
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([255 - value if value == 255 else value for value in range(256) for _ in range(3)])
        clear: object = 255
    else:
        values[10:20] = 3
        image, clear = Image.fromarray(values).convert(mode), 3 if mode == "L" else (3, 3, 3)
    out = np.asarray(through(image, "PNG", transparency=clear))
    assert (out[10:20] == 255).all()
    kept = (values[20:] != 3).all(axis=0)
    np.testing.assert_array_equal(out[20:][:, kept, 0], values[20:][:, kept])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_to_8(kind: str) -> None:
    deep = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
    np.testing.assert_array_equal(through(deep, kind), PIXELS)
    np.testing.assert_array_equal(as_rgb(deep), PIXELS)
    between = Image.fromarray(np.array([[0, 21_845, 43_690, 65_535]], np.uint16))
    assert np.asarray(through(between, kind))[0, :, 0].tolist() == [0, 85, 170, 255]


def test_16_bits_with_a_transparent_value() -> None:
    deep = np.asarray(GREY).astype(np.uint16) * 256 + 1
    deep[5] = 777
    out = np.asarray(through(Image.fromarray(deep), "PNG", transparency=777))
    assert (out[5] == 255).all()


@pytest.mark.parametrize(("dtype", "what"), [(np.int32, "32-bit integers"), (np.float32, "floating point")])
def test_pixels_without_a_known_white_are_refused(dtype: type, what: str) -> None:
    image = Image.fromarray(np.asarray(GREY).astype(dtype))
    with pytest.raises(MediaError, match=what):
        through(image, "TIFF")
    with pytest.raises(MediaError, match=what):
        amplitudes_from_image(image)


@settings(max_examples=40, deadline=None)
@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I;16B"]),
    value=st.sampled_from([0, 255]),
)
def test_black_and_white_stay_so_in_every_mode(mode: str, value: int) -> None:
    if mode.startswith("I;16"):
        form = ">u2" if mode == "I;16B" else "<u2"
        image = Image.frombytes(mode, (3, 3), np.full(9, value * 257, form).tobytes())
    else:
        image = Image.new("RGB", (3, 3), (value,) * 3).convert("L" if mode in ("LA", "PA") else "RGB").convert(mode)
    assert np.abs(np.asarray(as_rgb(image)).astype(int) - value).max() <= 1


def test_a_picture_is_upright_as_its_viewer_shows_it() -> None:
    turned = Image.fromarray(PIXELS).transpose(Image.Transpose.ROTATE_90)
    exif = picture().getexif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    out = through(turned, "PNG", exif=exif)
    np.testing.assert_array_equal(out, PIXELS)
    assert image_params(out).num_frequencies == ROWS
    assert 0x0112 not in out.getexif()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_read_and_said(kind: str) -> None:
    file = io.BytesIO()
    other = Image.new("L", GREY.size, 128)
    GREY.save(file, kind, save_all=True, append_images=[other, other], **({"lossless": True} if kind == "WEBP" else {}))
    with pytest.warns(MediaWarning, match="frames; the first was read"):
        out = open_picture(file.getvalue())
    assert np.abs(np.asarray(out).astype(int) - PIXELS).mean() < 1


@pytest.mark.parametrize("quality", [20, 50, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("stereo", [False, True])
def test_lost_exif_is_told_by_the_planes(stereo: bool, subsampling: int, quality: int) -> None:
    bare = through(picture(stereo, exif=False), "JPEG", quality=quality, subsampling=subsampling)
    with pytest.warns(MediaWarning, match="stereo" if stereo else "mono"):
        assert image_params(bare).stereo is stereo
    assert image_params(through(picture(stereo), "PNG", exif=picture(stereo).getexif())).stereo is stereo


def test_what_is_given_overrides_what_is_seen() -> None:
    for stereo in (False, True):
        with pytest.warns(MediaWarning):
            assert image_params(picture(not stereo, exif=False), stereo=stereo).stereo is stereo
        assert image_params(picture(not stereo), stereo=stereo).stereo is stereo


def test_contradictions_are_refused() -> None:
    green = Image.fromarray(np.stack([PIXELS[..., 0] // 2, 255 - PIXELS[..., 0], PIXELS[..., 0]], axis=-1))
    with pytest.raises(MediaError, match=r"coloured.*--stereo, --mono"):
        image_params(green)
    grey = picture(True).convert("L").convert("RGB")
    grey.getexif().update(picture(True).getexif())
    with pytest.raises(MediaError, match="stereo by its EXIF, but grey"):
        image_params(grey)
    wrong = picture(True)
    wrong.getexif()[ExifTag.STEREO] = 0
    with pytest.raises(MediaError, match="mono by its EXIF"):
        image_params(wrong)
    assert image_params(wrong, stereo=True).stereo


def test_a_picture_of_another_programme_is_said_to_be_inverted() -> None:
    with pytest.warns(MediaWarning, match="dark nearly everywhere"):
        through(Image.fromarray(255 - PIXELS))


def test_large_tiny_and_broken_pictures_give_one_error(tmp_path: Path) -> None:
    Image.new("1", (12_000, 6_000)).save(tmp_path / "large.png")
    with pytest.raises(MediaError, match=r"large\.png: 12000 x 6000 pixels; at most 67.1 million"):
        read_image(tmp_path / "large.png")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "bomb.png")
    with pytest.raises(MediaError, match=r"bomb\.png"):
        read_image(tmp_path / "bomb.png")
    assert as_rgb(Image.new("L", (1, 1), 255)).size == (1, 1)
    save_image(picture(), tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    with pytest.raises(MediaError, match="not readable as an image"):
        open_picture(data[: len(data) // 2])
    for junk in (b"<html>", b"II*\0" + bytes(50), b"GIF89a" + bytes(30), b"BM" + bytes(60)):
        with pytest.raises(MediaError, match="not readable as an image"):
            open_picture(junk)


def test_sound_is_no_picture() -> None:
    assert is_picture(b"\x89PNG\r\n")
    assert is_picture(b"RIFF\0\0\0\0WEBPVP8 ")
    for start in (b"RIFF\0\0\0\0WAVEfmt ", b"ID3\3", b"fLaC", b"OggS", b"\0\0\0\x20ftypM4A ", b"\xff\xfb\x90\0", b""):
        assert not is_picture(start)


def test_grey_photos_and_empty_pictures_are_mono() -> None:
    for image in (Image.new("RGB", (5, 5)), Image.new("RGB", (5, 5), "white"), Image.fromarray(PIXELS)):
        assert colouring(image) == "grey"


def test_reading_a_sound_picture_says_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"):
            through(picture(), kind)
        through(picture().convert("CMYK"), "JPEG", progressive=True)
