"""Greater-than: "The war lasted from the year 1732 to the year 17" -> any two digits above 32.

XX are the century's digits, YY the year's. The answers are all two-digit tokens above YY that the tokenizer writes after XX,
the others those up to YY. Corruption:

    01   the war begins in XX01, so that every year but the first is later

Hanna et al. 2023, "How does GPT-2 compute greater-than?". It needs a tokenizer that cuts a year into two pairs of digits.
"""

from interp_jax.data.contrast.text import Fits, Numbers, Pools, Template, TextPair, contrast, one, single
from interp_jax.errors import InputError

NOUNS = """war siege journey trial drought strike dispute voyage expedition project campaign conflict rebellion experiment
tour treaty alliance"""
FRAMES = (
    "The {noun} lasted from the year {XX1}{YY} to the year {XX2}",
    "The {noun} began in the year {XX1}{YY} and ended in the year {XX2}",
    "This was the {noun} that started in the year {XX1}{YY} and was over in the year {XX2}",
)
CENTURIES = ("11", "12", "13", "14", "15", "16", "17", "18")
DIGITS = tuple(f"{i:02d}" for i in range(100))
BEFORE = "the year"


def write(frame: str, pools: Pools, corruption: str, draw: Numbers) -> TextPair:
    """One pair."""
    century, *digits = one(pools["century"], draw)
    year = one([d for d in digits if "01" < d < digits[-1]], draw)
    later, earlier = [d for d in digits if d > year], [d for d in digits if d <= year]
    words = {"noun": one(pools["noun"], draw), "XX1": century, "YY": year, "XX2": century}
    return contrast(frame, words, {"YY": corruption}, later, earlier)


def narrow(pools: Pools, fits: Fits) -> Pools:
    """Each century with the two-digit years that the tokenizer writes after it; those with fewer than 50 are left out.

    Raises:
      InputError: two digits that are one token after no century.
    """
    known = [century for century in pools["century"] if fits(BEFORE, f" {century[0]}")]
    after = {c: [d for d in years if fits(f"{BEFORE} {c}", d)] for c, *years in known}
    lacking = sorted(set(DIGITS[1:]) - {d for years in after.values() for d in years})
    if lacking:
        raise InputError(
            f"template 'greater_than': the tokenizer has no single token for {len(lacking)} of the 99 pairs of digits 01 to"
            f" 99 that may end a year ({lacking[0]!r} the first): it needs one that writes 1732 as 17, 32"
        )
    centuries = tuple((c, *years) for c, years in after.items() if "01" in years and len(years) >= 50)
    return {**single({"noun": pools["noun"]}, fits), "century": centuries}


GREATER_THAN = Template(
    about="a year that is later than the one given (Hanna et al. 2023)",
    corruptions={"01": {"century": 1}},
    frames=FRAMES,
    pools={"noun": tuple(NOUNS.split()), "century": tuple((c, *DIGITS) for c in CENTURIES)},
    write=write,
    narrow=narrow,
)
