"""Published scores are found by an environment's name, and only where the tables are."""

from __future__ import annotations

from daybreak.systems.rl.reference import published

ZOO = """algo,env_id,mean_reward,std_reward,n_timesteps,eval_timesteps,eval_episodes
dqn,PongNoFrameskip-v4,20.7,0.5,10M,1,1
"""
DOPAMINE = """game,agent,iteration,agent_steps_end,runs,return_mean,return_std
pong,DQN,1,500000,5,-19.1,1.0
pong,DQN,0,250000,5,-20.5,0.5
"""


def test_an_environment_finds_its_published_scores_whatever_its_family_calls_it(tmp_path, monkeypatch):
    (tmp_path / "rl").mkdir()
    (tmp_path / "rl" / "sb3_zoo_benchmark.csv").write_text(ZOO)
    (tmp_path / "rl" / "dopamine_atari_curves.csv").write_text(DOPAMINE)
    monkeypatch.setenv("DAYBREAK_DATA", str(tmp_path))
    zoo, dopamine = published("ale:Pong")
    assert (zoo.algorithm, zoo.points, zoo.spread) == ("dqn", ((10_000_000.0, 20.7),), 0.5)
    assert dopamine.points == ((250_000.0, -20.5), (500_000.0, -19.1))
    assert published("CartPole-v1") == []
    monkeypatch.delenv("DAYBREAK_DATA")
    assert published("ale:Pong") == []
