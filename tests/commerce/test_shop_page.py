"""The shop's page: it tags a photo as Python does, in two languages, by keyboard, on a phone, and asks nobody."""

from __future__ import annotations

import base64
import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from daybreak.lab.registry import Place
from daybreak.lab.ship import export as room
from daybreak.lab.ship import page as paging
from daybreak.lab.ship.export.trace import Traced
from daybreak.media.image import Image, letterbox
from daybreak.systems.commerce.calibrate import Calibration
from daybreak.systems.commerce.model import Shop, ShopConfig, TagPhoto
from daybreak.systems.commerce.net import NetConfig
from daybreak.systems.commerce.programs import korean, programs, through
from daybreak.systems.commerce.tags import Vocabulary

sys.path.insert(0, str(Path(__file__).parent.parent / "lab"))
from browser import CHROMIUM, browser

SMALL = NetConfig(side=32, widths=(8, 16, 24, 32), depths=(0, 1, 1), features=64)


@pytest.fixture(scope="module")
def shop():
    """Untrained, with thresholds that let several tags of a group through, one, or none."""
    torch.manual_seed(0)
    vocabulary = Vocabulary.usual()
    least = {
        f"{group}.{value}": {"label": 0.03, "colour": 0.5, "wearer": 2.0}[group] for group, value in vocabulary.flat
    }
    return Shop(ShopConfig(net=SMALL, vocabulary=vocabulary, calibration=Calibration(thresholds=least)))


@pytest.fixture(scope="module")
def tab(shop, web_runtime, tmp_path_factory):
    """The shop's page, open in a browser."""
    pytest.importorskip("onnx")
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    folder = tmp_path_factory.mktemp("page")
    exporter = room.Exporter(None, Place(shop.save(folder / "shop"), "shop"), folder / "out", say=lambda line: None)
    converted(exporter, folder)
    made = paging.make(exporter)
    assert made.manifest["over_weights"] <= 6e6
    with browser(folder / "profile") as page:
        page.open(made.path / "index.html")
        page.ask("daybreak.ready.then(() => 1)")
        yield page
        assert [url for url in page.fetched() if not url.startswith(("file:", "blob:"))] == []
        assert page.complaints() == []


def converted(exporter: room.Exporter, folder: Path) -> None:
    """An ONNX export, by torch's first exporter: it takes a tenth of the time, and this is about the page."""
    program, into = exporter.programs["look"], exporter.folder / "onnx"
    into.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            program.module, tuple(program.example.values()), str(into / "look.onnx"), dynamo=False, opset_version=17,
            input_names=["pixels"], output_names=list(program.outputs), dynamic_axes={"pixels": {0: "batch"}},
        )  # fmt: skip
    manifest = {"made": {}, "programs": {"look": Traced("look", program, folder).about()}}
    (into / "manifest.json").write_text(json.dumps(manifest))
    exporter.made.add("onnx")


def blob(data: bytes, kind: str) -> str:
    letters = base64.b64encode(data).decode()
    return f"new Blob([Uint8Array.from(atob('{letters}'), x => x.charCodeAt(0))], {{type: '{kind}'}})"


def file(pixels: np.ndarray, kind: str = "PNG", **more) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, kind, **more)
    return out.getvalue()


SHAPES = [(32, 32), (1, 1), (5, 300), (300, 5), (63, 128), (150, 301), (201, 130), (33, 65), (20, 11)]


@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_a_photo_is_tagged_in_the_page_as_python_tags_it(tab, shop, width, height):
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels[height // 3 :] //= 3
    got = tab.ask(
        f"model.decoded({blob(file(pixels), 'image/png')}).then(async image => ({{"
        "pixels: [...image.pixels], square: [...model.letterbox(image)], ...await model.tag(image)}))"
    )
    assert got["pixels"] == pixels.ravel().tolist()
    assert got["square"] == letterbox(pixels, SMALL.side).ravel().tolist()
    image = Image(pixels)
    want = shop.tag(TagPhoto(image=image))
    assert got["probability"] == pytest.approx(shop.probabilities(shop.see([image]))[0].tolist(), abs=1e-4)
    assert {group: tuple(values) for group, values in got["tags"].items()} == want.tags
    assert got["likely"] == want.likely
    assert got["box"] == pytest.approx(want.box, abs=1e-3)
    assert len(want.tags["label"]) == 1
    assert want.tags["wearer"] == ()


def test_orientation_and_alpha_are_read_as_python_reads_them(tab):
    pixels = np.full((30, 50, 3), 200, np.uint8)
    pixels[:, :25] = 20
    turned = Pillow.Exif()
    turned[0x0112] = 6
    data = file(pixels, "JPEG", quality=100, exif=turned)
    got = tab.ask(
        f"model.decoded({blob(data, 'image/jpeg')}).then(({{pixels, width, height}}) => [width, height, ...pixels])"
    )
    want = Image.from_bytes(data).pixels
    assert (got[1], got[0]) == want.shape[:2] == (50, 30)
    assert np.abs(np.array(got[2:]) - want.ravel()).max() <= 2
    clear = np.zeros((5, 4, 4), np.uint8)
    clear[2:] = 90, 30, 60, 255
    data = file(clear)
    got = tab.ask(f"model.decoded({blob(data, 'image/png')}).then(({{pixels}}) => [...pixels])")
    assert got == Image.from_bytes(data).pixels.ravel().tolist()


def test_what_is_no_picture_or_too_large_is_told_and_the_next_photo_is_tagged(tab):
    says = "document.querySelector('#says').textContent"
    assert tab.ask(f"model.take({blob(b'no picture', 'image/png')}).then(() => {says})").startswith(
        "This is no picture"
    )
    wide = blob(file(np.zeros((1, 9000, 3), np.uint8)), "image/png")
    assert "too large" in tab.ask(f"model.take({wide}).then(() => {says})")
    assert tab.ask("document.querySelector('#found').hidden") is True
    assert "pixels" in tab.ask(f"model.take(model.drawing(0)).then(() => {says})")


def test_it_is_used_by_keyboard_in_korean_on_a_phone(tab, shop):
    def press() -> None:
        for kind in ("keyDown", "keyUp"):
            more = {"text": "\r"} if kind == "keyDown" else {}
            tab.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, **more)

    tab.call("Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=True)
    tab.ask("model.take(new Blob([])).then(() => document.querySelectorAll('#examples button')[3].focus())")
    press()
    found = tab.ask("new Promise(done => setInterval(() => { if (model.state()) done(model.state()); }, 20))")
    assert found["near"][0]["place"] == 3  # nothing looks more like a drawing than itself
    text = tab.ask("document.querySelector('#found').innerText")
    assert "unknown (perhaps" in text.split("For whom")[1]
    tab.ask("document.querySelector('#language').focus()")
    press()
    text = tab.ask("document.querySelector('#found').innerText")
    (value,) = found["tags"]["label"]
    assert korean(shop.config.vocabulary.groups["label"].values[value]) in text
    assert "모름" in text
    assert tab.ask("document.getElementById('root').lang") == "ko"
    assert tab.ask("document.documentElement.scrollWidth") <= 360
    names = tab.ask(
        "[...document.querySelectorAll('button')].map(x => x.textContent + (x.querySelector('img') || {alt: ''}).alt)"
    )
    assert all(names)


def test_a_pasted_and_a_dropped_photo_are_tagged(tab):
    photo = blob(file(np.full((40, 20, 3), 9, np.uint8)), "image/png")
    for event in (
        "new ClipboardEvent('paste', {clipboardData: held, bubbles: true})",
        "new DragEvent('drop', {dataTransfer: held, bubbles: true, cancelable: true})",
    ):
        tab.ask("model.take(new Blob([])).then(() => 1)")
        tab.ask(
            f"{{ const held = new DataTransfer(); held.items.add(new File([{photo}], 'a.png', {{type: 'image/png'}}));"
            f" document.body.dispatchEvent({event}); 1 }}"
        )
        found = tab.ask("new Promise(done => setInterval(() => { if (model.state()) done(model.state()); }, 20))")
        assert (found["width"], found["height"]) == (20, 40)


def test_colours_are_shown_by_their_noun_and_every_usual_tag_has_a_korean_word():
    assert korean(["까만", "black", "검은색"]) == "검은색"
    assert korean(["tee"]) == ""
    groups = Vocabulary.usual().groups.values()
    assert all(korean(words) for group in groups for words in group.values.values())


def test_a_shop_answers_through_its_program(shop):
    from copy import deepcopy

    other, program = deepcopy(shop), programs(shop)["look"]
    through(other, {"look": lambda x: program.module(x)})
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        want, got = shop.net.eval()(pixels), other.net(pixels)
    for name in ("instance", "product", "colour", "box"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name), atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(shop.probabilities(got), shop.probabilities(want), atol=1e-5)


def test_the_page_holds_what_the_tags_need_and_nothing_of_the_training_photos(shop):
    data = json.loads(json.dumps(dict(shop.page().data)))
    assert [group["name"] for group in data["groups"]] == list(shop.config.vocabulary.groups)
    assert len(data["examples"]) == 12
    assert len(json.dumps(data)) < 100_000
