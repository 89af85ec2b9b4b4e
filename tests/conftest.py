"""What every test shares: four CPU devices, quick compilation and its cache, a count of compilations, a rule for peers.

Tests under `parity/` need other projects' packages. They are not even imported unless `-m` names `peers`, as
`./launch/test --peers` does; there they are marked, so that a test becomes a comparison by where it lies.
"""

import contextlib
import ctypes
import gc
import getpass
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

# Before JAX is imported, so that the commands which tests start inherit it. The directory is this machine's own.
CACHE = Path(tempfile.gettempdir()) / f"interp_jax-{getpass.getuser()}" / f"xla-{version('jax')}"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import jax.monitoring

if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", 4)  # commands that tests start have as many as they ask for

# Tests compile much and compute little: LLVM's passes and fused loops cost more than they bring. Calibrations compute much,
# and comparisons with peers take programs as users get them. Without those passes JAX 0.12 adds in another order in a program
# with an edit that does nothing than in one without, which they do not: there all is compiled as users do it.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
CALIBRATION = Path(__file__).parent.resolve() / "calibration"
PARITY = Path(__file__).parent / "parity"
MOST_MAPS, MOST_BYTES = 25_000, 1e9  # of a process, before it forgets what it has compiled
left_over = [0]  # bytes that forgetting did not free
COMPILE = "/jax/core/compile/backend_compile_duration"


def pytest_configure(config: pytest.Config) -> None:
    """Compile quickly: the flags are read when JAX's backend starts, which no import does."""
    flags = os.environ.get("XLA_FLAGS", "")
    calibration_only = all(path_of(given).is_relative_to(CALIBRATION) for given in config.args)
    as_users_do = _peers_wanted(config) or calibration_only or jax.__version_info__ >= (0, 12)
    if not as_users_do and "xla_backend_optimization_level" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {QUICK}".strip()


def path_of(argument: str) -> Path:
    """The file or directory that an argument of pytest's names."""
    return Path(argument.partition("::")[0]).resolve()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out `parity/`, whose imports may be missing, unless peers are asked for."""
    return True if collection_path == PARITY and not _peers_wanted(config) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what lies in `parity/` as peers, and deselect every such test unless peers are asked for."""
    for item in items:
        if PARITY in item.path.parents:
            item.add_marker("peers")
    if not _peers_wanted(config):
        left_out = [item for item in items if item.get_closest_marker("peers")]
        items[:] = [item for item in items if not item.get_closest_marker("peers")]
        if left_out:
            config.hook.pytest_deselected(items=left_out)


def _peers_wanted(config: pytest.Config) -> bool:
    return "peers" in (config.getoption("markexpr") or "").replace("not peers", "")


@pytest.fixture(autouse=True)
def forgotten_programs() -> Iterator[None]:
    """Forget compiled programs where there are many, or where they have taken much memory since that was last done.

    Each takes some of the memory maps that Linux allows a process (65,530), and jaxlib aborts where none is left. Forgetting
    more often costs more than it frees: what tests share is then traced again.
    """
    yield
    if memory_maps() > MOST_MAPS or resident_bytes() > MOST_BYTES + left_over[0]:
        forget()
        left_over[0] = resident_bytes()


def memory_maps() -> int:
    """Of this process; 0 where nothing says so."""
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return 0


def resident_bytes() -> int:
    """Of this process; 0 where nothing says so."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def forget() -> None:
    """Drop what JAX has traced and compiled, and give its memory back; the cache on disk keeps it."""
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # where there is no glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


Compilations = Callable[[], AbstractContextManager[list[str]]]


@pytest.fixture
def compilations() -> Compilations:
    """`with compilations() as names:` fills `names` with the functions handed to the compiler inside, in order.

    Each is one program for one set of static arguments, shapes and shardings that JAX's in-memory caches did not hold.
    A program that the cache on disk already has counts as well, so the count does not depend on earlier test runs.
    So do operations outside of `jit`, each by its own name ('add', 'broadcast_in_dim'): count names if it matters. What other
    tests compiled is forgotten first.
    """
    forget()

    @contextmanager
    def counting() -> Iterator[list[str]]:
        names: list[str] = []

        def listener(event: str, seconds: float, **about: str) -> None:
            if event == COMPILE:
                names.append(about["fun_name"].removeprefix("jit(").removesuffix(")"))

        jax.monitoring.register_event_duration_secs_listener(listener)
        try:
            yield names
        finally:
            jax.monitoring.unregister_event_duration_listener(listener)

    return counting
