"""Our client of the ML-Agents protocol, played against a player that is none (fake_unity.py)."""

import json
import struct
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grpc", reason="needs the extra unity")
pytest.importorskip("google.protobuf", reason="needs the extra unity")

from daybreak.errors import UserError
from daybreak.systems.rl.envs import make
from daybreak.systems.rl.envs.unity.agents import mapped
from daybreak.systems.rl.envs.unity.messages import message
from daybreak.systems.rl.envs.unity.player import settings

HERE = Path(__file__).parent


@pytest.fixture
def player(tmp_path):
    """A way to open scenes of the fake player; all are closed at the end."""
    script = tmp_path / "player.x86_64"
    paths = [str(HERE), str(HERE.parent.parent)]
    script.write_text(f"#!{sys.executable}\nimport sys\nsys.path[:0] = {paths}\nfrom fake_unity import main\nmain()\n")
    script.chmod(0o755)
    opened = []

    def open_scene(scene, count, **options):
        arguments = ("--scene", scene, *options.pop("arguments", ()))
        options = {"timeout": 20, **options, "arguments": arguments}
        env = make(f"unity:{tmp_path / 'player'}", count, **options)
        opened.append(env)
        return env

    yield open_scene
    for env in opened:
        env.close()


def test_messages_have_the_protocols_bytes():
    """By hand from the public .proto files: field number and wire type, then the value."""
    made = message("UnityMessageProto")()
    made.header.status = 200
    made.unity_input.rl_input.command = 1
    action = made.unity_input.rl_input.agent_actions["b"].value.add()
    action.continuous_actions.extend([1.0, 2.0])
    action.discrete_actions.append(3)
    floats = struct.pack("<ff", 1.0, 2.0)
    inner = b"\x32\x08" + floats + b"\x3a\x01\x03"  # Fields 6 and 7, packed.
    listed = b"\x0a" + bytes([len(inner)]) + inner
    entry = b"\x0a\x01b\x12" + bytes([len(listed)]) + listed  # A map's entry: key 1, value 2.
    order = b"\x0a" + bytes([len(entry)]) + entry + b"\x20\x01"  # agent_actions 1, command 4.
    whole = b"\x0a" + bytes([len(order)]) + order
    assert made.SerializeToString() == b"\x0a\x03\x08\xc8\x01" + b"\x1a" + bytes([len(whole)]) + whole
    info = message("AgentInfoProto")(reward=1.0, done=True, max_step_reached=True, id=5, group_reward=2.0)
    one, two = struct.pack("<f", 1.0), struct.pack("<f", 2.0)
    assert info.SerializeToString() == b"\x3d" + one + b"\x40\x01\x48\x01\x50\x05" + b"\x7d" + two


def test_settings_travel_by_side_channel():
    data = settings({"width": 84, "height": 64, "time_scale": 20.0}, {"gravity": -1.5})
    first = bytes.fromhex("2c3451e97e4fea11b238784f4387d1f7")  # The channel's number, its halves little-endian.
    assert data[:16] == first
    assert struct.unpack_from("<iiii", data, 16) == (12, 0, 84, 64)
    assert struct.unpack_from("<iif", data, 16 + 32) == (8, 2, 20.0)
    assert data.endswith(struct.pack("<i", 7) + b"gravity" + struct.pack("<if", 0, -1.5))


def test_agents_are_rows_through_their_episodes_and_an_end_shows_its_last_observation(player, tmp_path):
    report = tmp_path / "report.json"
    env = player("walk", 3, seed=11, arguments=("--report", str(report)), parameters={"gravity": 2.0})
    assert (env.spec.vector, str(env.spec.action), env.spec.masked, env.state()) == (3, "Discrete(3)", False, None)
    first = env.reset(0)["vector"]
    assert first.tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    times = np.zeros(3)
    lengths = np.array([3, 4, 5])
    for n in range(60):
        actions = np.array([0, 1, 2]) if n % 2 else np.array([2, 0, 1])
        step = env.step(actions)
        times += 1
        ended = times == lengths
        assert step.reward.tolist() == actions.tolist()
        assert step.next["vector"].tolist() == [[i, times[i], actions[i]] for i in range(3)]
        assert step.terminated.tolist() == (ended & (np.arange(3) != 1)).tolist()
        assert step.truncated.tolist() == (ended & (np.arange(3) == 1)).tolist()
        times[ended] = 0
        assert step.observation["vector"][:, 1].tolist() == times.tolist()
    assert env.reset(0)["vector"].tolist() == first.tolist()
    env.close()
    said = json.loads(report.read_text())
    assert (said["seed"], said["version"], said["steps"], said["farewell"]) == (11, "1.5.0", 60, 400)
    assert said["others"] == ["-nographics", "-batchmode"]
    assert b"gravity" in bytes.fromhex(said["side"])


def test_copies_fill_as_many_players_as_they_need(player):
    env = player("walk", 6)
    seen = env.reset(0)["vector"]
    assert seen[:, 0].tolist() == [0, 1, 2, 0, 1, 2]
    step = env.step(np.array([0, 1, 2, 2, 1, 0]))
    assert step.reward.tolist() == [0, 1, 2, 2, 1, 0]


def test_a_copy_that_is_late_for_its_next_episode_is_waited_for(player):
    env = player("late", 2)
    env.reset(0)
    seen = [env.step(np.array([1, 2])) for _ in range(12)]
    assert sum(int(step.terminated[0]) for step in seen) >= 3
    for step in seen:
        if step.terminated[0]:
            assert step.next["vector"][0].tolist() == [0, 3, 1]
            # A new episode, or a little into it where the other was late as well.
            assert step.observation["vector"][0, 0] == 0
            assert step.observation["vector"][0, 1] < 3
    # The other went on with its last action while it was waited for, and was paid for it.
    assert max(step.reward[1] for step in seen) > 2


def test_agents_that_ask_in_another_rhythm_lose_no_reward(player):
    env = player("rhythm", 2)
    env.reset(0)
    steps = [env.step(np.array([1, 1])) for _ in range(40)]
    total = np.sum([step.reward for step in steps], axis=0)
    ends = [sum(int((s.terminated | s.truncated)[n]) for s in steps) for n in range(2)]
    # Six decisions an episode; the second agent is asked every second tick, so an episode pays it twice as much.
    assert abs(total[0] - 6 * ends[0]) <= 8
    assert abs(total[1] - 12 * ends[1]) <= 14
    assert min(ends) >= 3


@pytest.mark.parametrize(("scene", "graphics"), [("eyes", True), ("eyes-first", True)])
def test_pictures_come_as_png_or_numbers_channels_last_or_first(player, scene, graphics):
    env = player(scene, 1, graphics=graphics)
    seen = env.reset(0)
    assert (env.spec.image, env.spec.vector, str(env.spec.action)) == ((3, 6, 8), 3, "Box(2)")
    assert (env.spec.action.low, env.spec.action.high) == ((-1.0, -1.0), (1.0, 1.0))
    step = env.step(np.array([[0.5, -0.25]], np.float32))
    assert step.reward[0] == 0.5
    picture = step.observation["image"][0]
    assert (picture[0, 0, 0], picture[:, 2, 5].tolist(), seen["image"][0, 0, 0, 0]) == (10, [1, 2, 3], 0)
    assert env.frame().shape == (6, 8, 3)


def test_layers_that_share_a_channel_are_averaged():
    layers = np.arange(6.0).reshape(1, 1, 6)
    assert mapped("x", layers, [0, 0, 0, 1, -1, 2]).ravel().tolist() == [1.0, 3.0, 5.0]
    with pytest.raises(UserError, match="6 layers and a mapping of 2"):
        mapped("x", layers, [0, 1])


def test_masks_branches_teams_groups_and_older_players(player):
    env = player("mask", 1, masks=True)
    assert env.reset(0)["mask"].tolist() == [[True, True, True]]
    assert env.step(np.array([0])).observation["mask"].tolist() == [[True, False, True]]
    env = player("branches", 1)
    env.reset(0)
    assert env.spec.action.choices == (3, 2)
    assert env.step(np.array([[2, 1]])).reward.tolist() == [2.0]
    env = player("teams", 2)
    env.reset(0)
    assert env.step(np.array([1, 2])).reward.tolist() == [1.0, 2.0]
    env = player("old", 1)
    env.reset(0)
    assert env.step(np.array([2])).reward.tolist() == [2.0]
    env = player("group", 1)
    env.reset(0)
    assert env.step(np.array([2])).reward.tolist() == [2.5]


@pytest.mark.parametrize(
    ("scene", "count", "reason"),
    [
        ("hybrid", 1, r"Walker takes 2 real numbers and 1 choices at once \(a hybrid action\)"),
        ("two", 1, r"has 2 behaviours \(Other, Walker\): name one, option behaviour"),
        ("two-eyes", 1, "Walker shows 2 images"),
        ("future", 1, r"speaks version 2\.0\.0 of the protocol, not 1"),
        ("walk", 4, "has 3 agents of Walker: ask for 3 or a multiple of it, not 4 copies"),
        ("eyes", 1, "graphics=True"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(player, scene, count, reason):
    with pytest.raises(UserError, match=reason) as error:
        player(scene, count)
    assert "\n" not in str(error.value)


def test_a_behaviour_is_chosen_by_name(player):
    assert player("two", 1, behaviour="Walker").spec.vector == 3
    with pytest.raises(UserError, match="no behaviour 'Waker'; did you mean Walker"):
        player("two", 1, behaviour="Waker")


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        ("hang", r"player\.x86_64 gave no answer within 1 s"),
        ("die", r"player\.x86_64 ended with code 9"),
        ("mask", "forbids some actions: ask for masks=True"),
        ("nan", "observation .* is not finite, at step 2, after action 1"),
    ],
)
def test_a_player_in_trouble_is_told_in_one_line_and_ended(player, scene, reason):
    env = player(scene, 1, timeout=1 if scene == "hang" else 20)
    env.reset(0)
    with pytest.raises(UserError, match=reason) as error:  # noqa: PT012 - any of the steps may be the one.
        for _ in range(5):
            env.step(np.array([1]))
    assert "\n" not in str(error.value)
    began = time.monotonic()
    env.close()
    assert time.monotonic() - began < 8
    assert env.env.players[0]._process.poll() is not None


def test_a_missing_player_gives_the_exact_path_and_the_way_by_the_editor(tmp_path):
    with pytest.raises(UserError, match=r"no Unity player at .*/game; .*press Play in the editor .*unity:editor"):
        make(f"unity:{tmp_path / 'game'}")
    (tmp_path / "game").write_text("")
    with pytest.raises(UserError, match=r"cannot be run: chmod \+x"):
        make(f"unity:{tmp_path / 'game'}")
    with pytest.raises(UserError, match="no setting 'speed'"):
        make(f"unity:{tmp_path / 'game'}", engine={"speed": 3})


def test_an_editor_that_never_comes_is_waited_for_and_no_longer():
    from daybreak.systems.rl.envs.unity.player import free_port

    port = free_port()
    with pytest.raises(UserError, match=f"the editor at port {port} gave no answer within 0.3 s: press Play there"):
        make("unity:editor", 1, port=port, timeout=0.3)
