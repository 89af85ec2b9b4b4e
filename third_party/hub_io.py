"""Finds a published model's directory, on this machine or on the Hugging Face hub, and reads its `config.json`.

The hub is reached through the `huggingface_hub` package (https://github.com/huggingface/huggingface_hub, Apache-2.0),
which is optional, keeps what it fetched in its own cache (`HF_HOME`), and needs no network for what is there. A revision
is a branch, tag or commit; suites that publish their training checkpoints have one for each ("step3000").
"""

import os
import re
from pathlib import Path
from typing import Any

from interp_jax.data.paths_io import absence, expanded, names_in, read_json, shown
from interp_jax.errors import InputError, nearest

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
WANTED = ("*.safetensors", "*.json", "tokenizer*", "*.model", "vocab*", "merges.txt")
UNWANTED = ("consolidated*", "*/*")  # the same weights again in another layout; folders of other formats
CONFIG = "config.json"


def resolve(reference: str | Path, revision: str | None = None) -> Path:
    """The file or directory that `reference` names: a local path as it is, else "org/name" fetched from the hub.

    Args:
      reference: a path, or a hub id. What exists locally wins.
      revision: branch, tag or commit on the hub; its main branch by default.

    Raises:
      InputError: no such path and no hub id; or the hub's package, the network, the model or the revision is missing, or
        the model has no safetensors.
    """
    path = expanded(reference)
    if os.path.exists(path):
        if revision is not None:
            raise InputError(f"{reference} is a local directory or file, which has no revision {revision!r}")
        return path
    if reason := absence(path):
        raise InputError(f"{shown(reference)}: {reason}")
    if not HUB_ID.fullmatch(str(reference)):
        raise InputError(f"{shown(reference)}: no such directory, and no hub id (org/name){_sibling(path)}")
    directory = _fetch(str(reference), revision, _sibling(path))
    if not any(directory.glob("*.safetensors")):
        at = f" at revision {revision!r}" if revision else ""
        raise InputError(f"{reference}: this hub model has no *.safetensors file{at}; is there a revision with them?")
    return directory


def _sibling(path: Path) -> str:
    """A clause with the nearest local names; none where not even the parent exists."""
    clause = nearest(path.name, names_in(path.parent))
    return f"; in {path.parent}: {clause}" if clause.startswith("did you mean") else ""


def _fetch(reference: str, revision: str | None, sibling: str) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        reason = "to fetch it from the hub: pip install huggingface_hub"
        raise InputError(f"{reference}: no such directory; {reason}{sibling}") from error
    try:
        fetched = huggingface_hub.snapshot_download(
            reference, revision=revision, allow_patterns=list(WANTED), ignore_patterns=list(UNWANTED)
        )
    except errors.GatedRepoError as error:
        reason = f"accept its terms on https://huggingface.co/{reference} and log in with: hf auth login"
        raise InputError(f"{reference}: this hub model is gated; {reason}") from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{reference}: this hub model has no revision {revision!r}") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise InputError(f"{reference}: no such directory, and no such model on the hub{sibling}") from error
    except errors.LocalEntryNotFoundError as error:
        reason = "the hub cannot be reached, nor is it in the hub's cache"
        raise InputError(f"{reference}: no such directory; {reason}{sibling}") from error
    except Exception as error:  # the hub's HTTP clients differ between versions, and their errors have no common class
        first = (str(error).splitlines() or [""])[0]
        raise InputError(f"{reference}: fetching it from the hub failed: {type(error).__name__}: {first}") from error
    return Path(fetched)


def read_config(path: str | Path) -> dict[str, Any]:
    """The content of `config.json` in a model's directory, or beside its weights where `path` is a file.

    Raises:
      InputError: there is none, or it is not a JSON object.
    """
    file = config_file(expanded(path))
    if not os.path.exists(file) and not absence(file):
        raise InputError(f"{file.parent}: no {CONFIG}, which says what the weights are weights of")
    return read_json(file)


def config_file(path: Path) -> Path:
    """Where the `config.json` of a model's directory, or of a file of weights, would be."""
    return (path if os.path.isdir(path) else path.parent) / CONFIG
