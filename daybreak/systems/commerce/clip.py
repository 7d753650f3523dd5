"""A network of the CLIP family behind the shop's own actions: its weights are another's, its tags come from words.

An image's embedding serves as instance and product part [Radford et al., 2021]; each tag is a prompt, or the mean of
its words' prompts (section 3.1.4 there), embedded once when the weights are brought in: the text side is not kept. The
colour part is what it says of the colours. It knows no boxes. Nothing of it was measured on the project's photos.
Needs transformers (extra "clip").
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from daybreak.errors import UserError, nearest
from daybreak.media.image import decode, letterbox
from daybreak.systems.commerce.calibrate import NEVER, PRECISION, Calibration, fit
from daybreak.systems.commerce.model import Shop
from daybreak.systems.commerce.net import Seen, unit
from daybreak.systems.commerce.photos import targets
from daybreak.systems.commerce.tags import Vocabulary

if TYPE_CHECKING:
    from daybreak.lab.program import Program

FAMILIES = ("clip", "siglip", "chinese_clip")
"""Architectures that are rebuilt. A closed list: a checkpoint may not bring code."""
KIND, OTHER = "a photo of a {}, a garment", "a photo of {} clothing"
"""Prompts of the group that says what kind an item is, and of the others."""
TOGETHER = 16


class ClipConfig(BaseModel):
    """What rebuilds a network of the CLIP family."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """What the weights are called where they come from."""
    tower: str
    """The architecture, as transformers writes it: JSON."""
    side: int = Field(ge=16, le=1024)
    """Pixels a side of what it sees."""
    width: int = Field(ge=1, le=8192)
    """Numbers of an embedding."""
    scale: float = Field(gt=0)
    """By what cosines are multiplied before they are compared as logits."""
    mean: tuple[float, float, float]
    """Of each colour, subtracted from what runs from 0 to 1."""
    spread: tuple[float, float, float]
    """Of each colour, by which the rest is divided."""
    vocabulary: Vocabulary
    """The groups of tags; their words are the prompts."""
    calibration: Calibration = Calibration()
    """Temperatures and thresholds from labelled photos."""


class Tower(nn.Module):
    """The image side, and the prompts as embeddings."""

    prompts: Tensor
    image: Any

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.image = _rebuilt(json.loads(config.tower))
        self.register_buffer("prompts", torch.zeros(len(config.vocabulary.flat), config.width))

    def forward(self, pixels: Tensor) -> Seen:
        mean, spread = (torch.tensor(x).view(1, 3, 1, 1) for x in (self.config.mean, self.config.spread))
        found = unit(_features(self.image.get_image_features(pixel_values=(pixels.float() / 255 - mean) / spread)))
        tags, vocabulary = self.config.scale * found @ self.prompts.T, self.config.vocabulary
        colour = found.new_ones(len(found), 1)
        if "colour" in vocabulary.groups:
            colour = unit(F.softmax(tags[:, vocabulary.span("colour")], -1).sqrt())
        for name, group in vocabulary.groups.items():
            if not group.exclusive:  # a share among the group's values, as the logit of a sigmoid
                span = vocabulary.span(name)
                tags[:, span] = torch.logit(F.softmax(tags[:, span], -1), 1e-6)
        whole = torch.tensor([0.5, 0.5, 1.0, 1.0]).expand(len(found), 4)
        return Seen(found, found, colour, tags, whole, found.new_zeros(len(found), 1, 1, 1))


class ClipShop(Shop):
    """A shop whose network is of the CLIP family."""

    Config = ClipConfig  # type: ignore[assignment]
    config: ClipConfig
    family: ClassVar[str] = "clip"

    def __init__(self, config: ClipConfig, net: Tower | None = None) -> None:
        super(Shop, self).__init__(config)
        self.net = net if net is not None else Tower(config)  # type: ignore[assignment]

    @property
    def side(self) -> int:
        return self.config.side

    @property
    def spaces(self) -> dict[str, int]:
        groups = self.config.vocabulary.groups
        colours = len(groups["colour"].values) if "colour" in groups else 1
        width = self.config.width
        return {"instance": width, "product": width, "colour": colours, "tags": len(self.config.vocabulary.flat)}

    def programs(self) -> dict[str, Program]:
        """None: what exports these weights is where they come from."""
        return {}

    def page(self) -> None:  # type: ignore[override]
        """None: it has no program."""

    @torch.inference_mode()
    def see_squares(self, squares: np.ndarray) -> Seen:
        return Seen(*self.net.eval()(torch.from_numpy(squares).permute(0, 3, 1, 2)))


def bring(source: str, vocabulary: Vocabulary, labelled: Path | None = None) -> ClipShop:
    """A shop from weights of the CLIP family.

    Args:
        source: a folder with config.json, model.safetensors and a tokenizer; or the name of one on the Hugging Face
            hub, which is then fetched.
        vocabulary: the groups of tags.
        labelled: a shop's list of photos with tags: its thresholds are chosen on them. Without them no tag is sure,
            for nothing is known of how often it is right.

    Raises:
        UserError: the weights are not there, or are of another family.
    """
    transformers = _transformers()
    local = Path(source).is_dir()
    if not local and Path(source).is_absolute():
        raise UserError(f"{source} is not there")
    try:
        read: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
        about = transformers.AutoConfig.from_pretrained(source, **read)
        if about.model_type not in FAMILIES:
            raise UserError(f"{source} is of the family {about.model_type!r}; {nearest(about.model_type, FAMILIES)}")
        whole = transformers.AutoModel.from_pretrained(source, use_safetensors=True, **read).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **read)
    except (OSError, ValueError) as error:
        raise UserError(f"{source}: no weights of the CLIP family: {str(error).splitlines()[0]}") from error
    tower = about.to_dict()
    half = {"mean": (0.5, 0.5, 0.5), "spread": (0.5, 0.5, 0.5)}
    usual = {"mean": (0.48145466, 0.4578275, 0.40821073), "spread": (0.26862954, 0.26130258, 0.27577711)}
    never = Calibration(thresholds={f"{g}.{v}": NEVER for g, v in vocabulary.flat}, precision=PRECISION)
    prompts = _prompts(whole, tokenizer, vocabulary)
    config = ClipConfig(
        name=Path(source).resolve().name if local else source,
        tower=json.dumps(_without_text(tower)),
        side=int(about.vision_config.image_size),
        width=prompts.shape[1],
        scale=float(whole.logit_scale.detach().exp()),
        vocabulary=vocabulary,
        calibration=never,
        **(half if about.model_type == "siglip" else usual),
    )
    net = Tower(config)
    own, given = net.image.state_dict(), whole.state_dict()
    kept = {k: given[k] if not k.startswith("text") else torch.zeros_like(v) for k, v in own.items() if k in given}
    net.image.load_state_dict(kept)
    net.prompts.copy_(prompts)
    shop = ClipShop(config, net.eval().requires_grad_(False))
    if labelled is None:
        return shop
    return ClipShop(config.model_copy(update={"calibration": _calibrated(shop, labelled)}), net)


def clip(source: str, /, *, out: Path, tags: Path | None = None, labelled: Path | None = None) -> None:
    """Bring in weights of the CLIP family: a folder that every command here takes as --model.

    Args:
        source: a folder with config.json, model.safetensors and a tokenizer, or a name on the Hugging Face hub.
        out: the new folder.
        tags: a tags.toml of your own.
        labelled: a list of photos with tags, on which the thresholds are chosen; without, no tag is sure.
    """
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is there already and not empty")
    shop = bring(source, Vocabulary.open(tags) if tags else Vocabulary.usual(), labelled)
    shop.save(out, card=f"# {shop.config.name}\n\nBrought in as it is: nothing was measured here. Mind its licence.\n")
    print(out)


def _calibrated(shop: ClipShop, labelled: Path) -> Calibration:
    from daybreak.systems.commerce.shelves import entries

    vocabulary, squares, known = shop.config.vocabulary, [], []
    for entry in entries(labelled, vocabulary):
        if not isinstance(entry, tuple) and entry.fields.get("tags"):
            squares.append(letterbox(decode(entry.data, 2 * shop.side), shop.side))
            known.append(targets(vocabulary, {"tags": entry.fields["tags"]}))
    if not squares:
        raise UserError(f"{labelled} has no photo with a tag")
    parts = [shop.see_squares(np.stack(squares[n : n + TOGETHER])).tags for n in range(0, len(squares), TOGETHER)]
    tags, weight = (np.stack([getattr(one, name) for one in known]) for name in ("tags", "weight"))
    return fit(torch.cat(parts).numpy(), tags, weight > 0, vocabulary)


@torch.inference_mode()
def _prompts(whole: Any, tokenizer: Any, vocabulary: Vocabulary) -> Tensor:
    """Each tag's embedding: the mean over its English words, of length one."""
    kind = next((name for name, group in vocabulary.groups.items() if group.exclusive), "")
    rows = []
    for group, value in vocabulary.flat:
        words = [value.replace("_", " "), *vocabulary.groups[group].values[value]]
        texts = [(KIND if group == kind else OTHER).format(word) for word in words if word.isascii()]
        read = tokenizer(texts, padding="max_length", truncation=True, max_length=_longest(whole), return_tensors="pt")
        taken = {name: read[name] for name in ("input_ids", "attention_mask") if name in read}
        rows.append(unit(unit(_features(whole.get_text_features(**taken))).mean(0, keepdim=True))[0])
    return torch.stack(rows)


def _longest(whole: Any) -> int:
    return int(whole.config.text_config.max_position_embeddings)


def _features(found: Any) -> Tensor:
    """An embedding, however this release of the library hands it out."""
    return found if isinstance(found, Tensor) else found.pooler_output


def _without_text(tower: dict[str, Any]) -> dict[str, Any]:
    """The architecture with next to no text side."""
    less = {"num_hidden_layers": 0, "vocab_size": 1, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    return {**tower, "text_config": {**tower["text_config"], **less}}


def _rebuilt(tower: dict[str, Any]) -> nn.Module:
    family = tower.get("model_type")
    if family not in FAMILIES:
        raise UserError(f"the family {family!r} is not rebuilt; {nearest(str(family), FAMILIES)}")
    transformers = _transformers()
    kind = {key: value for key, value in tower.items() if key not in ("model_type", "auto_map", "transformers_version")}
    made: nn.Module = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(family, **kind))
    return made


def _transformers() -> Any:
    try:
        transformers: Any = importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise UserError("CLIP needs transformers, which is not installed: pip install 'daybreak[clip]'") from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers
