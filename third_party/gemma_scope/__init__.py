"""Dictionaries of Gemma Scope: JumpReLU, and transcoders of it, read from `params.npz` (1) and `params.safetensors` (2).

    params, cfg = gemma_scope.load("layer_20/width_16k/average_l0_71")       # a directory, or the file
    gemma_scope.save("directory/params.npz", params, cfg)

Neither format says whether a dictionary writes what it reads: for a transcoder ask for `transcoder=True`. An affine connection
(2) makes it one. README.md says what becomes of what.
"""

import dataclasses
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from interp_jax.data.paths_io import expanded, unreadable
from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.parameters import Params
from interp_jax.errors import InputError
from third_party.safetensors_writer_io import write_file
from third_party.single_file_io import Tensors, check_tensors, read_tensors, write_npz

__all__ = ["load", "save"]

FILES = ("params.safetensors", "params.npz")
AFFINE = "affine_skip_connection"


def load(path: str | Path, transcoder: bool = False) -> tuple[Params, Dictionary]:
    """A dictionary's parameters and config.

    Args:
      path: a file, or a directory with one of `FILES`.
      transcoder: whether it writes something else than it reads.

    Raises:
      InputError: nothing there, a damaged file, or a tensor that is missing, unknown or of another shape.
    """
    file = file_of(expanded(path))
    tensors = read_npz(file) if file.suffix == ".npz" else read_tensors(file)
    if "w_enc" not in tensors or "w_dec" not in tensors or tensors["w_enc"].ndim != 2 or tensors["w_dec"].ndim != 2:
        raise InputError(
            f"{file}: w_enc [D, F] and w_dec [F, D] are not both there; it has {', '.join(sorted(tensors))}"
        )
    (D, F), width = tensors["w_enc"].shape, tensors["w_dec"].shape[1]
    wanted = {"w_enc": (D, F), "w_dec": (F, width), "b_enc": (F,), "b_dec": (width,), "threshold": (F,)}
    wanted |= {AFFINE: (D, width)} if AFFINE in tensors else {}
    check_tensors(file, tensors, wanted)
    skip = AFFINE in tensors
    cfg = Dictionary(
        kind="jumprelu",
        d_in=D,
        d_out=width if transcoder or skip or width != D else 0,
        n_features=F,
        most=1,
        k=1,
        skip=skip,
        centred=False,
        thresholds="linear",
    )
    params = {"W_enc": tensors["w_enc"].T, "W_dec": tensors["w_dec"]}
    params |= {name: tensors[name] for name in ("b_enc", "b_dec", "threshold")}
    params |= {"W_skip": tensors[AFFINE].T} if skip else {}
    return {name: jnp.asarray(x) for name, x in params.items()}, cfg


def save(file: str | Path, params: Params, cfg: Dictionary) -> None:
    """Writes a file of either format, by its ending; features not in use are left out.

    Raises:
      InputError: not a JumpReLU dictionary; one that takes the decoder's bias off what it reads; another ending; an affine
        connection in `.npz`, which has none.
    """
    file = expanded(file)
    if cfg.kind != "jumprelu" or cfg.pieces > 1:
        raise InputError(f"{file}: Gemma Scope's dictionaries are JumpReLU of one piece, not {cfg.kind!r}")
    if cfg.centred and not cfg.d_out:
        raise InputError(
            f"{file}: Gemma Scope's dictionaries read what there is, and this one is centred; see `uncentred`"
        )
    used = int(cfg.width) or cfg.n_features
    rows = {name: np.asarray(x)[:used] for name, x in params.items() if name not in ("b_dec", "W_skip")}
    threshold = rows["threshold"] if cfg.thresholds == "linear" else np.exp(rows["log_threshold"])
    tensors = {"w_enc": rows["W_enc"].T, "w_dec": rows["W_dec"], "b_enc": rows["b_enc"]}
    tensors |= {"b_dec": np.asarray(params["b_dec"]), "threshold": threshold}
    tensors |= {AFFINE: np.asarray(params["W_skip"]).T} if cfg.skip else {}
    if file.suffix == ".safetensors":
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, tensors)
    elif file.suffix == ".npz" and not cfg.skip:
        write_npz(file, tensors)
    else:
        raise InputError(f"{file}: end it with .npz, or with .safetensors, which affine connections need")


def uncentred(params: Params, cfg: Dictionary) -> tuple[Params, Dictionary]:
    """The same function without a bias that is taken off what is read: it goes into the encoder's, b_enc - W_enc b_dec."""
    if cfg.d_out or not cfg.centred:
        return params, cfg
    moved = params["b_enc"] - params["W_enc"] @ params["b_dec"]
    return params | {"b_enc": moved}, dataclasses.replace(cfg, centred=False)


def file_of(path: Path) -> Path:
    """The file that a path means.

    Raises:
      InputError: there is none.
    """
    if path.is_file():
        return path
    found = [path / name for name in FILES if (path / name).is_file()]
    if not found:
        raise InputError(f"{path}: no {' or '.join(FILES)} there")
    return found[0]


def read_npz(file: Path) -> Tensors:
    """The arrays of a NumPy archive; nothing in it is run.

    Raises:
      InputError: it is damaged, or holds pickled objects.
    """
    try:
        with np.load(file, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except OSError as error:
        raise unreadable(file, error) from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{file}: not an archive of arrays: {error}") from error
