"""How far the transformer family is from the reference implementation, measured: at every site, and for gradients.

    cases.py       tiny configurations of every architecture, with what tells its members apart
    weights.py     random weights by name and seed, in the published format
    batches.py     what the models read: rows with padding on either side, and a long one without
    lifting.py     the reference in float64: the casts to float32 inside of it are lifted
    theirs.py      the reference run once: logits, what its modules pass on, gradients at the stream
    places.py      which module of the reference shows which of our sites
    ours.py        the same from our side
    comparison.py  the errors of one case
    golden.py      what the reference says of every case, stored

The reference is the `transformers` library (Apache-2.0) on PyTorch. Only `lifting.py`, `theirs.py` and what
measures (`comparison.errors`, `golden.compute`) need it.

    python -m third_party.huggingface.parity           writes docs/parity.md, and its first table into README.md
    python -m third_party.huggingface.parity golden    writes what is stored
"""
