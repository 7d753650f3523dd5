"""The live view: the newest checkpoint plays, a newer one takes over, and the training's folder is left alone."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from daybreak.errors import UserError
from daybreak.lab.derive import new_run, plan
from daybreak.lab.home import Lab
from daybreak.lab.run import Run
from daybreak.lab.train import train
from daybreak.systems.rl.live import Followed, Live, Screen, source_of


@pytest.fixture(scope="module", params=["1", "2"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Run]:
    """A run of one seed, and one of two."""
    lab = Lab.open(tmp_path_factory.mktemp("lab"))
    flags = ["--budget", "512", "--evaluate", "1", "--episodes", "2", "--samples", "0", "--ema", "0.9"]
    run = new_run(lab, plan(lab, "rl:ppo", [*flags, "--seeds", request.param, "--batch", "64", "--epochs", "1"]))
    assert train(lab, run, progress=False) == "finished"
    return lab, run


def files(run: Run) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(run.path.rglob("*"))}


def test_the_newest_checkpoint_plays_and_a_newer_one_takes_over(trained: tuple[Lab, Run]) -> None:
    _, run = trained
    source = Followed(run)
    first, last = run.checkpoints()[-2:]
    hidden = last.rename(last.with_name(".later"))
    player = source.newer()
    assert player is not None
    assert player.step == int(first.name.removeprefix("step-"))
    assert source.newer() is None
    hidden.rename(last)
    newer = source.newer()
    assert newer is not None
    assert newer.step == int(last.name.removeprefix("step-"))
    assert newer.clock == 512


def test_the_averaged_weights_play_as_they_ship(trained: tuple[Lab, Run]) -> None:
    from daybreak.lab.model import Model

    _, run = trained
    player = Followed(run).newer()
    assert player is not None
    shipped = Model.load(run.path / "final").net.state_dict()  # type: ignore[attr-defined]
    for name, value in player.net.state_dict().items():
        assert (value[:: value.shape[0] // shipped[name].shape[0]] == shipped[name]).all(), name


def test_a_page_plays_tells_and_touches_nothing(trained: tuple[Lab, Run]) -> None:
    _, run = trained
    before = files(run)
    with Live(Screen(Followed(run), rate=200)) as live:
        page = urllib.request.urlopen(live.address)
        assert b"/stream" in page.read()
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        with urllib.request.urlopen(f"{live.address}stream") as stream:
            pictures = 0
            while pictures < 30:  # an episode of a beginner has fewer steps
                assert stream.readline() == b"--frame\r\n"
                assert stream.readline() == b"Content-Type: image/jpeg\r\n"
                size = int(stream.readline().split(b":")[1])
                stream.readline()
                assert stream.read(size).startswith(b"\xff\xd8")
                stream.readline()
                pictures += 1
        now = json.load(urllib.request.urlopen(f"{live.address}now"))
        assert (now["env"], now["title"], now["trouble"]) == ("CartPole-v1", run.title, "")
        assert now["training"]["state"].startswith("finished")
        assert now["training"]["env_steps"] == 512
        for path in ("etc/passwd", "../run.json"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(live.address + path)
        other = urllib.request.Request(live.address, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(other)
    assert files(run) == before


def test_what_is_no_agent_is_one_line(trained: tuple[Lab, Run], tmp_path: Path) -> None:
    lab, run = trained
    assert isinstance(source_of(lab, str(run.number)), Followed)
    with pytest.raises(UserError, match="there is no run '77'"):
        source_of(lab, "77")
    with pytest.raises(UserError):
        source_of(lab, str(tmp_path / "nothing"))
