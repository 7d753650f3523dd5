"""Board games: rules held to known counts and to slow definitions; the contract; opponents; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.errors import UserError
from daybreak.systems.rl.envs import make
from daybreak.systems.rl.envs.board import GAMES, OPPONENTS, ConnectFour, Go, TicTacToe
from daybreak.systems.rl.envs.board.go import KOMI, NEAR, OFF, PASS, POINTS, area
from daybreak.systems.rl.envs.board.opponents import every_reply, values


def copies(positions, which):
    return {name: value[which].copy() for name, value in positions.items()}


def games_by_length(game, depth):
    """How many games end after each number of moves, and how many go on after `depth`."""
    positions, ended = game.start(1), []
    for _ in range(depth):
        which, moves = np.nonzero(game.legal(positions))
        positions = copies(positions, which)
        _, over = game.play(positions, moves)
        ended.append(int(over.sum()))
        positions = copies(positions, ~over)
    return ended, len(positions["mover"])


def test_tictactoe_has_255168_games():
    """The known counts by length of game."""
    ended, left = games_by_length(TicTacToe(), 9)
    assert ended == [0, 0, 0, 0, 1440, 5328, 47952, 72576, 127872]
    assert (sum(ended), left) == (255168, 0)


def test_connect_four_has_the_known_numbers_of_move_sequences():
    """7^depth until a column can be full: no game is won before the seventh move."""
    game, positions, counts = ConnectFour(), ConnectFour().start(1), []
    for _ in range(6):
        which, moves = np.nonzero(game.legal(positions))
        positions = copies(positions, which)
        _, over = game.play(positions, moves)
        counts.append(len(moves))
        positions = copies(positions, ~over)
    assert counts == [7, 49, 343, 2401, 16807, 117649]
    assert game.legal(positions).sum() == 823_536  # The seventh move: 7^7, less the seven seventh stones of a column.


def won_by_hand(board, length):
    """Whether a player has a line, cell by cell: board [rows, columns]."""
    rows, columns = board.shape
    for player in (1, -1):
        for r in range(rows):
            for c in range(columns):
                for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1)):
                    cells = [(r + k * dr, c + k * dc) for k in range(length)]
                    if all(0 <= y < rows and 0 <= x < columns and board[y, x] == player for y, x in cells):
                        return player
    return 0


@pytest.mark.parametrize(("name", "length"), [("tictactoe", 3), ("connect4", 4)])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=12, deadline=None)
def test_who_has_a_line_wins_at_that_move_and_a_full_board_is_drawn(name, length, seed):
    random = np.random.default_rng(seed)
    game = GAMES[name]()
    positions = game.start(4)
    going = np.ones(4, bool)
    while going.any():
        legal = game.legal(positions)
        legal[~going, 0] = True
        moves = np.where(legal, random.random(legal.shape), -1).argmax(1)
        part = copies(positions, going)
        mover = part["mover"].copy()
        reward, over = game.play(part, moves[going])
        for k, board in enumerate(part["board"].reshape(-1, game.ROWS, game.COLUMNS)):
            winner = won_by_hand(board, length)
            assert reward[k] == winner * mover[k]
            assert over[k] == (winner != 0 or (board != 0).all())
            assert (board[:-1][board[1:] == 0] == 0).all() or name == "tictactoe"  # Stones lie on stones.
        for key, value in part.items():
            positions[key][going] = value
        going[np.flatnonzero(going)[over]] = False


# Go, beside a slow player of the rules.


def chain_of(board, point):
    """A point's chain and its liberties, by search."""
    seen, edge, liberties = {point}, [point], set()
    while edge:
        for near in NEAR[edge.pop()]:
            if near == OFF:
                continue
            if board[near] == 0:
                liberties.add(int(near))
            elif board[near] == board[point] and near not in seen:
                seen.add(int(near))
                edge.append(int(near))
    return seen, liberties


def played_by_hand(board, mover, point):
    """The board after a stone; None where it would be suicide."""
    board = board.copy()
    board[point] = mover
    for near in NEAR[point]:
        if near != OFF and board[near] == -mover:
            chain, liberties = chain_of(board, near)
            if not liberties:
                board[list(chain)] = 0
    return board if chain_of(board, point)[1] else None


def legal_by_hand(board, mover, history):
    legal = np.zeros(POINTS + 1, bool)
    legal[PASS] = True
    for point in np.flatnonzero(board == 0):
        after = played_by_hand(board, mover, point)
        legal[point] = after is not None and after.tobytes() not in history
    return legal


def area_by_hand(board):
    total = 0
    for point in range(POINTS):
        if board[point]:
            total += int(board[point])
            continue
        seen, edge, touched = {point}, [point], set()
        while edge:
            for near in NEAR[edge.pop()]:
                if near == OFF or near in seen:
                    continue
                if board[near]:
                    touched.add(int(board[near]))
                else:
                    seen.add(int(near))
                    edge.append(int(near))
        total += sum(touched) if len(touched) == 1 else 0
    return total


@given(seed=st.integers(0, 2**32 - 1), dense=st.booleans())
@settings(max_examples=4, deadline=None)
def test_go_is_played_as_by_hand(seed, dense):
    """Legal moves, captures, the score and the end, beside slow rules; no stone is ever without a liberty."""
    random = np.random.default_rng(seed)
    game = Go()
    positions = game.start(2)
    history = [{positions["board"][0].tobytes()} for _ in range(2)]
    for number in range(game.LONGEST):
        legal = game.legal(positions)
        boards, movers = positions["board"].copy(), positions["mover"].copy()
        if number % 5 == 0 or number > 80:
            for k in range(2):
                assert (legal[k] == legal_by_hand(boards[k], movers[k], history[k])).all()
        weight = random.random(legal.shape)
        weight[:, PASS] *= 0.2 if dense else 0.9
        if dense:  # Play in a corner: captures and kos.
            weight[:, :PASS] *= 1 + 3 * ((np.arange(POINTS) % 9 < 4) & (np.arange(POINTS) < 36))
        moves = np.where(legal, weight, -1).argmax(1)
        reward, over = game.play(positions, moves)
        for k in range(2):
            after = boards[k] if moves[k] == PASS else played_by_hand(boards[k], movers[k], int(moves[k]))
            assert (positions["board"][k] == after).all()
            assert after.tobytes() not in history[k] or moves[k] == PASS
            history[k].add(after.tobytes())
            if number % 9 == 0:
                assert all(chain_of(after, point)[1] for point in np.flatnonzero(after))
                assert area(after[None])[0] == area_by_hand(after)
            if over[k]:
                assert reward[k] == np.sign(area_by_hand(after) - KOMI) * movers[k]
            else:
                assert reward[k] == 0
        if over.any():
            return


def go(*moves):
    """A game of Go after moves given as (row, column) or PASS."""
    game = Go()
    positions = game.start(1)
    result = None
    for move in moves:
        point = move if move == PASS else move[0] * 9 + move[1]
        assert game.legal(positions)[0, point], f"{move} is illegal"
        result = game.play(positions, np.array([point]))
    return game, positions, result


KO = [(0, 1), (0, 2), (1, 0), (1, 3), (2, 1), (2, 2), (1, 2), (1, 1)]
"""The second player's last stone takes the one at (1, 2): a ko."""


def test_a_ko_is_not_retaken_at_once_but_after_a_move_elsewhere():
    game, positions, _ = go(*KO)
    assert positions["board"][0, 1 * 9 + 2] == 0
    assert not game.legal(positions)[0, 1 * 9 + 2]
    game, positions, _ = go(*KO, (8, 8), (8, 0))
    assert game.legal(positions)[0, 1 * 9 + 2]


def test_no_whole_position_comes_back_even_by_three_moves():
    """Positional superko: the two stones that the first player sends are taken, and it may not take one back at once.

    Simple ko would allow it.
    """
    before = [(0, 3), (1, 0), (1, 2), (1, 1), (0, 1), (8, 8)]
    game, positions, _ = go(*before, (0, 0), (0, 2))
    assert positions["board"][0, :3].tolist() == [0, 0, -1]
    assert not game.legal(positions)[0, 1]
    assert game.legal(positions)[0, 0]
    game, positions, _ = go(*before, (0, 0), (0, 2), (5, 5), (6, 6))
    assert game.legal(positions)[0, 1]


def test_suicide_is_forbidden_and_a_capture_is_none():
    around = [(0, 1), (8, 8), (1, 0), (8, 7)]
    game, positions, _ = go(*around, (5, 5))
    assert not game.legal(positions)[0, 0]  # The corner has no liberty and takes nothing.
    game, positions, _ = go(*around)
    assert game.legal(positions)[0, 0]  # The own corner may be filled.
    # Two black stones around the corner, both in atari: black may not fill it, and white takes them there.
    game, positions, _ = go((0, 1), (0, 2), (1, 0), (2, 0), (8, 8), (1, 1))
    assert not game.legal(positions)[0, 0]
    game, positions, _ = go((0, 1), (0, 2), (1, 0), (2, 0), (8, 8), (1, 1), (8, 0), (0, 0))
    assert positions["board"][0, [1, 9]].tolist() == [0, 0]


def test_a_chain_that_touches_a_point_twice_is_taken_once():
    """Its hash is subtracted once: what superko forbids is right after such a capture."""
    moves = [(0, 2), (0, 1), (1, 2), (1, 1), (2, 1), (1, 0), (2, 0), (8, 8)]
    game, positions, _ = go(*moves, (0, 0))
    assert positions["board"][0, [0, 1, 9, 10]].tolist() == [1, 0, 0, 0]
    keys = game._keys(positions["board"]).sum(axis=1, dtype=np.uint64)
    assert positions["hashes"][0, 9] == keys[0]


def test_two_passes_end_go_and_the_second_player_has_komi():
    _, _, (reward, over) = go(PASS, PASS)
    assert over[0]
    assert reward[0] == 1  # 0 points against 7: who passed last is the second player.
    _, _, (reward, over) = go((4, 4), PASS, PASS)
    assert over[0]
    assert reward[0] == 1  # One stone owns the board: 81 against 7.


# The contract.


@pytest.mark.parametrize("name", ["tictactoe", "connect4", "go9", "tictactoe-minimax", "connect4-random", "go9-random"])
def test_a_restored_board_goes_on_with_the_same_bits(name):
    env, random = make(f"board:{name}", 5), np.random.default_rng(0)
    seen = env.reset(3)

    def play(env, seen, random):
        kept = []
        for _ in range(25):
            mask = seen["mask"]
            step = env.step(np.where(mask, random.random(mask.shape), -1).argmax(1))
            seen = step.observation
            told = (*step.next.values(), *step.observation.values(), step.reward, step.terminated, step.truncated)
            kept.append([value.tobytes() for value in told])
        return kept, seen

    _, seen = play(env, seen, random)
    state = env.state()
    first, _ = play(env, seen, np.random.default_rng(1))
    other = make(f"board:{name}", 5)
    other.reset(0)
    assert play(other, other.restore(state), np.random.default_rng(1))[0] == first


@pytest.mark.parametrize("name", ["tictactoe", "connect4", "go9", "go9-random"])
def test_observations_are_as_the_spec_says(name):
    env = make(f"board:{name}", 3)
    seen = env.reset(0)
    for _ in range(12):
        for part, (shape, kind) in env.spec.observations.items():
            assert seen[part].shape == (3, *shape)
            assert seen[part].dtype == kind
        assert set(np.unique(seen["image"])) <= {0, 1}
        seen = env.step(seen["mask"].argmax(1)).observation


def test_the_view_is_the_movers_and_the_reward_too():
    env = make("board:tictactoe")
    env.reset(0)
    for move in (0, 3, 1, 4):
        step = env.step(np.array([move]))
        assert step.reward[0] == 0
        assert step.observation["image"][0, 1].reshape(-1)[move] == 1  # The next mover sees it as the other's.
    step = env.step(np.array([2]))
    assert (step.reward[0], step.terminated[0], step.truncated[0]) == (1, True, False)
    assert step.next["image"].sum() == 5
    assert step.next["mask"].all()
    assert step.observation["image"].sum() == 0


def test_against_an_opponent_the_first_move_alternates_between_copies_and_games():
    env = make("board:tictactoe-random", 2)
    seen = env.reset(0)
    begun = [seen["image"].sum(axis=(1, 2, 3)).tolist()]
    ended = np.zeros(2, int)
    while ended.min() < 2:
        step = env.step(np.where(step_mask := seen["mask"], 1, 0).argmax(1))
        assert step_mask.any(axis=1).all()
        seen = step.observation
        for copy in np.flatnonzero(step.terminated):
            ended[copy] += 1
            if ended[copy] == 1:
                begun.append((int(copy), int(seen["image"][copy].sum())))
    assert begun[0] == [0, 1]  # Copy 0 opens; copy 1 is opened against.
    assert sorted(begun[1:]) == [(0, 1), (1, 0)]


def test_best_play_of_tictactoe_is_a_draw_and_minimax_never_loses():
    assert values((0,) * 9).tolist() == [0.0] * 9
    assert values((1, -1, 0, 0, 0, 0, 0, 0, 0)).max() == 1  # An edge answered to a corner loses.
    env = make("board:tictactoe-minimax", 64)
    seen, random, results = env.reset(1), np.random.default_rng(1), []
    for _ in range(60):
        mask = seen["mask"]
        step = env.step(np.where(mask, random.random(mask.shape), -1).argmax(1))
        seen = step.observation
        results += step.reward[step.terminated].tolist()
    assert max(results) == 0
    assert min(results) == -1
    assert len(results) > 500


def test_minimax_against_itself_draws_and_does_not_repeat_itself():
    game = TicTacToe()
    random, player = np.random.default_rng(0), OPPONENTS["minimax"](game)
    positions = game.start(50)
    for _ in range(9):
        reward, _ = game.play(positions, player.moves(positions, game.legal(positions), random))
        assert (reward == 0).all()
    assert len({board.tobytes() for board in positions["board"]}) > 5


def test_every_reply_finds_that_minimax_never_loses_and_that_the_first_free_cell_does():
    game, random, player = TicTacToe(), np.random.default_rng(0), OPPONENTS["minimax"](TicTacToe())
    for first in (True, False):
        won, _, lost = every_reply(game, lambda positions, legal: player.moves(positions, legal, random), first)
        assert won > 0
        assert lost == 0
        assert every_reply(game, lambda _, legal: legal.argmax(1), first)[2] > 0
    by_hand = every_reply(game, lambda _, legal: legal.argmax(1), True)
    assert sum(by_hand) == counted(game.start(1)["board"][0], 1)


def counted(board, mover):
    """Games in which the first player takes the first free cell, one by one."""
    total = 0
    free = np.flatnonzero(board == 0)
    for cell in free[:1] if mover == 1 else free:
        after = board.copy()
        after[cell] = mover
        over = won_by_hand(after.reshape(3, 3), 3) or (after != 0).all()
        total += 1 if over else counted(after, -mover)
    return total


@pytest.mark.parametrize(
    ("name", "moves", "why"),
    [
        (
            "tictactoe",
            [4, 4],
            "cell 4 is not a legal move after 1 moves; legal: 0, 1, 2, 3, 5",
        ),
        ("tictactoe", [9], "cell 9 is not a legal move after 0 moves"),
        ("connect4", [2] * 7, "column 2 is not a legal move after 6 moves; legal: 0, 1, 3, 4, 5, 6"),
        ("go9", [0, 0], "point 0 is not a legal move after 1 moves"),
    ],
)
def test_an_illegal_move_is_refused_in_one_line(name, moves, why):
    env = make(f"board:{name}")
    env.reset(0)
    for move in moves[:-1]:
        env.step(np.array([move]))
    with pytest.raises(UserError, match=f"board:{name}, .*{why}") as told:
        env.step(np.array(moves[-1:]))
    assert "\n" not in str(told.value)


def test_unknown_games_and_opponents_give_the_nearest():
    with pytest.raises(UserError, match="did you mean tictactoe"):
        make("board:tictactoo")
    with pytest.raises(UserError, match="did you mean connect4-random"):
        make("board:connect4-randm")
    with pytest.raises(UserError, match="no board game 'go9-minimax'"):
        make("board:go9-minimax")


def test_families_that_learn_one_side_say_where_they_can():
    from daybreak.systems.rl.value import Value, ValueConfig

    with pytest.raises(UserError, match=r"value family does not learn; use board:tictactoe-minimax, or muzero"):
        Value(ValueConfig(env="board:tictactoe"), None)
    Value(ValueConfig(env="board:tictactoe-random", hidden=(8, 8)), None)


def test_boards_draw_themselves():
    for name in GAMES:
        env = make(f"board:{name}")
        env.reset(0)
        empty = env.frame()
        env.step(np.array([4]))
        assert env.frame().shape == (200, 300, 3)
        assert (env.frame() != empty).any()
