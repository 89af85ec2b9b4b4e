"""The templates by name, for a config: contrast pairs as a function of (name, seed, corruption)."""

from collections.abc import Iterator

from interp_jax.data.contrast.docstring import DOCSTRING
from interp_jax.data.contrast.grammar import AGREEMENT, PRONOUN
from interp_jax.data.contrast.induction import INDUCTION, induction
from interp_jax.data.contrast.ioi import IOI
from interp_jax.data.contrast.pairs import Pairs
from interp_jax.data.contrast.text import Pools, Template, TextPair, numbers, one, parts
from interp_jax.data.contrast.tokens import fitting, tokenize
from interp_jax.data.contrast.years import GREATER_THAN
from interp_jax.data.tokenizer_io import Tokenizer
from interp_jax.errors import InputError, nearest

TEMPLATES: dict[str, Template] = {
    "ioi": IOI,
    "greater_than": GREATER_THAN,
    "docstring": DOCSTRING,
    "agreement": AGREEMENT,
    "pronoun": PRONOUN,
    "induction": INDUCTION,
}


def template_names() -> list[str]:
    """The names of all templates."""
    return list(TEMPLATES)


def template_pairs(
    name: str,
    seed: int,
    n: int,
    *,
    corruption: str | None = None,
    tokenizer: Tokenizer | None = None,
    d_vocab: int | None = None,
    length: int = 32,
    frame: int | None = None,
    side: str = "left",
    bos: bool | None = None,
) -> Pairs:
    """`n` pairs of a template in tokens.

    Args:
      name: a name in `TEMPLATES`.
      seed: of the draws; example i does not depend on `n`.
      n: how many.
      corruption: a name in the template's `corruptions`, by default the first.
      tokenizer: needed by all but "induction".
      d_vocab: needed by "induction", whose tokens are drawn from it.
      length: tokens per prompt, of "induction" alone.
      frame: the index of the only frame to use; by default each example draws its own. With one, all prompts are equally
        long, so that a column means the same in all of them.
      side: where prompts of unequal length are padded.
      bos: None for what the tokenizer itself puts before a text, True for exactly one BOS, False for none.

    Raises:
      InputError: an unknown name, corruption or frame, no tokenizer or d_vocab where it is needed, or a tokenizer that cuts
        the template's words into pieces.
    """
    template, corruption = _known(name, corruption)
    if template.write is None:
        if d_vocab is None:
            raise InputError(f"template {name!r} draws tokens: give d_vocab, the model's number of them")
        first = tokenizer.bos if bos and tokenizer is not None else None
        return induction(seed, n, length, d_vocab, corruption, first)
    if tokenizer is None:
        others = ", ".join(repr(key) for key, each in TEMPLATES.items() if each.write is None)
        raise InputError(f"template {name!r} is text: give a tokenizer, or choose {others}, which needs none")
    texts = text_pairs(name, seed, n, corruption=corruption, tokenizer=tokenizer, frame=frame)
    return tokenize(texts, tokenizer, side=side, bos=bos)


def text_pairs(
    name: str,
    seed: int,
    n: int,
    *,
    corruption: str | None = None,
    tokenizer: Tokenizer | None = None,
    frame: int | None = None,
) -> Iterator[TextPair]:
    """`n` pairs of a template as text; with a tokenizer, only of words that are one token each.

    Raises:
      InputError: as `template_pairs`, or a template without text.
    """
    template, corruption = _known(name, corruption)
    if template.write is None:
        raise InputError(f"template {name!r} has no text, only tokens: see template_pairs")
    if n < 1:
        raise InputError(f"n = {n}: must be at least 1")
    if frame is not None and not 0 <= frame < len(template.frames):
        raise InputError(f"frame = {frame}: template {name!r} has frames 0 to {len(template.frames) - 1}")
    pools = template.pools if tokenizer is None else usable(name, corruption, tokenizer)
    frames = template.frames if frame is None else template.frames[frame : frame + 1]
    draws = numbers(seed, f"contrast.{name}", n)
    return (template.write(one(frames, draw), pools, corruption, draw) for draw in draws)


def usable(name: str, corruption: str, tokenizer: Tokenizer) -> Pools:
    """The words of a template that are one token each.

    Raises:
      InputError: too few of a pool.
    """
    template = TEMPLATES[name]
    left = template.narrow(template.pools, fitting(tokenizer))
    for pool, entries in left.items():
        least = template.corruptions[corruption].get(pool, 2)
        if len(entries) < least:
            kept = ", ".join("/".join(parts(entry)[:3]) for entry in entries) or "none"
            raise InputError(
                f"template {name!r}: {tokenizer.file} has single tokens for {len(entries)} of the"
                f" {len(template.pools[pool])} entries of {pool!r} ({kept}), and {corruption!r} needs {least}"
            )
    return left


def _known(name: str, corruption: str | None) -> tuple[Template, str]:
    if name not in TEMPLATES:
        raise InputError(f"template {name!r}: {nearest(name, TEMPLATES)}")
    known = TEMPLATES[name].corruptions
    corruption = next(iter(known)) if corruption is None else corruption
    if corruption not in known:
        raise InputError(f"template {name!r} has no corruption {corruption!r}: {nearest(corruption, known)}")
    return TEMPLATES[name], corruption
