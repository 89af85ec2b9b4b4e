"""What a dictionary is: its kind and shape, which are static, and its numbers, which are swept without compiling again.

Widths and k are swept too: a program is compiled for `n_features` and `most`, and what is beyond a member's `width` and `k` is
masked.
"""

from interp_jax.errors import InputError, nearest
from interp_jax.parts import hyper, part

KINDS = (
    "standard", "p_anneal", "gated", "topk", "batch_topk", "matryoshka", "abs_topk", "jumprelu", "matching_pursuit"
)  # fmt: skip
BY_K = ("topk", "batch_topk", "matryoshka", "abs_topk", "matching_pursuit")  # whose sparsity is a number of features
PENALTIES = ("step", "tanh", "target")
AUXILIARIES = ("none", "openai", "saelens")
PRODUCTS = ("auto", "sparse", "dense")


@part
class Dictionary:
    """A dictionary of F features of width D.

    Attributes:
      kind: one of `KINDS`, each a file of its own.
      d_in: width of what it reads.
      d_out: width of what it writes, for transcoders; 0 is `d_in`.
      n_features: F.
      most: the largest k of the program; 0 for kinds without k.
      penalty: of "jumprelu": "step", "tanh" or "target".
      prefixes: of "matryoshka": how many of the first features reconstruct alone, rising, each a share of F.
      auxiliary: how dead features are brought back: "none", "openai" or "saelens".
      products: of kinds in `BY_K`, after the encoder's: "sparse", "dense", or "auto" for what suits the machine.
      width: features in use; 0 is all F.
      k: of kinds in `BY_K`.
      sparsity: weight of the penalty of the other kinds.
      sparsity_warmup: share of the steps over which the penalty rises from 0 (and k falls, from `most`).
      last_power: of "p_anneal": the power at the end.
      anneal_start: of "p_anneal": share of the steps after which the power leaves 1.
      bandwidth: of "jumprelu": width of the kernel that its derivatives are estimated with.
      first_threshold: of "jumprelu".
      tanh_scale: of "jumprelu" with "tanh": how sharply it counts.
      target: of "jumprelu" with "target": mean number of active features.
      dead_after: examples without firing after which a feature counts as dead.
      auxiliary_weight: of the auxiliary loss.
      first_norm: length of the decoder's first rows, where they are free.
    """

    kind: str = "topk"
    d_in: int = 64
    d_out: int = 0
    n_features: int = 512
    most: int = 32
    penalty: str = "step"
    prefixes: tuple = (0.0625, 0.125, 0.25, 0.5, 1.0)
    auxiliary: str = "openai"
    products: str = "auto"
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
    dead_after: int = hyper(1_000_000)
    auxiliary_weight: float = hyper(1 / 32)
    first_norm: float = hyper(0.1)

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        for name, known in (
            ("kind", KINDS),
            ("penalty", PENALTIES),
            ("auxiliary", AUXILIARIES),
            ("products", PRODUCTS),
        ):
            value = getattr(self, name)
            if value not in known:
                raise InputError(f"dictionary.{name}: unknown {value!r}; {nearest(value, known)}")
        if self.d_in < 1 or self.d_out < 0 or self.n_features < 1:
            raise InputError("dictionary: d_in and n_features must be at least 1, d_out at least 0")
        if not 0 <= self.width <= self.n_features:
            raise InputError(f"dictionary.width: {self.width} is not in 0 … n_features = {self.n_features}")
        if self.kind in BY_K:
            self._check_k()
        if self.kind == "matryoshka":
            self._check_prefixes()
        if self.kind == "matching_pursuit" and self.d_out not in (0, self.d_in):
            raise InputError("dictionary.d_out: matching pursuit explains what it reads, so d_out is d_in")
        for name in ("bandwidth", "first_threshold", "tanh_scale", "target", "last_power", "first_norm"):
            if not getattr(self, name) > 0:
                raise InputError(f"dictionary.{name}: {getattr(self, name)} is not positive")

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
    def width_out(self) -> int:
        """Width of what it writes."""
        return self.d_out or self.d_in
