"""Docstring: a Python function's documented parameters follow the order of its definition.

    def load(self, path, color, file, state):
        '''common first

        :param path: open second
        :param color: general first
        :param                                    -> " file"

A, B, C and D are the parameters; C is the answer. Corruptions:

    answer   C is another word in the definition: that word is the answer
    doc      A and B are other words in the documentation: nothing says which parameter comes next

Heimersheim and Janiak 2023, "A circuit for Python docstrings in a 4-layer attention-only transformer".
"""

from interp_jax.data.contrast.text import Numbers, Pools, Template, TextPair, contrast, one, several, single

FUNCTIONS = "run send load check update build start call make parse"
PARAMETERS = """file name size list key value path data color text label image count index result item group date user state
model node page code order level table field version shape event"""
WORDS = """the first second new old long short open large small main other great local final whole common general public
simple"""
FRAME = '''def {function}(self, {A_def}, {B_def}, {C_def}, {D_def}):
    """{summary}

    :param {A_doc}: {A_text}
    :param {B_doc}: {B_text}
    :param'''


def write(frame: str, pools: Pools, corruption: str, draw: Numbers) -> TextPair:
    """One pair."""
    texts = {blank: " ".join(several(pools["word"], 2, draw)) for blank in ("summary", "A_text", "B_text")}
    words = {"function": one(pools["function"], draw), **texts}
    a, b, c, d, *spare = several(pools["parameter"], 4 + (1 if corruption == "answer" else 2), draw)
    words |= {"A_def": a, "B_def": b, "C_def": c, "D_def": d, "A_doc": a, "B_doc": b}
    changed = {"C_def": spare[0]} if corruption == "answer" else dict(zip(("A_doc", "B_doc"), spare, strict=True))
    others = spare if corruption == "answer" else (a, b, d)
    return contrast(frame, words, changed, (f" {c}",), [f" {other}" for other in others])


DOCSTRING = Template(
    about="the next parameter that a docstring names (Heimersheim and Janiak 2023)",
    corruptions={"answer": {"parameter": 5}, "doc": {"parameter": 6}},
    frames=(FRAME,),
    pools={
        "function": tuple(FUNCTIONS.split()),
        "parameter": tuple(PARAMETERS.split()),
        "word": tuple(WORDS.split()),
    },
    write=write,
    narrow=single,
)
