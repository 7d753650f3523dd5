"""Photos: files of every kind become upright pixels or a clear refusal; views are functions of their draw."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from daybreak.errors import UserError
from daybreak.media.image import Image, decode, jpeg, letterbox, picture
from daybreak.systems.commerce import augment, metrics


def file(image, kind="PNG", **more):
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def test_orientation_is_applied_once():
    image = Pillow.new("RGB", (8, 4), (255, 0, 0))
    exif = Pillow.Exif()
    exif[0x0112] = 6
    assert decode(file(image, "JPEG", exif=exif)).shape == (8, 4, 3)


def test_alpha_lies_over_white_and_sixteen_bits_are_scaled():
    clear = Pillow.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert (decode(file(clear)) == 255).all()
    deep = Pillow.fromarray(np.full((4, 4), 129 * 257, np.uint16))
    assert np.abs(decode(file(deep)).astype(int) - 129).max() <= 1


KINDS = [(kind, mode) for kind in ("PNG", "TIFF") for mode in ("RGB", "L", "P", "1")] + [
    ("JPEG", "RGB"), ("JPEG", "L"), ("WEBP", "RGB"), ("GIF", "P"), ("BMP", "RGB"), ("BMP", "P"), ("PPM", "RGB"),
    ("PPM", "L"), ("TIFF", "CMYK"), ("JPEG", "CMYK"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_decoded_pixels_are_those_of_pillow(kind, mode):
    blots = np.random.default_rng(2).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    image = Pillow.fromarray(blots).resize((70, 90), Pillow.Resampling.BICUBIC).convert(mode)
    data = file(image, kind)
    assert np.array_equal(decode(data), np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_a_large_jpeg_read_small_has_the_pixels_of_pillows_draft_and_the_square_of_the_whole(scale):
    blots = np.random.default_rng(scale).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    image = Pillow.fromarray(blots).resize((200 * scale, 256 * scale), Pillow.Resampling.BICUBIC)
    data = file(image, "JPEG", quality=90)
    small = decode(data, 192)
    assert small.shape == (256, 200, 3)
    draft = Pillow.open(io.BytesIO(data))
    draft.draft("RGB", (150, 192))
    assert np.array_equal(small, np.asarray(draft))
    square, whole = (letterbox(x, 96).astype(int) for x in (small, decode(data)))
    assert np.abs(square - whole).mean() <= 1
    assert np.abs(square - whole).max() <= 12


def test_what_is_no_picture_or_is_cut_or_too_large_is_refused():
    whole = file(Pillow.new("RGB", (64, 64), (1, 2, 3)), "JPEG")
    with pytest.raises(UserError, match="not a picture"):
        decode(b"hello")
    with pytest.raises(UserError, match="not a picture"):
        decode(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="too large"):
        decode(file(Pillow.new("1", (9000, 9000))))
    with pytest.raises(UserError, match="the file is empty"):
        decode(b"")


def test_a_small_file_that_would_unpack_into_400_million_pixels_is_refused_by_its_header():
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes(2501 * 20_000), 9)
    parts = [struct.pack(">I", len(x)) + t + x + struct.pack(">I", zlib.crc32(t + x))
             for t, x in ((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))]  # fmt: skip
    with pytest.raises(UserError, match="400,000,000 pixels is too large: at most 40 megapixels"):
        decode(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_a_phones_photo_is_read_with_its_decoder_and_says_what_is_missing_without(monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    data = file(Pillow.new("RGB", (64, 48), (200, 30, 40)), "HEIF")
    assert decode(data).shape == (48, 64, 3)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UserError, match="its decoder"):
        decode(data)
    with pytest.raises(UserError, match="kind 'avif' is not read"):
        decode(b"\0\0\0\x1cftypavif" + bytes(60))


def test_a_picture_that_was_read_keeps_its_bytes():
    data = file(Pillow.new("RGB", (5, 7), (9, 8, 7)))
    assert Image.from_bytes(data).to_bytes() == data
    again = Image.from_bytes(Image(decode(data)).to_bytes())
    assert (again.pixels == decode(data)).all()


def test_a_letterbox_keeps_proportions():
    tall = np.zeros((40, 20, 3), np.uint8)
    tall[:, 8:12] = 255
    out = letterbox(tall, 32)
    assert out.shape == (32, 32, 3)
    assert out[:, 14:18].mean() > 200
    assert (out[:, :10] == 0).all()


def test_a_view_is_a_function_of_its_draw():
    pixels = torch.randint(0, 256, (6, 4, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    extent = torch.tensor([[1.0, 1.0], [0.75, 1.0]] * 3)

    def seen(seed: int) -> torch.Tensor:
        return augment.views(pixels, extent, 32, augment.ALTERED, torch.Generator().manual_seed(seed)).pixels

    one = seen(5)
    assert torch.equal(one, seen(5))
    assert one.shape == (6, 3, 32, 32)
    assert (one >= 0).all()
    assert (one <= 1).all()
    assert not torch.equal(one, seen(6))


def test_a_view_of_the_whole_photo_is_what_the_network_sees_in_use():
    rng = np.random.default_rng(3)
    blots = Pillow.fromarray(rng.integers(0, 256, (4, 3, 3), dtype=np.uint8))
    high = np.asarray(blots.resize((48, 64), Pillow.Resampling.BICUBIC))
    stored = torch.from_numpy(letterbox(high, 64).transpose(2, 0, 1).copy())
    pixels = torch.cat([stored, torch.zeros(1, 64, 64, dtype=torch.uint8)])[None].expand(16, -1, -1, -1)
    whole = augment.Strength(least=1, turn=0, light=0, recolour=0, screenshot=0, blur=0, jpeg=0, erase=0)
    seen = augment.views(pixels, torch.tensor([[0.75, 1.0]]).expand(16, 2), 32, whole, torch.Generator().manual_seed(0))
    wanted = torch.from_numpy(letterbox(high, 32).astype(np.float32) / 255).permute(2, 0, 1)
    nearest = torch.stack([(seen.pixels - w).abs().mean((1, 2, 3)) for w in (wanted, wanted.flip(2))]).amin(0)
    # Some are stretched by up to an eighth, and saturation and hue breathe.
    assert nearest.median() < 0.06
    beside = seen.pixels[:, :, :, :2]
    assert (beside - beside[:, :, :1, :1]).abs().max() < 1e-5


def test_a_turned_hue_is_what_a_picture_editor_gives():
    import colorsys

    colours = torch.rand(20, 3, generator=torch.Generator().manual_seed(1))
    turn, factor = torch.full((1,), 2.0), torch.full((1,), 0.7)
    ours = augment._hue(colours.T[None, :, :, None], turn, factor)[0, :, :, 0].T
    for before, after in zip(colours.tolist(), ours.tolist(), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before)
        assert after == pytest.approx(colorsys.hsv_to_rgb((h + 2.0 / (2 * np.pi)) % 1, s * 0.7, v), abs=1e-5)


def test_a_poor_jpeg_differs_as_the_usual_encoder_makes_it():
    rng = np.random.default_rng(0)
    # Grey: what becomes of chrominance depends on how a decoder enlarges it.
    blots = Pillow.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8))
    small = blots.resize((96, 96), Pillow.Resampling.BICUBIC).convert("RGB")
    x = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1)[None].float() / 255
    ours = (augment.jpeg(x, torch.tensor([20.0]))[0].permute(1, 2, 0).numpy() * 255).astype(float)
    theirs = np.asarray(Pillow.open(io.BytesIO(file(small, "JPEG", quality=20)))).astype(float)
    lost = np.abs(theirs - np.asarray(small)).mean()
    assert np.abs(ours - theirs).mean() < 0.25 * lost
    assert torch.equal(augment.jpeg(x, torch.tensor([100.0])), x)


def test_precision_and_average_precision_follow_their_definition():
    relevant = np.array([True, False, True, True, False])
    assert metrics.precision_at(relevant, 4) == 0.75
    assert metrics.average_precision(relevant) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert np.isnan(metrics.average_precision(np.zeros(3, bool)))
    assert metrics.ranked_ap(np.zeros(4), np.array([True, False, False, False])) == 0.25


def test_calibration_error_is_nought_for_the_true_probabilities_of_a_bin():
    p = np.repeat([0.25, 0.75], 400)
    truth = np.concatenate([np.arange(400) % 4 == 0, np.arange(400) % 4 != 0])
    assert metrics.calibration_error(p, truth) == pytest.approx(0, abs=1e-9)
    assert metrics.calibration_error(p, ~truth) == pytest.approx(0.5)


def test_macro_f1_agrees_with_counting():
    truth, said = [0, 0, 1, 1, 2], [0, 1, 1, 1, 0]
    assert metrics.macro_f1(truth, said, [0, 1, 2]) == pytest.approx((2 / 4 + 4 / 5 + 0) / 3)


@pytest.mark.parametrize("kind", metrics.ALTERATIONS)
def test_an_alteration_is_the_same_for_the_same_item(kind):
    pixels = np.random.default_rng(1).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    one, two = metrics.altered(pixels, kind, "a"), metrics.altered(pixels, kind, "a")
    assert one.dtype == np.uint8
    assert np.array_equal(one, two)
    assert one.shape != pixels.shape or not np.array_equal(one, pixels)


def test_a_small_picture_tells_nothing_that_its_file_said_beside_the_pixels():
    import PIL.Image

    pixels = np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", comment=b"taken at home", xmp=b"<x>mine</x>", dpi=(300, 300))
    small = jpeg(picture(file.getvalue()), 64)
    assert small == jpeg(decode(file.getvalue()), 64)
    assert b"home" not in small
