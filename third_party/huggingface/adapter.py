"""What an architecture's adapter is: its configuration read, and the table of its tensors."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from interp_jax.models.config import TransformerConfig
from third_party.huggingface.fields import Fields
from third_party.huggingface.layouts import Entry

LEGACY = {".gamma": ".weight", ".beta": ".bias"}  # a norm's tensors, in checkpoints converted from TensorFlow


class Adapter(NamedTuple):
    """One architecture.

    Attributes:
      architecture: its name in the "architectures" of `config.json`.
      configure: reads the fields; whoever calls it also calls `Fields.finish`.
      table: all tensors of a configuration.
      prefix: of tensors' names, which some publishers leave out and some put before what has none.
      buffers: patterns of names in files that hold constants and not weights.
      ties: names of tensors that, where the model is tied, may be published a second time, and as what.
      unused: patterns of names of weights that no parameter of ours stands for, such as another task's head.
    """

    architecture: str
    configure: Callable[[Fields], TransformerConfig]
    table: Callable[[TransformerConfig], list[Entry]]
    prefix: str
    buffers: tuple[str, ...] = ()
    ties: Mapping[str, str] = {}
    unused: tuple[str, ...] = ()

    def tensors(self, cfg: TransformerConfig) -> dict[str, tuple[Entry, int | None]]:
        """Every published name, with its row of the table and its layer (None outside of layers)."""
        names: dict[str, tuple[Entry, int | None]] = {}
        for row in self.table(cfg):
            layers = range(cfg.n_layers) if "{l}" in row.name else [None]
            names |= {row.name.format(l=layer): (row, layer) for layer in layers}
        return names

    def usual_name(self, name: str, known: Mapping[str, object]) -> str:
        """The name that the table has for a tensor of a file."""
        for old, new in LEGACY.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        known = {**known, **self.ties}
        candidates = (name, self.prefix + name, name.removeprefix(self.prefix))
        return next((candidate for candidate in candidates if candidate in known), name)

    def is_left_out(self, name: str) -> bool:
        """Whether a tensor of a file is known and stands for no parameter."""
        return any(re.search(pattern, name) for pattern in (*self.buffers, *self.unused))
