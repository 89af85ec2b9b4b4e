"""Reads and writes the tensors of a state dict by their table."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike

from interp_jax.errors import InputError, nearest
from interp_jax.models.config import TransformerConfig
from third_party.huggingface.weights import Params, Shardings, check_dtype
from third_party.placement import stack_to_device, to_device
from third_party.safetensors_io import Checkpoint, meant
from third_party.transformer_lens.tensors import BUFFERS, EMBED, UNEMBED, UNUSED, Row, parameters, paths, tensors

ROWS = 4096  # of two large tensors, compared at once


def state_dict(params: Params, cfg: TransformerConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors by name, one after the other.

    Raises:
      InputError: parameters that do not fit `cfg`, or one that is not zero and that TransformerLens has no tensor for.
    """
    held = _held(params, cfg)
    known = tensors(cfg, cfg.n_kv_heads > 0 and cfg.placement != "post")  # a HookedEncoder has no grouped keys
    for path in sorted(held.keys() - {row.path for row, _ in known.values()}):
        if np.any(held[path]):
            raise InputError(f"parameter {path!r} is not zero: TransformerLens has no such tensor")
    dtype = held[EMBED].dtype
    arrays: dict[str, np.ndarray] = {}  # each parameter leaves its device once
    for name, (row, layer) in known.items():
        if row.path == UNEMBED and cfg.tied:
            yield name, np.asarray(held[EMBED]).T
        elif row.path not in held:
            yield name, np.zeros(row.shape(cfg), dtype)
        else:
            if row.path not in arrays:
                arrays[row.path] = np.asarray(held[row.path])
            yield name, row.tensor(arrays[row.path] if layer is None else arrays[row.path][layer])


def _held(params: Params, cfg: TransformerConfig) -> dict[str, Any]:
    """The parameters by path, which have to be those of `cfg`."""
    held, expected = paths(params), paths(parameters(cfg))
    for path in expected:
        if path not in held:
            raise InputError(f"no parameter {path!r}, expected with shape {list(expected[path].shape)}")
    for path in held:
        if path not in expected:
            raise InputError(f"parameter {path!r} is none of this configuration's; {nearest(path, expected)}")
        if held[path].shape != expected[path].shape:
            actual, shape = list(held[path].shape), list(expected[path].shape)
            raise InputError(f"parameter {path!r} has shape {actual}, expected {shape}")
    return held


def read_params(
    checkpoint: Checkpoint, cfg: TransformerConfig, dtype: DTypeLike | None = None, sharding: Shardings = None
) -> Params:
    """The parameters in a state dict; every tensor in it is either read, or known to hold none.

    Raises:
      InputError: see `load`.
    """
    known = tensors(cfg, _grouped(checkpoint, cfg))
    folded = not any(row.folded and name in checkpoint.entries for name, (row, _) in known.items())
    _check_names(checkpoint, known, folded, cfg)
    expected = paths(parameters(cfg))
    views: dict[str, list[np.ndarray]] = {}
    first: dict[str, str] = {}  # a parameter's first tensor
    for name, (row, _) in known.items():
        if folded and row.folded:
            view = np.full(row.shape(cfg), row.path.endswith("/w"), checkpoint.dtype(next(iter(known))))
        else:
            view = checkpoint.expect(name, row.shape(cfg))
            if row.path in expected:
                check_dtype(checkpoint, name, first.setdefault(row.path, name), dtype)
        if row.path in expected:
            views.setdefault(row.path, []).append(view if _is_read_tied(row, cfg) else row.parameter(view))
        elif row.path == UNEMBED and cfg.tied:
            _check_tied(checkpoint, known, view, cfg)
            views[EMBED] = [view.T]
        elif np.any(view):
            raise InputError(f"{checkpoint.file(name)}: tensor {name!r} is not zero, and {_why_absent(row, cfg)}")
    return _place(views, parameters(cfg), cfg, dtype, sharding)


def _is_read_tied(row: Row, cfg: TransformerConfig) -> bool:
    """The embedding of a tied model is read as its unembedding, which has no scale."""
    return row.path == EMBED and cfg.tied


def _grouped(checkpoint: Checkpoint, cfg: TransformerConfig) -> bool:
    """Whether keys and values have names of their own; where there are as many as heads, either may be."""
    if cfg.n_groups == cfg.n_heads:
        return "blocks.0.attn._W_K" in checkpoint.entries
    return True


def _check_names(
    checkpoint: Checkpoint, known: dict[str, tuple[Row, int | None]], folded: bool, cfg: TransformerConfig
) -> None:
    """Whether all tensors are there, and no others but buffers and heads of other tasks."""
    left_out = BUFFERS + (UNUSED if cfg.placement == "post" else ())
    for name in checkpoint.names():
        if name not in known and not any(re.search(pattern, name) for pattern in left_out):
            shape = list(checkpoint.shape(name))
            raise InputError(
                f"{checkpoint.file(name)}: tensor {name!r} of shape {shape} is none of this model's; {meant(name, known)}"
            )
    for name, (row, _) in known.items():
        if name not in checkpoint.entries and not (folded and row.folded):
            shape = list(row.shape(cfg))
            raise InputError(
                f"{checkpoint.path}: no tensor {name!r}, expected with shape {shape}; {meant(name, checkpoint.entries)}"
            )


def _check_tied(
    checkpoint: Checkpoint, known: dict[str, tuple[Row, int | None]], unembed: np.ndarray, cfg: TransformerConfig
) -> None:
    """Whether the unembedding is the embedding, before its scale, transposed; the scale may be rounded differently."""
    name, row = next((name, row) for name, (row, _) in known.items() if row.path == EMBED)
    embed = checkpoint.expect(name, row.shape(cfg))
    slack = 0.0 if row.factor == 1 else 4 * float(jax.numpy.finfo(embed.dtype).eps)
    for first in range(0, cfg.d_vocab, ROWS):
        rows = slice(first, first + ROWS)
        mine, theirs = (x.astype(np.float64) for x in (row.tensor(unembed.T[rows]), embed[rows]))
        with np.errstate(invalid="ignore"):
            close = np.abs(mine - theirs) <= slack * np.abs(theirs)
        if not (close | (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))).all():
            raise InputError(
                f"{checkpoint.file(name)}: tensor 'unembed.W_U' is not {name!r} transposed, as model.tied says it is"
            )


def _why_absent(row: Row, cfg: TransformerConfig) -> str:
    if row.path == "":
        return "a gated MLP here has no bias after its product"
    if row.path == "embed/W_pos":
        return f"model.positions = {cfg.positions!r} has no such parameter"
    return f"model.biases = {cfg.biases!r} has no such parameter"


def _place(
    views: dict[str, list[np.ndarray]],
    expected: Params,
    cfg: TransformerConfig,
    dtype: DTypeLike | None,
    sharding: Any,
) -> Params:
    """The parameters on their devices. What was written wider for its sake is again of the embedding's dtype."""
    usual = views[EMBED][0].dtype

    def placed(key: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        path = jax.tree_util.keystr(key, simple=True, separator="/")
        arrays = views.pop(path, [np.zeros(leaf.shape, usual)])
        wanted = dtype or (usual if cfg.norm_offset and path.endswith("/w") else arrays[0].dtype)
        where = sharding(path, leaf.shape) if callable(sharding) else sharding
        stacked = arrays[0].shape != leaf.shape
        return stack_to_device(arrays, wanted, where) if stacked else to_device(arrays[0], wanted, where)

    return jax.tree_util.tree_map_with_path(placed, expected)
