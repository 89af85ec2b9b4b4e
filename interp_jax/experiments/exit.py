"""How a command ends: bad input is one line and status 2, an interrupt says how to go on and is status 130.

SIGTERM is taken as Ctrl-C. SIGUSR1 is what schedulers send when the time that they gave is nearly over: the same, with status
75, by which a launcher knows that the command wants to be started again.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from interp_jax.errors import InputError

INTERRUPTED = 130
OUT_OF_TIME = 75  # EX_TEMPFAIL of sysexits.h


def exit_cleanly(main: Callable[[Sequence[str]], None]) -> None:
    """Run `main(arguments)` as a command."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _interrupt)
    try:
        main(sys.argv[1:])
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        why = "out of time" if _out_of_time.is_set() else "interrupted"
        print(f"{why}; the same command goes on from the last checkpoint", file=sys.stderr)
        _leave(OUT_OF_TIME if _out_of_time.is_set() else INTERRUPTED)
    except BrokenPipeError:
        sys.exit(1)


def _leave(status: int) -> NoReturn:
    """End the process at once: devices may still be at work, and JAX is not to be taken down from under them."""
    if (jax := sys.modules.get("jax")) and jax.distributed.is_initialized():
        jax.distributed.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


_asked_to_stop = threading.Event()
_out_of_time = threading.Event()
_patient = False


def _interrupt(number: int, *_: Any) -> None:
    if number == signal.SIGUSR1:
        _out_of_time.set()
    again = _asked_to_stop.is_set()
    _asked_to_stop.set()
    if again or not _patient:
        raise KeyboardInterrupt


@contextlib.contextmanager
def patient(whether: bool) -> Iterator[None]:
    """Whether the block is to be finished after a signal, and then asks `asked_to_stop`; a second signal ends it at once."""
    global _patient
    before, _patient = _patient, whether
    try:
        yield
    finally:
        _patient = before


def asked_to_stop() -> bool:
    """Whether there was a signal."""
    return _asked_to_stop.is_set()


def stop_if_asked() -> None:
    """Raise `KeyboardInterrupt` after a signal: an exception raised within a library's callback may have been lost."""
    if asked_to_stop():
        raise KeyboardInterrupt
