import numpy as np
import pytest

from daybreak.errors import UserError
from daybreak.media.audio import Audio, Mp3
from daybreak.media.svg import Svg


def tone(channels: int = 1) -> np.ndarray:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(24000) / 24000)
    return wave if channels == 1 else np.stack([wave, -wave], 1)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_comes_back_to_16_bits(channels):
    sound = Audio(tone(channels), 24000)
    back = Audio.from_bytes(sound.to_bytes())
    assert back.rate == 24000
    assert np.abs(back.samples - sound.samples).max() <= 1 / 32768


def test_an_mp3_is_small_deterministic_and_sounds_the_same():
    sound = Mp3(tone(), 24000)
    assert sound.to_bytes() == Mp3(tone(), 24000).to_bytes()
    assert len(sound.to_bytes()) < len(Audio(tone(), 24000).to_bytes()) / 4
    back = Mp3.from_bytes(sound.to_bytes())
    assert int(np.abs(np.fft.rfft(back.samples[:24000])).argmax()) == 440


def test_samples_cannot_be_changed():
    sound = Audio(tone(), 24000)
    with pytest.raises(ValueError, match="read-only"):
        sound.samples[0] = 1


@pytest.mark.parametrize(
    ("samples", "rate", "words"),
    [
        (np.zeros((4, 3)), 8000, "mono or stereo"),
        (np.array([0.0, np.nan]), 8000, "not finite"),
        (np.zeros(4), 0, "rate is 1 to"),
    ],
)
def test_what_is_no_sound_is_refused(samples, rate, words):
    with pytest.raises(UserError, match=words):
        Audio(samples, rate)


def test_bytes_that_are_no_sound_are_refused():
    with pytest.raises(UserError, match="not a sound"):
        Audio.from_bytes(b"hello" * 20)


def test_a_drawing_comes_back():
    text = '<svg xmlns="http://www.w3.org/2000/svg"><rect width="2" height="2"/></svg>'
    assert Svg.from_bytes(text.encode()) == Svg(text)


@pytest.mark.parametrize(
    "text",
    [
        "<svg><script>1</script></svg>",
        '<svg onload="1"/>',
        '<svg><a href="javascript:1"/></svg>',
        "<html/>",
        "<svg",
        '<!DOCTYPE s [<!ENTITY a "b">]><svg>&a;</svg>',
    ],
)
def test_a_drawing_that_could_run_something_is_refused(text):
    with pytest.raises(UserError):
        Svg.from_bytes(text.encode())
