"""Videos: a few seconds of pictures as one animated WebP. A README and a page play it, without a player or a network.

It knows frames, their rate and the file; it knows nothing about what is shown. The file is lossy, so that it stays
small; a value read back from it is what the file shows, not what was encoded. Needs Pillow (extra "rl").
"""

from __future__ import annotations

import base64
import io
import re
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import UInt8

from daybreak.errors import UserError
from daybreak.media.base import Media

LARGEST_SIDE = 16383
"""Pixels: what WebP can hold."""
MOST_FRAMES = 10_000
"""Of a file that is read: more is not a clip, and would fill the memory."""
MOST_PIXELS = 2**29
"""Frames times height times width of a file that is read: 1.5 GiB of bytes."""
QUALITY = 80


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise UserError("videos need Pillow, which is not installed: pip install 'daybreak[rl]'") from error
    return Image


class Video(Media):
    """Frames, uint8 [time, height, width, 3], at a number of frames per second. Plays in a loop.

    Raises `UserError` for no frames, another shape or dtype, or a rate that is not between 1 and 100.
    """

    mime: ClassVar[str] = "image/webp"
    suffix: ClassVar[str] = ".webp"

    def __init__(self, frames: UInt8[np.ndarray, "time height width 3"], rate: float = 30.0) -> None:
        shape = " x ".join(map(str, frames.shape))
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            raise UserError(f"a video needs uint8 frames [time, height, width, 3], not {frames.dtype} {shape}")
        if not frames.size:
            raise UserError(f"a video needs at least one frame of one pixel, not {shape}")
        if max(frames.shape[1:3]) > LARGEST_SIDE:
            raise UserError(f"a frame can have at most {LARGEST_SIDE} pixels a side, not {shape}")
        if not 1 <= rate <= 100:
            raise UserError(f"a video plays at 1 to 100 frames per second, not {rate:g}")
        self.frames = frames.copy()
        self.frames.setflags(write=False)
        self.rate = float(rate)
        self._data: bytes | None = None

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.frames) / self.rate

    def to_bytes(self) -> bytes:
        """An animated WebP. Times are whole milliseconds, so each frame ends at the nearest; none drifts."""
        if self._data is None:
            Image = _pillow()
            ends = [round(1000 * n / self.rate) for n in range(len(self.frames) + 1)]
            times = [ends[n + 1] - ends[n] for n in range(len(self.frames))]
            first, *rest = (Image.fromarray(frame) for frame in self.frames)
            file = io.BytesIO()
            # Frames that are alike are merged by the encoder into one that lasts longer: from_bytes takes them apart.
            first.save(
                file,
                "WEBP",
                save_all=True,
                append_images=rest,
                duration=times,
                loop=0,
                quality=QUALITY,
                method=4,
                exif=_remembered(self.rate, len(self.frames)),
            )
            self._data = file.getvalue()
        return self._data

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read an animated WebP. Raises `UserError` for anything else, a cut file, or one too long to hold."""
        Image = _pillow()
        if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
            raise UserError("not a WebP video: it does not start as one")
        said = int.from_bytes(data[4:8], "little") + 8
        if said > len(data):
            raise UserError(f"a WebP video that was cut off: {len(data)} bytes of {said}")
        frames, ends = [], [0]
        try:
            with Image.open(io.BytesIO(data), formats=["WEBP"]) as file:
                width, height = file.size
                count = getattr(file, "n_frames", 1)
                if count > MOST_FRAMES or count * width * height > MOST_PIXELS:
                    raise UserError(f"a video of {count} frames of {width} x {height} is too long to hold")
                remembered = _recalled(bytes(file.info.get("exif", b"")))
                for n in range(count):
                    file.seek(n)
                    frames.append(np.asarray(file.convert("RGB"), np.uint8))
                    ends.append(ends[-1] + int(file.info.get("duration", 0)))
        except UserError:
            raise
        except Exception as error:  # Pillow raises many kinds for broken files.
            raise UserError(f"not a WebP video: {error}") from error
        if remembered is None:
            rate = min(max(1000.0 * count / (ends[-1] or 40 * count), 1.0), 100.0)
            return cls._read(data, np.stack(frames), rate)
        rate, length = remembered
        if not (1 <= rate <= 100 and 1 <= length <= MOST_FRAMES) or length * width * height > MOST_PIXELS:
            raise UserError(f"a video of {length} frames at {rate:g} per second is too long to hold")
        # A frame is what shows in the middle of its time.
        middles = [1000 * (n + 0.5) / rate for n in range(length)]
        shown = np.clip(np.searchsorted(ends, middles, side="right") - 1, 0, count - 1)
        return cls._read(data, np.stack(frames)[shown], rate)

    @classmethod
    def _read(cls, data: bytes, frames: np.ndarray, rate: float) -> Self:
        """A value that is written as it was read: encoding it anew would lose a little more each time."""
        video = cls(frames, rate)
        video._data = data
        return video

    def traits(self) -> dict[str, float]:
        """Seconds, frames a second, pixels a side; of up to 8 frames in a coarse grid: light, contrast and the step to
        the next frame, as shares of full."""
        count, height, width = self.frames.shape[:3]
        places = np.linspace(0, count - 1, min(count, 8)).astype(int)
        rows, columns = slice(None, None, max(1, height // 32)), slice(None, None, max(1, width // 32))
        light = self.frames[places][:, rows, columns].mean(3) / 255
        after = self.frames[np.minimum(places + 1, count - 1)][:, rows, columns].mean(3) / 255
        return {
            "seconds": self.duration, "rate": self.rate, "width": float(width), "height": float(height),
            "light": float(light.mean()), "contrast": float(light.std()), "motion": float(np.abs(after - light).mean()),
        }  # fmt: skip

    def html(self) -> str:
        height, width = self.frames.shape[1:3]
        data = base64.b64encode(self.to_bytes()).decode()
        return (
            f'<img src="data:{self.mime};base64,{data}" width="{width}" height="{height}" '
            f'alt="video of {self.duration:.1f} seconds" style="max-width:100%;height:auto">'
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Video) and other.to_bytes() == self.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())


def _remembered(rate: float, frames: int) -> bytes:
    """Rate and number of frames as Exif: the file's own times are whole milliseconds, and it merges equal frames."""
    exif = _pillow().Exif()
    exif[0x010E] = f"daybreak video: {rate!r} frames per second, {frames} frames"
    return bytes(exif.tobytes())


def _recalled(exif: bytes) -> tuple[float, int] | None:
    match = re.search(rb"daybreak video: ([0-9.e+]+) frames per second, ([0-9]{1,9}) frames", exif)
    return (float(match[1]), int(match[2])) if match else None
