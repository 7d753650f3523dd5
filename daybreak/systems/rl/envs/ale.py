"""Atari 2600 by ale-py's native vector environment: "ale:Pong", one grey frame of 84 x 84 for every fourth.

The protocol is Machado et al. 2018 (Revisiting the Arcade Learning Environment, sections 2 and 5): frame skip 4 with
the larger of the last two frames, up to 30 no-ops at the start, FIRE where a game waits for it, 108,000 frames an
episode; sticky actions are an option. Rewards are the game's: clipping belongs to the learner. The ROMs come with
ale-py. The native environment cannot clone its state, so a resumed run starts new episodes.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
from jaxtyping import UInt8

from daybreak.errors import UserError, nearest
from daybreak.systems.rl.envs.base import Observations, Step, VectorEnv
from daybreak.systems.rl.spec import Space, Spec

SKIP = 4
FRAMES = 108_000
"""Of an episode at 60 per second: half an hour."""
REMEMBERED = 5_000
"""Actions of the first copy that are kept, so that a picture in colour can be had later."""


class Atari(VectorEnv):
    """`count` copies of a game. `life_loss` ends an episode for the learner where a life is lost; the game goes on."""

    def __init__(
        self,
        id: str,
        count: int,
        life_loss: bool = False,
        sticky: float = 0.0,
        noops: int = 30,
        fire: bool = True,
        all_actions: bool = False,
        size: int = 84,
        threads: int = 0,
    ) -> None:
        # Not ale-py's own `episodic_life`, which restarts the whole game, nor `life_loss_info`, whose last observation
        # is an old one (both seen in 0.12.1): lives are counted here.
        module = importlib.import_module("ale_py.vector_env")
        modes = importlib.import_module("gymnasium.vector").AutoresetMode
        self.options = {
            "game": rom(id),
            "frameskip": SKIP,
            "stack_num": 1,
            "max_num_frames_per_episode": FRAMES,
            "repeat_action_probability": sticky,
            "noop_max": noops,
            "use_fire_reset": fire,
            "full_action_space": all_actions,
            "img_height": size,
            "img_width": size,
            "reward_clipping": False,
            "autoreset_mode": modes.SAME_STEP,
        }
        self._new = module.AtariVectorEnv
        self.env = self._new(num_envs=count, num_threads=threads or _threads(count), **self.options)
        self.count, self.life_loss = count, life_loss
        self.spec = Spec(
            name=f"ale:{id}",
            action=Space.discrete(int(self.env.single_action_space.n)),
            image=(1, size, size),
            stack=4,
            episode=FRAMES // SKIP,
        )
        self.lives = np.zeros(count, np.int32)
        self._seed = 0
        self._past: list[int] | None = None
        """Actions of the first copy since `reset`; None where there are too many."""
        self._colour: Any = None
        self._picture: np.ndarray | None = None
        self._grey: np.ndarray = np.zeros((size, size), np.uint8)

    def reset(self, seed: int) -> Observations:
        seeds = (np.random.SeedSequence(seed).generate_state(self.count) >> 1).astype(np.int64)
        seen, info = self.env.reset(seed=seeds)
        self.lives = info["lives"].copy()
        self._seed, self._past, self._colour = int(seeds[0]), [], None
        self._grey = seen[0, 0]
        return {"image": np.array(seen)}

    def step(self, actions: np.ndarray) -> Step:
        seen, reward, terminated, truncated, info = self.env.step(np.ascontiguousarray(actions, np.int64))
        seen, terminated = np.array(seen), np.array(terminated, bool)
        truncated = np.array(truncated, bool) & ~terminated
        ended = terminated | truncated
        if self.life_loss:
            terminated |= (info["lives"] < self.lives) & ~ended
        self.lives = info["lives"].copy()
        self._follow(int(actions[0]))
        self._grey = seen[0, 0]
        observation: Observations = {"image": seen}
        reached = observation
        if ended.any():
            last = seen.copy()
            last[ended] = info["final_obs"][ended]  # Only these rows are this step's.
            reached = {"image": last}
        return Step(reached, observation, np.asarray(reward, np.float32), terminated, truncated)

    def frame(self) -> UInt8[np.ndarray, "height width 3"]:
        """The first copy's screen, 210 x 160, in colour: from a second emulator that takes the same actions.

        In grey and enlarged where more than 5,000 steps were taken before the first picture was asked for.
        """
        if self._colour is None and self._past is not None:
            wanted = {**self.options, "grayscale": False, "img_height": 210, "img_width": 160}
            self._colour = self._new(num_envs=1, num_threads=1, **wanted)
            self._picture = self._colour.reset(seed=np.array([self._seed]))[0]
            for action in self._past:
                self._picture = self._colour.step(np.array([action]))[0]
            self._past = None
        if self._colour is not None and self._picture is not None:
            return np.array(self._picture).reshape(210, 160, 3)
        return np.repeat(self._grey.repeat(3, 0).repeat(3, 1)[..., None], 3, axis=2)

    def close(self) -> None:
        self._colour = None
        self.env.close()

    def _follow(self, action: int) -> None:
        if self._colour is not None:
            self._picture = self._colour.step(np.array([action]))[0]
        elif self._past is not None:
            self._past.append(action)
            if len(self._past) > REMEMBERED:
                self._past = None


def _threads(count: int) -> int:
    """As many as the process may use: OMP_NUM_THREADS where it is set, else the cores."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return min(count, int(said) if said.isdigit() and int(said) else os.cpu_count() or 1)


def rom(id: str) -> str:
    """The ROM's name of a game: "MsPacman" and "ms_pacman" are one. Raises `UserError` with the nearest games.

    Four of the bundled ROMs are for two players only; the library would end the whole process at them.
    """
    library = importlib.import_module("ale_py")
    games = library.roms.get_all_rom_ids()
    known = {name(game): game for game in games}
    found = known.get(id) or (id if id in games else None)
    if found is None:
        raise UserError(f"no Atari game {id!r}; {nearest(id, known)}")
    if not library.ALEInterface.isSupportedROM(library.roms.get_rom_path(found)):
        raise UserError(f"ale:{id} is for two players, which ale-py's environment cannot play")
    return found


def name(game: str) -> str:
    """The usual name of a ROM: "ms_pacman" -> "MsPacman"."""
    return "".join(part.capitalize() for part in game.split("_"))


def make(id: str, count: int, **options: Any) -> VectorEnv:
    """`count` copies of an Atari game. Options: life_loss, sticky (probability, 0.25 in the paper), noops, fire,
    all_actions (18), size (pixels a side), threads. Raises `UserError` for an unknown game or option."""
    known = ("life_loss", "sticky", "noops", "fire", "all_actions", "size", "threads")
    for option in options:
        if option not in known:
            raise UserError(f"ale:{id} has no option {option!r}; {nearest(option, known)}")
    sticky, size = options.get("sticky", 0.0), options.get("size", 84)
    if not isinstance(sticky, int | float) or not 0 <= sticky <= 1:
        raise UserError(f"ale:{id}: sticky is a probability, not {sticky}")
    if not isinstance(size, int) or not 16 <= size <= 210:
        raise UserError(f"ale:{id}: size is a whole number of pixels from 16 to 210, not {size}")
    return Atari(id, count, **options)
