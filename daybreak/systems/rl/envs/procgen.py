"""Procgen (Cobbe et al. 2020): sixteen games whose levels are generated, "procgen:coinrun", 64 x 64 in colour.

A thin client of the package's compiled library through its C interface (gym3's libenv.h, version 1), so that neither
gym, gym3 nor their pins are needed: the wheel asks for NumPy 1 and uses none. State is cloned and restored exactly.
The library starts the next episode in the step that ends one and never shows the last observation: `next` is then the
one before it. Ends at the game's own clock, which the screen does not show, are truncations.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from daybreak.errors import UserError, nearest
from daybreak.systems.rl.envs.base import Observations, Step, VectorEnv
from daybreak.systems.rl.spec import Space, Spec

INSTALL = "pip install --no-deps procgen-mirror==0.10.7"
GAMES = (
    "bigfish",
    "bossfight",
    "caveflyer",
    "chaser",
    "climber",
    "coinrun",
    "dodgeball",
    "fruitbot",
    "heist",
    "jumper",
    "leaper",
    "maze",
    "miner",
    "ninja",
    "plunder",
    "starpilot",
)
MODES = {"easy": 0, "hard": 1, "extreme": 2, "memory": 10}
ALLOWED = {
    "extreme": ("chaser", "dodgeball", "leaper", "starpilot"),
    "memory": ("caveflyer", "dodgeball", "heist", "jumper", "maze", "miner"),
}
"""The games that know these modes."""
CLOCKS = {"bigfish": 6000, "bossfight": 4000, "leaper": 500, "maze": 500, "plunder": 4000}
"""Steps after which a game ends an episode; 1,000 in the others, 2,000 in jumper's memory mode."""
ACTIONS = 15
SIDE = 64
LARGEST = 2**20
"""Bytes of one copy's state at most, the package's own bound."""


class Option(ctypes.Structure):
    """libenv_option."""

    _fields_ = (
        ("name", ctypes.c_char * 128),
        ("dtype", ctypes.c_int),
        ("count", ctypes.c_int),
        ("data", ctypes.c_void_p),
    )


class Options(ctypes.Structure):
    """libenv_options."""

    _fields_ = (("items", ctypes.POINTER(Option)), ("count", ctypes.c_int))


class TensorType(ctypes.Structure):
    """libenv_tensortype; low and high are unions of four bytes."""

    _fields_ = (
        ("name", ctypes.c_char * 128),
        ("scalar", ctypes.c_int),
        ("dtype", ctypes.c_int),
        ("shape", ctypes.c_int * 16),
        ("ndim", ctypes.c_int),
        ("low", ctypes.c_int),
        ("high", ctypes.c_int),
    )


class Buffers(ctypes.Structure):
    """libenv_buffers."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("ob", "rew", "first", "info", "ac"))


UINT8, INT32 = 1, 2
OBSERVATION, ACTION, INFO = 1, 2, 3
DTYPES = {UINT8: np.uint8, INT32: np.int32}


@cache
def library() -> tuple[Any, Path]:
    """The compiled library, and the folder of its pictures. Raises `UserError` with the line that installs it."""
    spec = importlib.util.find_spec("procgen")
    folder = Path(spec.origin).parent / "data" if spec and spec.origin else None
    name = {"darwin": "libenv.dylib", "win32": "env.dll"}.get(sys.platform, "libenv.so")
    if folder is None or not (folder / "prebuilt" / name).exists():
        raise UserError(f"procgen needs procgen-mirror, which is not installed: {INSTALL}")
    mode = ctypes.DEFAULT_MODE if sys.platform == "win32" else os.RTLD_NOW | os.RTLD_LOCAL
    try:
        # Bound to its own symbols first: it brings a Qt of its own.
        found = ctypes.CDLL(str(folder / "prebuilt" / name), mode=mode | getattr(os, "RTLD_DEEPBIND", 0))
    except OSError as error:
        raise UserError(f"procgen's library cannot be loaded: {error}") from error
    if found.libenv_version() != 1:
        raise UserError(f"procgen's library speaks libenv {found.libenv_version()}, not 1: {INSTALL}")
    pointer, whole, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    found.libenv_make.argtypes, found.libenv_make.restype = [whole, Options], pointer
    found.libenv_get_tensortypes.argtypes = [pointer, whole, pointer]
    found.libenv_set_buffers.argtypes, found.libenv_set_buffers.restype = [pointer, pointer], None
    for function in (found.libenv_observe, found.libenv_act, found.libenv_close):
        function.argtypes, function.restype = [pointer], None
    found.get_state.argtypes, found.get_state.restype = [pointer, whole, text, whole], whole
    found.set_state.argtypes, found.set_state.restype = [pointer, whole, text, whole], None
    return found, folder / "assets"


class Native:
    """One vector of games inside the library, with arrays that it writes into."""

    def __init__(self, count: int, options: dict[str, Any]) -> None:
        self.library, assets = library()
        packed, self._keep = pack({**options, "resource_root": f"{assets}{os.sep}"})
        self.handle = self.library.libenv_make(count, packed)
        self.reward, self.first = np.zeros(count, np.float32), np.zeros(count, np.uint8)
        spaces = [self._arrays(kind, count) for kind in (OBSERVATION, INFO, ACTION)]
        (self.seen, ob), (self.info, info), (self.actions, ac) = spaces
        places = [ctypes.addressof(ob), self.reward.ctypes.data, self.first.ctypes.data]
        self._buffers = Buffers(*places, ctypes.addressof(info), ctypes.addressof(ac))
        self._pointers = (ob, info, ac)
        self.library.libenv_set_buffers(self.handle, ctypes.addressof(self._buffers))
        self.library.libenv_observe(self.handle)

    def step(self, actions: np.ndarray) -> None:
        """Act; the arrays then hold what came of it."""
        self.actions["action"][:] = actions
        self.library.libenv_act(self.handle)
        self.library.libenv_observe(self.handle)

    def close(self) -> None:
        """Free it, once."""
        if self.handle:
            self.library.libenv_close(self.handle)
            self.handle = None

    def _arrays(self, kind: int, count: int) -> tuple[dict[str, np.ndarray], Any]:
        length = self.library.libenv_get_tensortypes(self.handle, kind, None)
        types = (TensorType * length)()
        self.library.libenv_get_tensortypes(self.handle, kind, ctypes.addressof(types))
        arrays = {t.name.decode(): np.zeros((count, *t.shape[: t.ndim]), DTYPES[t.dtype]) for t in types}
        rows = [array[n : n + 1].ctypes.data for array in arrays.values() for n in range(count)]
        return arrays, (ctypes.c_void_p * len(rows))(*rows)


def pack(options: dict[str, Any]) -> tuple[Options, list[Any]]:
    """Options as the library reads them, and what must be kept alive for them."""
    items, keep = (Option * len(options))(), []
    for item, (name, value) in zip(items, options.items(), strict=True):
        if isinstance(value, str):
            data: Any = ctypes.create_string_buffer(value.encode())
            item.dtype, item.count = UINT8, len(value.encode())
        else:
            item.dtype, item.count = (UINT8 if isinstance(value, bool) else INT32), 1
            data = ctypes.c_uint8(value) if isinstance(value, bool) else ctypes.c_int32(value)
        item.name, item.data = name.encode(), ctypes.addressof(data)
        keep.append(data)
    return Options(items, len(items)), [items, *keep]


class Procgen(VectorEnv):
    """`count` copies of a game."""

    def __init__(self, game: str, count: int, mode: str, levels: int, start: int, threads: int) -> None:
        self.count = count
        self.clock = 2000 if (game, mode) == ("jumper", "memory") else CLOCKS.get(game, 1000)
        self.spec = Spec(
            name=f"procgen:{game}", action=Space.discrete(ACTIONS), image=(3, SIDE, SIDE), episode=self.clock
        )
        library()  # Missing is told now, not at the first reset.
        self.options = {
            "env_name": game,
            "num_levels": levels,
            "start_level": start,
            "num_actions": ACTIONS,
            "use_sequential_levels": False,
            "debug_mode": 0,
            "num_threads": threads if threads > 1 else 0,
            "render_human": False,
            "center_agent": True,
            "use_generated_assets": False,
            "use_monochrome_assets": False,
            "restrict_themes": False,
            "use_backgrounds": True,
            "paint_vel_info": False,
            "distribution_mode": MODES[mode],
        }
        self.native: Native | None = None
        self.times = np.zeros(count, np.int64)
        self.seen: np.ndarray = np.zeros((count, 3, SIDE, SIDE), np.uint8)

    def reset(self, seed: int) -> Observations:
        self.close()
        # The library takes a seed only when it is made.
        drawn = int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)
        self.native = Native(self.count, {**self.options, "rand_seed": drawn})
        self.times[:] = 0
        return self._look(self.native)

    def step(self, actions: np.ndarray) -> Step:
        native, before = self.native, self.seen
        if native is None:
            raise RuntimeError("reset comes before step")
        native.step(actions)
        self.times += 1
        ended = native.first.astype(bool)
        complete = native.info["prev_level_complete"].astype(bool)
        truncated = ended & (self.times >= self.clock) & ~complete
        self.times[ended] = 0
        observation = self._look(native)
        reached = observation
        if ended.any():
            last = self.seen.copy()
            last[ended] = before[ended]
            reached = {"image": last}
        return Step(reached, observation, native.reward.copy(), ended & ~truncated, truncated)

    def state(self) -> dict[str, Any] | None:
        native = self.native
        if native is None:
            return None
        buffer, copies = ctypes.create_string_buffer(LARGEST), []
        for n in range(self.count):
            length = native.library.get_state(native.handle, n, buffer, LARGEST)
            copies.append(np.frombuffer(buffer.raw[:length], np.uint8).copy())
        return {"copies": copies, "times": self.times.copy()}

    def restore(self, state: dict[str, Any]) -> Observations:
        if len(state["copies"]) != self.count:
            raise UserError(f"{self.spec.name}: a state of {len(state['copies'])} copies does not fit {self.count}")
        self.native = native = self.native or Native(self.count, {**self.options, "rand_seed": 0})
        for n, copy in enumerate(state["copies"]):
            native.library.set_state(native.handle, n, copy.tobytes(), len(copy))
        native.library.libenv_observe(native.handle)
        self.times = np.array(state["times"])
        return self._look(native)

    def frame(self) -> UInt8[np.ndarray, "height width 3"]:
        picture: np.ndarray = self.seen[0].transpose(1, 2, 0)
        return np.asarray(picture.repeat(4, axis=0).repeat(4, axis=1))

    def close(self) -> None:
        if self.native is not None:
            self.native.close()
            self.native = None

    def _look(self, native: Native) -> Observations:
        self.seen = np.ascontiguousarray(native.seen["rgb"].transpose(0, 3, 1, 2))
        return {"image": self.seen}


def make(id: str, count: int, mode: str = "easy", levels: int = 0, start: int = 0, threads: int = 1) -> VectorEnv:
    """`count` copies of a game. `levels`: how many there are to learn from (200 in the paper; 0: no end of them),
    from number `start` on; `mode`: easy, hard, and extreme or memory where the game has it. Raises `UserError`."""
    if id not in GAMES:
        raise UserError(f"no Procgen game {id!r}; {nearest(id, GAMES)}")
    if mode not in MODES or id not in ALLOWED.get(mode, GAMES):
        known = [known for known in MODES if id in ALLOWED.get(known, GAMES)]
        raise UserError(f"procgen:{id} has no mode {mode!r}; {nearest(mode, known)}")
    if levels < 0 or start < 0 or levels + start >= 2**31:
        raise UserError(f"procgen:{id}: levels and start are counts, not {levels} and {start}")
    return Procgen(id, count, mode, levels, start, threads)
