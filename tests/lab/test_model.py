"""The contract of use: an action takes the threads that it says, and gives the process its own back."""

import threading
from collections.abc import Iterator

import pytest
import torch
from pydantic import BaseModel

from daybreak.errors import UserError
from daybreak.lab.model import Model, Request, Response, action, torch_threads


class Empty(BaseModel):
    """No settings."""


class Ask(Request):
    """Nothing."""


class Threads(Response):
    """How many there were."""

    count: int


class Counter(Model):
    Config = Empty

    @action
    def small(self, request: Ask) -> Threads:
        """On one."""
        return Threads(count=torch.get_num_threads())

    @action(threads=0)
    def large(self, request: Ask) -> Threads:
        """On the process's own."""
        return Threads(count=torch.get_num_threads())

    @action
    def parts(self, request: Ask) -> Iterator[Threads]:
        """Two, each on one."""
        yield self.small(request)
        yield Threads(count=torch.get_num_threads())
        raise UserError("no third")


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_an_answer_takes_one_thread_unless_it_says_otherwise():
    model = Counter(Empty())
    assert model.small(Ask()).count == 1
    assert torch.get_num_threads() == 3
    assert model.large(Ask()).count == 3
    assert model.actions()["small"].line == "On one."


def test_between_the_parts_of_a_stream_and_after_its_error_the_caller_has_its_own_threads():
    stream = Counter(Empty()).parts(Ask())
    for _ in range(2):
        assert next(stream).count == 1
        assert torch.get_num_threads() == 3
    with pytest.raises(UserError, match="no third"):
        next(stream)
    assert torch.get_num_threads() == 3


def test_answers_that_overlap_leave_each_thread_its_own_threads():
    seen: list[int] = []
    inside, left = threading.Barrier(2, timeout=10), threading.Barrier(2, timeout=10)

    def other() -> None:
        torch.set_num_threads(2)
        inside.wait()
        with torch_threads(1):
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())
        left.wait()

    thread = threading.Thread(target=other)
    with torch_threads(1):
        thread.start()
        inside.wait()
        left.wait()
        assert torch.get_num_threads() == 1
    thread.join()
    assert seen == [1, 2]
    assert torch.get_num_threads() == 3
