"""Models as the Hugging Face hub publishes them: `config.json` and safetensors, read into the transformer family and back.

    params, cfg = huggingface.load("path/or/org/name")
    logits = transformer.apply(params, tokens, cfg)

An adapter for each architecture says which member of the family it is, and how its tensors become our parameters. What an
adapter does not know, it refuses; README.md says what each covers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jax.typing import DTypeLike

from interp_jax.errors import InputError, nearest
from interp_jax.models.config import TransformerConfig
from third_party.hub_io import CONFIG, config_file, read_config, resolve
from third_party.huggingface import bert, gemma2, gemma3, gpt2, gpt_neox, llama, mistral, phi3, qwen2, qwen3
from third_party.huggingface.adapter import Adapter
from third_party.huggingface.fields import Fields
from third_party.huggingface.weights import Params, Shardings, architecture, published, read_params
from third_party.safetensors_io import open_checkpoint
from third_party.safetensors_writer_io import write_checkpoint

__all__ = ["ADAPTERS", "adapter_for", "configure", "load", "save"]

ADAPTERS: dict[str, Adapter] = {
    adapter.architecture: adapter
    for adapter in (
        bert.ENCODER,
        bert.MASKED,
        *(module.ADAPTER for module in (gemma2, gemma3, gpt2, gpt_neox, llama, mistral, phi3, qwen2, qwen3)),
    )
}


def adapter_for(config_json: Mapping[str, Any], file: str = CONFIG) -> Adapter:
    """The adapter of the architecture that a `config.json` names.

    Raises:
      InputError: it names none, several, or one that there is no adapter for.
    """
    name = architecture(config_json, file)
    if name not in ADAPTERS:
        raise InputError(f"{file}: architecture {name!r} is unknown; {nearest(name, ADAPTERS)}")
    return ADAPTERS[name]


def configure(config_json: Mapping[str, Any], file: str = CONFIG) -> TransformerConfig:
    """The member of the family that a `config.json` describes.

    Raises:
      InputError: an unknown architecture, or a field that its adapter neither handles nor knows to be inert.
    """
    fields = Fields(config_json, file)
    cfg = adapter_for(config_json, file).configure(fields)
    fields.finish()
    try:
        cfg.check()
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    return cfg


def load(
    reference: str | Path,
    *,
    revision: str | None = None,
    dtype: DTypeLike | None = None,
    sharding: Shardings = None,
) -> tuple[Params, TransformerConfig]:
    """A published model's parameters, of the same structure as those of `transformer.init`, and its configuration.

    Args:
      reference: a directory, or a hub id "org/name" where `huggingface_hub` is installed.
      revision: branch, tag or commit on the hub, such as a training checkpoint's.
      dtype: of all parameters; by default as published. 64 bits become 32 unless x64 is enabled.
      sharding: of all parameters, or a function of a parameter's path ("blocks/attn/W_Q") and shape; by default all are on
        JAX's default device.

    Raises:
      InputError: no such model; a configuration that is not handled; a tensor that is missing, unknown, of another shape or
        of no floating-point dtype; or layers of several dtypes, and none is asked for.
    """
    path = resolve(reference, revision)
    config_json = read_config(path)
    file = str(config_file(path))
    adapter, cfg = adapter_for(config_json, file), configure(config_json, file)
    with open_checkpoint(path) as checkpoint:
        return read_params(checkpoint, adapter, cfg, dtype, sharding), cfg


def save(directory: str | Path, params: Params, cfg: TransformerConfig, config_json: Mapping[str, Any]) -> None:
    """Writes a model as it was published: parameters that came from `load` come out bit for bit.

    Args:
      directory: where to; made if missing.
      params: parameters of the structure of `transformer.init`.
      cfg: their configuration.
      config_json: content of the `config.json` that describes it; written as it is.

    Raises:
      InputError: `config_json` describes another model, or the parameters do not fit it.
    """
    adapter, described = adapter_for(config_json), configure(config_json)
    if described != cfg:
        raise InputError(f"{CONFIG} describes another model than cfg: {_difference(described, cfg)}")
    write_checkpoint(directory, published(params, adapter, cfg), config_json)


def _difference(described: TransformerConfig, cfg: TransformerConfig) -> str:
    pairs = ((name, getattr(described, name), getattr(cfg, name)) for name in vars(cfg))
    return ", ".join(f"{name} = {theirs!r} against {ours!r}" for name, theirs, ours in pairs if theirs != ours)
