"""The reference in float64.

Its modules cast to float32 inside norms, softmax and rotary tables, whatever the dtype of the model.
Inside of `lifted`, the names `torch.float32` and `torch.float` in the reference's modelling module, and in the one where
rotary tables are made, mean float64, and so does `Tensor.float`. Nothing else is touched.
"""

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from transformers import modeling_rope_utils


class Widened:
    """The torch module, with float64 in the place of float32."""

    float32 = float = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def modelling(module: str) -> ModuleType:
    """The reference's module that holds an architecture's code."""
    return importlib.import_module(f"transformers.models.{module}.modeling_{module}")


@contextlib.contextmanager
def lifted(module: str, really: bool = True) -> Iterator[None]:
    """Lifts the casts of an architecture's module while a model is made and run."""
    if not really:
        yield
        return
    with (
        mock.patch.object(modelling(module), "torch", Widened()),
        mock.patch.object(modeling_rope_utils, "torch", Widened()),
        mock.patch.object(torch.Tensor, "float", lambda tensor: tensor.to(torch.float64)),
    ):
        yield
