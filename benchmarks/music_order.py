"""Three ways to read keywords: as a set, in one fixed order, in an order drawn anew. Written into docs/music.md.

Reads the finished runs of a lab (`DAYBREAK_LAB`) that differ in this alone: `music:tiny` with `--net.keywords set`,
`--net.keywords sequence --no-shuffle` and `--net.keywords sequence --shuffle`, three seeds or more of each.

    python benchmarks/music_order.py
"""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from daybreak.lab.compare import t_quantile  # noqa: E402
from daybreak.lab.home import Lab  # noqa: E402
from daybreak.lab.run import Run  # noqa: E402
from daybreak.lab.train import restored  # noqa: E402
from daybreak.systems.music import context  # noqa: E402
from daybreak.systems.music import tokens as T  # noqa: E402
from daybreak.systems.music.data import clips  # noqa: E402
from daybreak.systems.music.decode import Rules, Sampling, sample  # noqa: E402
from daybreak.systems.music.recipe import stream_of  # noqa: E402

PAGE = ROOT / "docs" / "music.md"
BEGIN, END = "<!-- written by benchmarks/music_order.py -->", "<!-- end of music_order -->"
WAYS = {("sequence", False): "fixed order", ("sequence", True): "shuffled", ("set", True): "set"}
CLIPS, ORDERS, SOFT = 60, 8, ("pitch_range", "density", "rhythm")


def drift(recipe: Any, examples: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Mean and largest KL (nats) of the next token between the usual order and drawn ones, and how often both orders
    find the same token the likeliest."""
    draw = np.random.default_rng(0)
    kls, same, worst = [], [], 0.0
    with torch.inference_mode():
        for row, stream in examples:
            ids = row.astype(np.int64) + T.OFFSETS
            rows = np.stack([ids, *(draw.permutation(ids) for _ in range(ORDERS))])
            tokens = torch.from_numpy(stream[:-1].astype(np.int64))[None].expand(len(rows), -1)
            marks = torch.from_numpy(context.marks(stream[:-1]))[None].expand(len(rows), -1, -1)
            logs = recipe.net(torch.from_numpy(rows), tokens, marks).double().log_softmax(-1)
            kl = (logs[:1].exp() * (logs[:1] - logs[1:])).sum(-1)
            kls.append(float(kl.mean()))
            worst = max(worst, float(kl.max()))
            same.append(float((logs[:1].argmax(-1) == logs[1:].argmax(-1)).double().mean()))
    return {"KL": float(np.mean(kls)), "largest KL": worst, "same token": float(np.mean(same))}


def adherence(recipe: Any, examples: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Share of the keywords that only the network decides that one composed clip of each example has."""
    held = []
    for n, (row, stream) in enumerate(examples):
        beats = T.METRES[str(T.value(row, "metre"))].beats
        _, chords, bars = T.decode(stream, beats)
        rules = Rules(bars, beats, chords=chords if len(chords) else None, harmony=bool(len(chords)))
        notes = T.decode(sample(recipe.net, [row], rules, n, Sampling())[0], beats)[0]
        got = T.measured(notes, bars, beats)
        held += [got[name] == T.value(row, name) for name in SOFT]
    return float(np.mean(held))


def interval(values: list[float]) -> str:
    """Mean and 95 % interval over seeds, by Student's t."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.4g}"
    half = t_quantile(0.975, len(values) - 1) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{mean:.4g} ± {half:.2g}"


def main() -> None:
    """Measure every run and write the table."""
    torch.set_num_threads(1)
    lab = Lab.existing()
    if lab is None:
        sys.exit("there is no lab here; DAYBREAK_LAB names one")
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    about = ""
    for run in Run.all(lab):
        if run.info.recipe != "music:compose" or run.info.preset != "tiny" or run.state().word != "finished":
            continue
        config = run.info.config
        way = WAYS.get((config["net"]["keywords"], config["shuffle"]))
        if way is None:
            continue
        recipe = restored(lab, run)
        recipe.net.eval()
        items = recipe.items("validation")
        chosen = [items[n * len(items) // CLIPS] for n in range(CLIPS)] if len(items) > CLIPS else list(items)
        examples = []
        for item in chosen:
            made = recipe.songs.derived(clips, item)
            index = len(made["keywords"]) // 2
            examples.append((made["keywords"][index], stream_of(made, index)[: config["net"]["context"]]))
        whole = [example for example in examples if example[1][-1] == T.EOS]
        reached = {"note NLL": next(reversed(run.evaluated().values()))}
        found[way].append(reached | drift(recipe, examples) | {"adherence": adherence(recipe, whole[:24])})
        about = f"{config['steps']} updates of `music:tiny`, {len(chosen)} validation songs, {ORDERS} orders"
        print(run.title, way, found[way][-1], file=sys.stderr, flush=True)
    columns = ("note NLL", "KL", "largest KL", "same token", "adherence")
    head = ["keywords read as", "seeds", *columns]
    rows = [
        [way, str(len(runs)), *(interval([one[name] for one in runs]) for name in columns)]
        for way in WAYS.values()
        if (runs := found[way])
    ]
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]
    body = f"{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{about}; 95 % intervals over seeds.\n\n{END}"
    text = PAGE.read_text()
    if BEGIN not in text:
        sys.exit(f"{PAGE} has no place for the table: {BEGIN}")
    PAGE.write_text(re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: body, text, flags=re.S))


if __name__ == "__main__":
    main()
