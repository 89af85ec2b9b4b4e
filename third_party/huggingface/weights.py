"""Reads and writes the weights of any architecture by its table."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding
from jax.typing import DTypeLike

from interp_jax.errors import InputError, nearest
from interp_jax.models.config import TransformerConfig
from third_party.huggingface.adapter import Adapter
from third_party.placement import same_numbers, stack_to_device, to_device
from third_party.safetensors_io import Checkpoint, meant

Params = dict[str, Any]
Shardings = Sharding | Callable[[str, tuple[int, ...]], Sharding | None] | None


def read_params(
    checkpoint: Checkpoint,
    adapter: Adapter,
    cfg: TransformerConfig,
    dtype: DTypeLike | None = None,
    sharding: Shardings = None,
) -> Params:
    """The parameters in a checkpoint; every tensor in it is either read, or known to hold none.

    Raises:
      InputError: a tensor that is missing, of another shape than the configuration says, unknown, or of no floating-point
        dtype; or layers of several dtypes, and none is asked for.
    """
    names = _match(checkpoint, adapter, cfg)
    views: dict[str, list[np.ndarray]] = {}
    layered: dict[str, bool] = {}
    first: dict[str, str] = {}  # a parameter's first tensor
    for name, (row, layer) in adapter.tensors(cfg).items():
        if name not in names:
            raise _missing(checkpoint, name, row.layout.shape)
        parts = row.layout.split(checkpoint.expect(names[name], row.layout.shape))
        for path, part in zip(row.paths, parts, strict=True):
            check_dtype(checkpoint, names[name], first.setdefault(path, names[name]), dtype)
            views.setdefault(path, []).append(part)
            layered[path] = layer is not None
    params: Params = {"unembed": {}}
    for path in sorted(views):
        arrays = views.pop(path)
        shape = (len(arrays), *arrays[0].shape) if layered[path] else arrays[0].shape
        where = sharding(path, shape) if callable(sharding) else sharding
        placed = stack_to_device(arrays, dtype, where) if layered[path] else to_device(arrays[0], dtype, where)
        put(params, path, placed)
    return params


def check_dtype(checkpoint: Checkpoint, name: str, first: str, wanted: DTypeLike | None) -> None:
    """Raise `InputError` for a tensor that holds no floating-point numbers, or not those of the parameter's first layer."""
    dtype, expected = checkpoint.dtype(name), checkpoint.dtype(first)
    where = f"{checkpoint.file(name)}: tensor {name!r} of shape {list(checkpoint.shape(name))} is {dtype}"
    if wanted is not None and not jax.numpy.issubdtype(wanted, np.floating):
        raise InputError(f"dtype = {np.dtype(wanted)}: parameters are of a floating-point dtype")
    if not jax.numpy.issubdtype(dtype, np.floating):
        raise InputError(f"{where}, expected a floating-point dtype")
    if wanted is None and dtype != expected:
        raise InputError(f"{where}, but {first!r} is {expected}: layers are one array, so give a dtype for all")


def published(params: Params, adapter: Adapter, cfg: TransformerConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors by name, one after the other: the inverse of reading.

    Raises:
      InputError: a parameter that is missing, or of another shape than the configuration says.
    """
    known = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat(params)}
    held: tuple[Any, list[np.ndarray]] = (None, [])  # a row of the table, and its parameters on the host
    for name, (row, layer) in adapter.tensors(cfg).items():
        for path in row.paths:
            if path not in known:
                raise InputError(f"no parameter {path!r} for tensor {name!r}; {nearest(path, known)}")
        if row is not held[0]:
            held = row, [np.asarray(known[path]) for path in row.paths]
        parts = [array if layer is None else array[layer] for array in held[1]]
        expected = [part.shape for part in row.layout.split(np.empty(row.layout.shape, np.bool_))]
        for path, part, shape in zip(row.paths, parts, expected, strict=True):
            if part.shape != shape:
                raise InputError(
                    f"parameter {path!r} has shape {list(part.shape)} (of a layer), expected {list(shape)}"
                )
        yield name, row.layout.join(tuple(parts))


def flat(params: Params) -> list[tuple[Any, Any]]:
    """Paths and leaves of a tree."""
    return jax.tree_util.tree_leaves_with_path(params)


def put(params: Params, path: str, value: Any) -> None:
    """Sets a leaf of nested dicts."""
    *folders, last = path.split("/")
    for folder in folders:
        params = params.setdefault(folder, {})
    params[last] = value


def _match(checkpoint: Checkpoint, adapter: Adapter, cfg: TransformerConfig) -> dict[str, str]:
    """What the file calls each tensor of the table."""
    known = adapter.tensors(cfg)
    names: dict[str, str] = {}
    doubles: dict[str, str] = {}
    for name in checkpoint.names():
        usual = adapter.usual_name(name, known)
        if usual in names:
            raise InputError(
                f"{checkpoint.file(name)}: tensors {name!r} and {names[usual]!r} are the same by two names"
            )
        if usual in known:
            names[usual] = name
        elif cfg.tied and usual in adapter.ties:
            doubles[name] = adapter.ties[usual]
        elif not adapter.is_left_out(name):
            shape = list(checkpoint.shape(name))
            raise InputError(
                f"{checkpoint.file(name)}: tensor {name!r} of shape {shape} is unknown in {adapter.architecture};"
                f" {meant(name, known)}"
            )
    for name, original in doubles.items():
        _check_tie(checkpoint, name, names.get(original))
    return names


def _check_tie(checkpoint: Checkpoint, name: str, original: str | None) -> None:
    if original is None:
        return
    theirs = checkpoint.read(original)
    if not same_numbers(checkpoint.expect(name, theirs.shape), theirs):
        raise InputError(
            f"{checkpoint.file(name)}: tensor {name!r} differs from {original!r}, to which tie_word_embeddings ties it"
        )


def _missing(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> InputError:
    return InputError(
        f"{checkpoint.path}: no tensor {name!r}, expected with shape {list(shape)}; {meant(name, checkpoint.entries)}"
    )


def architecture(config: Mapping[str, Any], file: str) -> str:
    """The architecture that a `config.json` names."""
    names = config.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise InputError(f"{file}: architectures = {names!r}: expected a list with one name")
    return names[0]
