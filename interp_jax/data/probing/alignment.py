"""Which tokens of a model a stretch of text is: by the characters that each token stands for."""

from collections.abc import Sequence

from interp_jax.errors import InputError

Span = tuple[int, int]  # characters [start, end)


def tokens_of(span: Span, spans: Sequence[Span], text: str, label: str) -> range:
    """The tokens that a span of characters is, exactly; blanks before it may belong to its first token.

    Args:
      span: asked for.
      spans: characters of each token, in order.
      text: in which they lie.
      label: what errors call the example.

    Raises:
      InputError: the span begins or ends within a token, or has none; names it and the token.
    """
    start, end = span
    inside = [i for i, (begin, stop) in enumerate(spans) if begin < end and stop > start]
    if not inside:
        raise InputError(f"{label}: span [{start}, {end}) {text[start:end]!r} has no token")
    for i in (inside[0], inside[-1]):
        begin, stop = spans[i]
        if text[begin:start].strip() or stop > end:
            raise InputError(
                f"{label}: span [{start}, {end}) {text[start:end]!r} cuts the token {text[begin:stop]!r}, which is"
                f" characters [{begin}, {stop}): give spans that end where tokens do"
            )
    return range(inside[0], inside[-1] + 1)
