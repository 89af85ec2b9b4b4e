"""Reading ahead: what the next stretches of a stream are made of, read in a thread while the device works on those before.

    take(first):  waits for the stretch at `first`; those at first + length, …, first + AHEAD · length are asked for meanwhile

No more are held at once. A jump, such as a resumed run's to where it goes on, forgets what waits.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

AHEAD = 2  # stretches


class Ahead:
    """Stretches that are loaded before they are asked for.

    Args:
      load: first step of a stretch -> anything; called in a thread, one stretch at a time.
      length: steps of a stretch.
      last: step before which the last stretch begins.
    """

    def __init__(self, load: Callable[[int], Any], length: int, last: int) -> None:
        self._load, self._length, self._last = load, length, last
        self._thread = ThreadPoolExecutor(1, "ahead")
        self._waiting: dict[int, Future[Any]] = {}

    def take(self, first: int) -> Any:
        """What was loaded for the stretch at `first`; raises what loading it raised."""
        following = range(first + self._length, self._last, self._length)[:AHEAD]
        for gone in self._waiting.keys() - {first, *following}:
            self._waiting.pop(gone).cancel()
        for begin in (first, *following):
            if begin not in self._waiting:
                self._waiting[begin] = self._thread.submit(self._load, begin)
        return self._waiting.pop(first).result()

    def close(self) -> None:
        """End the thread, after what it is loading; what waits is not loaded."""
        self._thread.shutdown(cancel_futures=True)
