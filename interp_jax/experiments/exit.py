"""How a command ends: bad input is one line and status 2, an interrupt says how to go on and is status 130."""

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from interp_jax.errors import InputError


def exit_cleanly(main: Callable[[Sequence[str]], None]) -> None:
    """Run `main(arguments)` as a command. SIGTERM ends it like Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        main(sys.argv[1:])
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)


_asked_to_stop = threading.Event()


def _interrupt(*_: Any) -> None:
    _asked_to_stop.set()
    raise KeyboardInterrupt


def stop_if_asked() -> None:
    """Raise `KeyboardInterrupt` after a signal: an exception raised within a library's callback may have been lost."""
    if _asked_to_stop.is_set():
        raise KeyboardInterrupt
