"""Weights of the CLIP family are a shop like any other: the same actions, and vectors that never meet another's."""

import json

import numpy as np
import pytest
import torch

from daybreak.errors import UserError
from daybreak.lab.model import Model
from daybreak.media.image import Image
from daybreak.systems.commerce.catalogue import Catalogue
from daybreak.systems.commerce.clip import FAMILIES, ClipShop, bring
from daybreak.systems.commerce.data.drawn import drawings
from daybreak.systems.commerce.model import Search, Shop, ShopConfig, SimilarImage, SimilarProduct, TagPhoto
from daybreak.systems.commerce.net import NetConfig
from daybreak.systems.commerce.shelves import Entry, add
from daybreak.systems.commerce.tags import Vocabulary

transformers = pytest.importorskip("transformers")
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
SEEN = {**SMALL, "image_size": 32, "patch_size": 8}


@pytest.fixture(scope="module", params=["clip", "siglip"])
def checkpoint(request, tmp_path_factory):
    """A folder as the library saves one, of random weights, with a tokenizer of few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("weights") / f"tiny-{request.param}"
    words = {
        w: n for n, w in enumerate(["<pad>", "<unk>", "a", "photo", "of", "garment", "red", "blue", "dress", "hat"])
    }
    text = {**SMALL, "vocab_size": len(words), "max_position_embeddings": 12, "eos_token_id": 0, "bos_token_id": 0,
            "pad_token_id": 0}  # fmt: skip
    more = {"projection_dim": 24} if request.param == "clip" else {}
    if request.param == "siglip":
        text["projection_size"] = 32
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(request.param, text_config=text, vision_config=SEEN, **more)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>").save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def shop(checkpoint):
    return bring(str(checkpoint), Vocabulary.usual())


def drawn(count):
    for draft in drawings(count):
        yield Entry(draft.name, draft.parts["data"], {"title": draft.labels["title"]})


def test_its_embedding_is_that_of_the_library(checkpoint, shop):
    whole = transformers.AutoModel.from_pretrained(checkpoint).eval()
    squares = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    config = shop.config
    pixels = (squares / 255 - np.array(config.mean)) / np.array(config.spread)
    with torch.no_grad():
        theirs = whole.get_image_features(pixel_values=torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float())
    theirs = theirs if isinstance(theirs, torch.Tensor) else theirs.pooler_output
    seen = shop.see_squares(squares)
    assert torch.allclose(seen.instance, torch.nn.functional.normalize(theirs, dim=-1), atol=1e-5)
    assert torch.equal(seen.instance, seen.product)


def test_it_is_saved_opened_and_used_like_any_shop(shop, tmp_path):
    shop.save(tmp_path / "saved")
    again = Model.load(tmp_path / "saved")
    assert isinstance(again, ClipShop)
    assert again.fingerprint == shop.fingerprint
    assert again.fingerprint.startswith("clip-")
    again.catalogue = Catalogue.create(tmp_path / "c", again.fingerprint, again.spaces)
    assert add(again, again.catalogue, drawn(12)).added == 12
    entry = next(drawn(1))
    image = Image.from_bytes(entry.data)
    assert again.similar_image(SimilarImage(image=image, k=2)).hits[0].id == entry.id
    assert entry.id not in {hit.id for hit in again.similar_product(SimilarProduct(item=entry.id, k=5)).hits}
    assert again.search(Search(text="red dress", k=5)).read == {"colour": ("red",), "label": ("dress",)}
    assert not any(again.tag(TagPhoto(image=image)).tags.values()), "without labelled photos nothing is sure"
    other = Shop(ShopConfig(net=NetConfig(side=32, widths=(8, 16, 24, 32), features=64), vocabulary=Vocabulary.usual()))
    other.catalogue = again.catalogue
    with pytest.raises(UserError, match=again.fingerprint):
        other.similar_image(SimilarImage(image=image))


def test_labelled_photos_choose_the_thresholds(checkpoint, tmp_path):
    for draft in drawings(40):
        folder = tmp_path / "photos" / draft.labels["tags"]["label"][0]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{draft.name}.webp").write_bytes(draft.parts["data"])
    calibration = bring(str(checkpoint), Vocabulary.usual(), tmp_path / "photos").config.calibration
    assert calibration.temperatures["label"] > 0
    assert "colour" not in calibration.temperatures, "nothing was labelled with it"


def test_what_is_no_such_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match="no weights of the CLIP family"):
        bring(str(tmp_path), Vocabulary.usual())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match=f"'bert'.*{FAMILIES[0]}"):
        bring(str(tmp_path), Vocabulary.usual())
