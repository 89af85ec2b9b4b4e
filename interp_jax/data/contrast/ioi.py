"""Indirect object identification: "When Mary and John came to the park, John brought the ball to" -> " Mary".

IO is the name that appears once and is the answer, S the one that appears twice. In the order ABBA the IO comes first, in BABA
the subject. S1+1 is the token after the first S. Corruptions:

    ABC       three other names, unrelated: nobody is repeated, so nothing says who it is
    flipped   the second S becomes the IO: S is the answer

Wang et al. 2022, "Interpretability in the Wild: a Circuit for Indirect Object Identification in GPT-2 small".
"""

from interp_jax.data.contrast.text import Numbers, Pools, Template, TextPair, after, contrast, one, several, single

NAMES = """Mary John Tom James Anna Sarah David Michael Paul Mark Kate Laura Emma Peter Simon Alice Robert Jack Emily Daniel
Adam Linda Susan Henry Rachel Kevin Jason Lisa Helen George Frank Martin Anne Julia Claire Grace"""
LOCATIONS = "store park school office garden house station hospital library beach market restaurant museum church"
GIFTS = "book ball ring drink phone letter bag key bottle flower box computer ticket camera map watch"

FRAMES = (
    "When {1} and {2} came to the {location}, {S2} brought the {gift} to",
    "While {1} and {2} were working at the {location}, {S2} handed the {gift} to",
    "After {1} and {2} had met at the {location}, {S2} decided to give a {gift} to",
    "Yesterday {1} and {2} took a walk to the {location}, and {S2} offered a {gift} to",
    "Then {1} and {2} had a long talk in the {location}. Later {S2} sent a {gift} to",
    "Friends of both say that {1} and {2} found a {gift} at the {location}, and that {S2} showed it to",
)
ORDERS = {"ABBA": ("{IO}", "{S1}"), "BABA": ("{S1}", "{IO}")}


def write(frame: str, pools: Pools, corruption: str, draw: Numbers) -> TextPair:
    """One pair."""
    words = {"location": one(pools["location"], draw), "gift": one(pools["gift"], draw)}
    io, subject, *unrelated = several(pools["name"], 5 if corruption == "ABC" else 2, draw)
    changed = dict(zip(("IO", "S1", "S2"), unrelated, strict=True)) if corruption == "ABC" else {"S2": io}
    words |= {"IO": io, "S1": subject, "S2": subject}
    pair = contrast(frame, words, changed, (f" {io}",), (f" {subject}",))
    return pair._replace(places={**pair.places, "S1+1": after(pair.clean, pair.places["S1"])})


IOI = Template(
    about="which name comes next: the one that was not repeated (Wang et al. 2022)",
    corruptions={"ABC": {"name": 5}, "flipped": {}},
    frames=tuple(f.replace("{1}", a).replace("{2}", b) for a, b in ORDERS.values() for f in FRAMES),
    pools={"name": tuple(NAMES.split()), "location": tuple(LOCATIONS.split()), "gift": tuple(GIFTS.split())},
    write=write,
    narrow=single,
)
