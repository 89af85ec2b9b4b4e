"""From views of mapped files onto devices, holding little more in the host's memory than what a device keeps.

Every device is handed only its own slice. A slice is copied, and cast, block by block out of the map into memory that
begins at a multiple of 64 bytes: the CPU backend takes such memory over as it is, where it would copy any other (measured),
and an array never depends on a file that somebody may write to. After each block the map's pages are given back, else
they would count as memory of this process until the end. So the peak is the weights and one block; on an accelerator it
is the largest slice and one block, as each tensor is waited for.
"""

import mmap
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Sharding
from jax.typing import DTypeLike

from interp_jax.errors import InputError
from third_party.safetensors_io import FileMap

BLOCK = 1 << 22  # bytes copied at once
ALIGNMENT = 64  # bytes


def to_device(array: np.ndarray, dtype: DTypeLike | None = None, sharding: Sharding | None = None) -> jax.Array:
    """An array on its devices; reshaped and transposed views of a mapped tensor are read through the map as well.

    Args:
      array: any NumPy array; best a view of what `Checkpoint.read` gave.
      dtype: to cast to, rounding to nearest even; the array's own by default. As everywhere in JAX, 64 bits become 32
        unless x64 is enabled.
      sharding: where to; by default JAX's default device.
    """
    return _place(array.shape, dtype or array.dtype, sharding, lambda index, dtype: _copied(array[*index, ...], dtype))


def stack_to_device(
    arrays: Sequence[np.ndarray], dtype: DTypeLike | None = None, sharding: Sharding | None = None
) -> jax.Array:
    """As `to_device`, of several arrays along a new first axis (the layers), which are never stacked on the host.

    Raises:
      InputError: none, or several shapes.
    """
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1:
        raise InputError(
            f"cannot stack {len(arrays)} tensors of shapes {sorted(map(list, shapes))}: expected one shape"
        )

    def stacked(index: tuple[slice, ...], dtype: np.dtype) -> np.ndarray:
        views = [array[*index[1:], ...] for array in arrays[index[0]]]
        out = _aligned((len(views), *views[0].shape), dtype)
        for row, view in enumerate(views):
            _copy(out[row, ...], view)
        return out

    return _place((len(arrays), *arrays[0].shape), dtype or arrays[0].dtype, sharding, stacked)


def same_numbers(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays of one shape hold the same numbers, NaN among them; mapped ones are read block by block, as above."""
    rows = max(1, BLOCK // max(1, one[:1].nbytes))
    for start in range(0, len(one), rows):
        pieces = [array[start : start + rows] for array in (one, other)]
        same = np.array_equal(*pieces, equal_nan=True)
        for piece in pieces:
            _release(piece)
        if not same:
            return False
    return True


def _place(
    shape: tuple[int, ...],
    dtype: DTypeLike,
    sharding: Sharding | None,
    part: Callable[[tuple[slice, ...], np.dtype], np.ndarray],
) -> jax.Array:
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    if sharding is None:
        placed = jax.device_put(part((slice(None),) * len(shape), dtype))
    else:
        placed = jax.make_array_from_callback(shape, sharding, lambda index: part(index, dtype), dtype=dtype)
    return jax.block_until_ready(placed)


def _copied(view: np.ndarray, dtype: np.dtype) -> np.ndarray:
    out = _aligned(view.shape, dtype)
    _copy(out, view)
    return out


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def _copy(out: np.ndarray, view: np.ndarray) -> None:
    """Copies halves of halves, cut along the axis of the longest stride: so a block is one stretch of the file."""
    if view.nbytes <= BLOCK:
        out[...] = view
        _release(view)
        return
    axis = max((n for n in range(view.ndim) if view.shape[n] > 1), key=lambda n: abs(view.strides[n]))
    half = view.shape[axis] // 2
    for side in (slice(None, half), slice(half, None)):
        cut = (slice(None),) * axis + (side,)
        _copy(out[cut], view[cut])


def _release(view: np.ndarray) -> None:
    """Gives a mapped view's pages back; whoever looks at them again gets them from the file."""
    owner = view
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, FileMap) or not view.size or not hasattr(mmap, "MADV_DONTNEED"):
        return
    origin = np.frombuffer(owner, np.uint8).ctypes.data
    first, last = (address - origin for address in np.lib.array_utils.byte_bounds(view))
    first -= first % mmap.PAGESIZE
    owner.madvise(mmap.MADV_DONTNEED, first, last - first)
