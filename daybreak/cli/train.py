"""`daybreak train`: one run, now."""

from __future__ import annotations

import sys
from pathlib import Path

from daybreak.cli.show import say
from daybreak.errors import UserError


def train(
    spec: str,
    /,
    *rest: str,
    parent: str = "",
    config: Path | None = None,
    snapshot: str = "",
    name: str = "",
    owner: str = "",
    second: str = "",
    threads: int = 0,
    resume: str = "",
) -> None:
    """Train SYSTEM[:PRESET] now; the recipe's config fields are flags too.

    Args:
        spec: what to train: "music", "music:small", "music:compose:small".
        rest: the recipe's own flags, as --lr 3e-4 --net.layers 8.
        parent: the run to derive from (also --from).
        config: a TOML file of config fields.
        snapshot: what the run will see; else all current items are frozen.
        name: a name for people.
        owner: who knows this run best.
        second: who else does.
        threads: processor threads; 0 takes every core.
        resume: go on with this run instead of making a new one.
    """
    from daybreak.lab.config import leaves, lookup
    from daybreak.lab.derive import new_run, plan
    from daybreak.lab.home import Lab
    from daybreak.lab.run import Run
    from daybreak.lab.train import EXIT
    from daybreak.lab.train import train as go

    words = list(rest)
    if "--help" in words or "-h" in words:
        from daybreak.cli.front import show_help
        from daybreak.lab.config import describe

        show_help(train, f"train {spec}")
        for flag, info in leaves(lookup(spec).cls.Config).items():
            print(
                f"  --{flag.replace('_', '-'):<24} {describe(info)}: {info.description or ''} (default {info.default})"
            )
        return
    if "--from" in words:
        at = words.index("--from")
        if at + 1 == len(words):
            raise UserError("train: --from wants a run")
        parent = words[at + 1]
        del words[at : at + 2]
    lab = Lab.open()
    if resume:
        run = Run.find(lab, resume)
    else:
        run = new_run(
            lab,
            plan(lab, spec, words, parent=parent, file=config),
            snapshot=snapshot, name=name, owner=owner, second=second, threads=threads,
        )  # fmt: skip
    say(f"{run.title} in {run.path}")
    try:
        word = go(lab, run)
    except UserError:
        if not resume and not run.checkpoints() and not (run.path / "metrics.jsonl").exists():
            run.remove()  # it was refused before its first step, and whoever asked is told why
        raise
    say(run.state().text)
    print(run.id)
    if EXIT[word]:
        sys.exit(EXIT[word])
