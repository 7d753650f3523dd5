"""Searching agents: targets held to slow sums, what is learned from whom, resuming, two players, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rl_learn import same_after_resume, settled

from daybreak.errors import UserError
from daybreak.lab.checkpoint import undisturbed
from daybreak.lab.model import Model
from daybreak.systems.rl.envs.board import TicTacToe
from daybreak.systems.rl.envs.board.opponents import every_reply
from daybreak.systems.rl.model import Act, Agent
from daybreak.systems.rl.nets.muzero import Support, halved, scaled
from daybreak.systems.rl.recipe import play
from daybreak.systems.rl.search import Search, SearchConfig, targets

SMALL = {
    "hidden": (16,), "latent": 8, "simulations": 4, "play": 8, "updates": 2, "learning_starts": 64, "batch": 8,
    "replay": 400, "budget": 2000, "envs": 4, "unroll": 3, "n_step": 4, "episodes": 2,
}  # fmt: skip
BOARD = {**SMALL, "env": "board:tictactoe", "n_step": 9, "support": 1, "rescaled": False, "gamma": 1.0}


def small(name="muzero", **more):
    preset = Search.preset(name)
    given = {key: getattr(preset, key) for key in preset.model_fields_set}
    return SearchConfig(**{**given, **SMALL, **more})


def made(config):
    torch.manual_seed(0)
    return Search(config, None)


# What the model is held to.


def by_hand(reward, terminated, truncated, value, strayed, unroll, n, discount):
    """One run of rows: for each unrolled step its value, reward and what is known, by the words of the paper."""
    out = []
    for k in range(unroll + 1):
        ends = [j for j in range(k) if terminated[j] or truncated[j]]
        if ends:
            absorbed = terminated[ends[0]]
            before = [j for j in range(k - 1) if terminated[j] or truncated[j]]
            led = reward[k - 1] if not before else 0.0
            known = absorbed if before else True
            out.append((0.0, absorbed, led if known else 0.0, known, False))
            continue
        total, j = 0.0, k
        while True:
            power = discount ** (j - k)
            if j - k == n or strayed[j] or (truncated[j] and not terminated[j]):
                total += power * value[j]
                break
            total += power * reward[j]
            if terminated[j]:
                break
            j += 1
        out.append((total, True, reward[k - 1] if k else 0.0, k > 0, True))
    return out


@pytest.mark.parametrize("discount", [0.9, -1.0])
@pytest.mark.parametrize(("unroll", "n"), [(3, 1), (5, 4), (2, 12)])
def test_targets_are_their_sums(discount, unroll, n):
    random = np.random.default_rng(0)
    shape = (2, 60, unroll + n + 1)
    reward, value = random.normal(size=shape), random.normal(size=shape)
    terminated = random.random(shape) < 0.12
    truncated = (random.random(shape) < 0.12) & ~terminated
    strayed = random.random(shape) < 0.1
    told = targets(reward, terminated, truncated, value, strayed, unroll, n, discount)
    for place in np.ndindex(shape[:2]):
        rows = (x[place] for x in (reward, terminated, truncated, value, strayed))
        expected = by_hand(*rows, unroll, n, discount)
        for k, (total, known, led, led_known, alive) in enumerate(expected):
            at = (*place, k)
            assert told.alive[at] == alive
            assert told.value_mask[at] == known
            if known:
                assert told.value[at] == pytest.approx(total)
            assert told.reward_mask[at] == led_known
            if led_known:
                assert told.reward[at] == pytest.approx(led)


def test_the_result_of_a_game_is_each_movers_own():
    """The last mover wins: every second value before it is a loss."""
    reward, never = np.zeros(11), np.zeros(11, bool)
    reward[4], terminated = 1.0, np.arange(11) == 4
    told = targets(reward, terminated, never, np.full(11, 7.0), never, 5, 5, -1.0)
    assert told.value.tolist() == [1, -1, 1, -1, 1, 0]
    assert told.value_mask.all()
    assert told.reward.tolist() == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("rescaled", [False, True])
def test_a_scalar_is_the_mean_of_its_two_atoms(rescaled):
    support = Support(20, rescaled)
    x = torch.tensor([0.0, 1.0, -1.0, 0.3, -7.21, 20.0, -20.0, 13.999], dtype=torch.float64)
    p = support.two_hot(x)
    assert torch.allclose(p.sum(-1), torch.ones_like(x))
    assert ((p > 0).sum(-1) <= 2).all()
    assert torch.allclose(support.mean(p.clamp(min=1e-300).log()), x, atol=1e-6)
    assert Support(3, False).two_hot(torch.tensor([99.0, -99.0])).argmax(-1).tolist() == [6, 0]


def test_hidden_states_are_between_0_and_1_each_by_itself_and_pass_half_the_gradient():
    hidden = torch.randn(2, 3, 4, 2, 2) * torch.tensor([1.0, 100.0, 1e-3])[None, :, None, None, None]
    out = scaled(hidden)
    assert torch.allclose(out.flatten(2).amin(-1), torch.zeros(2, 3))
    assert (out.flatten(2).amax(-1) > 0.99).all()
    x = torch.randn(5, requires_grad=True)
    halved(x).sum().backward()
    assert torch.equal(x.grad, torch.full((5,), 0.5))
    assert torch.equal(halved(x), x)


# Whose gradient is whose.


def gradients(learner, rows, copies, reduce):
    learner.random = np.random.default_rng(2)
    losses, _, _ = learner._losses(rows, copies)
    grads = torch.autograd.grad(reduce(losses), list(learner.net.parameters()), allow_unused=True)
    return [g for g in grads if g is not None]


@pytest.mark.parametrize("more", [{}, {"env": "board:tictactoe", "blocks": 1, "channels": 4}])
def test_a_stacked_seed_learns_from_its_own_play_alone(more):
    learner = made(small(seeds=2, **more))
    settled(learner, 3)
    rows, copies = learner.ring.draw(np.random.default_rng(0), 8, learner.span)

    def mine():
        return [g[0].clone() for g in gradients(learner, rows, copies, lambda losses: losses.mean(1).sum())]

    before = mine()
    with torch.no_grad():
        for p in learner.net.parameters():
            p[1] += 0.1 * torch.randn_like(p[1])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(before, mine(), strict=True))


def test_importance_weights_weigh_each_item_by_its_own():
    """The weighted gradient of a batch is the sum of its items', each times its weight."""
    learner = made(small(prioritised=True))
    settled(learner, 4)
    rows, copies = learner.ring.draw(np.random.default_rng(0), 8, learner.span)
    weights = torch.rand(1, 8)
    got = gradients(learner, rows, copies, lambda losses: (losses * weights).mean())
    each = [gradients(learner, rows, copies, lambda losses, i=i: losses[0, i]) for i in range(8)]
    for n, one in enumerate(got):
        by_hand = sum(weights[0, i] * each[i][n] for i in range(8)) / 8
        assert torch.allclose(one, by_hand, atol=1e-6)


def test_priorities_follow_the_values_error():
    learner = made(small(prioritised=True, updates=1))
    settled(learner, 4)
    leaves = learner.priorities.leaves
    whole = leaves[leaves > 0]
    assert len(np.unique(np.round(whole, 6))) > 3  # not all at the largest
    newest = (learner.ring.added - 1) % learner.ring.rows
    complete = leaves[0].reshape(-1)[: learner.ring.rows * 4].reshape(-1, 4)
    assert (complete[newest] == 0).all()  # a row whose unroll has not been played yet is not drawn


def test_reanalysed_policies_are_the_recent_nets_and_the_others_are_as_played():
    learner = made(small("gumbel_muzero", reanalyse=0.5, batch=4, target_every=10**6))
    settled(learner, 4)
    rows, copies = learner.ring.draw(np.random.default_rng(0), 4, learner.span)
    at = rows[..., None] + np.arange(learner.span)
    each = np.broadcast_to(copies[..., None], at.shape)
    columns = {name: learner.ring.column(name, at, each) for name in ("policy", "value")}
    before = {name: column.copy() for name, column in columns.items()}
    torch.manual_seed(5)
    learner._reanalyse(columns, at, each)
    steps, n = learner.config.unroll + 1, learner.config.n_step
    seen = learner.ring.observe(at[:, :2, :steps].reshape(1, -1), each[:, :2, :steps].reshape(1, -1))
    tensors = {name: torch.from_numpy(value) for name, value in seen.items()}
    torch.manual_seed(5)
    again = learner.target.plan(tensors, learner.target.noise(tensors)).policy
    assert np.allclose(columns["policy"][:, :2, :steps].reshape(again.shape), again, atol=1e-6)
    assert not np.allclose(columns["policy"][:, :2, :steps], before["policy"][:, :2, :steps])
    assert (columns["policy"][:, 2:] == before["policy"][:, 2:]).all()
    assert (columns["value"][:, :, :n] == before["value"][:, :, :n]).all()
    assert (columns["value"][:, :2, n:] != before["value"][:, :2, n:]).any()


# Learning, keeping, playing.


@pytest.mark.parametrize(
    "config",
    [
        small("muzero", seeds=2),
        small("gumbel_muzero"),
        small("muzero", prioritised=True, reanalyse=0.5, target_every=3, normalise=True),
        small("gumbel_muzero", **BOARD, blocks=1, channels=4, explore=0.3),
        small("muzero", **{**BOARD, "env": "board:connect4"}),
    ],
)
def test_every_preset_resumes_to_the_same_bits(config, tmp_path):
    same_after_resume(Search, config, tmp_path)


@pytest.mark.parametrize("name", ["muzero", "gumbel_muzero"])
def test_a_preset_learns_what_follows_from_what_it_sees(name):
    sizes = {"envs": 8, "updates": 24, "unroll": 1, "n_step": 1, "batch": 32, "hidden": (32,), "replay": 2000}
    learner = made(small(name, env="probe:both", lr=0.01, **sizes))
    settled(learner, 12)
    learner.net.eval()
    totals = [total for total, _, _ in play(learner.net, "probe:both", 1, 20, 0).values()]
    assert np.mean(totals) == 1.0


def test_greedy_play_is_without_chance_and_exploring_is_not():
    learner = made(small("muzero"))
    seen = learner.actor.tensors(learner.actor.seen)
    one, two = (learner.net.greedy(seen, None) for _ in range(2))
    assert torch.equal(one.extras["policy"], two.extras["policy"])
    assert torch.equal(one.action, two.action)
    acts = torch.cat([learner.net.act(seen, None, 0.0).action for _ in range(20)])
    assert len(acts.unique()) > 1


def test_the_warmth_of_the_policy_falls_over_the_budget():
    """Moves are drawn by visits^(1 / warmth): late in training the most visited one nearly always."""
    learner = made(small("muzero", simulations=12, envs=4, warmth_end=0.05, noise_share=0.0))
    seen = learner.actor.tensors(learner.actor.seen)
    best = learner.net.greedy(seen, None)
    clear = best.extras["policy"].sort(-1).values
    sure = (clear[..., -1] - clear[..., -2] > 0.2)[0]
    late = torch.stack([learner.net.act(seen, None, 1.0).action[0] for _ in range(40)])
    early = torch.stack([learner.net.act(seen, None, 0.0).action[0] for _ in range(40)])
    assert ((late == best.action[0]).float().mean(0)[sure] > 0.95).all()
    assert (early == best.action[0]).float().mean() < 0.95


@pytest.mark.parametrize("name", ["muzero", "gumbel_muzero"])
def test_only_legal_moves_are_played_and_learned(name):
    learner = made(small(name, **BOARD))
    block = learner.actor.collect(40, 0.5)  # an illegal move would be refused
    assert (block.columns["policy"][~block.columns["mask"]] == 0).all()
    assert np.allclose(block.columns["policy"].sum(-1), 1, atol=1e-5)


def test_a_share_of_moves_is_any_legal_one_and_said_to_be():
    learner = made(small("gumbel_muzero", **BOARD, explore=0.5))
    block = learner.actor.collect(60, 0.0)
    strayed = block.columns["strayed"]
    assert 0.4 < strayed.mean() < 0.6
    assert block.columns["mask"][..., :][strayed].sum(-1).mean() > 2
    assert "strayed" not in made(small("gumbel_muzero", **BOARD)).actor.collect(2, 0.0).columns


def test_a_player_of_itself_is_judged_against_the_named_opponent_from_both_sides():
    learner = made(small("gumbel_muzero", **{**BOARD, "episodes": 10, "samples": 1}))
    logs = settled(learner, 4)
    assert "return" not in logs
    scores = list(learner.evaluate(learner.items("validation")))
    assert {score.values["return"] for score in scores} <= {-1.0, 0.0, 1.0}
    assert np.mean([score.values["return"] for score in scores]) < 0  # minimax punishes a beginner
    assert {score.values["length"] for score in scores} <= {3.0, 4.0, 5.0, 2.0}  # its own moves alone
    assert scores[0].sample["video"].frames.shape[1:] == (200, 300, 3)


@pytest.mark.parametrize(
    "config", [small("muzero", seeds=2), small("gumbel_muzero", **BOARD, seeds=2, blocks=1, channels=4)]
)
def test_a_saved_agent_decides_as_the_first_of_its_seeds_did(config, tmp_path):
    learner = made(config)
    settled(learner, 4)
    learner.net.eval()
    agent = Model.load(learner.model().save(tmp_path / "agent"))
    assert isinstance(agent, Agent)
    seen = learner.actor.tensors(learner.actor.seen)
    expected = learner.net.greedy(seen, None)
    got = agent.net.greedy({name: value[:1] for name, value in seen.items()}, None)
    assert torch.equal(got.action[0], expected.action[0])
    assert torch.allclose(got.extras["policy"][0], expected.extras["policy"][0], atol=1e-5)
    if config.env == "CartPole-v1":
        decided = agent.act(Act(vector=tuple(seen["vector"][0, 0].tolist())))
        assert decided.action == (int(expected.action[0, 0]),)
        assert len(decided.values) == 1


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (small(env="Pendulum-v1"), r"a searching agent cannot act in Pendulum-v1, .*Box\(1\); these can: .*sac"),
        (small(blocks=2), "--blocks 2: CartPole-v1 shows no image; use --blocks 0"),
        (small(replay=20, n_step=9, unroll=5), "keeps 5 steps of each; an update needs 15 .*use --replay 60 or more"),
        (small(env="board:tictactoo"), "did you mean tictactoe"),
    ],
)
def test_what_does_not_fit_is_one_line(config, why):
    with pytest.raises(UserError, match=why):
        Search(config, None)


def test_nearly_right_names_are_refused():
    assert Search.preset("gumbel_muzero@board:tictactoe").env == "board:tictactoe"
    assert Search.preset("dqn+per") is None
    with pytest.raises(ValueError, match="at least 1"):
        SearchConfig(hidden=())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_gumbel_muzero_learns_never_to_lose_tictactoe():
    """Against minimax from both sides, and against every legal reply in turn: a quarter of an hour of one processor."""
    learner = made(Search.preset("gumbel_muzero@board:tictactoe"))
    while learner._clock < learner.config.budget:
        settled(learner, 1)

    def decide(positions, legal):
        seen = {"image": game.planes(positions, legal), "mask": legal}
        return learner.net.greedy({n: torch.from_numpy(v)[None] for n, v in seen.items()}, None).action[0].numpy()

    game = TicTacToe()
    with undisturbed(learner):
        results = [total for total, _, _ in play(learner.net, "board:tictactoe", 1, 100, 0).values()]
        lost = [every_reply(game, decide, first)[2] for first in (True, False)]
    assert min(results) >= 0
    assert lost == [0, 0]
