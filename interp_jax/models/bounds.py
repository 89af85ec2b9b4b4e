"""Tokens, positions and types that run past a model's tables, refused as far as they are known."""

import jax
import numpy as np

from interp_jax.errors import InputError
from interp_jax.models.config import Ids, Places, TransformerConfig
from interp_jax.models.initialisation import Params


def check_rows(
    params: Params, tokens: Ids, cfg: TransformerConfig, positions: Places | None = None, types: Places | None = None
) -> None:
    """Raise `InputError` for tokens, positions and types beyond the tables, as far as they are known."""
    check_length(tokens.shape[1], cfg)
    if not isinstance(tokens, jax.core.Tracer):
        bad = np.argwhere((np.asarray(tokens) < 0) | (np.asarray(tokens) >= params["embed"]["W_E"].shape[0]))
        if len(bad):
            row, column = map(int, bad[0])
            raise InputError(
                f"token {int(tokens[row, column])} in row {row}, column {column}: ids go from 0 to {cfg.d_vocab - 1}"
            )
    if positions is not None and not isinstance(positions, jax.core.Tracer):
        check_length(int(np.asarray(positions).max()) + 1, cfg)
    if types is not None and not cfg.d_types:
        raise InputError("types were given, but the model has no table of them (model.d_types = 0)")
    if types is not None and not isinstance(types, jax.core.Tracer):
        if len(bad := np.argwhere((np.asarray(types) < 0) | (np.asarray(types) >= cfg.d_types))):
            row, column = map(int, bad[0])
            raise InputError(
                f"type {int(types[row, column])} in row {row}, column {column}: types go from 0 to {cfg.d_types - 1}"
            )


def check_length(n_positions: int, cfg: TransformerConfig) -> None:
    """Raise `InputError` where positions run past the model's context."""
    if cfg.positions != "none" and n_positions > cfg.n_context:
        raise InputError(f"{n_positions} positions are more than the model's model.n_context = {cfg.n_context}")
