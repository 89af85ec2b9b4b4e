"""Text from a transformer: prompts read once into a cache of static shape, then one token at a time, in one compiled loop.

    next = argmax(logits)                               temperature 0
    next ~ softmax(logits / temperature)                otherwise: the argmax of logits / temperature + Gumbel noise

over the `top_k` most likely tokens (Fan et al. 2018), and of those over the fewest whose probabilities, most likely first,
sum to at least `top_p` (the nucleus: Holtzman et al. 2020).

Prompts of unequal length come padded on either side, with positions -1 on the padding. The cache has a slot per position and
none for padding, so that every row goes on at its own next position. Where nothing can be raised, inside `jit`, a row whose
prompt has an id beyond the table, or that has run out of positions, writes `NO_TOKEN`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models.attention import Cache
from interp_jax.models.bounds import check_length, check_rows
from interp_jax.models.config import Ids, Places
from interp_jax.models.norms import at_least
from interp_jax.models.transformer import Params, TransformerConfig, blocks, embed, in_order, init_cache, unembed

Edits = Mapping[str, Sequence[taps.Edit] | taps.Edit]
UNLIKELY = -1e30  # finite, so that a row whose temperature is 0 has no NaN
NO_TOKEN = -1


class Sampling(NamedTuple):
    """How the next token is chosen.

    Attributes:
      temperature: 0 takes the most likely token; a column [B 1] gives each prompt its own.
      top_k: only so many of the most likely tokens; 0 for all. Of equal ones, those with the lowest id.
      top_p: only the fewest tokens whose probability sums to this; 1 for all.
    """

    temperature: Float[Array, "#B 1"] | float = 0.0
    top_k: int = 0
    top_p: Float[Array, "#B 1"] | float = 1.0


def generate(
    params: Params,
    prompts: Ids,
    cfg: TransformerConfig,
    n_new: int,
    key: Key[Array, ""],
    sampling: Sampling = Sampling(),  # noqa: B008 immutable
    positions: Places | None = None,
    stop: Sequence[int] = (),
    edits: Edits | None = None,
) -> Int[Array, "B N"]:
    """`n_new` tokens after each prompt.

    Args:
      params: of the model.
      prompts: padded to one length where they differ.
      cfg: of the model.
      n_new: tokens to write; with the prompt's, less one, they must fit `cfg.n_context`.
      key: of the random choices.
      sampling: see `Sampling`.
      positions: of the prompts' tokens, -1 on padding; 0, 1, … by default. Where they are traced, the cache has room for
        prompts in order only, and a row that begins later may run out of it.
      stop: a row that has written one of these tokens writes only that token from there on.
      edits: active in every pass, over the prompt and over each new token: what `taps.edit` takes, made of arrays that
        broadcast to a pass over any number of rows. A site is tapped in several passes, so an edit *around* `generate`
        is refused, save of `unembed.in` and `logits`, where it has a leading step axis.

    Raises:
      InputError: too many positions, a token beyond the vocabulary, a prompt without tokens, or `n_new` below 1.
    """
    batch, length = prompts.shape
    if n_new < 1:
        raise InputError(f"n_new = {n_new}: must be at least 1")
    check_length(length + n_new - 1 if positions is None else 1, cfg)
    check_rows(params, prompts, cfg, positions)
    positions = jnp.broadcast_to(in_order(length) if positions is None else positions, prompts.shape)
    check_prompts(positions, n_new, cfg)
    step, slots = advance_with(params, cfg, edits), n_slots(positions, n_new, cfg)
    cache = init_cache(cfg, batch, slots, params["embed"]["W_E"].dtype)
    x, cache = step.read(prompts, positions, cache)
    last = jnp.take_along_axis(x, positions.argmax(1)[:, None, None], 1)[:, 0]
    ends = jnp.asarray(stop, jnp.int32)

    def extend(carry: tuple[Any, ...], index: Array) -> tuple[tuple[Any, ...], Array]:
        last, at, written, cache = carry
        logits = step.say(last)
        new = sample(logits, jax.random.fold_in(key, index), sampling)
        new = jnp.where(jnp.isnan(logits).any(1) | (at > slots), NO_TOKEN, new)
        new = jnp.where((written[:, None] == ends).any(1), written, new)
        x, cache = step.read(new[:, None], at[:, None], cache)  # of the last one nothing is used, its place included
        return (x[:, 0], at + 1, new, cache), new

    none_yet = jnp.full(batch, NO_TOKEN, jnp.int32)
    carry = (last, positions.max(1) + 1, none_yet, cache)
    _, tokens = taps.scan(extend, carry, jnp.arange(n_new, dtype=jnp.int32))
    return tokens.T


def n_slots(positions: Places, n_new: int, cfg: TransformerConfig) -> int:
    """Slots of the cache: for all positions that are read, where these are known, else for those of prompts in order."""
    known = not isinstance(positions, jax.core.Tracer)
    slots = (int(positions.max()) + 1 if known else positions.shape[1]) + n_new
    return slots if cfg.positions == "none" else min(slots, cfg.n_context)


class Step(NamedTuple):
    """One pass of the model: `read` tokens into the stream and the cache, `say` logits of rows of the stream."""

    read: Any
    say: Any


def advance_with(params: Params, cfg: TransformerConfig, edits: Edits | None) -> Step:
    """The passes of generation with the edits in force; each pass gets those of the sites that it has."""

    def read(tokens: Ids, positions: Array, cache: Cache) -> tuple[Array, Cache]:
        return blocks(params, embed(params, tokens, cfg, positions), cfg, cache=cache, positions=positions)

    def say(rows: Array) -> Array:
        return unembed(params, rows, cfg)

    if not edits:
        return Step(read, say)
    late = {site: edit for site, edit in edits.items() if site.startswith(("ln_final.", "unembed.", "logits"))}
    early = {site: edit for site, edit in edits.items() if site not in late}
    edited = lambda model, own: (lambda *arguments: taps.edit(model)(own, *arguments)) if own else model
    return Step(edited(read, early), edited(say, late))


def check_prompts(positions: Places, n_new: int, cfg: TransformerConfig) -> None:
    """Raise `InputError` for a prompt that is all padding, or that runs past the context with what is to be written."""
    if isinstance(positions, jax.core.Tracer):
        return
    longest = positions.max(1)
    if (longest < 0).any():
        raise InputError(f"prompt {int((longest < 0).argmax())} has no tokens: all its positions are padding")
    check_length(int(longest.max()) + n_new, cfg)


def sample(logits: Float[Array, "B V"], key: Key[Array, ""], sampling: Sampling) -> Int[Array, " B"]:
    """One token per row; in float32 at least, since noise and sums in half precision would favour some tokens."""
    logits = logits.astype(at_least(logits.dtype, "float32"))
    temperature = jnp.asarray(sampling.temperature, logits.dtype)
    heated = logits / jnp.where(temperature > 0, temperature, 1.0)
    kept = jnp.where(likely(heated, sampling), heated, UNLIKELY) if is_restricted(sampling) else heated
    noise = jax.random.gumbel(key, logits.shape, logits.dtype)
    return jnp.argmax(kept + jnp.where(temperature > 0, noise, 0.0), axis=-1).astype(jnp.int32)


def is_restricted(sampling: Sampling) -> bool:
    """Whether some tokens may be left out; a traced `top_p` counts."""
    return bool(sampling.top_k) or not (isinstance(sampling.top_p, float) and sampling.top_p >= 1)


def likely(logits: Float[Array, "B V"], sampling: Sampling) -> Array:
    """Which tokens `top_k` and `top_p` leave; the most likely one always. Bool [B V]."""
    n = logits.shape[1]
    order = jnp.argsort(-logits, axis=1, stable=True)
    rank = jnp.arange(n)
    among = (rank < (sampling.top_k or n))[None]
    chance = jax.nn.softmax(jnp.where(among, jnp.take_along_axis(logits, order, 1), -jnp.inf), axis=1)
    before = jnp.cumsum(chance, axis=1) - chance
    keep = among & ((before < sampling.top_p) | (rank == 0))
    return jnp.zeros_like(keep).at[jnp.arange(len(logits))[:, None], order].set(keep)
