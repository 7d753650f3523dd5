"""Drifts in what is served: how many are found, and how many quiet weeks are called one.

Services are simulated request by request through the real recorder and its files, and looked at once a day for a week
through the real test. The peer is scipy's two-sample Kolmogorov-Smirnov test of each number and chi-squared of each
category on the same requests, looked at once, at the same level: uncorrected, and by Bonferroni. With DAYBREAK_DATA a
quarter of the services is asked with real photos.
"""

from __future__ import annotations

import copy
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from rows import Bar, Row, main, say, scratch

from daybreak.lab.home import Lab
from daybreak.lab.model import Request
from daybreak.lab.ship.standing import drift, reference, served
from daybreak.lab.ship.standing.traits import Traits, traits
from daybreak.media.image import Image

SERVICES, QUICK = 100, 10
WEEKS, CHANGES = 5, 2
"""Of each service: quiet weeks, and drifts that then set in."""
SEED = 20_270_114
MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
PHOTOS, SIDE = 240, 64
"""Real photos that are drawn from, and pixels of their longer side, so that decoding is not what is measured."""
WORDS = ("red dress", "linen shirt for summer under 50", "빨간 원피스", "boots", "black leather jacket, size 40")


class Ask(Request):
    """What a service is asked."""

    size: float = 0.0
    count: int = 1
    price: float = 0.0
    warmth: float = 0.0
    words: str = ""
    kind: Literal["plain", "twice", "other", "new"] = "plain"
    strict: bool = False
    tags: tuple[float, ...] = ()


class Look(Request):
    """A photo to look at."""

    image: Image
    most: int = 10
    kind: Literal["plain", "twice", "other", "new"] = "plain"


@dataclass(frozen=True)
class World:
    """A service: how many requests a week, from whom, and how they are."""

    requests: int
    clients: int = 0
    """Clients with ways of their own, few of whom ask most; 0: everybody is somebody else."""
    burst: bool = False
    """Now and then one client sends a hundred alike requests or more."""
    photos: bool = False
    shift: float = 0.0
    scale: float = 1.0
    share: float = 0.0
    new: float = 0.0
    mixed: float = 0.0
    longer: float = 1.0
    light: float = 1.0
    cast: float = 0.0
    ways: np.ndarray = field(default_factory=lambda: np.zeros((1, 3)))


def worlds(rng: np.random.Generator, photos: bool) -> World:
    """A service drawn at random: 200 to 5,000 requests a week, half of them below 300."""
    requests = round(200 * 25 ** rng.random() ** 3)
    kind = int(rng.integers(3))
    clients = int(rng.integers(12, 40)) if kind == 1 else 0
    ways = rng.normal(0, 0.7, (max(1, clients), 3))
    return World(min(requests, 1200) if photos else requests, clients, kind == 2, photos, ways=ways)


def drifted(world: World, rng: np.random.Generator) -> tuple[str, World]:
    """The same service after something changed, by amounts that a person who looked would see: a mean by 0.7 to 1.5
    standard deviations, a share by 25 to 50 points, a new category of 12 to 30 %."""
    between = lambda low, high: float(low + (high - low) * rng.random())  # noqa: E731
    changes: dict[str, Callable[[], dict[str, float]]] = {
        "a category's share": lambda: {"share": between(0.25, 0.5)},
        "a new category": lambda: {"new": between(0.12, 0.3)},
    }
    if world.photos:
        changes |= {
            "darker photos": lambda: {"light": between(0.5, 0.75)},
            "a colour cast": lambda: {"cast": between(0.1, 0.25)},
        }
    else:
        changes |= {
            "a number's mean": lambda: {"shift": float(rng.choice([-1, 1])) * between(0.7, 1.5)},
            "a number's spread": lambda: {"scale": between(2.0, 3.5)},
            "a mixture": lambda: {"mixed": between(0.3, 0.6)},
            "longer texts": lambda: {"longer": between(1.4, 2.0)},
        }
    name = str(rng.choice(list(changes)))
    return name, replace(world, **changes[name]())


def requests(world: World, rng: np.random.Generator, pool: list[Image]) -> Iterator[tuple[float, str, Request]]:
    """One day: second of the day, client, request."""
    left = rng.poisson(world.requests / 7)
    while left > 0:
        visit = min(left, int(rng.geometric(0.5)))
        if world.burst and rng.random() < 0.01:
            visit = min(left, int(rng.integers(100, 400)))
        left -= visit
        many = world.clients
        who = int(min(many - 1, rng.zipf(1.5) - 1)) if many else int(rng.integers(10**9))
        way = world.ways[who % len(world.ways)] if many else np.zeros(3)
        other = 3.0 if rng.random() < world.mixed else 0.0
        begin = rng.random() * 86_000
        base = rng.normal(size=4)
        alike = 0.1 if visit >= 100 else 1.0
        for n in range(visit):
            now = base + alike * 0.3 * rng.normal(size=4)
            draw = rng.random(3)
            kind = "twice" if draw[0] < 0.2 + world.share else "other" if draw[0] > 0.95 else "plain"
            kind = "new" if draw[1] < world.new else kind
            if world.photos:
                yield begin + n, f"c{who}", Look.model_construct(image=taken(pool, world, rng), kind=kind)
                continue
            moved = world.shift + other
            text = (WORDS[who % 5] + " and so on")[: max(3, int(abs(12 + 4 * now[3]) * world.longer) + 3)]
            text *= 2 if world.longer > 1.7 else 1
            yield begin + n, f"c{who}", Ask.model_construct(
                size=float(100 + 15 * (world.scale * now[0] + way[0] + moved)),
                count=int(rng.poisson(3)), price=float(np.exp(3 + 0.6 * (now[1] + way[1]))),
                warmth=float(now[2] + way[2]), words=text, kind=kind, strict=bool(draw[2] < 0.3),
                tags=tuple(now.tolist()),
            )  # fmt: skip


def taken(pool: list[Image], world: World, rng: np.random.Generator) -> Image:
    """A photo of the pool, as the camera of this world takes it."""
    photo = pool[int(rng.integers(len(pool)))]
    if world.light == 1.0 and not world.cast:
        return photo
    pixels = photo.pixels * np.float32(world.light)
    pixels[:, :, 2] *= 1 - world.cast
    return Image(pixels.astype(np.uint8))


def photos() -> list[Image]:
    """Real photos through the project's loaders; none where DAYBREAK_DATA has none."""
    folder = Path(os.environ.get("DAYBREAK_DATA", "")) / "commerce" / "clothing"
    if not folder.is_dir():
        return []
    from daybreak.lab.system import resolve, system

    found = []
    for draft in resolve(system("commerce").ingest)(folder):
        data = getattr(draft, "parts", {}).get("data", b"")
        if data and getattr(draft, "labels", {}).get("kind") == "photo":
            found.append(Image(Image.from_bytes(data).thumbnail(SIDE).pixels))
        if len(found) == PHOTOS:
            break
    return found


class Clock:
    """A day's time, as the simulation has it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Found:
    """What came of one service."""

    day: int | None
    """Of the week, on which a drift was found; None: on none."""
    plain: bool | None = None
    """Found by the peer, uncorrected; None where it was not asked."""
    bonferroni: bool | None = None


class Service:
    """One simulated service: what it is asked is recorded day by day, and looked at each morning."""

    def __init__(self, lab: Lab, title: str, world: World, rng: np.random.Generator, pool: list[Image], both: bool):
        self.lab, self.title, self.world, self.rng, self.pool, self.both = lab, title, world, rng, pool, both
        self.clock = Clock()
        self.day = 0
        self.first: list[Traits] = []
        self.recorder = served.Recorder(lab, self.clock)
        for _ in range(reference.FIRST):
            self.first += self.live(world)

    def live(self, world: World) -> list[Traits]:
        """A day of requests; their traits, where the peer is to have them."""
        begin = (MONDAY + timedelta(days=self.day)).timestamp()
        asked = []
        for second, client, request in requests(world, self.rng, self.pool):
            self.clock.now = begin + second
            self.recorder.note(client, self.title, "ask", request)
            if self.both:
                asked.append(traits(request))
        self.recorder.flush(all=True)
        self.day += 1
        return asked

    def week(self, world: World, until_found: bool) -> Found:
        """Seven days, and a look on the morning behind each."""
        found, asked = None, []
        for day in range(1, 8):
            asked += self.live(world)
            today = MONDAY.date() + timedelta(days=self.day)
            days = reference.whole_week(self.lab, self.title, today - timedelta(days=1))
            first = [actions for _, actions in reference.first_weeks(self.lab, self.title, today)]
            if any(shift.drifted for shift in drift.test(days, {"first weeks": first})):
                found = found or day
                if until_found and not self.both:
                    break
        return Found(found, *(peer(self.first, asked) if self.both else ()))

    def branch(self, title: str) -> Service:
        """The same service, to go on otherwise."""
        other = copy.copy(self)
        other.title, other.recorder = title, served.Recorder(self.lab, self.clock)
        shutil.copytree(served.folder_of(self.lab, self.title), served.folder_of(self.lab, title))
        return other


def peer(before: list[Traits], after: list[Traits]) -> tuple[bool, bool]:
    """Whether scipy calls it a drift: at our level uncorrected, and by Bonferroni over the traits."""
    from scipy import stats

    ps = []
    for name in {name for found in before for name in found}:
        one, two = ([found[name] for found in side if name in found] for side in (before, after))
        if not two:
            continue
        if isinstance(one[0], str):
            words = sorted(set(one) | set(two))
            if len(words) > 1:
                table = [[side.count(word) for word in words] for side in (one, two)]
                ps.append(float(stats.chi2_contingency(table).pvalue))
        else:
            ps.append(float(stats.ks_2samp(one, two, method="asymp").pvalue))
    least = min(ps, default=1.0)
    return least < drift.LEVEL, least < drift.LEVEL / max(1, len(ps))


def measure(quick: bool) -> Iterator[Row]:
    """The rows."""
    services = QUICK if quick else SERVICES
    pool = photos()
    real = "a quarter with real photos" if pool else "no real photos: DAYBREAK_DATA has none"
    results: dict[str, list[Found]] = {"quiet": [], "drift": []}
    kinds: dict[str, list[Found]] = {}
    began = time.process_time()
    with scratch() as folder:
        lab = Lab.open(folder / "lab")
        for number in range(services):
            rng = np.random.default_rng([SEED, number])
            world = worlds(rng, bool(pool) and number % 4 == 0)
            place = "few clients" if world.clients else "bursts" if world.burst else "many clients"
            service = Service(lab, f"quiet@{number + 1}", world, rng, pool, number % 8 < 2)
            for _ in range(6):  # as long as a look would reach into the first weeks, there is none
                service.live(world)
            told = [("quiet", "", service.week(world, False)) for _ in range(WEEKS)]
            for turn in range(CHANGES):
                name, after = drifted(world, rng)
                other = service.branch(f"drift@{CHANGES * number + turn + 1}")
                told.append(("drift", name, other.week(after, True)))
            for what, name, found in told:
                results[what].append(found)
                for label in (name, f"{what}, {place}", f"{what}, photos" if world.photos else ""):
                    kinds.setdefault(label, []).append(found)
            if number % 20 == 19:
                say(f"service {number + 1} of {services}, {time.process_time() - began:.0f} CPU s")
    drifts, quiet = len(results["drift"]), len(results["quiet"])
    share = lambda found: 100 * sum(one.day is not None for one in found) / len(found)  # noqa: E731
    for what, title, bar in (
        ("drift", f"{drifts} simulated drifts: found within their first week", Bar("ours", ">=", 95)),
        ("quiet", f"{quiet} quiet weeks: called a drift", Bar("ours", "<=", 2)),
    ):
        found = results[what]
        note = f"200 to 5,000 requests a week, {real}; seven looks, the peer one, at a quarter of them"
        for name, hit in (("uncorrected", "plain"), ("Bonferroni", "bonferroni")):
            asked = [getattr(one, hit) for one in found if getattr(one, hit) is not None]
            value = 100 * sum(asked) / len(asked)
            yield Row(title, "%", share(found), bar, f"scipy ks_2samp, {name}", value, note)
    days = [one.day for one in results["drift"] if one.day is not None]
    yield Row("days until a drift is found, median", "days", statistics.median(days))
    for name in sorted(kinds):
        if name:
            told = "called a drift" if name.startswith("quiet") else "found"
            yield Row(f"{name}: {told}", "%", share(kinds[name]), note=f"{len(kinds[name])} weeks")
    yield from counting(pool)


def counting(pool: list[Image]) -> Iterator[Row]:
    """What counting costs the service."""
    with scratch() as folder:
        clock, rng = Clock(), np.random.default_rng(SEED)
        clock.now = MONDAY.timestamp()
        lab = Lab.open(folder / "lab")
        for what, world in (("numbers and words", World(35_000)), ("a small photo", World(7_000, photos=True))):
            if world.photos and not pool:
                continue
            asked = list(requests(world, rng, pool))
            recorder = served.Recorder(lab, clock)
            began = time.process_time()
            for _, client, request in asked:
                recorder.note(client, "cost@1", what, request)
            spent = time.process_time() - began
            recorder.flush(all=True)
            size = max(path.stat().st_size for path in served.folder_of(lab, "cost@1").iterdir()) / 1024
            yield Row(f"counting a request with {what}", "us CPU", 1e6 * spent / len(asked),
                      note=f"a day of {len(asked):,} requests is {size:.0f} KB")  # fmt: skip


if __name__ == "__main__":
    main(measure, {}, ["scipy"])
