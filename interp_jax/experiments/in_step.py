"""Chunks in step: whoever is behind goes on first, so that each stretch of a stream is made once for all that read it.

A chunk is a generator. It begins (compiles, restores its checkpoint), then yields the first step of each span before it takes
it; its result is what it returns. Where one fails, the others go on. Where one is interrupted, which it is after its own
checkpoint, so are the others, by a `KeyboardInterrupt` at the step at which they wait: each saves its own and passes it on.
"""

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Any

from interp_jax.experiments.exit import patient

Steps = Generator[int, None, Any]


def in_step(
    chunks: Sequence[Steps], ended: Callable[[int, Any], None], failed: Callable[[int, Exception], None]
) -> None:
    """Run chunks to their ends.

    Args:
      chunks: to run.
      ended: called with the index of a chunk that has ended, and what it returned.
      failed: called with the index of a chunk that has failed, and its error; where it raises, nothing is run on.
    """
    waiting: dict[int, int] = {}  # index -> the first step of its next span

    def go_on(i: int, begun: bool) -> None:
        waiting.pop(i, None)
        try:
            with patient(begun):
                waiting[i] = next(chunks[i])
        except StopIteration as end:
            ended(i, end.value)
        except Exception as error:
            failed(i, error)

    with contextlib.ExitStack() as left:
        for chunk in chunks:
            left.callback(chunk.close)
        try:
            for i in range(len(chunks)):
                go_on(i, begun=False)
            while waiting:
                go_on(min(waiting, key=lambda i: (waiting[i], i)), begun=True)
        except KeyboardInterrupt:
            interrupt([chunks[i] for i in waiting])
            raise


def interrupt(chunks: Sequence[Steps]) -> None:
    """Have chunks save their checkpoints, and end them. One that fails at it, as is recorded beside it, stops no other."""
    for chunk in chunks:
        with patient(True), contextlib.suppress(KeyboardInterrupt, Exception):
            chunk.throw(KeyboardInterrupt())


def during(context: Callable[[], contextlib.AbstractContextManager[Any]], chunk: Steps) -> Steps:
    """The same chunk, with a context that is entered when it goes on and left while it waits."""
    interrupt = None
    while True:
        try:
            with context():
                step = chunk.throw(interrupt) if interrupt else next(chunk)
        except StopIteration as end:
            return end.value
        try:
            yield step
        except KeyboardInterrupt as error:
            interrupt = error


def alone(chunk: Steps) -> Any:
    """Run one chunk to its end, and return what it returns."""
    results: list[Any] = []

    def raised(_: int, error: Exception) -> None:
        raise error

    in_step([chunk], lambda _, result: results.append(result), raised)
    return results[0]
