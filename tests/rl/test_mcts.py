"""Tree search: many trees at once find what one plain, recursive search finds; Gumbel search halves as it should."""

from __future__ import annotations

import math

import numpy as np
import pytest

from daybreak.systems.rl.mcts import LEAST, Rules, halving, search

MOVES = 5


class World:
    """A model whose rewards, values and logits follow from the moves made, by a seed."""

    def __init__(self, seed, zero_sum=False):
        self.seed, self.zero_sum = seed, zero_sum

    def at(self, path):
        random = np.random.default_rng([self.seed, len(path), *path])
        reward, value, logits = random.normal(), random.normal(), 2 * random.normal(size=MOVES)
        return (0.0, float(np.tanh(value)), logits) if self.zero_sum else (float(reward), 3 * float(value), logits)


class Batch:
    """Several worlds as one model."""

    def __init__(self, worlds):
        self.worlds, self.paths = worlds, [{0: ()} for _ in worlds]

    def root(self):
        _, value, logits = zip(*[world.at(()) for world in self.worlds], strict=True)
        return np.array(value), np.array(logits)

    def expand(self, nodes, moves, new):
        told = []
        for paths, world, node, move in zip(self.paths, self.worlds, nodes, moves, strict=True):
            paths[new] = (*paths[int(node)], int(move))
            told.append(world.at(paths[new]))
        reward, value, logits = zip(*told, strict=True)
        return np.array(reward), np.array(value), np.array(logits)


def soft(logits):
    powers = np.exp(np.array(logits) - max(logits))
    return powers / powers.sum()


class Node:
    """A node of the plain search: keeps every return that came back through it."""

    def __init__(self, world, path, prior=None, allowed=None):
        self.reward, self.value, self.logits = world.at(path)
        self.path, self.world = path, world
        self.allowed = list(range(MOVES)) if allowed is None else allowed
        self.logits = np.array([x if a in self.allowed else -1e9 for a, x in enumerate(self.logits)])
        self.prior = soft(self.logits) if prior is None else prior
        self.children, self.returns = {}, {a: [] for a in range(MOVES)}

    def mean(self):
        return float(np.mean([self.value, *[r for found in self.returns.values() for r in found]]))

    def n(self, a):
        return len(self.returns[a])

    def completed(self):
        total = sum(self.n(a) for a in range(MOVES))
        seen = [a for a in range(MOVES) if self.n(a)]
        q = {a: float(np.mean(self.returns[a])) for a in seen}
        known = sum(self.prior[a] * q[a] for a in seen) / sum(self.prior[a] for a in seen) if seen else 0.0
        mixed = (self.value + total * known) / (1 + total)
        return [q.get(a, mixed) for a in range(MOVES)]


class Plain:
    """One tree, recursively."""

    def __init__(self, world, rules, allowed, prior=None):
        self.rules, self.root = rules, Node(world, (), prior, allowed)
        self.seen = [self.root.value]

    def scaled(self, q):
        low, high = self.rules.bounds or (min(self.seen), max(self.seen))
        return (q - low) / max(high - low, LEAST)

    def better(self, node):
        most = max(node.n(a) for a in range(MOVES))
        factor = (self.rules.visit + most) * self.rules.scale
        return [x + factor * self.scaled(q) for x, q in zip(node.logits, node.completed(), strict=True)]

    def choose(self, node):
        rules = self.rules
        total = 1 + sum(node.n(a) for a in range(MOVES))
        if rules.gumbel:
            target = soft(self.better(node))
            return max(node.allowed, key=lambda a: target[a] - node.n(a) / total)

        def score(a):
            q = np.mean(node.returns[a]) if node.n(a) else node.mean()
            weight = rules.c1 + math.log((total + rules.c2 + 1) / rules.c2)
            return self.scaled(q) + node.prior[a] * math.sqrt(total) / (1 + node.n(a)) * weight

        return max(node.allowed, key=score)

    def simulate(self, node, move=None):
        """The return of one more simulation from a node."""
        move = self.choose(node) if move is None else move
        child = node.children.get(move)
        if child is None:
            child = node.children[move] = Node(node.world, (*node.path, move))
            below = child.value
        else:
            below = self.simulate(child)
        found = child.reward + self.rules.discount * below
        node.returns[move].append(found)
        self.seen.append(float(np.mean(node.returns[move])))
        return found

    def halve(self, noise):
        """Sequential halving with explicit sets and phases."""
        rules, root = self.rules, self.root
        left = rules.simulations
        m = min(rules.considered, len(root.allowed), rules.simulations)
        phases = max(1, math.ceil(math.log2(m)))

        def score(a):
            return noise[a] + self.better(root)[a]

        alive = sorted(sorted(root.allowed, key=score, reverse=True)[:m])
        while left:
            rounds = max(1, rules.simulations // (phases * len(alive)))
            for _ in range(rounds):
                for a in alive[:left]:
                    self.simulate(root, a)
                left -= len(alive[:left])
            if left:
                keep = min(len(alive), max(2, len(alive) // 2))
                alive = sorted(sorted(alive, key=score, reverse=True)[:keep])
        return max(alive, key=score)


def masks(random, count):
    mask = random.random((count, MOVES)) < 0.6
    mask[:, 2] = True
    return mask


CASES = [(0.97, None, False), (-1.0, (-1.0, 1.0), True), (1.0, None, False)]


@pytest.mark.parametrize(("discount", "bounds", "zero_sum"), CASES)
@pytest.mark.parametrize("noisy", [False, True])
def test_batched_puct_visits_what_a_plain_recursion_visits(discount, bounds, zero_sum, noisy):
    random, rules = np.random.default_rng(0), Rules(40, discount, bounds=bounds)
    worlds = [World(seed, zero_sum) for seed in range(8)]
    batch, mask = Batch(worlds), masks(random, 8)
    noise = np.where(mask, random.gamma(0.3, size=mask.shape) + 1e-9, 0) if noisy else None
    noise = noise / noise.sum(1, keepdims=True) if noisy else None
    found = search(*batch.root(), batch.expand, rules, mask, noise)
    for k, world in enumerate(worlds):
        allowed = np.flatnonzero(mask[k]).tolist()
        clean = Node(world, (), allowed=allowed).prior
        plain = Plain(world, rules, allowed, 0.75 * clean + 0.25 * noise[k] if noisy else None)
        for _ in range(rules.simulations):
            plain.simulate(plain.root)
        visits = [plain.root.n(a) for a in range(MOVES)]
        assert found.visits[k].tolist() == visits
        assert found.policy[k] == pytest.approx(np.array(visits) / 40)
        assert found.value[k] == pytest.approx(plain.root.mean())
        assert found.move[k] == int(np.argmax(visits))


@pytest.mark.parametrize(("discount", "bounds", "zero_sum"), CASES)
@pytest.mark.parametrize(("simulations", "considered"), [(2, 16), (16, 4), (33, 3), (50, 16)])
def test_batched_gumbel_search_is_the_papers(discount, bounds, zero_sum, simulations, considered):
    """Same visits, improved policy, value and move as explicit sets, phases and recursion."""
    random = np.random.default_rng(1)
    rules = Rules(simulations, discount, True, considered=considered, bounds=bounds)
    worlds = [World(seed, zero_sum) for seed in range(8)]
    batch, mask = Batch(worlds), masks(random, 8)
    noise = random.gumbel(size=mask.shape)
    found = search(*batch.root(), batch.expand, rules, mask, noise)
    for k, world in enumerate(worlds):
        plain = Plain(world, rules, np.flatnonzero(mask[k]).tolist())
        best = plain.halve(noise[k])
        assert found.visits[k].tolist() == [plain.root.n(a) for a in range(MOVES)]
        assert found.policy[k] == pytest.approx(soft(plain.better(plain.root)), abs=1e-9)
        assert found.value[k] == pytest.approx(float(np.dot(found.policy[k], plain.root.completed())))
        assert found.move[k] == best


@pytest.mark.parametrize("gumbel", [False, True])
def test_a_tree_does_not_feel_its_neighbours(gumbel):
    """The range of Q is each tree's own: a world of large returns beside one of small ones changes nothing."""

    class Large(World):
        def at(self, path):
            reward, value, logits = super().at(path)
            return 1000 * reward, 1000 * value, logits

    rules = Rules(30, 0.99, gumbel)
    alone, beside = Batch([World(1)]), Batch([Large(2), World(1), Large(3)])
    one = search(*alone.root(), alone.expand, rules)
    three = search(*beside.root(), beside.expand, rules)
    assert one.visits[0].tolist() == three.visits[1].tolist()
    assert (one.policy[0] == three.policy[1]).all()


@pytest.mark.parametrize("gumbel", [False, True])
def test_a_forbidden_move_is_never_visited_and_never_learned(gumbel):
    random = np.random.default_rng(3)
    batch, mask = Batch([World(seed) for seed in range(20)]), masks(random, 20)
    noise = random.gumbel(size=mask.shape) if gumbel else np.where(mask, 1 / mask.sum(1, keepdims=True), 0)
    found = search(*batch.root(), batch.expand, Rules(25, 0.99, gumbel), mask, noise)
    assert (found.visits[~mask] == 0).all()
    assert (found.policy[~mask] == 0).all()
    assert mask[np.arange(20), found.move].all()
    assert (found.visits.sum(1) == 25).all()
    assert found.policy.sum(1) == pytest.approx(np.ones(20))


def test_the_reward_is_part_of_a_moves_worth():
    """A move that earns at once is found although what follows it is worth less."""

    class Now(World):
        def at(self, path):
            reward = 5.0 if path and path[-1] == 3 else 0.0
            return reward, 0.0, np.zeros(MOVES)

    batch = Batch([Now(0)])
    found = search(*batch.root(), batch.expand, Rules(60, 0.5))
    assert found.move[0] == 3
    assert found.q[0, 3] > 5


@pytest.mark.parametrize("gumbel", [False, True])
def test_where_players_take_turns_what_is_good_for_the_other_is_avoided(gumbel):
    """Move 0 lets the other win at once: it is the worst, though the net likes it."""

    class Turns(World):
        def at(self, path):
            reward = 1.0 if len(path) == 2 and path[0] == 0 and path[1] == 1 else 0.0
            return reward, 0.0, np.array([2.0, 0, 0, 0, 0]) if not path else np.zeros(MOVES)

    batch = Batch([Turns(0)])
    found = search(*batch.root(), batch.expand, Rules(100, -1.0, gumbel, scale=1.0, bounds=(-1, 1)))
    assert found.move[0] != 0
    assert found.q[0, 0] < 0


@pytest.mark.parametrize(
    ("considered", "simulations", "kept"),
    [(4, 8, [(0, 4), (4, 2)]), (16, 16, [(0, 16)]), (2, 6, [(0, 2)]), (1, 5, [(0, 1)]),
     (8, 24, [(0, 8), (8, 4), (16, 2)])],
)  # fmt: skip
def test_halving_keeps_as_many_as_the_paper_says(considered, simulations, kept):
    """The budget is shared equally between the phases."""
    table = halving(considered, simulations)
    assert len(table) == simulations
    changes = [(n, k) for n, k in enumerate(table) if k]
    assert [c for i, c in enumerate(changes) if i == 0 or c[1] != changes[i - 1][1]] == kept


def test_gumbel_search_improves_the_policy_with_two_simulations():
    """The expected Q of what it plays is at least that of the prior (Danihelka et al. 2022, section 3.1)."""
    random = np.random.default_rng(5)
    q, logits = random.normal(size=MOVES), random.normal(size=MOVES)

    class Bandit:
        def expand(self, nodes, moves, new):
            return q[moves] * (nodes == 0), np.zeros(len(moves)), np.zeros((len(moves), MOVES))

    count = 4000
    prior = soft(logits)
    found = search(
        np.full(count, float(prior @ q)), np.tile(logits, (count, 1)), Bandit().expand, Rules(2, 1.0, True),
        noise=random.gumbel(size=(count, MOVES)),
    )  # fmt: skip
    assert q[found.move].mean() > prior @ q + 0.1
