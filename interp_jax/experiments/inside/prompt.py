"""The prompt that is looked at, and the models on which it can be."""

from interp_jax.errors import InputError
from interp_jax.experiments.inside.config import Config
from interp_jax.experiments.subjects.model import Subject, check_has_logits
from interp_jax.experiments.subjects.tokens import prefix_of, split
from interp_jax.models.transformer import TransformerConfig

CIRCUIT_PROMPT = "flaskbirchflaskbir"  # ten letters, all different, then the same again
PROMPT = "When Mary and John went to the store, John gave a drink to"  # Wang et al. 2022


def check_is_readable(cfg: TransformerConfig, name: str) -> None:
    """Raise `InputError` for models on which a logit is no sum of parts."""
    check_has_logits(cfg, name)
    if cfg.head != "linear" or cfg.placement == "post":
        field = "head" if cfg.head != "linear" else "placement"
        why = "its logits are not a sum of what its parts say, which this report explains"
        raise InputError(f"{name}: model.{field} = {getattr(cfg, field)!r}: {why}")


def prompt_of(config: Config, subject: Subject) -> list[int]:
    """The tokens of the prompt, with what the tokenizer puts before a text; those of `config.tokens` as they are.

    Raises:
      InputError: no tokenizer for a text, an unknown id or letter, fewer than two tokens, or more than the context.
    """
    if config.tokens:
        ids = list(config.tokens)
        if bad := [i for i in ids if not 0 <= i < subject.cfg.d_vocab]:
            raise InputError(f"--config.tokens: {bad[0]} is no token; ids go from 0 to {subject.cfg.d_vocab - 1}")
    elif subject.letters:
        ids = split(config.prompt or CIRCUIT_PROMPT, subject)
    elif subject.tokenizer is None:
        raise InputError(
            f"{subject.name}: {subject.lacks}, so a text cannot be read; give the tokens as ids:"
            " --config.tokens='(1, 2, 3)'"
        )
    else:
        ids = [*prefix_of(subject), *split(config.prompt or PROMPT, subject)]
    if len(ids) < 2:
        raise InputError(f"the prompt has {len(ids)} tokens: give at least 2")
    if len(ids) > subject.cfg.n_context and subject.cfg.positions != "none":
        raise InputError(f"the prompt has {len(ids)} tokens, more than the model's context of {subject.cfg.n_context}")
    return ids
