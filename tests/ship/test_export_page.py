"""The page's promises: one file, no request, the answers of Python, and a form where a model has no script."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from daybreak_toys.mlp import MlpModel, Net
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.lab.model import Model
from daybreak.lab.registry import Place
from daybreak.lab.ship import export as room
from daybreak.lab.ship import page as paging
from daybreak.lab.ship.export import environment
from daybreak.lab.ship.page import npm
from daybreak.lab.ship.page.pack import BITS, FIRST, letters, packed

sys.path.insert(0, str(Path(__file__).parent.parent / "lab"))
from browser import CHROMIUM, browser


def unpacked(text: str, size: int) -> bytes:
    """What runtime.js does, letter by letter."""
    bits = "".join(format(ord(letter) - FIRST, f"0{BITS}b") for letter in text)
    return bytes(int(bits[8 * n : 8 * n + 8], 2) for n in range(size))


@given(st.binary(max_size=200))
def test_letters_bring_every_byte_home_and_mean_nothing_to_html(data):
    text = letters(data)
    assert unpacked(text, len(data)) == data
    assert all(0x3400 <= ord(letter) <= 0xB3FF for letter in text)
    assert len(text) == -(-8 * len(data) // BITS)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=6), st.integers(0, 2**32 - 1))
def test_only_weights_that_16_bits_hold_travel_so_and_all_come_back_exactly(kinds, seed):
    random = np.random.default_rng(seed)
    blob, places = b"", []
    for exact, count in kinds:
        weights = random.normal(size=count).astype("<f2" if exact else "<f4").astype("<f4")
        places.append((len(blob), 4 * count))
        blob += weights.tobytes()
    text, index = packed({"weights.bin": blob}, {"weights.bin": places})
    held = unpacked(text, index["packed"])
    back = b""
    for part in index["files"][0]["parts"]:
        piece = gzip.decompress(held[part["at"] : part["at"] + part["size"]])
        back += np.frombuffer(piece, "<f2").astype("<f4").tobytes() if part["half"] else piece
    assert back == blob


def test_without_npm_a_page_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv(environment.CACHE, str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"needs onnxruntime-web .* npm is not installed; .* leave page out of --to"):
        npm.runtime()


@pytest.fixture(scope="module")
def page(web_runtime, tmp_path_factory):
    """A third party's model as a page."""
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("page")
    torch.manual_seed(0)
    place = Place(MlpModel(Net()).save(folder / "toy"), "toy")
    return place, paging.make(room.Exporter(None, place, folder / "out", say=lambda line: None))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_page_answers_as_python_does_and_fetches_nothing(page, tmp_path):
    place, made = page
    x = torch.randn(3, 16)
    with torch.inference_mode():
        want = Model.load(place.path).net(x).flatten().tolist()
    with browser(tmp_path / "profile") as tab:
        tab.open(made.path / "index.html")
        given = f"{{x: {{data: {x.flatten().tolist()}, shape: [3, 16]}}}}"
        got = tab.ask(f"daybreak.ready.then(() => daybreak.run('predict', {given})).then(out => [...out.y.data])")
        assert got == pytest.approx(want, abs=1e-4)
        tab.ask("document.querySelector('form button').click()")
        said = tab.ask(
            "new Promise(done => setInterval(() => { const t = document.querySelector('pre').textContent;"
            " if (t) done(t); }, 20))"
        )
        assert said.startswith("y [1, 1]: ")
        assert [url for url in tab.fetched() if not url.startswith(("file:", "blob:"))] == []
        assert tab.complaints() == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize(
    ("flag", "lacks"), [("--no-enable-sse4-1", "WebAssembly SIMD"), ("--jitless", "WebAssembly")], ids=["simd", "wasm"]
)
def test_a_browser_without_what_a_page_needs_is_told_so(page, tmp_path, flag, lacks):
    _, made = page
    with browser(tmp_path / "profile", f"--js-flags={flag}") as tab:
        tab.open(made.path / "index.html")
        assert tab.ask("daybreak.ready.then(() => 'ready', () => 'refused')") == "refused"
        said = tab.ask("document.getElementById('state').textContent")
        assert said.startswith(f"This page cannot run here: this browser has no {lacks}; Chrome 91")


def test_a_page_is_one_file_a_little_larger_than_its_weights(page):
    _, made = page
    assert sorted(path.name for path in made.path.iterdir()) == ["index.html", "manifest.json"]
    assert made.manifest["over_weights"] <= 6e6
    text = (made.path / "index.html").read_text("utf-16")
    assert "https://" not in text.split("</style>")[0]
    assert "default-src 'none'" in text


def test_a_script_that_would_end_its_own_tag_is_refused():
    with pytest.raises(UserError, match="HTML would end it by"):
        paging._script("const a = '</SCRIPT>';", "a toy")
