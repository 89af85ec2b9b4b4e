"""How often the persistent compilation cache had the program that was asked for: what a launch engine saves by sharing it."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import jax.monitoring

EVENTS = {"/jax/compilation_cache/cache_hits": "hits", "/jax/compilation_cache/cache_misses": "misses"}


@contextlib.contextmanager
def counted() -> Iterator[Counter[str]]:
    """Counts "hits" and "misses" of the cache on disk while the block runs; both stay 0 where there is none."""
    found = Counter(dict.fromkeys(EVENTS.values(), 0))

    def listener(event: str, **about: Any) -> None:
        if event in EVENTS:
            found[EVENTS[event]] += 1

    jax.monitoring.register_event_listener(listener)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_listener(listener)


def described(found: Counter[str]) -> dict[str, Any]:
    """What a manifest says of the cache: its directory, hits, misses, and the share of hits; None where nothing was asked."""
    asked = found["hits"] + found["misses"]
    rate = found["hits"] / asked if asked else None
    return {"directory": jax.config.jax_compilation_cache_dir, **found, "hit_rate": rate}
