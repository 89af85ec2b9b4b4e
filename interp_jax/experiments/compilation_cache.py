"""How often the persistent compilation cache had the program that was asked for: what a launch engine saves by sharing it."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import jax.monitoring

EVENTS = {"/jax/compilation_cache/cache_hits": "hits", "/jax/compilation_cache/cache_misses": "misses"}


@contextlib.contextmanager
def counted(found: Counter[str]) -> Iterator[None]:
    """Adds "hits" and "misses" of the cache on disk while the block runs; nothing where there is none."""

    def listener(event: str, **about: Any) -> None:
        if event in EVENTS:
            found[EVENTS[event]] += 1

    jax.monitoring.register_event_listener(listener)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_listener(listener)


def described(found: Counter[str]) -> dict[str, Any]:
    """What a manifest says of the cache: its directory, hits, misses, and the share of hits; None where nothing was asked."""
    asked = found["hits"] + found["misses"]
    rate = found["hits"] / asked if asked else None
    counts = {name: found[name] for name in EVENTS.values()}
    return {"directory": jax.config.jax_compilation_cache_dir, **counts, "hit_rate": rate}
