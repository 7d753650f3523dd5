"""Photos as values: any file that a shop or a phone may hand in becomes upright RGB pixels, or a clear refusal.

The header is read before the pixels, so that a small file that would unpack into gigabytes is refused. The first frame
counts; EXIF orientation is applied once; CMYK goes through its profile; alpha is laid over white; 16 bits are scaled,
not cut. Needs Pillow (extra "commerce"). It knows files; it knows nothing about what is on them.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import warnings
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import UInt8

from daybreak.errors import UserError
from daybreak.media.base import Media

MOST_PIXELS = 40_000_000
"""Pixels of a file that is read; refused by its header."""
LARGEST_SIDE = 8192
"""Pixels a side of a file that is read."""
LIMIT = f"is too large: at most {MOST_PIXELS // 10**6} megapixels and {LARGEST_SIDE} a side"
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What is read. A closed list: an unknown decoder is a way in."""
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
"""Brands of the container that phones save photos in; read where its decoder is installed."""


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise UserError("photos need Pillow, which is not installed: pip install 'daybreak[commerce]'") from error
    return Image


def decode(data: bytes, size: int = 0) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of `picture`, as an array."""
    return np.asarray(picture(data, size))


def picture(data: bytes, size: int = 0) -> Any:
    """A file's bytes as an upright RGB picture of Pillow's, which holds its pixels: those that Pillow gives, bit for
    bit.

    With `size`, a JPEG may be decoded at a half, a quarter or an eighth, as long as its longer side keeps `size`
    pixels: up to three times faster. They are then the pixels of Pillow's `draft`: each is the mean of a block, up to
    what the decoder rounds, and no longer one pixel of the file. Raises `UserError` for what is no picture, is cut
    short, or is too large.
    """
    Image = _pillow()
    from PIL import UnidentifiedImageError

    formats = _formats(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bomb warning: our limit is lower, and an error
            image = Image.open(io.BytesIO(data), formats=formats)
            width, height = image.size
            if width * height > MOST_PIXELS or max(width, height) > LARGEST_SIDE:
                raise UserError(f"a picture of {width} x {height} pixels {LIMIT}")
            if size and image.format == "JPEG":
                image.draft("RGB", (_draft(width, height, size)))
            image.load()
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(f"not a picture that can be read; {', '.join(FORMATS)} can") from None
    except Image.DecompressionBombError as error:  # by its header, before our own limit is asked
        count = re.search(r"\d+", str(error))
        raise UserError(f"a picture of {int(count[0]) if count else 0:,} pixels {LIMIT}") from None
    except Exception as error:  # a decoder may fail in any way on a broken file
        raise UserError(f"not a picture that can be read: {str(error) or type(error).__name__}") from error
    return _rgb(_upright(image))


def _formats(data: bytes) -> tuple[str, ...]:
    """Pillow's names of the formats that the file may be of."""
    if not data:
        raise UserError("the file is empty")
    if data[4:8] != b"ftyp":
        return FORMATS
    if data[8:12] not in HEIC:
        kind = data[8:12].decode("ascii", "replace").strip()
        raise UserError(f"a picture of the kind {kind!r} is not read; save it as JPEG or PNG")
    try:
        import pillow_heif
    except ModuleNotFoundError as error:
        raise UserError("a HEIC photo needs its decoder: pip install 'daybreak[heic]', or save it as JPEG") from error
    pillow_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def _draft(width: int, height: int, size: int) -> tuple[int, int]:
    """The smallest size to ask of the JPEG decoder: it gives at least that."""
    scale = size / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _upright(image: Any) -> Any:
    from PIL import ImageOps

    return ImageOps.exif_transpose(image) if image.getexif().get(0x0112, 1) != 1 else image


def _rgb(image: Any) -> Any:
    Image = _pillow()
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's own conversion would clip at 255
        wide = np.asarray(image).astype(np.float64)
        top = 65535.0 if image.mode.startswith("I") else max(float(wide.max()), 1.0)
        return Image.fromarray((255 * wide.clip(0, top) / top).round().astype(np.uint8)).convert("RGB")
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        clear = image.convert("RGBA")
        under = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        return Image.alpha_composite(under, clear).convert("RGB")
    return image.convert("RGB")


def _from_cmyk(image: Any) -> Any:
    """By the picture's own profile; by the plain formula where it has none, or a broken one."""
    from PIL import ImageCms

    with contextlib.suppress(ImageCms.PyCMSError, OSError, KeyError):
        own = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        return ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return image.convert("RGB")


class Image(Media):
    """Pixels, uint8 [height, width, 3], sRGB, upright. One that was read keeps its file's bytes."""

    mime: ClassVar[str] = "image/webp"
    suffix: ClassVar[str] = ".webp"
    largest: ClassVar[int] = 20 * 2**20

    def __init__(self, pixels: UInt8[np.ndarray, "height width 3"]) -> None:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            shape = " x ".join(map(str, pixels.shape))
            raise UserError(f"a picture needs uint8 pixels [height, width, 3], not {pixels.dtype} {shape}")
        self.pixels = pixels.copy()
        self.pixels.setflags(write=False)
        self._data: bytes | None = None

    def to_bytes(self) -> bytes:
        """The file it was read from, or a lossless WebP."""
        if self._data is None:
            file = io.BytesIO()
            _pillow().fromarray(self.pixels).save(file, "WEBP", lossless=True, method=2)
            self._data = file.getvalue()
        return self._data

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        if len(data) > cls.largest:
            raise UserError(f"a picture of {len(data) / 2**20:.0f} MiB; at most {cls.largest // 2**20} MiB can be read")
        made = cls(decode(data))
        made._data = data
        return made

    def traits(self) -> dict[str, float]:
        """Pixels a side, aspect, and of about 64 x 64 pixels in a grid: light and colours as shares of full, contrast,
        detail (the mean step to the next pixel)."""
        height, width = self.pixels.shape[:2]
        grid = self.pixels[:: max(1, height // 64), :: max(1, width // 64)].astype(np.float32) / 255
        light = grid.mean(2)
        red, green, blue = grid.reshape(-1, 3).mean(0).tolist()
        near = self.pixels[: height - height % 2 : max(1, height // 64), ::, 1].astype(np.int16)
        step = np.abs(np.diff(near, axis=1)).mean() / 255 if width > 1 else 0.0
        return {
            "width": float(width), "height": float(height), "aspect": width / height, "light": float(light.mean()),
            "contrast": float(light.std()), "red": red, "green": green, "blue": blue,
            "colour": float((grid.max(2) - grid.min(2)).mean()), "detail": float(step),
        }  # fmt: skip

    def thumbnail(self, side: int) -> Image:
        """The picture with its longer side at most `side` pixels, as a small JPEG-like WebP."""
        image = _pillow().fromarray(self.pixels)
        image.thumbnail((side, side))
        made = Image(np.asarray(image))
        file = io.BytesIO()
        image.save(file, "WEBP", quality=80)
        made._data = file.getvalue()
        return made

    def html(self) -> str:
        shown = self if max(self.pixels.shape) <= 512 else self.thumbnail(512)
        data = shown.to_bytes()
        kind = {b"\xff\xd8": "jpeg", b"\x89P": "png", b"GI": "gif"}.get(data[:2], "webp")
        coded = base64.b64encode(data).decode()
        height, width = shown.pixels.shape[:2]
        return f'<img src="data:image/{kind};base64,{coded}" width="{width}" height="{height}" alt="">'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())


def jpeg(pixels: UInt8[np.ndarray, "height width 3"] | Any, side: int) -> bytes:
    """A small picture's file, its longer side at most `side` pixels: JPEG, which is written three times faster than
    WebP. `pixels`: an array, or a `picture`."""
    image = _pillow().fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    file = io.BytesIO()
    small = image.resize(size, _pillow().Resampling.BILINEAR, reducing_gap=1.0)
    small.info.clear()  # what a file says beside its pixels (comments) is not for the small picture's readers
    small.save(file, "JPEG", quality=85)
    return file.getvalue()


def letterbox(pixels: UInt8[np.ndarray, "height width 3"] | Any, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """The whole picture in a square, its proportions kept, its own border's mean colour beside it.

    Squashing would change what a garment is; cropping would lose sleeves. `pixels`: an array, or a `picture`.
    """
    image = _pillow().fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    width, height = image.size
    scale = side / max(height, width)
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    # reducing_gap: first whole-number box reduction, then the fine filter: much faster for large photos
    small = image.resize((w, h), _pillow().Resampling.BILINEAR, reducing_gap=2.0)
    shown = np.asarray(small)
    if h == w:
        return shown
    edge = np.concatenate([shown[0], shown[-1]]) if h < w else np.concatenate([shown[:, 0], shown[:, -1]])
    canvas = _pillow().new("RGB", (side, side), tuple(edge.mean(0).round().astype(int).tolist()))
    canvas.paste(small, ((side - w) // 2, (side - h) // 2))
    return np.asarray(canvas)
