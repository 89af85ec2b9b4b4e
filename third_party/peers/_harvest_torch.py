"""What SAELens does end to end: its store of activations feeds its trainer, on a model of random weights."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch


class Setting(NamedTuple):
    """A model's shape, and a dictionary on the stream after a layer of it.

    Attributes:
      layers, d_model, heads, d_mlp, vocab, context: of the model.
      layer: which is read.
      n_features, k, batch: of the dictionary.
      windows: that the model reads at once.
      buffer: batches of a buffer in which rows are shuffled.
    """

    layers: int = 4
    d_model: int = 256
    heads: int = 4
    d_mlp: int = 1_024
    vocab: int = 5_000
    context: int = 128
    layer: int = 1
    n_features: int = 2_048
    k: int = 32
    batch: int = 1_024
    windows: int = 32
    buffer: int = 20


def saelens(setting: Setting, tokens: np.ndarray, sparse: bool) -> Callable[[int], Any]:
    """So many updates, each on the next rows of SAELens' store; `sparse` is its fastest configuration.

    Args:
      setting: see there.
      tokens: windows of a text.
      sparse: sparse activations, which are not rescaled by the decoder's rows.
    """
    import datasets
    from sae_lens import (
        LanguageModelSAERunnerConfig,
        LanguageModelSAETrainingRunner,
        LoggingConfig,
        TopKTrainingSAEConfig,
    )
    from sae_lens.training.sae_trainer import SAETrainer
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    s = setting
    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=s.layers, d_model=s.d_model, n_heads=s.heads, d_head=s.d_model // s.heads, d_mlp=s.d_mlp, act_fn="gelu",
            d_vocab=s.vocab, n_ctx=s.context, normalization_type="LN", device="cpu", seed=0,
        )
    )  # fmt: skip
    sae = TopKTrainingSAEConfig(
        d_in=s.d_model,
        d_sae=s.n_features,
        k=s.k,
        use_sparse_activations=sparse,
        rescale_acts_by_decoder_norm=not sparse,
    )
    cfg = LanguageModelSAERunnerConfig(
        sae=sae, hook_name=f"blocks.{s.layer}.hook_resid_post", context_size=s.context, prepend_bos=False, streaming=False,
        is_dataset_tokenized=True, n_batches_in_buffer=s.buffer, store_batch_size_prompts=s.windows,
        training_tokens=10**9, train_batch_size_tokens=s.batch, output_path=None, checkpoint_path=None, verbose=False,
        logger=LoggingConfig(log_to_wandb=False), n_eval_batches=1, seed=0,
    )  # fmt: skip
    data = datasets.Dataset.from_dict({"tokens": tokens.tolist()})
    runner = LanguageModelSAETrainingRunner(cfg, override_dataset=data, override_model=model)
    rows = iter(runner.activations_store)
    trainer = SAETrainer(cfg.to_sae_trainer_config(), runner.sae, rows)

    def run(n: int) -> None:
        for _ in range(n):
            trainer.step(torch.as_tensor(next(rows)))

    return run
