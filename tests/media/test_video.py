import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("PIL", reason="needs the extra rl")

from daybreak.errors import UserError
from daybreak.media.video import Video


def moving(count: int = 24, rate: float = 30.0) -> Video:
    frames = np.full((count, 40, 64, 3), 250, np.uint8)
    for n in range(count):
        frames[n, 10:30, 2 * n : 2 * n + 12] = (40, 90, 200)
    return Video(frames, rate)


def test_a_video_comes_back_frame_by_frame_and_close_to_what_it_was():
    video = moving()
    back = Video.from_bytes(video.to_bytes())
    assert back.frames.shape == video.frames.shape
    assert back.rate == 30.0
    assert np.abs(back.frames.astype(int) - video.frames).mean() < 3


def test_the_same_value_gives_the_same_bytes_and_what_is_read_is_written_as_it_was():
    assert moving().to_bytes() == moving().to_bytes()
    assert moving() == moving()
    assert moving() != moving(rate=29.0)
    data = moving().to_bytes()
    assert Video.from_bytes(data).to_bytes() == data


def test_frames_that_are_alike_are_kept_apart_and_single_frames_are_videos():
    still = Video(np.full((20, 8, 10, 3), 200, np.uint8), 7.5)
    back = Video.from_bytes(still.to_bytes())
    assert (back.frames.shape, back.rate) == ((20, 8, 10, 3), 7.5)
    assert Video.from_bytes(Video(still.frames[:1], 12).to_bytes()).frames.shape == (1, 8, 10, 3)


def test_a_frame_that_repeats_keeps_its_place():
    frames = np.zeros((9, 16, 16, 3), np.uint8)
    frames[3:6] = 255
    back = Video.from_bytes(Video(frames, 29.97).to_bytes())
    assert (back.frames.mean(axis=(1, 2, 3)) > 128).tolist() == [False] * 3 + [True] * 3 + [False] * 3


def test_another_programs_animation_is_read_at_its_own_rate():
    from PIL import Image

    file = io.BytesIO()
    pictures = [Image.new("RGB", (6, 4), (shade, 0, 0)) for shade in (0, 120, 240)]
    pictures[0].save(file, "WEBP", save_all=True, append_images=pictures[1:], duration=50, lossless=True)
    video = Video.from_bytes(file.getvalue())
    assert (video.frames.shape, video.rate) == ((3, 4, 6, 3), 20.0)
    assert video.frames[:, 0, 0, 0].tolist() == [0, 120, 240]


def test_a_page_plays_it_without_fetching_anything():
    html = moving().html()
    assert html.startswith('<img src="data:image/webp;base64,')
    assert "http" not in html
    assert 'width="64" height="40"' in html


@pytest.mark.parametrize(
    ("frames", "rate", "reason"),
    [
        (np.zeros((2, 4, 4), np.uint8), 30, "not uint8 2 x 4 x 4"),
        (np.zeros((2, 4, 4, 4), np.uint8), 30, "2 x 4 x 4 x 4"),
        (np.zeros((2, 4, 4, 3), np.float32), 30, "float32"),
        (np.zeros((0, 4, 4, 3), np.uint8), 30, "at least one frame"),
        (np.zeros((1, 1, 16384, 3), np.uint8), 30, "16383 pixels"),
        (np.zeros((1, 4, 4, 3), np.uint8), 0, "1 to 100 frames per second"),
        (np.zeros((1, 4, 4, 3), np.uint8), float("nan"), "1 to 100 frames per second"),
    ],
)
def test_what_is_not_a_video_is_refused_in_one_line(frames, rate, reason):
    with pytest.raises(UserError, match=reason) as error:
        Video(frames, rate)
    assert "\n" not in str(error.value)


def test_a_value_cannot_be_changed_by_who_made_it_or_who_reads_it():
    frames = np.zeros((1, 4, 4, 3), np.uint8)
    video = Video(frames, 30)
    frames[:] = 9
    assert not video.frames.any()
    with pytest.raises(ValueError, match="read-only"):
        video.frames[:] = 1


def test_a_file_that_was_cut_or_is_something_else_is_refused(tmp_path):
    data = moving().to_bytes()
    with pytest.raises(UserError, match="cut off"):
        Video.from_bytes(data[:-40])
    (tmp_path / "x.webp").write_bytes(b"GIF89a" + bytes(40))
    with pytest.raises(UserError, match=r"x\.webp: not a WebP video"):
        Video.open(tmp_path / "x.webp")
    video = Video.open(moving().save(tmp_path / "y.webp"))
    assert len(video.frames) == 24


def test_a_file_that_says_it_is_longer_than_memory_is_refused():
    data = Video(np.zeros((2, 4, 4, 3), np.uint8), 30).to_bytes()
    assert b": 30.0 frames" in data
    with pytest.raises(UserError, match="too long to hold"):
        Video.from_bytes(data.replace(b": 30.0 frames", b": 3e10 frames"))


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_bytes_crash_the_reader(noise, place):
    data = bytearray(Video(np.full((3, 4, 4, 3), 90, np.uint8), 30).to_bytes())
    data[place : place + len(noise)] = noise
    with contextlib.suppress(UserError):
        assert Video.from_bytes(bytes(data)).frames.size
