"""The contract of training: one way to make one model.

The lab owns the loop and the update; a recipe owns what is particular. This file knows optimisers, schedules and
precision. It knows nothing about runs, files or nights. torch is imported when a recipe first needs it, so that a
recipe without nets starts fast.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from daybreak.media import Media

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from daybreak.lab.batches import Batch, Batches
    from daybreak.lab.lake import Item, Snapshot, Split
    from daybreak.lab.model import Model


class Config(BaseModel):
    """What a run may change. Every field has a default, a type and a docstring: its flag and its help.

    A recipe derives its own from this one. Values outside a field's range are refused, never clamped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of initialisation, data order and augmentation."""
    steps: int = Field(1000, ge=0)
    """Updates to make. The schedule's horizon."""
    budget: float | None = Field(None, gt=0)
    """Budget on the recipe's clock (tokens, items, environment steps), where that is what to stop at."""
    minutes: float | None = Field(None, gt=0)
    """Budget in minutes of training, over all resumes."""
    batch: int = Field(32, ge=1)
    """Items in one update, over all parts and ranks."""
    accumulate: int = Field(1, ge=1)
    """Parts into which a batch is cut to fit the memory."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of the forward pass; weights stay fp32."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    warmup: int = Field(0, ge=0)
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "constant"
    """Shape of the learning rate after the warm-up."""
    floor: float = Field(0.0, ge=0, le=1)
    """Share of the peak learning rate at which the schedule ends."""
    clip: float = Field(0.0, ge=0)
    """Largest gradient norm; 0 leaves gradients alone."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the moving average of the weights that is evaluated and shipped; 0 keeps none."""
    evaluate: int = Field(0, ge=0)
    """Steps between evaluations; 0 evaluates at the start and the end only."""
    evaluate_items: int = Field(0, ge=0)
    """Validation items to score each time, spread evenly over the split; 0 scores all."""
    samples: int = Field(6, ge=0)
    """Items of each evaluation that come with something to hear or look at."""
    checkpoint: float = Field(60.0, ge=0)
    """Least seconds between checkpoints; never less than 20 times what saving takes."""
    deterministic: bool = False
    """Refuse operations whose results vary from run to run on an accelerator."""
    loaders: int = Field(0, ge=0)
    """Background processes that prepare batches; 0 prepares them in the training process."""


C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Score:
    """What one evaluation item got. `group` is the item's (song, speaker): intervals resample groups.

    A value whose name begins with "_" is material for a metric, and is told nowhere else.
    """

    item: str
    """The item's id; where a part of it is scored, "ID#PART"."""
    group: str
    values: Mapping[str, float]
    sample: Mapping[str, Media] = field(default_factory=dict)
    """What the model made of the item, to hear or look at, by name ("sound", "roll")."""
    natural: Mapping[str, Media] = field(default_factory=dict)
    """The item itself under the same names: the same for every run."""


def mean(name: str) -> Callable[[Sequence[Score]], float]:
    """The mean of one value over scores; NaN over none."""

    def aggregate(scores: Sequence[Score]) -> float:
        return math.fsum(s.values[name] for s in scores) / len(scores) if scores else math.nan

    return aggregate


@dataclass(frozen=True)
class Metric:
    """A number computed from scores. `aggregate` defaults to the mean of the value of the same name."""

    name: str
    """Key into `Score.values`, and the words on the page."""
    better: Literal["lower", "higher"]
    unit: str = ""
    aggregate: Callable[[Sequence[Score]], float] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.aggregate is None:
            object.__setattr__(self, "aggregate", mean(self.name))

    def is_better(self, a: float, b: float) -> bool:
        """Whether `a` is strictly better than `b`."""
        return a < b if self.better == "lower" else a > b


@dataclass(frozen=True)
class Gate:
    """What a run must reach on test items to be registered."""

    metric: Metric
    bound: float

    def passes(self, value: float) -> bool:
        """True at the bound or better; a NaN never passes."""
        return value <= self.bound if self.metric.better == "lower" else value >= self.bound


class Stateful(Protocol):
    """What a resumed run needs beside nets and optimisers. `state_dict` is a tree that `lab.codec` can write."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


@runtime_checkable
class Stored(Protocol):
    """A part of a recipe's state that keeps files of its own in a checkpoint: what is large and mostly old (replay).

    `last` is the part's folder in the checkpoint before, None where there is none: files that have not changed are
    hard-linked from it, so that a checkpoint costs what is new.
    """

    def write(self, folder: Path, last: Path | None) -> None: ...

    def read(self, folder: Path) -> None: ...


def through(config: Config, step: int, clock: float = 0.0) -> float:
    """How much of its budget a run has used, 0 to 1: of its steps or of its clock's budget, whichever ends first."""
    used = step / max(1, config.steps)
    return min(1.0, max(used, clock / config.budget) if config.budget else used)


def schedule(config: Config, step: int, clock: float = 0.0) -> float:
    """The learning rate's factor at `step` (0 is the first update): warm-up, then the config's shape.

    The shape's horizon is the run's budget: its steps, or that on its clock, whichever ends first.
    """
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "inverse_sqrt":
        start = max(config.warmup, 1)
        return max(config.floor, math.sqrt(start / max(step, start)))
    used = (step - config.warmup) / max(1, config.steps - config.warmup)
    used = min(1.0, max(used, clock / config.budget) if config.budget else used)
    shape = 0.5 * (1 + math.cos(math.pi * used)) if config.schedule == "cosine" else 1 - used
    return config.floor + (1 - config.floor) * shape


class Recipe(Generic[C]):
    """One way to make one model. Derive, set `Config` and `goal`, build nets and optimisers in `__init__`.

    Nets are the attributes that are `nn.Module`s; optimisers come from `self.optimiser`. Both are checkpointed without
    being listed; anything else that a resumed run needs is returned by `state`.
    """

    Config: ClassVar[type[Any]] = Config
    presets: ClassVar[Mapping[str, Any]] = {}
    """Named values of Config."""
    goal: ClassVar[Metric]
    gates: ClassVar[tuple[Gate, ...]] = ()
    reports: ClassVar[tuple[Metric, ...]] = ()
    """What else an evaluation and a card tell that is no mean of one value (macro F1, a calibration error)."""
    right: ClassVar[tuple[Gate, ...]] = ()
    """When an item is right, by its own values: a morning names the items that crossed one, newly broken or fixed."""
    progress: ClassVar[Metric] = Metric("loss", "lower")
    """Which value of `step` tells that training gets on: there the watch looks for divergence, standing still and a
    plateau. An agent names its return: its losses rise while it learns."""
    clock: ClassVar[str] = "steps"
    """The axis on which runs of this recipe compare. Other than "steps": `step` returns its increment by this name."""
    threads: ClassVar[int] = 0
    """Processor threads that serve it best, where nobody says how many (small nets: 1); 0: all there are."""
    derives: ClassVar[tuple[Callable[..., Any], ...]] = ()
    """What `daybreak lake derive` computes ahead: the functions that the recipe gives to `data.derived`."""

    @classmethod
    def preset(cls, name: str) -> C | None:
        """The config that a name stands for; None where it stands for none. A recipe may read names of its own
        ("dqn+per"); it raises `UserError` for one that is nearly right."""
        return cls.presets.get(name)

    @classmethod
    def shipped(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config under which shipped weights are scored: `model()` must share the nets of a recipe made with it.

        Whole weights are read, so the moving average of training has no place.
        """
        return {**config, "samples": 0, "ema": 0.0}

    @staticmethod
    def batches(config: C, data: Snapshot) -> Batches | None:
        """The training batches: small, picklable, pure in (seed, step). None where the recipe makes its own data."""
        return None

    def __init__(self, config: C, data: Snapshot, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.data = data
        self.device = device
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self._parameters: dict[str, list[nn.Parameter]] = {}
        self._members: dict[str, list[nn.Parameter]] = {}
        """Of the optimisers that are `joined`: the tensors of which the one parameter is made."""
        self._rates: dict[str, list[float]] = {}
        self._averages: dict[str, list[Tensor]] = {}
        self._step, self._part, self._parts = 0, 0, 1
        self._clock = 0.0
        self.norms: dict[str, Tensor] = {}

    def step(self, batch: Batch, step: int) -> Mapping[str, Tensor | float]:
        """Compute losses, call `self.update` for each optimiser, return what to log."""
        raise NotImplementedError(f"{type(self).__name__} makes no steps: set its steps to 0 or define step()")

    def items(self, split: Split) -> Sequence[Item]:
        """The items to score: the snapshot's, unless the recipe makes its own (an agent's episodes)."""
        return self.data.split(split)

    def task(self) -> str:
        """What runs must have in common to be compared, beside recipe and goal: an agent's environment."""
        return ""

    def evaluate(self, items: Sequence[Item]) -> Iterator[Score]:
        """Score items one by one, in their order."""
        raise NotImplementedError(f"{type(self).__name__} does not define evaluate()")

    def references(self) -> Sequence[tuple[str, Sequence[tuple[float, float]]]]:
        """Published curves of the goal over the clock, to be drawn beside this run's own: (name, points)."""
        return ()

    def state(self) -> Mapping[str, Stateful | Stored]:
        """What else a resumed run needs."""
        return {}

    def model(self) -> Model:
        """What gets registered, exported and served. It shares the recipe's nets."""
        raise NotImplementedError(f"{type(self).__name__} does not define model()")

    # What the lab gives.

    def optimiser(
        self,
        name: str,
        parameters: Any,
        kind: Literal["adamw", "adam", "sgd"] | type[torch.optim.Optimizer] = "adamw",
        *,
        joined: bool = False,
        **options: Any,
    ) -> None:
        """Register an optimiser under `name`: one of torch's, or a class of your own. `parameters` is what torch takes:
        tensors or groups.

        The learning rate is the config's, times the schedule; a group's own "lr" is a peak of its own. `joined` lays
        the tensors (no groups; on their device by now) end to end in one, of which they become parts: the numbers are
        the same, and small nets, whose updates are mostly calls, are updated by a few calls instead of a few for each.
        """
        import torch

        if joined:
            self._members[name] = list(parameters)
            parameters = [_laid_out(self._members[name])]
        named = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
        make: Any = named[kind] if isinstance(kind, str) else kind
        made = make(parameters, lr=options.pop("lr", self.config.lr), **options)
        if plain := getattr(made.step, "__wrapped__", None):
            # torch records each step for its profiler, which costs as much as a small net's step itself.
            made.step = plain.__get__(made)
        self.optimisers[name] = made
        self._rates[name] = [group["lr"] for group in made.param_groups]
        self._parameters[name] = [p for group in made.param_groups for p in group["params"]]
        if self.config.ema:
            self._averages[name] = [p.detach().clone() for p in self._parameters[name]]

    def update(self, name: str | Sequence[str], loss: Tensor) -> None:
        """Make one update of one optimiser, or of several at once: the only place where gradients become weights.

        Accumulation, clipping (over all of them together), schedule and moving average happen here. Gradients reach
        these optimisers' parameters alone, so that a GAN may call it twice a step. Under accumulation the parts'
        gradients are averaged.
        """
        import torch

        names = (name,) if isinstance(name, str) else tuple(name)
        weights = self.weights(names)
        if self._part == 0:
            for weight in weights:
                weight.grad = None
        if self._parts > 1:
            loss = loss / self._parts
        loss.backward(inputs=weights)  # type: ignore[no-untyped-call]
        if self._part < self._parts - 1:
            return
        for one in names:
            if members := self._members.get(one):
                grads = [torch.zeros_like(m) if m.grad is None else m.grad for m in members]
                self._parameters[one][0].grad = torch.cat([grad.flatten() for grad in grads])
        parameters = [p for one in names for p in self._parameters[one]]
        if self.config.clip:
            self.norms[names[-1]] = self.clip(parameters, self.config.clip)
        factor = schedule(self.config, self._step, self._clock)
        # The average starts fast, as in Adam's bias correction, so that a short run is not held at its start.
        decay = min(self.config.ema, (1 + self._step) / (10 + self._step))
        for one in names:
            optimiser = self.optimisers[one]
            for group, rate in zip(optimiser.param_groups, self._rates[one], strict=True):
                group["lr"] = rate * factor
            optimiser.step()
            if averages := self._averages.get(one):
                with torch.no_grad():
                    torch._foreach_lerp_(averages, [p.detach() for p in self._parameters[one]], 1 - decay)

    def weights(self, names: Sequence[str]) -> list[nn.Parameter]:
        """The tensors that some optimisers train, as the nets hold them."""
        return [p for one in names for p in self._members.get(one) or self._parameters[one]]

    def clip(self, parameters: list[nn.Parameter], largest: float) -> Tensor:
        """Scale the gradients to a norm of at most `largest`; the norm before. Over all parameters together, unless a
        recipe that trains several nets stacked in one says otherwise."""
        import torch

        # torch's own sorts tensors by device and kind first, which takes a small net's update as long as its norm.
        grads = [p.grad for p in parameters if p.grad is not None]
        if not grads:
            return torch.zeros(())
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        torch._foreach_mul_(grads, (largest / (norm + 1e-6)).clamp(max=1))
        return norm.detach()

    @property
    def through(self) -> float:
        """How much of the run's budget is used, 0 to 1: what a recipe's own schedules go by."""
        return through(self.config, self._step, self._clock)

    def nets(self) -> dict[str, nn.Module]:
        """The recipe's nets by attribute name."""
        torch = sys.modules.get("torch")
        if torch is None:
            return {}
        return {name: value for name, value in vars(self).items() if isinstance(value, torch.nn.Module)}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the weights are their moving average; afterwards they are what they were, bit for bit."""
        import torch

        def swap() -> None:
            with torch.no_grad():
                for name, averages in self._averages.items():
                    for average, parameter in zip(averages, self._parameters[name], strict=True):
                        held = parameter.detach().clone()
                        parameter.copy_(average)
                        average.copy_(held)

        swap()
        try:
            yield
        finally:
            swap()


def _laid_out(members: list[nn.Parameter]) -> nn.Parameter:
    """One parameter with the values of `members` end to end; they become views of it."""
    import torch

    whole = torch.nn.Parameter(torch.cat([member.detach().flatten() for member in members]))
    place = 0
    for member in members:
        member.data = whole.detach()[place : place + member.numel()].view_as(member)
        place += member.numel()
    return whole
