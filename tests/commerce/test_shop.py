"""The shop: it learns, its calibration keeps its promise, and a catalogue answers by picture, item and words."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from daybreak.errors import UserError
from daybreak.lab.lake import Lake
from daybreak.media.image import Image
from daybreak.systems.commerce import calibrate
from daybreak.systems.commerce.board import render
from daybreak.systems.commerce.catalogue import Catalogue
from daybreak.systems.commerce.data import ingest
from daybreak.systems.commerce.data.drawn import drawings
from daybreak.systems.commerce.model import Search, Shop, ShopConfig, SimilarImage, SimilarProduct, TagPhoto
from daybreak.systems.commerce.net import NetConfig, Palette, Seen, ShopNet, folded
from daybreak.systems.commerce.recipe import Shopnet
from daybreak.systems.commerce.shelves import Entry, add, entries, thumb
from daybreak.systems.commerce.tags import Vocabulary
from daybreak.systems.commerce.teacher import Teacher

sys.path.insert(0, str(Path(__file__).parent.parent / "lab"))
from browser import CHROMIUM, browser

SMALL = NetConfig(side=32, widths=(8, 16, 24, 32), depths=(0, 1, 1), features=64)


@pytest.fixture(scope="module")
def shop():
    torch.manual_seed(0)
    return Shop(ShopConfig(net=SMALL, vocabulary=Vocabulary.usual()))


def drawn(count):
    for draft in drawings(count):
        fields = {"tags": dict(draft.labels["tags"]), "title": draft.labels["title"], "price": draft.labels["price"]}
        yield Entry(draft.name, draft.parts["data"], fields)


@pytest.fixture
def shelf(shop, tmp_path):
    shop.catalogue = Catalogue.create(tmp_path / "shelf", shop.fingerprint, shop.spaces)
    taken = add(shop, shop.catalogue, drawn(30))
    assert (taken.added, taken.unchanged, taken.broken) == (30, 0, [])
    return shop.catalogue


def test_the_folded_network_gives_the_same_answers():
    torch.manual_seed(1)
    net = ShopNet(SMALL, 34)
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.rand(8, 3, 32, 32))
    net.eval()
    x = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        for ours, theirs in zip(folded(net)(x), net(x), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_palette_knows_colours_wherever_in_the_garment_they_are_and_says_nothing_before_it_learned():
    torch.manual_seed(0)
    palette = Palette(3).eval()
    pixels, near = torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8)
    near = near / near.sum((2, 3), keepdim=True)
    order = torch.randperm(64)
    moved = [x.flatten(2)[..., order].view_as(x) for x in (pixels, near)]
    with torch.no_grad():
        assert not palette(pixels, near).any()
        torch.nn.init.normal_(palette.tags.weight)
        assert torch.allclose(palette(*moved), palette(pixels, near), atol=1e-4)
        outside = near.clone()
        outside[..., :4] = 0  # what is no garment does not count
        blue = pixels.clone()
        blue[:, 2, :, :4] = 1
        assert torch.allclose(palette(blue, outside), palette(pixels, outside))
        assert not torch.allclose(palette(blue, near), palette(pixels, near))


def test_a_network_tuned_in_one_part_keeps_the_others_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from daybreak.lab.home import Lab

    lake = Lake.open(Lab.open())
    lake.add("commerce", drawings(40), licence="CC0-1.0", source="drawn")
    data = lake.snapshot("commerce")
    config = Shopnet.presets["tiny"].model_copy(update={"net": SMALL, "stored": 32, "batch": 8, "tune": ("palette",)})
    recipe = Shopnet(config, data)
    before = {name: value.clone() for name, value in recipe.net.state_dict().items()}
    batches = recipe.batches(config, data)
    for step in range(3):
        recipe.step(batches(step), step)
    changed = {name for name, value in recipe.net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("palette.") for name in changed)
    with pytest.raises(UserError, match="no part 'hue'; there is: stem"):
        Shopnet(config.model_copy(update={"tune": ("hue",)}), data)


def test_a_pupil_nears_its_teacher_which_learns_nothing_and_is_not_saved_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from daybreak.lab.home import Lab

    lake = Lake.open(Lab.open())
    lake.add("commerce", drawings(40), licence="CC0-1.0", source="drawn")
    data = lake.snapshot("commerce")
    torch.manual_seed(0)
    large = Shop(ShopConfig(net=SMALL.model_copy(update={"side": 48}), vocabulary=Vocabulary.usual()))
    large.save(tmp_path / "large")
    alone = {"mix": 0.0, "instance": 0.0, "product": 0.0, "colour": 0.0, "box": 0.0, "taught": 1.0}
    config = Shopnet.presets["tiny"].model_copy(
        update={"net": SMALL, "stored": 48, "batch": 16, "lr": 3e-3, "warmup": 0, "teacher": str(tmp_path / "large")}
        | alone
    )
    recipe = Shopnet(config, data)
    batches = recipe.batches(config, data)
    before = {name: value.clone() for name, value in recipe.teachers[0].net.state_dict().items()}
    far = [float(recipe.step(batches(step), step)["taught"]) for step in range(30)]
    assert np.mean(far[-5:]) < 0.7 * np.mean(far[:5])
    after = recipe.teachers[0].net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert set(recipe.nets()) == {"net", "proxies"}
    few = Vocabulary.read("[kind]\nexclusive = true\n[kind.values]\nhat = []\nshoe = []\n", "tags.toml")
    Shop(ShopConfig(net=SMALL, vocabulary=few)).save(tmp_path / "other")
    with pytest.raises(UserError, match=r"teacher: .*other has other tags than these photos"):
        Shopnet(config.model_copy(update={"teacher": str(tmp_path / "other")}), data)


def test_a_teacher_agrees_with_itself(shop, tmp_path):
    shop.save(tmp_path / "own")
    teacher = Teacher(tmp_path / "own", Vocabulary.usual(), "cpu")
    with torch.no_grad():
        seen = teacher(torch.rand(4, 3, 32, 32))
        assert abs(float(teacher.loss(seen, seen))) < 1e-4
        assert float(teacher.loss(Seen(*(x.flip(0) for x in seen)), seen)) > 0


def test_it_learns_drawn_garments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from daybreak.lab.home import Lab

    lake = Lake.open(Lab.open())
    lake.add("commerce", drawings(60), licence="CC0-1.0", source="drawn")
    data = lake.snapshot("commerce")
    config = Shopnet.presets["tiny"].model_copy(
        update={"net": SMALL, "stored": 32, "batch": 16, "lr": 3e-3, "warmup": 0}
    )
    torch.manual_seed(0)
    recipe = Shopnet(config, data)
    batches = recipe.batches(config, data)
    losses = [float(recipe.step(batches(step), step)["loss"]) for step in range(40)]
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])
    scores = list(recipe.evaluate(recipe.items("validation")[:2]))
    assert {"P@10", "AP", "R@1 crop", "accuracy"} <= set(scores[0].values)
    assert recipe.model().tag(TagPhoto(image=Image(np.zeros((20, 10, 3), np.uint8)))).promised == calibrate.PRECISION


def test_thresholds_keep_their_promise_on_what_they_were_chosen_on():
    rng = np.random.default_rng(0)
    p = rng.random(500)
    truth = rng.random(500) < p
    least = calibrate.threshold(p, truth, 0.9)
    assert truth[p >= least].mean() >= 0.9
    assert calibrate.threshold(p, np.zeros(500, bool), 0.9) == calibrate.NEVER


def test_an_item_comes_back_by_its_own_picture_and_leaves_itself_out_by_its_id(shop, shelf):
    entry = next(drawn(1))
    found = shop.similar_image(SimilarImage(image=Image.from_bytes(entry.data), k=3))
    assert found.hits[0].id == entry.id
    others = shop.similar_product(SimilarProduct(item=entry.id, k=3))
    assert entry.id not in {hit.id for hit in others.hits}
    with pytest.raises(UserError, match="one of them"):
        shop.similar_product(SimilarProduct())


def test_words_find_the_items_that_have_the_tags_within_the_price(shop, shelf):
    found = shop.search(Search(text="sparkly skirt under 150", k=10))
    assert found.hits
    assert all(hit.tags["label"] == ("skirt",) and hit.price <= 150 for hit in found.hits)
    assert set(found.unknown) == {"sparkly"}
    with pytest.raises(UserError, match="no word of"):
        shop.search(Search(text="sparkly"))


def test_what_is_added_together_is_what_each_photo_gives_alone(shop, shelf):
    for entry in drawn(5):
        alone = shop.see([Image.from_bytes(entry.data)])
        kept = shelf.vectors(entry.id)
        for name in ("instance", "product", "colour"):
            assert np.abs(kept[name] - getattr(alone, name)[0].numpy()).max() < 1e-5
        assert thumb(shelf.path, shelf.get(entry.id)).pixels.shape[:2] == (128, 128)


def test_adding_again_changes_nothing_and_a_broken_photo_is_set_aside(shop, shelf):
    taken = add(shop, shelf, iter([*drawn(30), Entry("bad", b"no picture", {})]))
    assert (taken.added, taken.unchanged) == (0, 30)
    assert taken.broken[0][0] == "bad"


def test_a_catalogue_of_other_weights_is_refused(shop, shelf):
    torch.manual_seed(9)
    other = Shop(ShopConfig(net=SMALL, vocabulary=Vocabulary.usual()))
    other.catalogue = shelf
    with pytest.raises(UserError, match=other.fingerprint):
        other.search(Search(text="red"))


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser")
def test_the_board_is_used_by_keyboard_and_fetches_nothing(shop, shelf, tmp_path):
    asked = [(name, None, shop.similar_product(SimilarProduct(item=name, k=6))) for name in ("drawing 1", "drawing 2")]
    (tmp_path / "board.html").write_text(render(shop, shelf, asked, "t"))
    count = "document.getElementById('count').textContent"
    with browser(tmp_path / "profile") as tab:
        tab.open(tmp_path / "board.html")
        assert tab.ask(count) == "12 hits"
        tab.press("j")
        tab.press("j")
        assert tab.ask("document.activeElement.getAttribute('aria-label')") == "hits of drawing 2"
        tab.press("b")
        assert tab.ask("getComputedStyle(document.querySelector('.pic i')).display") == "none"
        tab.press("/")
        for letter in "zzz":
            tab.press(letter)
        assert tab.ask(count) == "0 of 12 hits"
        assert tab.ask("[...document.querySelectorAll('.row > .none')].every((said) => !said.hidden)")
        assert tab.complaints() == []
        assert [url for url in tab.fetched() if not url.startswith("file:")] == []


def test_the_board_escapes_what_comes_from_data(shop, shelf):
    entry = next(drawn(1))
    add(shop, shelf, iter([Entry("evil", entry.data, {**entry.fields, "title": "<script>x</script>"})]))
    found = shop.similar_product(SimilarProduct(item=entry.id, k=5))
    page = render(shop, shelf, [("<b>q</b>", None, found)], "t")
    assert "<script>x" not in page
    assert "<b>q</b>" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_list_is_read_row_by_row_and_reaches_no_file_outside(tmp_path, shop):
    shop_folder = tmp_path / "shop"
    (shop_folder / "photos").mkdir(parents=True)
    photo = io.BytesIO(next(drawn(1)).data).getvalue()
    (shop_folder / "photos" / "a.webp").write_bytes(photo)
    (tmp_path / "secret.webp").write_bytes(photo)
    rows = [
        "id,image,label,price",
        "1,photos/a.webp,dress,$12.50",
        "2,../../secret.webp,dress,1",
        "3,photos/a.webp,drss,1",
    ]
    (shop_folder / "items.csv").write_text("\n".join(rows) + "\n")
    drafts = list(ingest(shop_folder))
    assert drafts[0].labels["tags"] == {"label": ("dress",)}
    assert drafts[0].labels["price"] == 12.5
    assert "outside" in drafts[1].reason
    assert "did you mean dress" in drafts[2].reason
    found = list(entries(shop_folder, shop.config.vocabulary))
    assert found[0].fields["price"] == 12.5
    assert isinstance(found[1], tuple)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "id,title\n1,a\n", "no column image or file; it has id, title"),
        ("a.csv", "id,image\n", "has no rows"),
        ("a.jsonl", "", "has no rows"),
        ("a.csv", "id,image,title\n1,a.webp,빨간\n".encode("cp949"), "UTF-8"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_as_a_whole(tmp_path, shop, name, text, said):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=said):
        list(entries(tmp_path / name, shop.config.vocabulary))
    with pytest.raises(UserError, match=said):
        list(ingest(tmp_path / name))


def test_a_list_may_stand_between_semicolons_and_an_id_counts_once(tmp_path, shop):
    (tmp_path / "a.webp").write_bytes(next(drawn(1)).data)
    (tmp_path / "items.csv").write_text("id;image;price\n1;a.webp;3\n1;a.webp;4\n2;b.webp;cheap\n")
    taken = add(shop, Catalogue.create(tmp_path / "c", shop.fingerprint, shop.spaces),
                entries(tmp_path / "items.csv", shop.config.vocabulary))  # fmt: skip
    assert taken.added == 1
    assert {reason for _, reason in taken.broken} == {
        "the id is twice in the list; the first one was taken", "price 'cheap' is no number",
    }  # fmt: skip
    assert any("twice" in draft.reason for draft in ingest(tmp_path) if not hasattr(draft, "parts"))


def test_a_kind_is_the_shops_word_or_sure_or_a_guess_or_unknown(shop):
    flat = np.full(len(shop.config.vocabulary.flat), 0.01)
    assert shop.category(flat, {}) == ""
    flat[shop.config.vocabulary.columns["label", "skirt"]] = 0.6
    assert shop.category(flat, {}) == "skirt?"
    assert shop.category(flat, {"label": ("dress",)}) == "dress"


def test_guesses_count_where_they_are_asked_for_and_are_told_where_not(shop, shelf):
    entry = next(drawn(1))
    for n, category in enumerate(("cape", "cape?", "cape?", "boa?")):
        add(shop, shelf, iter([Entry(f"c{n}", entry.data, {"category": category})]))

    def found(**asked):
        return shop.similar_product(SimilarProduct(item=entry.id, k=9, **asked))

    sure = found(category=("cape",))
    assert {hit.id for hit in sure.hits} == {"c0"}
    assert sure.notes[0] == "2 more are cape by a guess; guesses lets them count"
    assert {hit.id for hit in found(category=("cape",), guesses=True).hits} == {"c0", "c1", "c2"}
    with pytest.raises(UserError, match="no item is surely boa; 1 by a guess"):
        found(category=("boa",))
    assert {hit.id for hit in found(category=("boa",), guesses=True).hits} == {"c3"}


def test_an_item_that_is_removed_between_search_and_reading_is_no_hit(shop, shelf, monkeypatch):
    search = Catalogue.search

    def removed_meanwhile(self, *args, **more):
        hits = search(self, *args, **more)
        with Catalogue.open(self.path).writing() as writer:
            writer.remove([hits[0].row.id])
        removed_meanwhile.gone = hits[0].row.id
        return hits

    monkeypatch.setattr(Catalogue, "search", removed_meanwhile)
    found = shop.search(Search(text="skirt", k=30))
    assert found.hits
    assert removed_meanwhile.gone not in {hit.id for hit in found.hits}
    found = shop.similar_product(SimilarProduct(item="drawing 3", k=5))
    page = render(shop, shelf, [("q", None, found)], "t")
    assert removed_meanwhile.gone in page, "what was found is shown, without a picture"
