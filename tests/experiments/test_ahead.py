"""Reading ahead: what comes next is loaded before it is asked for, no more of it than is said, and in the order of steps."""

import threading
import time

import pytest

from interp_jax.errors import InputError
from interp_jax.experiments.ahead import AHEAD, Ahead

PATIENCE = 30  # seconds; only a failure takes as long


class Watched:
    """Loads stretches of four steps up to step 40, and lets one wait for how many were begun."""

    def __init__(self, fails_at=None, waits_at=None):
        self.begun, self.fails_at, self.waits_at = [], fails_at, waits_at
        self.changed, self.gate = threading.Condition(), threading.Event()

    def __call__(self, first):
        with self.changed:
            self.begun.append(first)
            self.changed.notify_all()
        if first == self.waits_at:
            self.gate.wait(PATIENCE)
        if first == self.fails_at:
            raise InputError(f"no stretch at {first}")
        return 10 * first

    def wait_for(self, n):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.begun) >= n, PATIENCE)


@pytest.fixture
def ahead():
    made = []

    def make(load):
        made.append(Ahead(load, 4, 40))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_the_next_are_loaded_while_nobody_asks(ahead):
    load = Watched()
    one = ahead(load)
    assert one.take(0) == 0
    load.wait_for(1 + AHEAD)
    assert load.begun == [0, 4, 8][: 1 + AHEAD]
    for first in range(4, 40, 4):
        assert one.take(first) == 10 * first
        load.wait_for(min(first // 4 + 1 + AHEAD, 10))
        assert len(load.begun) <= min(first // 4 + 1 + AHEAD, 10), (
            "no more than so many ahead, and none after the last"
        )
    assert load.begun == list(range(0, 40, 4)), "each once"


def test_one_can_jump(ahead):
    load = Watched()
    one = ahead(load)
    one.take(0)
    assert [one.take(first) for first in (20, 24, 4)] == [200, 240, 40]


def test_an_error_is_raised_where_its_stretch_is_asked_for(ahead):
    one = ahead(Watched(fails_at=8))
    assert one.take(0) == 0 and one.take(4) == 40
    with pytest.raises(InputError, match="no stretch at 8"):
        one.take(8)


def test_the_thread_ends_and_what_waits_is_not_loaded():
    before, load = threading.active_count(), Watched(waits_at=4)
    one = Ahead(load, 4, 40)
    one.take(0)
    load.wait_for(2)
    closing = threading.Thread(target=one.close)
    closing.start()
    while not one._waiting[8].cancelled():
        time.sleep(0.001)
    load.gate.set()
    closing.join(PATIENCE)
    assert load.begun == [0, 4] and threading.active_count() == before
