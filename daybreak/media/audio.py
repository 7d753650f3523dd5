"""Sounds as values: samples and their rate. It reads and writes files; it knows nothing about what sounds."""

from __future__ import annotations

import base64
import io
from typing import ClassVar, Self

import numpy as np
from jaxtyping import Float

from daybreak.errors import UserError
from daybreak.media.base import Media

MOST_SAMPLES = 2**27
"""Of a file that is read, over its channels: what the largest WAV file holds. Silence packs a thousandfold."""


class Audio(Media):
    """A sound: float32 samples in -1..1, "time" or "time 2", at a rate in Hz. As a file 16-bit WAV."""

    mime: ClassVar[str] = "audio/wav"
    suffix: ClassVar[str] = ".wav"
    largest: ClassVar[int] = 256 * 2**20

    def __init__(self, samples: Float[np.ndarray, time * channels], rate: int) -> None:
        samples = np.array(samples, np.float32)
        if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] not in (1, 2)):
            raise UserError(f"a sound is mono or stereo, not of shape {samples.shape}")
        if not 1 <= rate <= 384_000:
            raise UserError(f"a sound's rate is 1 to 384000 Hz, not {rate}")
        if not np.isfinite(samples).all():
            raise UserError("the sound has samples that are not finite")
        samples.setflags(write=False)
        self.samples, self.rate = samples, rate

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / self.rate

    def to_bytes(self) -> bytes:
        import soundfile

        file = io.BytesIO()
        soundfile.write(file, self.samples, self.rate, format="WAV", subtype="PCM_16")
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read WAV, FLAC, OGG or MP3. Raises `UserError`."""
        import soundfile

        try:
            with soundfile.SoundFile(io.BytesIO(data)) as file:
                count = file.frames * file.channels
                if count > MOST_SAMPLES:
                    raise UserError(f"a sound of {count:,} samples is too long to hold; at most {MOST_SAMPLES:,}")
                samples, rate = file.read(dtype="float32"), file.samplerate
        except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
            raise UserError(f"not a sound that can be read: {str(error).rstrip('.')}") from error
        return cls(samples, rate)

    def traits(self) -> dict[str, float]:
        """Seconds, rate in Hz, channels; level in dB below full scale, share of samples that are near silence, and the
        spectral centroid in Hz, of 16 stretches of 2048 samples."""
        mono = self.samples if self.samples.ndim == 1 else self.samples.mean(1)
        starts = np.linspace(0, max(0, len(mono) - 2048), 16 if len(mono) else 0).astype(int)
        found = {"seconds": self.seconds, "rate": float(self.rate), "channels": float(self.samples.ndim)}
        pieces = [mono[start : start + 2048].astype(np.float64) for start in starts]
        if not pieces:
            return found
        heard = np.concatenate(pieces)
        power = [np.abs(np.fft.rfft(piece * np.hanning(len(piece)))) ** 2 for piece in pieces]
        spectrum = np.sum(power, 0)
        pitch = np.fft.rfftfreq(len(pieces[0]), 1 / self.rate)
        level = float(10 * np.log10(max(float(np.square(heard).mean()), 1e-10)))
        centroid = float((spectrum * pitch).sum() / spectrum.sum()) if spectrum.sum() > 0 else 0.0
        return found | {"level": level, "quiet": float((np.abs(heard) < 1e-3).mean()), "centroid": centroid}

    def html(self) -> str:
        data = base64.b64encode(Mp3(self.samples, self.rate).to_bytes()).decode()
        return f'<audio controls preload="metadata" src="data:audio/mpeg;base64,{data}"></audio>'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Audio) and (other.rate, other.to_bytes()) == (self.rate, self.to_bytes())

    def __hash__(self) -> int:
        return hash((self.rate, self.samples.tobytes()))


class Mp3(Audio):
    """A sound whose file is small enough for a page (MP3, about 5 KB a second in mono at 24 kHz)."""

    mime: ClassVar[str] = "audio/mpeg"
    suffix: ClassVar[str] = ".mp3"

    def to_bytes(self) -> bytes:
        import soundfile

        file = io.BytesIO()
        soundfile.write(file, self.samples, self.rate, format="MP3", bitrate_mode="CONSTANT", compression_level=0.8)
        return file.getvalue()
