"""How the shop's network trains: two views of each photo, tags, kinds and the same picture in both; and its scores.

It knows items, views and the network; runs, nights and the update are the lab's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from daybreak.errors import UserError
from daybreak.lab.batches import Batch
from daybreak.lab.config import Folder
from daybreak.lab.evaluate import spread
from daybreak.lab.recipe import Config, Gate, Metric, Recipe, Score
from daybreak.media.image import Image, decode, letterbox
from daybreak.systems.commerce import augment, metrics
from daybreak.systems.commerce.calibrate import Calibration, fit, probabilities, said
from daybreak.systems.commerce.data import photos, vocabulary
from daybreak.systems.commerce.net import COLOUR_WEIGHT, SPACES, NetConfig, Seen, ShopNet
from daybreak.systems.commerce.photos import Photos, embed_ready, square, targets
from daybreak.systems.commerce.tags import usual_tags
from daybreak.systems.commerce.teacher import Teacher, sized

if TYPE_CHECKING:
    from daybreak.lab.lake import Item, Snapshot, Split
    from daybreak.lab.model import Model
    from daybreak.media import Media

TOGETHER = 64
"""Photos that pass the network at once in an evaluation."""
SHARPNESS = {"instance": 20.0, "product": 16.0, "colour": 10.0}
"""By what cosines are multiplied before they are compared as logits."""
CENTRES = 2
"""Proxies of each kind: a kind has more than one look."""


def _known(name: str) -> Callable[[Sequence[Score]], float]:
    """The mean of a value over the scores that have it; NaN over none."""

    def aggregate(scores: Sequence[Score]) -> float:
        found = [score.values[name] for score in scores if name in score.values]
        return float(np.mean(found)) if found else float("nan")

    return aggregate


def _altered(over: Callable[[list[float]], float]) -> Callable[[Sequence[Score]], float]:
    """Of the R@1 of each alteration, their mean or the worst."""
    return lambda scores: float(over([_known(f"R@1 {kind}")(scores) for kind in metrics.ALTERATIONS]))


def _tag_map(group: str = "") -> Callable[[Sequence[Score]], float]:
    """The mean AP of the tags, each over the photos where its group is known; those of fewer than two are left out."""

    def aggregate(scores: Sequence[Score]) -> float:
        found = []
        for name in dict.fromkeys(key[3:] for score in scores for key in score.values if key.startswith("_p/")):
            rows = [(s.values[f"_p/{name}"], s.values[f"_y/{name}"]) for s in scores if f"_y/{name}" in s.values]
            y = np.array([row[1] for row in rows]) > 0.5
            if name.startswith(group) and y.sum() >= 2:
                found.append(metrics.ranked_ap(np.array([row[0] for row in rows]), y))
        return float(np.mean(found)) if found else float("nan")

    return aggregate


def _macro_f1(scores: Sequence[Score]) -> float:
    """Over the kinds that occur."""
    rows = [(int(s.values["_kind"]), int(s.values["_kind said"])) for s in scores if "_kind" in s.values]
    classes = sorted({row[0] for row in rows})
    return metrics.macro_f1([t for t, _ in rows], [s for _, s in rows], classes) if rows else float("nan")


def _calibration_error(scores: Sequence[Score]) -> float:
    """Over all tags of the photos where their groups are known, those that are absent among them."""
    rows = [
        (score.values[f"_p/{key[3:]}"], value)
        for score in scores
        for key, value in score.values.items()
        if key.startswith("_y/")
    ]
    p, y = np.array([row[0] for row in rows]), np.array([row[1] for row in rows]) > 0.5
    return metrics.calibration_error(p, y) if rows else float("nan")


def _said_right(scores: Sequence[Score]) -> float:
    """Of the tags that were sure enough to say, the share that was right."""
    said, right = (sum(score.values.get(name, 0.0) for score in scores) for name in ("_said", "_right"))
    return right / said if said else float("nan")


def _headline(scores: Sequence[Score]) -> float:
    return float(np.mean([_known("AP")(scores), _altered(np.mean)(scores), _tag_map()(scores)]))


GOAL = Metric("retrieval", "higher", "mean of product mAP, altered R@1 and tag mAP", _headline)
REPORTS = (
    *(Metric(name, "higher", "", _known(name)) for name in ("accuracy", "P@10", "AP", "P@10 colour")),
    Metric("macro F1", "higher", "", _macro_f1),
    Metric("altered R@1", "higher", "", _altered(np.mean)),
    Metric("worst altered R@1", "higher", "", _altered(min)),
    Metric("tag mAP", "higher", "", _tag_map()),
    Metric("colour mAP", "higher", "", _tag_map("colour.")),
    Metric("ECE", "lower", "", _calibration_error),
    Metric("said tags right", "higher", "share", _said_right),
)


class ShopnetConfig(Config):
    """What a run of `commerce:shopnet` may change."""

    steps: int = Field(20_000, ge=0)
    """Updates to make. The schedule's horizon."""
    batch: int = Field(128, ge=4)
    """Photos in one update; each is seen in two views."""
    lr: float = Field(2e-3, gt=0)
    """Peak learning rate."""
    warmup: int = Field(300, ge=0)
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "cosine"
    """Shape of the learning rate after the warm-up."""
    clip: float = Field(2.0, ge=0)
    """Largest gradient norm; 0 leaves gradients alone."""
    ema: float = Field(0.999, ge=0, lt=1)
    """Decay of the moving average of the weights that is evaluated and shipped; 0 keeps none."""
    samples: int = Field(24, ge=0)
    """Queries of each evaluation that come with their hits to look at."""
    net: NetConfig = NetConfig()
    """The network."""
    start: Folder = ""
    """Folder of a saved shop whose weights are the start: what was learned elsewhere, tuned to one's own photos."""
    tune: tuple[str, ...] = ()
    """Parts of the network that learn, as `palette,tags`; the others stay as they are. All where none is named."""
    decay: float = Field(0.08, ge=0)
    """Weight decay of the matrices."""
    stored: int = Field(128, ge=32, le=512)
    """Pixels a side at which photos are held; views are cut from them."""
    mix: float = Field(0.3, ge=0, le=1)
    """Share of a batch whose gentle view is mixed with another photo's; the rest teaches the same-picture part."""
    smooth: float = Field(0.1, ge=0, lt=1)
    """Label smoothing of exclusive groups."""
    instance: float = Field(1.0, ge=0)
    """Weight of the same-picture loss."""
    product: float = Field(1.0, ge=0)
    """Weight of the loss of kinds by proxies."""
    colour: float = Field(1.0, ge=0)
    """Weight of the loss of the colour part."""
    box: float = Field(0.2, ge=0)
    """Weight of the loss of the garment's map."""
    teacher: Folder = ""
    """Folder of a saved shop, usually a larger one, whose answers this one learns beside the labels."""
    taught: float = Field(1.0, ge=0)
    """Weight of the distance from the teacher's answers."""


class Proxies(nn.Module):
    """Directions that stand for tags: of kinds in the product space, of colours in theirs. No part of the model."""

    def __init__(self, kinds: int, colours: int) -> None:
        super().__init__()
        self.kinds = nn.Parameter(torch.randn(kinds, CENTRES, SPACES["product"]))
        self.colours = nn.Parameter(torch.randn(max(1, colours), SPACES["colour"]))
        self.bias = nn.Parameter(torch.full((max(1, colours),), -2.0))

    def kinds_of(self, product: Tensor) -> Tensor:
        """Logits of the kinds: the nearest of each kind's proxies."""
        cosine = torch.einsum("bd,kcd->bkc", product, F.normalize(self.kinds, dim=-1))
        return SHARPNESS["product"] * cosine.amax(-1)

    def colours_of(self, colour: Tensor) -> Tensor:
        """Logits of the colours."""
        return SHARPNESS["colour"] * colour @ F.normalize(self.colours, dim=-1).T + self.bias


class Shopnet(Recipe[ShopnetConfig]):
    """Photos -> embeddings, tags and the garment's place, in one network.

    A gentle view learns tags and kinds (half of them mixed), a heavily altered one the same, and both that they are the
    same picture (InfoNCE [Oord et al., 2018] over the two). Unknown tags are no negatives; tags by program count half.
    """

    Config = ShopnetConfig
    presets: ClassVar[Mapping[str, ShopnetConfig]] = {
        "s": ShopnetConfig(),
        "tiny": ShopnetConfig(
            steps=400, batch=32, warmup=40, ema=0.98, stored=64,
            net=NetConfig(side=64, widths=(12, 24, 48, 96), features=128, dropout=0.2, drop_path=0.1),
        ),
        "m": ShopnetConfig(
            net=NetConfig(widths=(24, 48, 96, 192), depths=(0, 1, 2), features=384, dropout=0.2, drop_path=0.1),
        ),
        "b": ShopnetConfig(
            steps=60_000, batch=512, lr=3e-3, warmup=1000, precision="bf16", stored=160,
            net=NetConfig(
                side=128, widths=(48, 96, 192, 384), depths=(1, 2, 4), features=768, dropout=0.2, drop_path=0.2
            ),
        ),
    }  # fmt: skip
    """`s`: what a CPU serves fast. `m`: its teacher, for a CPU's nights. `b`: a GPU. `tiny`: a newcomer's first run."""
    goal = GOAL
    gates = (Gate(GOAL, 0.5),)
    reports = REPORTS
    right = (
        Gate(Metric("accuracy", "higher"), 1.0),
        *(Gate(Metric(f"R@1 {kind}", "higher"), 1.0) for kind in metrics.ALTERATIONS),
    )
    clock = "items"

    @classmethod
    def shipped(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Shipped weights are whole: where they began, and who taught them, is history."""
        return {**super().shipped(config), "start": "", "teacher": ""}

    @staticmethod
    def batches(config: ShopnetConfig, data: Snapshot) -> Photos:
        return Photos(data, vocabulary(data), config.batch, config.seed, config.stored)

    def __init__(self, config: ShopnetConfig, data: Snapshot, device: torch.device | str = "cpu") -> None:
        super().__init__(config, data, device)
        self.vocabulary = vocabulary(data)
        exclusive = [name for name, group in self.vocabulary.groups.items() if group.exclusive]
        if not exclusive:
            raise UserError("tags.toml has no exclusive group; the first one says what kind an item is")
        self.kind = self.vocabulary.span(exclusive[0])
        self.colours = self.vocabulary.colours
        self.net = ShopNet(config.net, len(self.vocabulary.flat), self.colours).to(device)
        if config.start:
            self._begin(Path(config.start))
        self.kept = self._kept()
        self.proxies = Proxies(self.kind.stop - self.kind.start, self.colours.stop - self.colours.start).to(device)
        learning = [p for p in self.net.parameters() if p.requires_grad]
        matrices = [p for p in learning if p.ndim >= 2]
        others = [p for p in learning if p.ndim < 2] + list(self.proxies.parameters())
        groups = [{"params": matrices, "weight_decay": config.decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser("net", groups, betas=(0.9, 0.99))
        self._weights: Tensor | None = None
        # In a tuple: a net of the recipe's own would be saved with it.
        self.teachers = (Teacher(Path(config.teacher), self.vocabulary, device),) if config.teacher else ()
        if "cuda" in str(device):
            self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _begin(self, folder: Path) -> None:
        """Take the weights of a saved shop. Its tags may be others: then only the tags' own layers start anew."""
        from daybreak.systems.commerce.model import Shop

        shop = Shop.load(folder)
        if shop.config.net != self.config.net:
            raise UserError(f"start: {folder} has a network of other sizes; give the same --net settings")
        weights = shop.net.state_dict()
        if shop.config.vocabulary.flat != self.vocabulary.flat:
            own = ("tags.", "palette.tags.")
            weights = {name: value for name, value in weights.items() if not name.startswith(own)}
        self.net.load_state_dict(weights, strict=False)

    def _kept(self) -> list[nn.Module]:
        """The parts of the network that do not learn."""
        parts = dict(self.net.named_children())
        if unknown := [name for name in self.config.tune if name not in parts]:
            raise UserError(f"tune: the network has no part {unknown[0]!r}; there is: {', '.join(parts)}")
        kept = [part for name, part in parts.items() if self.config.tune and name not in self.config.tune]
        for part in kept:
            part.requires_grad_(False)
        return kept

    def step(self, batch: Batch, step: int) -> dict[str, Tensor | float]:
        """One update. `items`: photos that were seen."""
        config, side = self.config, self.config.net.side
        for part in self.kept:
            part.eval()  # its running statistics and its dropout rest too
        draw = torch.Generator().manual_seed((config.seed * 1_000_003 + step) % 2**63)
        side = max([side, *(teacher.side for teacher in self.teachers)])
        gentle = augment.views(batch["pixels"], batch["extent"], side, augment.GENTLE, draw)
        altered = augment.views(batch["pixels"], batch["extent"], side, augment.ALTERED, draw)
        mixed, other, own = augment.mixed(gentle.pixels, config.mix, draw)
        both = torch.cat([mixed, altered.pixels])
        seen = self.net(sized(both, config.net.side))
        count = len(mixed)
        tags, weight = batch["tags"], batch["weight"]
        own = own[:, None]
        soft = torch.cat([own * tags + (1 - own) * tags[other], tags])
        # A mixture is known where both of its parts are; a recoloured photo's colours are not known.
        sure = torch.cat([torch.where(own < 1, torch.minimum(weight, weight[other]), weight), weight])
        changed = torch.cat([torch.zeros(count, dtype=torch.bool), altered.changed]).to(tags.device)
        sure[:, self.colours] = sure[:, self.colours] * ~changed[:, None]
        losses = {"tags": self._tags_loss(seen.tags, soft, sure)}
        with torch.autocast(tags.device.type, enabled=False):  # cosines want their digits
            kinds, colours = self.proxies.kinds_of(seen.product), self.proxies.colours_of(seen.colour)
        losses["product"] = self._kinds_loss(kinds, soft, sure)
        losses["colour"] = _sure_bce(colours, soft[:, self.colours], sure[:, self.colours])
        losses["instance"] = same_picture(seen.instance[:count], seen.instance[count:], int(config.mix * count))
        losses["box"] = map_loss(seen.where[count:], altered.garment)
        for teacher in self.teachers:
            losses["taught"] = teacher.loss(seen, teacher(both))
        weights = {"tags": 1.0, **{name: getattr(config, name) for name in losses if name != "tags"}}
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        self.update("net", loss)
        return {"loss": loss.detach(), **{k: v.detach() for k, v in losses.items()}, "items": float(count)}

    def _tags_loss(self, logits: Tensor, soft: Tensor, sure: Tensor) -> Tensor:
        """Cross-entropy in an exclusive group, binary in another, over what is known."""
        total = logits.new_zeros(())
        for name, group in self.vocabulary.groups.items():
            span = self.vocabulary.span(name)
            if span == self.kind:
                total = total + self._kinds_loss(logits[:, span], soft, sure)
            elif group.exclusive:
                total = total + 0.5 * _sure_ce(logits[:, span], soft[:, span], sure[:, span], self.config.smooth)
            else:
                total = total + _sure_bce(logits[:, span], soft[:, span], sure[:, span])
        return total

    def _kinds_loss(self, logits: Tensor, soft: Tensor, sure: Tensor) -> Tensor:
        """Cross-entropy of the kinds; rare ones weigh more, by the inverse root of their frequency."""
        if self._weights is None:
            counts = torch.as_tensor(self.batches(self.config, self.data).counts()[self.kind], dtype=torch.float32)
            weights = (counts.clamp(min=4)) ** -0.5
            self._weights = (weights * counts.sum() / (weights * counts).sum().clamp(min=1e-6)).to(logits.device)
        return _sure_ce(logits, soft[:, self.kind], sure[:, self.kind], self.config.smooth, self._weights)

    def items(self, split: Split) -> Sequence[Item]:
        """The photos."""
        items = self.data.split(split)
        return items.take(photos(items))

    def evaluate(self, items: Sequence[Item]) -> Iterator[Score]:
        """Each held-out photo as a query: among the training photos for its kind, and altered, among those and all of
        its split for itself. Tags are calibrated on the validation photos, which flatters these a little."""
        self.net.eval()
        gallery, known = self._gallery()
        calibration = self._calibration()
        whole = self.items(items[0].split) if items else items
        shown = {item.id for item in spread(spread(whole, self.config.evaluate_items), self.config.samples)}
        places = {item.id: n for n, item in enumerate(whole)}
        originals = self._embed([self.data.read(item) for item in whole])
        library = np.concatenate([originals["instance"], gallery["instance"]])
        for first in range(0, len(items), TOGETHER):
            part = items[first : first + TOGETHER]
            files = [self.data.read(item) for item in part]
            again = {kind: self._altered(files, part, kind) for kind in metrics.ALTERATIONS}
            for n, item in enumerate(part):
                place = places[item.id]
                probability = probabilities(originals["tags"][place : place + 1], self.vocabulary, calibration)[0]
                values = self._tag_values(item, probability, calibration)
                product = originals["product"][place] @ gallery["product"].T
                both = product + COLOUR_WEIGHT * (originals["colour"][place] @ gallery["colour"].T)
                values |= self._retrieved(item, product, both, known)
                for kind, vectors in again.items():
                    values[f"R@1 {kind}"] = float(int((library @ vectors[n]).argmax()) == place)
                sample: Mapping[str, Media] = {}
                natural: Mapping[str, Media] = {}
                if item.id in shown and self.config.samples:
                    natural = {"photo": Image(decode(files[n], 192)).thumbnail(160)}
                    sample = {"hits": self._board(both)}
                yield Score(item.id, item.group, values, sample, natural)

    def model(self) -> Model:
        from daybreak.systems.commerce.model import Shop, ShopConfig

        config = ShopConfig(net=self.config.net, vocabulary=self.vocabulary, calibration=self._calibration())
        return Shop(config, net=self.net)

    def _calibration(self) -> Calibration:
        """Temperatures and thresholds, from the validation photos."""
        held_out = self.items("validation")
        if not held_out:
            return Calibration()
        logits = self._embed([self.data.read(item) for item in held_out])["tags"]
        known = [targets(self.vocabulary, item.labels) for item in held_out]
        return fit(logits, np.stack([k.tags for k in known]), np.stack([k.weight for k in known]) > 0, self.vocabulary)

    def _gallery(self) -> tuple[dict[str, np.ndarray], list[dict[str, tuple[str, ...]]]]:
        """The training photos as the network sees them, and their tags."""
        train = self.items("train")
        self._train = train
        return self._embed([self.data.read(item) for item in train]), [usual_tags(item.labels) for item in train]

    @torch.inference_mode()
    def _embed(self, files: Sequence[bytes]) -> dict[str, np.ndarray]:
        """What the network says of files. They are decoded as they come: memory holds one group of them."""
        training = self.net.training
        self.net.eval()
        parts: list[Seen] = []
        for first in range(0, len(files), TOGETHER):
            pixels = embed_ready(files[first : first + TOGETHER], self.config.net.side)
            parts.append(self.net(pixels.to(self.device)))
        self.net.train(training)
        names = ("instance", "product", "colour", "tags")
        return {name: torch.cat([getattr(part, name) for part in parts]).float().cpu().numpy() for name in names}

    @torch.inference_mode()
    def _altered(self, files: Sequence[bytes], items: Sequence[Item], kind: str) -> np.ndarray:
        pixels = [metrics.altered(decode(data), kind, item.name) for data, item in zip(files, items, strict=True)]
        squares = torch.from_numpy(np.stack([letterbox(one, self.config.net.side) for one in pixels]))
        seen = self.net(squares.permute(0, 3, 1, 2).to(self.device))
        return np.asarray(seen.instance.float().cpu().numpy())

    def _tag_values(self, item: Item, probability: np.ndarray, calibration: Calibration) -> dict[str, float]:
        known = targets(self.vocabulary, item.labels)
        values = {"_said": 0.0, "_right": 0.0}
        sure = said(probability, self.vocabulary, calibration)
        for n, (group, value) in enumerate(self.vocabulary.flat):
            values[f"_p/{group}.{value}"] = float(probability[n])
            if known.weight[n]:
                values[f"_y/{group}.{value}"] = float(known.tags[n])
                values["_said"] += value in sure[group]
                values["_right"] += value in sure[group] and known.tags[n] > 0
        if known.weight[self.kind].any():
            truth, likeliest = int(known.tags[self.kind].argmax()), int(probability[self.kind].argmax())
            values |= {"_kind": truth, "_kind said": likeliest, "accuracy": float(truth == likeliest)}
        return values

    def _retrieved(
        self, item: Item, product: np.ndarray, both: np.ndarray, known: Sequence[Mapping[str, Sequence[str]]]
    ) -> dict[str, float]:
        """P@10 and AP by kind; P@10 by kind and main colour, with the colour part in the ranking."""
        kind = self.vocabulary.flat[self.kind.start][0]
        own = usual_tags(item.labels)
        if not own.get(kind):
            return {}
        alike = np.array([tags.get(kind) == own[kind] for tags in known])
        order = np.argsort(-product, kind="stable")
        values = {"P@10": metrics.precision_at(alike[order], 10), "AP": metrics.average_precision(alike[order])}
        if own.get("colour"):
            same = np.array([tags.get("colour", ("",))[:1] == own["colour"][:1] for tags in known]) & alike
            values["P@10 colour"] = metrics.precision_at(same[np.argsort(-both, kind="stable")], 10)
        return values

    def _board(self, similarity: np.ndarray) -> Image:
        """The best six of the training photos, side by side."""
        best = np.argsort(-similarity, kind="stable")[:6]
        return Image(np.concatenate([square(self.data.read(self._train[int(n)]), 96) for n in best], 1)).thumbnail(576)


def same_picture(gentle: Tensor, altered: Tensor, mixed: int) -> Tensor:
    """InfoNCE both ways, in fp32; the first `mixed` gentle views show two photos and are no partners."""
    a, b = gentle[mixed:].float(), altered[mixed:].float()
    if len(a) < 2:
        return a.new_zeros(())
    with torch.autocast(a.device.type, enabled=False):
        logits = SHARPNESS["instance"] * a @ torch.cat([b, altered[:mixed].float()]).T
        back = SHARPNESS["instance"] * b @ torch.cat([a, altered[:mixed].float()]).T
    places = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, places) + F.cross_entropy(back, places)) / 2


def map_loss(where: Tensor, garment: Tensor) -> Tensor:
    """Binary cross-entropy of the network's map against the teacher's, at the map's resolution."""
    teacher = F.interpolate(garment, where.shape[-2:], mode="area")
    return F.binary_cross_entropy_with_logits(where.float(), teacher.float())


def _sure_ce(logits: Tensor, soft: Tensor, sure: Tensor, smooth: float, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy against soft labels, by how sure each item is."""
    soft = soft * (1 - smooth) + smooth / soft.shape[1]
    each = -(soft * F.log_softmax(logits.float(), -1))
    if weights is not None:
        each = each * weights
    sure = sure.amax(1)
    return (each.sum(1) * sure).sum() / sure.sum().clamp(min=1)


def _sure_bce(logits: Tensor, soft: Tensor, sure: Tensor) -> Tensor:
    if not logits.shape[1] or not soft.shape[1]:
        return logits.new_zeros(()).float().sum()
    each = F.binary_cross_entropy_with_logits(logits.float(), soft, reduction="none")
    return 3 * (each * sure).sum() / (sure.sum()).clamp(min=1)
