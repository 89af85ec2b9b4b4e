"""Models as functions over pytrees: `init(key, cfg) -> params`, `apply(params, x, cfg) -> y`."""
