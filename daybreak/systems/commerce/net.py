"""One network, one forward pass: a photo becomes two embeddings, a colour, tags and the main garment's box.

"Similar image" wants to find the same picture whatever was done to it; "similar product" wants another item of the same
kind. The first must not see a recolouring, the second must: two embeddings, and colour as a part of its own whose
weight is chosen at query time. It knows tensors; it knows nothing about files, tags' names or training.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

SPACES = {"instance": 128, "product": 128, "colour": 32}
"""The embeddings and their sizes."""
COLOUR_WEIGHT = 0.35
"""Weight of the colour part beside the product part, unless a query says another."""
LIGHTS, TINTS = 8, 9
"""Steps of the palette: of lightness, and of each of the two tints."""
ALONE = 0.5
"""Share of the photos in training whose colours the palette says without the features."""


class NetConfig(BaseModel):
    """The size of the network."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    side: int = Field(96, ge=32, le=384, multiple_of=16)
    """Pixels a side of what it sees."""
    widths: tuple[int, int, int, int] = (16, 32, 64, 128)
    """Channels at a half, a quarter, an eighth and a sixteenth of the side."""
    depths: tuple[int, int, int] = (0, 1, 1)
    """Blocks at a quarter, an eighth and a sixteenth."""
    features: int = Field(320, ge=32)
    """Numbers that the heads read."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Of the features that the tags read."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Share of the last block's items that skip it in training; less for earlier ones."""


class Seen(NamedTuple):
    """What the network says of each photo."""

    instance: Float[Tensor, "batch 128"]
    """Unit length: the same picture, whatever was done to it."""
    product: Float[Tensor, "batch 128"]
    """Unit length: the kind of item."""
    colour: Float[Tensor, "batch 32"]
    """Unit length: its colours."""
    tags: Float[Tensor, "batch tags"]
    """A logit for each value of each group."""
    box: Float[Tensor, "batch 4"]
    """The main garment: centre x, centre y, width, height, as shares of the side."""
    where: Float[Tensor, "batch 1 h w"]
    """Logits of where it is, at a sixteenth of the side."""


class Conv(nn.Sequential):
    """Convolution, normalisation (it folds into the convolution in use), and ReLU unless told otherwise."""

    def __init__(self, before: int, after: int, size: int, stride: int = 1, act: bool = True) -> None:
        conv = nn.Conv2d(before, after, size, stride, size // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(after), *([nn.ReLU(inplace=True)] if act else []))


class Block(nn.Module):
    """Two dense 3 x 3 convolutions beside the identity [He et al., 2016], with a squeeze [Hu et al., 2018].

    Dense: on a CPU without 16-bit arithmetic a 3 x 3 runs at four to six times the rate of a depthwise one.
    """

    def __init__(self, width: int, drop: float) -> None:
        super().__init__()
        self.first = Conv(width, width, 3)
        self.second = Conv(width, width, 3, act=False)
        self.squeeze = nn.Conv2d(width, max(8, width // 4), 1)
        self.excite = nn.Conv2d(max(8, width // 4), width, 1)
        self.drop = drop
        nn.init.zeros_(self.second[1].weight)  # type: ignore[arg-type]  # starts as the identity

    def forward(self, x: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch width h w"]:
        y = self.second(self.first(x))
        gate = self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True))))
        y = y * torch.sigmoid(gate)
        if self.training and self.drop:
            keep = torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype) >= self.drop
            y = y * keep / (1 - self.drop)
        return F.relu(x + y)


class Palette(nn.Module):
    """Colours from how much of the garment has which: a soft histogram of its pixels, and two layers that read it.

    Convolutions learn the colours of some thousand photos by heart; a histogram [Swain and Ballard, 1991] has nothing
    to remember a photo by. Its axes are lightness and the differences of blue and red from it (ITU-R BT.601), these
    under the root, for most cloth is nearly grey.
    """

    mix: Tensor
    lights: Tensor
    tints: Tensor

    def __init__(self, tags: int, width: int = 128) -> None:
        super().__init__()
        axes = [[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]]
        self.register_buffer("mix", torch.tensor(axes), persistent=False)
        self.register_buffer("lights", torch.linspace(0, 1, LIGHTS).view(-1, 1), persistent=False)
        self.register_buffer("tints", torch.linspace(-0.6, 0.6, TINTS).view(-1, 1), persistent=False)
        self.read = nn.Sequential(nn.Linear(LIGHTS * TINTS**2, width), nn.ReLU(), nn.Dropout(0.3))
        self.count = tags
        self.tags = nn.Linear(width, max(1, tags))
        nn.init.zeros_(self.tags.weight)  # at first it says nothing: what reads features keeps its answers
        nn.init.zeros_(self.tags.bias)

    def forward(self, pixels: Float[Tensor, "batch 3 h w"], near: Float[Tensor, "batch 1 h w"]) -> Tensor:
        """Logits of the colours' tags, "batch tags". `pixels`: 0 to 1; `near`: shares of the garment."""
        light, *tints = torch.einsum("ij,bjn->bin", self.mix, pixels.float().flatten(2)).unbind(1)
        blue, red = (tint.sign() * (tint.abs() + 1e-6).sqrt() for tint in tints)
        share = near.float().flatten(2) * _soft(light, self.lights, 0.07)
        both = (_soft(blue, self.tints, 0.08)[:, :, None] * _soft(red, self.tints, 0.08)[:, None]).flatten(1, 2)
        histogram = (share @ both.transpose(1, 2)).flatten(1)
        logits: Tensor = self.tags(self.read(5 * (histogram + 1e-3).sqrt()))
        return logits if self.count else logits[:, :0]


def _soft(values: Float[Tensor, "batch n"], steps: Float[Tensor, "steps 1"], width: float) -> Tensor:
    """How much of each value lies at each step, "batch steps n": a Gaussian around the value, its sum one."""
    return (-(values[:, None] - steps).square() / (2 * width**2)).softmax(1)


class ShopNet(nn.Module):
    """The network. `shopnet-s` has 0.9 M parameters, `shopnet-m` 2.4 M; the sizes of `shopnet-b` are for a GPU.

    `colours`: which of the tags are colours.
    """

    mean: Tensor
    spread: Tensor
    scale: Tensor
    shift: Tensor
    others: Tensor
    """1 for a tag that is no colour."""
    MEAN = (0.485, 0.456, 0.406)
    SPREAD = (0.229, 0.224, 0.225)

    def __init__(self, config: NetConfig, tags: int, colours: slice = slice(0, 0)) -> None:
        super().__init__()
        self.config = config
        self.around = (colours.start, tags - colours.stop)
        """Tags before the colours, and after."""
        a, b, c, d = config.widths
        total = sum(config.depths)
        drops = iter([config.drop_path * n / max(1, total - 1) for n in range(total)])

        def stage(width: int, depth: int) -> nn.Sequential:
            return nn.Sequential(*(Block(width, next(drops)) for _ in range(depth)))

        self.stem = nn.Sequential(Conv(3, a, 3, 2), Conv(a, b, 3, 2))
        self.quarter = stage(b, config.depths[0])
        self.eighth = nn.Sequential(Conv(b, c, 3, 2), stage(c, config.depths[1]))
        self.sixteenth = nn.Sequential(Conv(c, d, 3, 2), stage(d, config.depths[2]))
        wide = config.features
        self.last = Conv(d, wide, 1)
        self.dropout = nn.Dropout(config.dropout)
        low = 2 * b  # mean and deviation of the quarter: colours and textures
        self.instance = nn.Sequential(
            nn.Linear(wide + d + c + low, wide), nn.BatchNorm1d(wide), nn.SiLU(), nn.Linear(wide, SPACES["instance"])
        )
        self.product = nn.Linear(wide, SPACES["product"])
        self.colour = nn.Sequential(nn.Linear(wide + low, 128), nn.SiLU(), nn.Linear(128, SPACES["colour"]))
        self.tags = nn.Linear(wide + low, tags)
        self.palette = Palette(colours.stop - colours.start)
        self.box = nn.Conv2d(d, 1, 1)  # a map of where the garment is
        # Plain numbers that move with the module and are no weights.
        others = torch.ones(tags)
        others[colours] = 0
        self.register_buffer("others", others, persistent=False)
        self.register_buffer("mean", torch.tensor(self.MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(self.SPREAD).view(1, 3, 1, 1), persistent=False)
        # A whole row of pixels' scales: three at a time fill no vector.
        for name, value in (("scale", 1 / (255 * self.spread)), ("shift", -self.mean / self.spread)):
            row = value.expand(1, 3, 1, config.side).contiguous(memory_format=torch.channels_last)
            self.register_buffer(name, row, persistent=False)

    def forward(self, pixels: UInt8[Tensor, "batch 3 side side"] | Float[Tensor, "batch 3 side side"]) -> Seen:
        """`pixels`: bytes, or numbers from 0 to 1."""
        x = pixels.float() if pixels.dtype == torch.uint8 else pixels * 255
        x = torch.addcmul(self.shift, x, self.scale)
        if not torch.compiler.is_exporting():  # a target has an order of its own
            x = x.contiguous(memory_format=torch.channels_last)
        quarter = self.quarter(self.stem(x))
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        logits = self.box(sixteenth).float()
        where = logits.sigmoid()
        weight = where / where.sum((2, 3), keepdim=True).clamp(min=1e-4)
        last = self.last(sixteenth)
        features = (last * weight.to(last.dtype)).sum((2, 3)) + last.mean((2, 3))
        near = F.interpolate(weight, size=quarter.shape[-2:], mode="bilinear")
        near = near / near.sum((2, 3), keepdim=True)
        low_mean = (quarter.float() * near).sum((2, 3))
        low_more = ((quarter.float() - low_mean[..., None, None]).square() * near).sum((2, 3)).clamp(min=1e-6).sqrt()
        low = torch.cat([low_mean, low_more], 1).to(features.dtype)
        whole = torch.cat([features, sixteenth.mean((2, 3)), eighth.mean((2, 3)), low], 1)
        seen = torch.cat([self.dropout(features), low], 1)
        tags = self.tags(seen)
        shown = F.avg_pool2d(x, 4) * self.spread + self.mean
        own = F.pad(self.palette(shown, near), self.around)
        if self.training:
            both = (torch.rand(len(x), 1, device=x.device) >= ALONE).to(tags.dtype)
            tags = tags * torch.maximum(self.others.to(tags.dtype), both)
        return Seen(
            instance=unit(self.instance(whole)),
            product=unit(self.product(features)),
            colour=unit(self.colour(seen)),
            tags=(tags + own).float(),
            box=extent(where),
            where=logits,
        )


def unit(x: Tensor) -> Tensor:
    """Of length one, in fp32."""
    return F.normalize(x.float(), dim=-1)


def extent(where: Float[Tensor, "batch 1 h w"]) -> Float[Tensor, "batch 4"]:
    """The box of a map of shares: its mean place, and as wide as an even spread of that deviation would be."""
    height, width = where.shape[-2:]
    x = (torch.arange(width, device=where.device) + 0.5) / width
    y = (torch.arange(height, device=where.device) + 0.5) / height
    mass = where.sum((1, 2, 3)).clamp(min=1e-4)
    across, down = where.sum((1, 2)) / mass[:, None], where.sum((1, 3)) / mass[:, None]
    cx, cy = (across * x).sum(1), (down * y).sum(1)
    # An even spread of width w has the variance w^2 / 12.
    w = (12 * (across * (x - cx[:, None]).square()).sum(1)).clamp(min=1e-6).sqrt()
    h = (12 * (down * (y - cy[:, None]).square()).sum(1)).clamp(min=1e-6).sqrt()
    return torch.stack([cx, cy, w.clamp(max=1.0), h.clamp(max=1.0)], 1)


def folded(net: ShopNet) -> ShopNet:
    """A copy for use: normalisation folded into the convolutions, in channels-last order. Same answers, faster."""
    import copy

    from torch.nn.utils.fusion import fuse_conv_bn_eval

    made = copy.deepcopy(net).eval()
    for module in made.modules():
        if isinstance(module, Conv):
            conv, norm = module[0], module[1]
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            module[0] = fuse_conv_bn_eval(conv, norm)
            module[1] = nn.Identity()
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
