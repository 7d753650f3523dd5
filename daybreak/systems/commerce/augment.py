"""Views of photos for training, made for a whole batch at once, on the device: crops, turns, light, recolouring, blur,
JPEG at any quality, and the photo as a part of a screenshot.

All that is drawn comes from one generator on the processor, so that a view is a function of (seed, step, item). It
knows pixels; it knows nothing about labels or nets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

Draw = Callable[..., Tensor]
"""shape -> numbers from 0 to 1, an item's first."""


@dataclass(frozen=True)
class Strength:
    """How far views go. Shares are of a batch's items."""

    least: float
    """The smallest share of the photo's area that a crop keeps."""
    turn: float
    """Largest turn in degrees, either way; half of the views are turned."""
    light: float
    """Largest relative change of brightness and contrast."""
    recolour: float
    """Share whose hue or channels are changed so far that their colours' names no longer hold."""
    screenshot: float
    """Share that is shown small, on a page or on another photo."""
    blur: float
    jpeg: float
    erase: float
    """Shares that are blurred, saved as a poor JPEG, covered in part."""


GENTLE = Strength(least=0.45, turn=12, light=0.25, recolour=0.0, screenshot=0.08, blur=0.05, jpeg=0.1, erase=0.25)
"""What a shop's own photos differ by."""
ALTERED = Strength(least=0.4, turn=30, light=0.35, recolour=0.3, screenshot=0.3, blur=0.3, jpeg=0.35, erase=0.1)
"""What happens to a picture on its way through phones and chats."""


class Views(NamedTuple):
    """One view of each photo of a batch."""

    pixels: Float[Tensor, "batch 3 side side"]
    """From 0 to 1."""
    garment: Float[Tensor, "batch 1 side side"]
    """Where the garment is, as far as the map says."""
    changed: Bool[Tensor, " batch"]
    """Whose colours no longer have their names."""


def views(
    pixels: UInt8[Tensor, "batch 4 height width"],
    extent: Float[Tensor, "batch 2"],
    side: int,
    how: Strength,
    draw: torch.Generator,
) -> Views:
    """A view of each photo: its pixels, its map of the garment, and whether its colours hold.

    `extent`: the width and the height that the photo takes in its square, as shares. A view is cut out of the photo and
    then put into a square of its own, as a file is that was cut by someone else (`media.image.letterbox`).
    """
    count, device = len(pixels), pixels.device

    def rand(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=draw)

    small = rand() < how.screenshot
    theta, frame = _theta(rand, how, small, extent.cpu())
    theta, frame, extent = theta.to(device), frame.to(device), extent.to(device)
    grid = F.affine_grid(theta, [count, 4, side, side], align_corners=False)
    inside = (grid.abs() <= extent[:, None, None]).all(-1)[:, None]
    x = pixels.float() / 255
    shown = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    if small.any():
        far = torch.nonzero(small).flatten().to(device)
        half = F.avg_pool2d(x[far], 2)  # a photo shown small is sampled from a small one, or it would alias
        shown = shown.index_copy(0, far, F.grid_sample(half, grid[far], padding_mode="border", align_corners=False))
        under = _pages(side, lambda *shape: rand(*shape)[small], device)
        other = F.interpolate(x[torch.randperm(count, generator=draw)[small].to(device), :3], (side, side), mode="area")
        photo = (rand()[small] < 0.3).to(device)[:, None, None, None]
        under = torch.cat([torch.where(photo, other, under), torch.zeros_like(under[:, :1])], 1)
        shown = shown.index_copy(0, far, torch.where(inside[far], shown[far], under))
    # Beside a turned photo there is an even colour, white more often than not, or its border goes on.
    even = ((rand() < 0.7) & ~small).to(device)[:, None, None, None] & ~inside
    fill = torch.where((rand() < 0.7)[:, None], torch.ones(()), rand(3)).to(device)[:, :, None, None]
    x = _framed(torch.where(even, fill, shown[:, :3]), frame)
    x, changed = _light(x, rand, how)
    x = _blurred(x, rand() < how.blur, draw)
    x = jpeg(x, torch.where(rand() < how.jpeg, 6 + 64 * rand() ** 2, 100.0).to(device))
    x = _erased(x, rand() < how.erase, rand)
    return Views(x, shown[:, 3:] * inside, changed)


def _theta(
    rand: Draw, how: Strength, small: Tensor, extent: Float[Tensor, "batch 2"]
) -> tuple[Float[Tensor, "batch 2 3"], Float[Tensor, "batch 2"]]:
    """Where each point of the view lies in the photo's square: crop, turn, mirror, or far away in a screenshot; and the
    width and height that the view takes in its own square."""
    area = how.least + (1 - how.least) * rand()
    area = torch.where(rand() < 0.15, torch.ones(()), area)  # some see the whole photo, as all do in use
    stretch = torch.exp((rand() - 0.5) * 0.25)
    cut = (area.sqrt()[:, None] * torch.stack([stretch, 1 / stretch], 1)).clamp(max=1)
    size = cut * extent
    whole = size.amax(1, keepdim=True)
    # A screenshot is a page, higher than wide; its photo takes 35 % to 80 % of the page's width.
    page = torch.stack([0.45 + 0.55 * rand(), torch.ones(len(small))], 1)
    share = (0.35 + 0.45 * rand()) * page[:, 0] ** 0.5
    frame = torch.where(small[:, None], page, size / whole)
    zoom = torch.where(small, 1 / share, whole[:, 0])
    squash = torch.exp((rand() - 0.5) * 0.1)  # what a page or a chat does to a photo's proportions
    angle = torch.where(rand() < 0.5, (2 * rand() - 1) * how.turn * math.pi / 180, torch.zeros(()))
    room = torch.where(small[:, None], (page * zoom[:, None] - extent).abs(), extent - size)
    at = (2 * rand(2) - 1) * room
    mirror = torch.where(rand() < 0.5, -1.0, 1.0)
    cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
    top = torch.stack([mirror * cos * squash, -mirror * sin, at[:, 0]], 1)
    low = torch.stack([sin * squash, cos, at[:, 1]], 1)
    return torch.stack([top, low], 1), frame


def _framed(x: Float[Tensor, "batch 3 side side"], frame: Float[Tensor, "batch 2"]) -> Tensor:
    """Beside the frame, the mean colour of its long edges, as `letterbox` does it."""
    side = x.shape[-1]
    at = (2 * torch.arange(side, device=x.device) + 1) / side - 1
    far = torch.stack(  # how far each point is inside the frame's nearer edge, across and down
        [
            (frame[:, :1] - at.abs())[:, None].expand(-1, side, -1),
            (frame[:, 1:] - at.abs())[:, :, None].expand(-1, -1, side),
        ]
    )
    within = (far >= 0).all(0)[:, None]
    across = (frame[:, 0] <= frame[:, 1])[:, None, None]
    edge = (within & (torch.where(across, far[0], far[1]) <= 2.5 / side)[:, None]).to(x.dtype)
    mean = (x * edge).sum((2, 3), keepdim=True) / edge.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(within, x, mean)


def _pages(side: int, rand: Draw, device: torch.device) -> Float[Tensor, "batch 3 side side"]:
    """Pages like those of a chat or a shop: a ground, bars, lines and tiles of even colours."""
    ground = rand(3)
    light = (rand() < 0.6)[:, None]
    page = torch.where(light, 0.85 + 0.15 * ground, 0.6 * ground).to(device)[:, :, None, None]
    page = page.expand(-1, -1, side, side).clone()
    at = (torch.arange(side, device=device) + 0.5) / side
    for n in range(8):
        place, colour = rand(4).to(device), rand(3).to(device)
        wide = 0.3 + 0.7 * place[:, 2] if n < 3 else 0.5 * place[:, 2]
        high = 0.12 * place[:, 3] if n < 6 else 0.4 * place[:, 3]
        left, top = place[:, 0] * (1.2 - wide) - 0.1, place[:, 1] * (1.1 - high)
        in_x = (at >= left[:, None]) & (at <= (left + wide)[:, None])
        in_y = (at >= top[:, None]) & (at <= (top + high)[:, None])
        inside = (in_y[:, :, None] & in_x[:, None, :])[:, None]
        page = torch.where(inside, colour[:, :, None, None], page)
    return page


YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def _light(x: Tensor, rand: Draw, how: Strength) -> tuple[Tensor, Bool[Tensor, " batch"]]:
    """Brightness, contrast, saturation, a breath of hue; or another hue, other channels, or grey: "changed".

    Half of the changed keep their value, as picture editors turn hues (HSV), half their luma, as televisions do (YIQ).
    """
    device = x.device
    changed = rand() < how.recolour
    editor = changed & (rand() < 0.5)
    saturation = torch.where(changed, 1.6 * rand(), 1 + (2 * rand() - 1) * 0.2)
    hue = torch.where(changed, (2 * rand() - 1) * math.pi, (2 * rand() - 1) * 0.06)
    turn = torch.zeros(len(x), 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * torch.cos(hue)
    turn[:, 1, 2], turn[:, 2, 1] = -saturation * torch.sin(hue), saturation * torch.sin(hue)
    matrix = torch.linalg.inv(YIQ) @ turn @ YIQ
    gains = torch.where(changed[:, None], torch.exp((rand(3) - 0.5) * 1.2), torch.exp((rand(3) - 0.5) * 0.12))
    matrix = torch.where(editor[:, None, None], torch.eye(3), gains[:, :, None] * matrix)
    contrast = 1 + (2 * rand() - 1) * how.light
    bright = (2 * rand() - 1) * how.light * 0.5
    some = torch.nonzero(editor).flatten()
    if len(some):
        factors = torch.stack([hue, 0.4 + 0.75 * saturation], 1)[some].to(device)
        x = x.index_copy(0, some.to(device), _hue(x[some.to(device)], factors[:, 0], factors[:, 1]))
    middle = x.mean((1, 2, 3), keepdim=True)
    x = (x - middle) * contrast.to(device)[:, None, None, None] + middle + bright.to(device)[:, None, None, None]
    x = torch.einsum("bij,bjhw->bihw", matrix.to(device), x)
    return x.clamp(0, 1), changed


def _hue(
    x: Float[Tensor, "batch 3 side side"], turn: Float[Tensor, " batch"], saturation: Float[Tensor, " batch"]
) -> Float[Tensor, "batch 3 side side"]:
    """Hues turned by an angle in radians and saturation times a factor, in HSV; the value stays."""
    value, least = x.amax(1), x.amin(1)
    chroma = value - least
    r, g, b = x.unbind(1)
    safe = chroma.clamp(min=1e-6)
    sixth = torch.where(value == r, (g - b) / safe, torch.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4))
    sixth = sixth + turn[:, None, None] * (3 / math.pi)
    chroma = torch.minimum(chroma * saturation[:, None, None], value)
    place = (torch.tensor([5.0, 3.0, 1.0], device=x.device)[None, :, None, None] + sixth[:, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(place, 4 - place).clamp(0, 1)


def _blurred(x: Tensor, which: Bool[Tensor, " batch"], draw: torch.Generator) -> Tensor:
    """A Gaussian blur of those items, one width a batch."""
    width = float(0.4 + 1.4 * torch.rand((), generator=draw))
    places = torch.nonzero(which).flatten().to(x.device)
    if not len(places):
        return x
    reach = torch.arange(-4, 5, device=x.device)
    kernel = torch.exp(-0.5 * (reach / width) ** 2)
    kernel = (kernel / kernel.sum()).to(x.dtype)
    part = F.pad(x[places], (4, 4, 4, 4), mode="replicate")
    part = F.conv2d(part, kernel.view(1, 1, 1, 9).expand(3, 1, 1, 9), groups=3)
    part = F.conv2d(part, kernel.view(1, 1, 9, 1).expand(3, 1, 9, 1), groups=3)
    return x.index_copy(0, places, part)


def _erased(x: Tensor, which: Bool[Tensor, " batch"], rand: Draw) -> Tensor:
    """A rectangle of an even colour over a part of those items [Zhong et al., 2020]."""
    device, side = x.device, x.shape[-1]
    place, colour, which = rand(4).to(device), rand(3).to(device), which.to(device)
    size = 0.15 + 0.35 * place[:, 2:]
    corner = place[:, :2] * (1 - size)
    at = (torch.arange(side, device=device) + 0.5) / side
    in_x = (at >= corner[:, :1]) & (at <= corner[:, :1] + size[:, :1])
    in_y = (at >= corner[:, 1:]) & (at <= corner[:, 1:] + size[:, 1:])
    inside = (which[:, None, None] & in_y[:, :, None] & in_x[:, None, :])[:, None]
    return torch.where(inside, colour[:, :, None, None], x)


# The quantisation tables of the JPEG standard, annex K.
LUMINANCE = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
]  # fmt: skip
CHROMINANCE = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, *[99] * 32,
]  # fmt: skip
YCBCR = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def jpeg(x: Float[Tensor, "batch 3 side side"], quality: Float[Tensor, " batch"]) -> Float[Tensor, "batch 3 side side"]:
    """Photos, 0 to 1, as JPEGs of those qualities would show them; 100 and more are left alone.

    The standard's tables, scaled as the usual encoder scales them; chrominance at half the resolution. What is lost is
    lost at the resolution of the view. The side is a multiple of 16.
    """
    places = torch.nonzero(quality < 100).flatten()
    if not len(places):
        return x
    part, quality = x[places], quality[places].clamp(min=1)
    factor = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[:, None, None]
    basis = _dct().to(x.device)

    def through(plane: Float[Tensor, "some height width"], table: list[int]) -> Float[Tensor, "some height width"]:
        steps = torch.tensor(table, dtype=x.dtype, device=x.device).view(8, 8)
        steps = ((steps * factor + 50) / 100).floor().clamp(1, 255)[:, None, None]
        count, height, width = plane.shape
        blocks = plane.view(count, height // 8, 8, width // 8, 8).transpose(2, 3)
        waves = basis @ blocks @ basis.T
        waves = (waves / steps).round() * steps
        return (basis.T @ waves @ basis).transpose(2, 3).reshape(count, height, width)

    planes = torch.einsum("ij,bjhw->bihw", YCBCR.to(x.device), part * 255)
    light = through(planes[:, 0] - 128, LUMINANCE) + 128
    chroma = [
        F.interpolate(through(F.avg_pool2d(planes[:, n], 2), CHROMINANCE)[:, None], scale_factor=2)[:, 0]
        for n in (1, 2)
    ]
    rgb = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(YCBCR).to(x.device), torch.stack([light, *chroma], 1))
    return x.index_copy(0, places, (rgb / 255).clamp(0, 1).to(x.dtype))


def _dct() -> Float[Tensor, "8 8"]:
    """The orthonormal DCT-II of eight numbers."""
    at, wave = torch.arange(8), torch.arange(8)[:, None]
    basis = torch.cos((2 * at + 1) * wave * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis


def mixed(
    x: Float[Tensor, "batch 3 side side"], share: float, draw: torch.Generator
) -> tuple[Float[Tensor, "batch 3 side side"], Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    """CutMix [Yun et al., 2019] of the first `share` of a batch: the pictures, whose part was put in, and how much of
    each is still its own."""
    count, side, device = len(x), x.shape[-1], x.device
    some = int(share * count)
    partner = torch.arange(count)
    own = torch.ones(count)
    if some < 2:
        return x, partner.to(device), own.to(device)
    partner[:some] = torch.arange(some).roll(1)
    left = torch.rand(some, generator=draw)
    size = (1 - left).sqrt()  # lambda is uniform: Beta(1, 1)
    corner = torch.rand(some, 2, generator=draw) * (1 - size[:, None])
    size, corner, own = size.to(device), corner.to(device), own.to(device)
    at = (torch.arange(side, device=device) + 0.5) / side
    in_x = (at >= corner[:, :1]) & (at <= corner[:, :1] + size[:, None])
    in_y = (at >= corner[:, 1:]) & (at <= corner[:, 1:] + size[:, None])
    inside = in_y[:, :, None] & in_x[:, None, :]
    own[:some] = 1 - inside.float().mean((1, 2))
    head = torch.where(inside[:, None], x[:some].roll(1, 0), x[:some])
    return torch.cat([head, x[some:]]), partner.to(device), own
