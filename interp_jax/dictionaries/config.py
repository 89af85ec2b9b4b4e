"""What a dictionary is: its kind and shape, which are static, and its numbers, which are swept without compiling again.

Widths and k are swept too: a program is compiled for `n_features` and `most`, and what is beyond a member's `width` and `k` is
masked.
"""

from typing import Any

from interp_jax.errors import InputError, nearest
from interp_jax.parts import hyper, part

KINDS = (
    "standard", "p_anneal", "gated", "topk", "batch_topk", "matryoshka", "abs_topk", "jumprelu", "matching_pursuit",
    "cross_layer",
)  # fmt: skip
BY_K = ("topk", "batch_topk", "matryoshka", "abs_topk", "matching_pursuit")  # whose sparsity is a number of features
WITH_THRESHOLDS = ("jumprelu", "cross_layer")
RESAMPLED = ("standard", "p_anneal", "gated", "jumprelu", "topk", "batch_topk", "matryoshka", "abs_topk")
PENALTIES = ("step", "tanh", "target")
AUXILIARIES = ("none", "openai", "saelens")
REVIVED = ("topk", "batch_topk", "matryoshka", "abs_topk")  # that have an auxiliary loss
CONTROLS = ("none", "l0")
THRESHOLDS = ("log", "linear")
PRODUCTS = ("auto", "sparse", "dense")
# which kinds read an option; for others it stays at its default, or at what they do in any case
READ_BY = {
    "auxiliary": (REVIVED, ("openai", "none")),
    "products": (BY_K, ("auto", "dense")),
    "penalty": (WITH_THRESHOLDS, ("step",)),
    "thresholds": (WITH_THRESHOLDS, ("log",)),
}
# of JumpReLU: a kernel about as wide as features are large, a first threshold within it, and a penalty that does not silence
# what has not grown yet; with the published .05 and .01 thresholds hardly move on activations of this library's scale
WIDE_KERNEL = {"bandwidth": 0.5, "first_threshold": 0.3, "first_norm": 1.0, "sparsity_warmup": 0.2}


@part
class Dictionary:
    """A dictionary of F features of width D.

    Attributes:
      kind: one of `KINDS`, each a file of its own.
      d_in: width of what it reads.
      d_out: width of what it writes, for transcoders (`dictionary.py`); 0 is `d_in`.
      n_features: F.
      most: the largest k of the program; 0 for kinds without k.
      pieces: what is written is so many vectors side by side, of layers or of models: a crosscoder (`dictionary.py`). Of
        "cross_layer" the layers, of which what is read and what is written are so many vectors side by side.
      skip: whether a linear map from what is read is added to what is written: a skip transcoder (`dictionary.py`).
      centred: whether the decoder's bias is taken off what is read; not where `d_out` is given.
      thresholds: of `WITH_THRESHOLDS`: what is learned: their logarithm, or themselves, kept from falling below 0.
      penalty: of `WITH_THRESHOLDS`: "step", "tanh" or "target".
      prefixes: of "matryoshka": how many of the first features reconstruct alone, rising, each a share of F.
      auxiliary: of `REVIVED`: how dead features are brought back: "none", "openai" or "saelens".
      resample_every: steps after which dead features are started anew where reconstruction is worst; 0 is never.
      control: of the other kinds, how the weight of the penalty is found: "none" as `sparsity` says, or "l0" from there on so
        that `target` features are active on average.
      products: of kinds in `BY_K`, after the encoder's: "sparse", "dense", or "auto" for what was faster.
      feature_shards: most devices over which features lie, where dictionaries are laid over several (`sharded.py`).
      width: features in use; 0 is all F.
      k: of kinds in `BY_K`.
      sparsity: weight of the penalty of the other kinds.
      sparsity_warmup: share of the steps, 0 to 1, over which the penalty rises from 0 (and k falls, from `most`).
      last_power: of "p_anneal": the power at the end.
      anneal_start: of "p_anneal": share of the steps, 0 to 1, after which the power leaves 1.
      bandwidth: of `WITH_THRESHOLDS`: width of the kernel that its derivatives are estimated with.
      first_threshold: of `WITH_THRESHOLDS`.
      tanh_scale: of these with "tanh": how sharply it counts.
      target: of these with "target", and of the control of L0: mean number of active features.
      control_rate: of the control of L0: change of the logarithm of the weight in a step, where L0 is twice the target.
      dead_after: examples without firing after which a feature counts as dead; at least 1.
      auxiliary_weight: of the auxiliary loss.
      first_norm: length of the decoder's first rows, where they are free.
    """

    kind: str = "topk"
    d_in: int = 64
    d_out: int = 0
    n_features: int = 512
    most: int = 32
    pieces: int = 1
    skip: bool = False
    centred: bool = True
    thresholds: str = "log"
    penalty: str = "step"
    prefixes: tuple = (0.0625, 0.125, 0.25, 0.5, 1.0)
    auxiliary: str = "openai"
    resample_every: int = 0
    control: str = "none"
    products: str = "auto"
    feature_shards: int = 1
    width: int = hyper(0)
    k: int = hyper(32)
    sparsity: float = hyper(1.0)
    sparsity_warmup: float = hyper(0.0)
    last_power: float = hyper(0.5)
    anneal_start: float = hyper(0.2)
    bandwidth: float = hyper(0.05)
    first_threshold: float = hyper(0.01)
    tanh_scale: float = hyper(4.0)
    target: float = hyper(32.0)
    control_rate: float = hyper(0.003)
    dead_after: int = hyper(1_000_000)
    auxiliary_weight: float = hyper(1 / 32)
    first_norm: float = hyper(0.1)

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        for name, known in (
            ("kind", KINDS),
            ("penalty", PENALTIES),
            ("auxiliary", AUXILIARIES),
            ("control", CONTROLS),
            ("thresholds", THRESHOLDS),
            ("products", PRODUCTS),
        ):
            value = getattr(self, name)
            if value not in known:
                raise InputError(f"dictionary.{name}: unknown {value!r}; {nearest(value, known)}")
        self._check_numbers()
        if self.d_in < 1 or self.d_out < 0 or self.n_features < 1:
            raise InputError("dictionary: d_in and n_features must be at least 1, d_out at least 0")
        if not 0 <= self.width <= self.n_features:
            raise InputError(f"dictionary.width: {self.width} is not in 0 … n_features = {self.n_features}")
        if self.feature_shards < 1 or self.n_features % self.feature_shards:
            raise InputError(
                f"dictionary.feature_shards: {self.feature_shards} does not divide n_features = {self.n_features}"
            )
        if self.is_by_k:
            self._check_k()
        if self.kind == "matryoshka":
            self._check_prefixes()
        self._check_form()
        if self.control != "none" and (self.is_by_k or self.has_target):
            raise InputError(
                f"dictionary.control: {self.kind!r} is as sparse as it is told; only penalties are controlled"
            )
        for name, (kinds, harmless) in READ_BY.items():
            if self.kind not in kinds and (value := getattr(self, name)) not in harmless:
                raise InputError(f"dictionary.{name} = {value!r}: {self.kind!r} has none; {', '.join(kinds)} have")

    def _check_numbers(self) -> None:
        for name in ("d_in", "d_out", "n_features", "most", "pieces", "feature_shards", "width", "k", "dead_after"):
            if not is_whole(value := getattr(self, name)):
                raise InputError(f"dictionary.{name} = {value!r}: must be a whole number")
        for name in (
            "bandwidth",
            "first_threshold",
            "tanh_scale",
            "target",
            "last_power",
            "first_norm",
            "control_rate",
        ):
            if not getattr(self, name) > 0:
                raise InputError(f"dictionary.{name}: {getattr(self, name)} is not positive")
        for name in ("sparsity", "auxiliary_weight"):
            if not getattr(self, name) >= 0:
                raise InputError(f"dictionary.{name}: {getattr(self, name)} is negative")
        for name in ("sparsity_warmup", "anneal_start"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"dictionary.{name}: {getattr(self, name)} is no share of the steps, from 0 to 1")
        if self.dead_after < 1:
            raise InputError(f"dictionary.dead_after: {self.dead_after} examples; it must be at least 1")

    def _check_form(self) -> None:
        if self.kind == "matching_pursuit" and (self.d_out or not self.centred):
            raise InputError(
                "dictionary.d_out, centred: matching pursuit explains what it reads, less the decoder's bias"
            )
        if self.skip and not self.d_out:
            raise InputError("dictionary.skip: only a transcoder has what it reads beside what it writes; set d_out")
        if self.kind == "cross_layer" and (
            self.pieces < 1 or not self.d_out or self.d_in % self.pieces or self.n_features % self.pieces
        ):
            raise InputError(
                f"dictionary.pieces: {self.pieces} layers of a cross-layer transcoder must divide d_in = {self.d_in}, d_out = "
                f"{self.d_out}, which it has, and n_features = {self.n_features}"
            )
        if self.resample_every < 0 or (self.resample_every and (self.kind not in RESAMPLED or self.d_out)):
            raise InputError(
                f"dictionary.resample_every = {self.resample_every}: at least 0, and for {', '.join(RESAMPLED)} that say what "
                "they read"
            )
        if self.kind == "cross_layer" and (self.skip or self.width):
            raise InputError("dictionary.skip, width: a cross-layer transcoder has neither; leave them out")
        if self.pieces < 1 or self.width_out % self.pieces:
            raise InputError(f"dictionary.pieces: {self.pieces} does not divide {self.width_out}, what is written")

    def _check_k(self) -> None:
        used = self.width or self.n_features
        if not 1 <= self.k <= used:
            raise InputError(f"dictionary.k: {self.k} of {used} features; it must be from 1 to their number")
        if self.k > self.most:
            raise InputError(f"dictionary.most: {self.most} is less than k = {self.k}, which its program has room for")
        if self.most > self.n_features:
            raise InputError(f"dictionary.most: {self.most} is more than n_features = {self.n_features}")

    def _check_prefixes(self) -> None:
        rising = all(a < b for a, b in zip(self.prefixes, self.prefixes[1:], strict=False))
        if not self.prefixes or not rising or self.prefixes[0] <= 0 or self.prefixes[-1] != 1:
            raise InputError(f"dictionary.prefixes: {self.prefixes} must rise from above 0 to 1")

    @property
    def is_by_k(self) -> bool:
        """Whether its sparsity is a number of features, k."""
        return self.kind in BY_K

    @property
    def has_target(self) -> bool:
        """Whether the penalty itself has a number of active features in it."""
        return self.kind in WITH_THRESHOLDS and self.penalty == "target"

    @property
    def width_out(self) -> int:
        """Width of what it writes."""
        return self.d_out or self.d_in


def is_whole(value: Any) -> bool:
    """Whether a value is an integer, of Python or of an array library."""
    return hasattr(value, "__index__") and not isinstance(value, bool)
