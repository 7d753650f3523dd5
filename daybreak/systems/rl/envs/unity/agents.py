"""What agents of a Unity player see, can do and were told, read from messages into our arrays.

Parts that are no picture are laid end to end into one vector, in the order that the player gives them (by sensor
name). A picture may come as numbers or as PNG, channels last or first.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from daybreak.errors import UserError
from daybreak.systems.rl.envs.spaces import image_shape
from daybreak.systems.rl.envs.unity.messages import PNG, message
from daybreak.systems.rl.spec import Space

HEADER = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Behaviour:
    """What all agents of a behaviour share."""

    name: str
    action: Space
    vector: int
    image: tuple[int, int, int] | None
    legacy: bool
    """Whether the player knows only the action field of protocols before 1.3."""

    def action_message(self, action: np.ndarray) -> Any:
        """One action of ours as an AgentActionProto."""
        made = message("AgentActionProto")()
        values = np.ravel(action).tolist()
        if self.legacy:
            made.vector_actions_deprecated.extend(float(v) for v in values)
        elif self.action.kind == "box":
            made.continuous_actions.extend(values)
        else:
            made.discrete_actions.extend(int(v) for v in values)
        return made


def behaviour(name: str, parameters: Any, agent: Any, capabilities: Any) -> Behaviour:
    """From the player's parameters and one of its agents. Raises `UserError` for what no agent here can use."""
    vector, image, seen = 0, None, 0
    for part in agent.observations:
        if len(part.shape) == 3:
            image, seen = picture_shape(part), seen + 1
        else:
            vector += math.prod(part.shape)
    if seen > 1:
        raise UserError(f"{name} shows {seen} images; one can be learned from")
    if not vector and image is None:
        raise UserError(f"{name} shows nothing")
    return Behaviour(name, action(name, parameters), vector, image, not capabilities.hybridActions)


def action(name: str, parameters: Any) -> Space:
    """The space of a behaviour's actions; Unity's reals are between -1 and 1."""
    spec = parameters.action_spec
    reals, branches = spec.num_continuous_actions, tuple(spec.discrete_branch_sizes)
    if not reals and not branches:  # Protocols before 1.3.
        sizes = tuple(parameters.vector_action_size_deprecated)
        if parameters.vector_action_space_type_deprecated == 1:
            reals = sizes[0] if sizes else 0
        else:
            branches = sizes
    if reals and branches:
        raise UserError(
            f"{name} takes {reals} real numbers and {len(branches)} choices at once (a hybrid action), "
            "which no agent here can act in; give it one kind in Behavior Parameters"
        )
    if reals:
        return Space.box((-1.0,) * reals, (1.0,) * reals)
    if not branches:
        raise UserError(f"{name} takes no actions")
    return Space.discrete(branches[0]) if len(branches) == 1 else Space(kind="multi", choices=branches)


def write(of: Behaviour, agent: Any, arrays: dict[str, np.ndarray], row: int) -> None:
    """Write what an agent sees, and its mask where the arrays have one."""
    place = 0
    for part in agent.observations:
        if len(part.shape) == 3:
            arrays["image"][row] = picture(of, part)
            continue
        values = part.float_data.data
        length = math.prod(part.shape)
        if len(values) != length or place + length > of.vector:
            raise UserError(f"{of.name} showed {len(values)} numbers where it said {length} (of {of.vector})")
        arrays["vector"][row, place : place + length] = values
        place += length
    if place != of.vector:
        raise UserError(f"{of.name} showed {place} numbers, not {of.vector} as at first")
    if "mask" in arrays:
        forbidden = np.array(agent.action_mask, bool)
        if forbidden.size not in (0, arrays["mask"].shape[1]):
            raise UserError(f"{of.name} gave an action mask of {forbidden.size}, not {arrays['mask'].shape[1]}")
        arrays["mask"][row] = ~forbidden if forbidden.size else True


def picture_shape(part: Any) -> tuple[int, int, int]:
    """Channels, height, width of a visual observation. PNG tells what is height; else channels are the shorter end."""
    shape = tuple(part.shape)
    if part.compression_type == PNG:
        height, width = pictures(part.compressed_data)[0].shape[:2]
        if shape[:2] == (height, width):
            return shape[2], height, width
        if shape[1:] == (height, width):
            return shape[0], height, width
        raise UserError(f"a visual observation says {shape} and holds a PNG of {height} x {width}")
    return image_shape(shape)[0]


def picture(of: Behaviour, part: Any) -> np.ndarray:
    """A visual observation as uint8 [channels, height, width]. Raises `UserError` for values outside 0 to 1."""
    assert of.image is not None
    channels, height, width = of.image
    first = tuple(part.shape) == of.image and tuple(part.shape) != (height, width, channels)
    if part.compression_type == PNG:
        layers = np.concatenate(pictures(part.compressed_data), axis=2)
        mapping = list(part.compressed_channel_mapping)
        if mapping:
            layers = mapped(of.name, layers, mapping)
        elif channels == 1:
            layers = layers.mean(axis=2, keepdims=True)
        values = layers[..., :channels].round().astype(np.uint8)
        if values.shape != (height, width, channels):
            raise UserError(f"{of.name} showed a picture of {values.shape}, not {(height, width, channels)}")
        return values.transpose(2, 0, 1)
    numbers = np.array(part.float_data.data, np.float32)
    if numbers.size != channels * height * width:
        raise UserError(f"{of.name} showed {numbers.size} numbers for a picture of {channels} x {height} x {width}")
    if not (numbers.min() >= 0 and numbers.max() <= 1):
        raise UserError(f"{of.name} showed a picture with values {numbers.min():g} to {numbers.max():g}, not 0 to 1")
    bytes_ = (numbers * 255).round().astype(np.uint8)
    return bytes_.reshape(of.image) if first else bytes_.reshape(height, width, channels).transpose(2, 0, 1)


def pictures(data: bytes) -> list[np.ndarray]:
    """The PNG files that stand one behind another in `data`, each uint8 [height, width, 3]."""
    from PIL import Image

    places = [n for n in range(len(data)) if data.startswith(HEADER, n)] if data.count(HEADER) > 1 else [0]
    found = []
    for start, stop in zip(places, [*places[1:], len(data)], strict=True):
        try:
            with Image.open(io.BytesIO(data[start:stop]), formats=["PNG"]) as image:
                found.append(np.asarray(image.convert("RGB"), np.uint8))
        except Exception as error:
            raise UserError(f"a visual observation is no PNG: {error}") from error
    return found


def mapped(name: str, layers: np.ndarray, mapping: list[int]) -> np.ndarray:
    """Layers that share a channel, averaged; -1 is none."""
    if len(mapping) != layers.shape[2]:
        raise UserError(f"{name} showed {layers.shape[2]} layers and a mapping of {len(mapping)}")
    wanted = range(max(mapping) + 1)
    return np.stack([layers[..., [n for n, to in enumerate(mapping) if to == c]].mean(axis=2) for c in wanted], axis=2)
