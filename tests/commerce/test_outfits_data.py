import os
from pathlib import Path

import pytest
from commerce_sets import Held
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.lab.lake import Broken, Draft
from daybreak.systems.commerce import data as commerce
from daybreak.systems.commerce.outfits import data
from daybreak.systems.commerce.outfits.drawn import drawn
from daybreak.systems.commerce.outfits.pieces import Names, Piece, buckets, words

DATA = os.environ.get("DAYBREAK_DATA")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def both(drafts):
    found = list(drafts)
    return [d for d in found if isinstance(d, Draft)], [d for d in found if isinstance(d, Broken)]


def polyvore(folder: Path, outfits: str) -> Path:
    write(folder / "categories.csv", "category_id,name,count_in_outfits\n4,Day Dresses,9\n46,Sandals,9\n37,Bags,9\n")
    write(folder / "items.csv", 'item_id,category,text\n7_1,Day Dresses,"red, long dress"\n7_2,Sandals,\n')
    return write(folder / "outfits.csv", f"set_id,split,items\n{outfits}")


def test_polyvores_folder_becomes_one_item_an_outfit_with_the_files_split(tmp_path):
    polyvore(tmp_path, "7,val,1:4 2:46\n8,test,1:4 3:37 9:46\n")
    drafts, broken = both(commerce.ingest(tmp_path))
    assert not broken
    assert [(d.name, d.split, d.labels) for d in drafts] == [
        ("7", "validation", {"kind": "outfit"}), ("8", "test", {"kind": "outfit"}),
    ]  # fmt: skip
    assert len({d.group for d in drafts}) == 2
    held = Held(drafts)
    (read,) = data.outfits(held, "validation")
    assert read.pieces == (Piece("7_1", "Day Dresses", "red, long dress"), Piece("7_2", "Sandals"))


def test_a_bad_row_is_set_aside_with_its_reason(tmp_path):
    polyvore(tmp_path, "7,val,1:4 2:999\n8,nowhere,1:4 2:46\n9,train,1:4\n10,train,1:4 1:46\n11,train,1:4 2:46\n")
    drafts, broken = both(commerce.ingest(tmp_path))
    assert [d.name for d in drafts] == ["11"]
    reasons = {b.name: b.reason for b in broken}
    assert "999" in reasons["7"]
    assert "nowhere" in reasons["8"]
    assert "2 to 24" in reasons["9"]
    assert "twice" in reasons["10"]


def test_a_shops_list_is_read_whatever_the_order_of_its_rows(tmp_path):
    file = write(
        tmp_path / "sets.csv",
        "outfit_id,item_id,category,title\na,1,dress,red dress\nb,2,hat,\na,3,shoes,\nb,4,pants,blue\n",
    )
    drafts, broken = both(commerce.ingest(file))
    assert [d.name for d in drafts] == ["a", "b"]
    assert not broken
    assert b'"red dress"' in drafts[0].parts["data"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("outfit_id,item,category\na,1,x\n", "no column 'item_id'"),
        ("set_id,split\n1,train\n", "no column 'outfit_id'"),
    ],
)
def test_a_list_without_a_column_is_refused_by_its_name(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        list(commerce.ingest(write(tmp_path / "sets.csv", text)))


def test_rows_that_cannot_be_used_name_their_outfit(tmp_path):
    file = write(
        tmp_path / "sets.csv",
        "outfit_id,item_id,category,split\n"
        "a,1,dress,train\na,1,dress,train\n"  # twice
        "b,1,dress,train\nb,2,hat,test\n"  # two splits
        "c,1,dress,train\nc,2,,train\nc,3,hat,train\n"  # a piece without a category
        "d,1,dress,soon\nd,2,hat,soon\n"
        "e,1,dress,val\ne,2,hat,val\n",
    )
    drafts, broken = both(commerce.ingest(file))
    assert [(d.name, d.split) for d in drafts] == [("e", "validation")]
    reasons = {b.name: b.reason for b in broken}
    assert "twice" in reasons["a"]
    assert "two splits" in reasons["b"]
    assert "broken" in reasons["c"]
    assert "soon" in reasons["d"]
    assert "no category" in reasons["sets.csv:7"]


def test_another_encoding_is_refused_in_one_line(tmp_path):
    file = tmp_path / "sets.csv"
    file.write_bytes("outfit_id,item_id,category\na,1,원피스\n".encode("cp949"))
    with pytest.raises(UserError, match=r"sets\.csv"):
        list(commerce.ingest(file))


def test_drawn_outfits_keep_their_rules_and_are_the_same_every_time():
    one, two = list(drawn(60)), list(drawn(60))
    assert [d.parts for d in one] == [d.parts for d in two]
    assert all(d.labels["drawn"] for d in one)
    held = Held(one)
    for split in ("train", "validation", "test"):
        for outfit in data.outfits(held, split):
            categories = {piece.category for piece in outfit.pieces}
            assert not {"Sneakers", "Pumps"} <= categories  # sport is no party


def test_drawn_outfits_give_way_to_real_ones(tmp_path):
    polyvore(tmp_path, "7,train,1:4 2:46\n")
    held = Held([*drawn(20), *commerce.ingest(tmp_path)])
    assert [outfit.name for outfit in data.outfits(held, "train")] == ["7"]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("day dresses", "Day Dresses"), ("Day-Dress", "Day Dresses"), ("t_shirt", "T-Shirts"), ("T shirt", "T-Shirts"),
        ("dress", "Dresses"), ("hat", "Hats"), ("ankle bootie", "Ankle Booties"), ("watch", "Watches"),
        ("blouse", "Blouses"), ("PANTS", "Pants"), ("outwear", "Outerwear"), ("longsleeve", "Tops"),
    ],
)  # fmt: skip
def test_a_category_is_found_however_a_shop_spells_it(said, meant):
    names = Names(
        [
            "Day Dresses",
            "T-Shirts",
            "Dresses",
            "Hats",
            "Ankle Booties",
            "Watches",
            "Blouses",
            "Pants",
            "Outerwear",
            "Tops",
        ]
    )
    assert names.names[names[said]] == meant


def test_an_unknown_category_is_told_the_nearest():
    names = Names(["Sandals", "Day Dresses"])
    assert names.find("spaceship") is None
    with pytest.raises(UserError, match="did you mean Sandals"):
        names["sandels"]


@given(st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_title_becomes_buckets_within_bounds(title):
    found = buckets(title, 64)
    assert all(1 <= one <= 64 for one in found)
    assert len(found) == len(set(found)) <= len(words(title))


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=12).filter(str.strip), st.text(max_size=12)), min_size=2, max_size=6
    )
)
@settings(max_examples=60, deadline=None)
def test_an_outfit_comes_back_as_it_was(rows):
    pieces = [Piece(str(n), category, title) for n, (category, title) in enumerate(rows)]
    held = Held([data.draft("x", pieces, "train")])
    (read,) = data.outfits(held, "train")
    assert list(read.pieces) == pieces


@pytest.mark.skipif(not DATA, reason="needs DAYBREAK_DATA")
def test_the_real_list_is_read_whole():
    drafts, broken = both(commerce.ingest(Path(DATA) / "commerce" / "polyvore"))
    splits = [d.split for d in drafts]
    assert not broken
    assert [splits.count(s) for s in ("train", "validation", "test")] == [14677, 898, 2245]
