"""Trees of tensors and plain values <-> safetensors + JSON, exactly. Nothing is pickled.

A tree is made of dict (string or integer keys), list, tuple, tensors, numpy arrays and scalars, bytes, str, int,
float, bool and None. Reading gives back equal values of the same types, floats to the last bit, shared tensors shared.
The file pair is `NAME.safetensors` and `NAME.json`; the JSON is the tree, with numbered references for tensors.
"""

from __future__ import annotations

import base64
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from daybreak.errors import UserError

WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def plain(value: Any) -> Any:
    """The value with every number that is not finite as "NaN", "Infinity" or "-Infinity": what JSON files hold."""
    if isinstance(value, float):
        return (
            value if math.isfinite(value) else ("NaN" if value != value else "Infinity" if value > 0 else "-Infinity")
        )
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def number(value: Any) -> float:
    """Read a number that `plain` wrote."""
    return WORDS[value] if isinstance(value, str) else float(value)


def save(path: str | os.PathLike[str], tree: Any) -> None:
    """Write `path`.safetensors and `path`.json, both fsynced. Raises TypeError for what a tree may not hold."""
    path = Path(path)
    tensors: dict[str, Any] = {}
    body = json.dumps(_encode(tree, tensors, {}), allow_nan=False).encode()
    for name, data in (
        (f"{path.name}.safetensors", _pack(tensors)),
        (f"{path.name}.json", body),
    ):
        with open(path.with_name(name), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `save` wrote. Raises `UserError` naming the file that cannot be read."""
    import safetensors

    path = Path(path)
    try:
        body = path.with_name(f"{path.name}.json").read_bytes()
        # Arrays alone are read without torch, so that a recipe without nets resumes fast.
        framework = "pt" if b'{"tensor": ' in body or b'{"parameter": ' in body else "np"
        with safetensors.safe_open(path.with_name(f"{path.name}.safetensors"), framework=framework) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _decode(json.loads(body), tensors)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _pack(tensors: dict[str, Any]) -> bytes:
    """The bytes of a safetensors file of torch's tensors and numpy's byte arrays."""
    torch = sys.modules.get("torch")
    if torch is None:  # then there are arrays only
        import safetensors.numpy

        return safetensors.numpy.save(tensors)
    import safetensors.torch

    return safetensors.torch.save({name: torch.as_tensor(tensor) for name, tensor in tensors.items()})


def _encode(value: Any, tensors: dict[str, Any], seen: dict[tuple[Any, ...], str]) -> Any:
    import numpy as np

    torch = sys.modules.get("torch")  # not loaded: no value is a tensor
    if value is None or isinstance(value, (bool, str)):
        return value
    kind = type(value)
    if kind is int:
        # JSON readers elsewhere lose integers beyond 2^53; the generators' states have such.
        return value if abs(value) < 2**53 else {"int": str(value)}
    if kind is float:
        return {"float": value.hex()}
    if kind is bytes:
        return {"bytes": base64.b64encode(value).decode()}
    if kind is list:
        return {"list": [_encode(item, tensors, seen) for item in value]}
    if kind is tuple:
        return {"tuple": [_encode(item, tensors, seen) for item in value]}
    if isinstance(value, dict):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"a tree's keys are strings or integers, not {type(key).__name__} ({key!r})")
        return {"dict": [[key, _encode(item, tensors, seen)] for key, item in value.items()]}
    if torch is not None and isinstance(value, torch.Tensor):
        tensor = value.detach()
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, str(tensor.device))
        if tensor.numel() == 0 or place not in seen:
            name = str(len(tensors))
            tensors[name] = tensor.cpu().contiguous().clone()
            if tensor.numel():
                seen[place] = name
        else:
            name = seen[place]
        return {"parameter" if isinstance(value, torch.nn.Parameter) else "tensor": name}
    if isinstance(value, np.generic):
        return {"scalar": [value.dtype.str, base64.b64encode(value.tobytes()).decode()]}
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("a tree cannot hold an array of objects")
        # As bytes: safetensors knows fewer number formats than numpy.
        name = str(len(tensors))
        tensors[name] = np.frombuffer(value.tobytes(), np.uint8).copy()
        return {"array": [name, value.dtype.str, list(value.shape)]}
    raise TypeError(f"a tree cannot hold a {kind.__module__}.{kind.__qualname__}")


def _decode(value: Any, tensors: dict[str, Any]) -> Any:
    import numpy as np

    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    match kind:
        case "int":
            return int(held)
        case "float":
            return float.fromhex(held)
        case "bytes":
            return base64.b64decode(held)
        case "list":
            return [_decode(item, tensors) for item in held]
        case "tuple":
            return tuple(_decode(item, tensors) for item in held)
        case "dict":
            return {key: _decode(item, tensors) for key, item in held}
        case "tensor":
            return tensors[held]
        case "parameter":
            import torch

            return torch.nn.Parameter(tensors[held], requires_grad=tensors[held].is_floating_point())
        case "scalar":
            return np.frombuffer(base64.b64decode(held[1]), np.dtype(held[0]))[0]
        case "array":
            return np.frombuffer(np.asarray(tensors[held[0]]).tobytes(), np.dtype(held[1])).reshape(held[2]).copy()
    raise ValueError(f"unknown kind of value {kind!r}")
