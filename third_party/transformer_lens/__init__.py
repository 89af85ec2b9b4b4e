"""State dicts of TransformerLens (`blocks.0.attn.W_Q`) in safetensors, read into the transformer family and written from it.

    transformer_lens.save("directory", params, cfg)        # model.safetensors, and config.json for HookedTransformerConfig
    cfg = transformer_lens.read_config("directory")
    params = transformer_lens.load("directory", cfg)

The names are those of HookedTransformer, and of HookedEncoder for BERT-style models, in versions 2 and 3
(https://github.com/TransformerLensOrg/TransformerLens, MIT); README.md says what becomes of what. What TransformerLens
cannot express is refused, naming the field; so is any field of its configuration that this family has no counterpart of.
"""

from pathlib import Path

from jax.typing import DTypeLike

from interp_jax.data.paths_io import expanded
from interp_jax.models.config import TransformerConfig
from third_party import hub_io
from third_party.huggingface.weights import Params, Shardings
from third_party.safetensors_io import open_checkpoint
from third_party.safetensors_writer_io import write_checkpoint
from third_party.transformer_lens.config_reading import config_from
from third_party.transformer_lens.config_writing import config_of
from third_party.transformer_lens.hooks import hooks
from third_party.transformer_lens.weights import read_params, state_dict

__all__ = ["config_from", "config_of", "hooks", "load", "read_config", "save", "state_dict"]


def save(directory: str | Path, params: Params, cfg: TransformerConfig) -> None:
    """Writes a model as `model.safetensors` and `config.json`, the arguments of its HookedTransformerConfig.

    Args:
      directory: where to; made if missing.
      params: parameters of the structure of `transformer.init`.
      cfg: their configuration.

    Raises:
      InputError: TransformerLens cannot express the model, or the parameters do not fit `cfg`.
    """
    config = config_of(cfg)
    write_checkpoint(directory, state_dict(params, cfg), config)


def read_config(directory: str | Path) -> TransformerConfig:
    """The member of the family that the `config.json` in a directory, or beside a file, describes.

    It holds every model that TransformerLens could make of those fields: all biases, and an unembedding that is not tied.

    Raises:
      InputError: there is none, or it has a field that is not handled.
    """
    path = expanded(directory)
    return config_from(hub_io.read_config(path), str(hub_io.config_file(path)))


def load(
    path: str | Path, cfg: TransformerConfig, dtype: DTypeLike | None = None, sharding: Shardings = None
) -> Params:
    """Parameters from a state dict, of the same structure as those of `transformer.init`.

    Args:
      path: a `.safetensors` file, or a directory with `model.safetensors` or shards.
      cfg: what they are parameters of. What it lacks (a bias, positions) has to be zero in the file.
      dtype: of all parameters; by default as in the file. 64 bits become 32 unless x64 is enabled.
      sharding: of all parameters, or a function of a parameter's path ("blocks/attn/W_Q") and shape.

    Raises:
      InputError: TransformerLens cannot express `cfg`; a tensor is missing, unknown, of another shape or of no floating-point
        dtype, not zero where it has to be, or not the embedding where that is tied; or layers have several dtypes.
    """
    config_of(cfg)
    with open_checkpoint(path) as checkpoint:
        return read_params(checkpoint, cfg, dtype, sharding)
