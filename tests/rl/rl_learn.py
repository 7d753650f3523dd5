"""What the tests of rl's families share: rounds of learning, and a resume that must give the same bits."""

from __future__ import annotations

import copy

import torch

from daybreak.lab import checkpoint, codec


def settled(learner, rounds):
    """Rounds of play and learning; what the last one logged."""
    logs = {}
    for _ in range(rounds):
        logs = learner.step(None, learner._step)
        learner._step += 1
        learner._clock += float(logs["env_steps"])
    return logs


def same_after_resume(cls, config, folder, before=5, after=4):
    """Learn, keep, learn on; a new learner that takes up what was kept must learn on to the same bits."""
    torch.manual_seed(config.seed)
    one = cls(config, None)
    settled(one, before)
    tree = copy.deepcopy({"step": one._step, "clock": one._clock, **checkpoint.gather(one)})
    codec.save(folder / "state", tree)
    for name, part in one.state().items():
        if isinstance(part, checkpoint.Stored):
            (folder / name).mkdir()
            part.write(folder / name, None)
    logs = settled(one, after)
    torch.manual_seed(99)
    two = cls(config, None)
    read = codec.load(folder / "state")
    read["folder"] = folder
    checkpoint.restore(two, read)
    two._step, two._clock = read["step"], read["clock"]
    again = settled(two, after)
    assert {k: float(v) for k, v in logs.items()} == {k: float(v) for k, v in again.items()}
    for name, net in one.nets().items():
        for key, value in net.state_dict().items():
            assert torch.equal(value, two.nets()[name].state_dict()[key]), f"{name}.{key}"
