"""What words mean: English and Korean, prices, misspellings, and the words that no tag has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.systems.commerce.tags import Vocabulary

USUAL = Vocabulary.usual()


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("red dress", {"colour": ("red",), "label": ("dress",)}),
        ("빨간 원피스", {"colour": ("red",), "label": ("dress",)}),
        ("빨간원피스를 보여줘", {"colour": ("red",), "label": ("dress",)}),
        ("dark blue long sleeves", {"colour": ("navy",), "label": ("longsleeve",)}),
        (
            "white or black t-shirts for kids",
            {"colour": ("white", "black"), "label": ("t_shirt",), "wearer": ("kids",)},
        ),
    ],
)
def test_words_become_tags(text, tags):
    assert USUAL.parse(text).tags == tags
    assert not USUAL.parse(text).unknown


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("red dress under 50", None, 50.0),
        ("shoes over $1,200", 1200.0, None),
        ("원피스 5만원 이하", None, 50_000.0),
        ("신발 3천원 이상", 3000.0, None),
    ],
)
def test_words_bound_the_price(text, low, high):
    found = USUAL.parse(text)
    assert (found.lowest, found.highest) == (low, high)


def test_an_unknown_word_is_named_and_a_near_one_is_told():
    found = USUAL.parse("sparkly green trousrs")
    assert set(found.unknown) == {"sparkly"}
    assert found.read_as == {"trousrs": "trousers"}
    assert found.tags == {"colour": ("green",), "label": ("pants",)}


@given(st.text(max_size=60))
def test_any_text_is_read_without_a_fault_and_gives_known_values(text):
    for group, values in USUAL.parse(text).tags.items():
        assert set(values) <= set(USUAL.groups[group].values)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"color": ("red",)}, "did you mean colour"),
        ({"colour": ("rde",)}, "did you mean red"),
        ({"label": ("dress", "shoes")}, "an item has one label"),
    ],
)
def test_tags_that_do_not_fit_are_refused(tags, message):
    with pytest.raises(UserError, match=message):
        USUAL.check(tags)


def test_a_word_of_two_values_is_refused():
    with pytest.raises(UserError, match="stands for both"):
        Vocabulary.read('[a.values]\nx = ["w"]\ny = ["w"]\n')
