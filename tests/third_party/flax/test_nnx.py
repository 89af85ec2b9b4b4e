"""nnx modules as functions with taps, against the same models written out by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from interp_jax import taps
from interp_jax.taps import Edit, TapError
from third_party.flax import sites
from third_party.flax.nnx import tapped

D, L = 4, 3


class Net(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(D, D, rngs=rngs) for _ in range(2)])
        self.last = nnx.Linear(D, 2, rngs=rngs)

    def __call__(self, x, scale=None):
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return self.last(x if scale is None else x * scale)

    def features(self, x):
        return self.layers[0](x)


class Block(nnx.Module):
    def __init__(self, rngs, rate=0.0):
        self.linear, self.drop = nnx.Linear(D, D, rngs=rngs), nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        return x + self.drop(jnp.tanh(self.linear(x)))


class Rematted(Block):
    @nnx.remat
    def __call__(self, x):
        return x + jnp.tanh(self.linear(x))


class Jitted(Block):
    @nnx.jit
    def __call__(self, x):
        return x + jnp.tanh(self.linear(x))


class Deep(nnx.Module):
    """A scan over stacked blocks, by nnx or by JAX."""

    def __init__(self, rngs, kind=Block, by_jax=False, rate=0.0, **options):
        make = nnx.split_rngs(splits=L)(nnx.vmap(lambda rngs: kind(rngs, rate), in_axes=0, out_axes=0))
        self.blocks, self.head = make(rngs), nnx.Linear(D, 2, rngs=rngs)
        self.by_jax, self.options = by_jax, tuple(options.items())

    def __call__(self, x):
        if self.by_jax:
            graphdef, state = nnx.split(self.blocks)
            return self.head(jax.lax.scan(lambda x, s: (nnx.merge(graphdef, s)(x), None), x, state)[0])
        run = nnx.scan(lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry, **dict(self.options))
        return self.head(run(self.blocks, x))


MODELS = {
    "scan": Deep,
    "scan of remat": partial(Deep, kind=Rematted),
    "scan of jit": partial(Deep, kind=Jitted),
    "scan of JAX": partial(Deep, by_jax=True),
    "unrolled": partial(Deep, unroll=L),
}


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(1), (2, D))


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def close(a, b):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), a, b)


def linear(p, x):
    return x @ p["kernel"][...] + p["bias"][...]


def looped(state, x, at=lambda layer, h: h):
    """Deep by hand; `at` changes the output of a layer's Linear."""
    p = nnx.to_pure_dict(state)
    for i in range(L):
        x = x + jnp.tanh(at(i, linear(jax.tree.map(lambda a, i=i: a[i], p["blocks"]["linear"]), x)))
    return linear(p["head"], x)


# ------------------------------------------------------------------------------------------ plain


def test_record_edit_and_the_untouched_model(x):
    model = Net(nnx.Rngs(0))
    plain, (fn, state) = model(x), tapped(model)
    names = ("in", "last.in", "last.out", "layers.0.in", "layers.0.out", "layers.1.in", "layers.1.out", "out")
    assert sites(fn, state, x) == names
    same(fn(state, x), plain)
    y, acts = taps.record(fn, names)(state, x)
    same(y, plain)
    same((acts["in"], acts["out"], acts["last.out"]), (x, y, y))
    close(acts["layers.0.out"], linear(nnx.to_pure_dict(state)["layers"][0], x))
    close(acts["layers.1.in"], jnp.tanh(acts["layers.0.out"]))
    edited = taps.edit(fn)
    same(edited({"last.out": Edit("scale", 0.0)}, state, x), jnp.zeros((2, 2)))
    close(edited({"last.in": Edit("scale", 0.0)}, state, x), jnp.tile(model.last.bias[...], (2, 1)))
    close(edited({"in['scale']": Edit("replace", 1.0)}, state, x, scale=jnp.zeros(D)), plain)
    assert type(model.last) is nnx.Linear and "_tapped_place" not in vars(model.last)
    same(model(x), plain)


def test_gradients_and_sweeps(x):
    fn, state = tapped(Net(nnx.Rngs(0)))
    p = nnx.to_pure_dict(state)
    gradient = jax.grad(lambda e: taps.edit(fn)(e, state, x).sum())({"layers.1.out": Edit("add", jnp.zeros((2, D)))})
    pre = linear(p["layers"][1], jnp.tanh(linear(p["layers"][0], x)))
    by_hand = jax.grad(lambda z: linear(p["last"], jnp.tanh(pre + z)).sum())(jnp.zeros((2, D)))
    close(gradient["layers.1.out"].value, by_hand)
    weights = jax.grad(lambda s: taps.edit(fn)({"last.out": Edit("scale", 2.0)}, s, x).sum())(state)
    close(weights["last"]["bias"][...], jnp.full(2, 4.0))
    values = jnp.linspace(0, 1, 3)
    swept = jax.jit(jax.vmap(lambda v: taps.edit(fn)({"last.out": Edit("scale", v)}, state, x)))(values)
    close(swept, values[:, None, None] * fn(state, x))
    population = jax.vmap(lambda key: nnx.state(Net(nnx.Rngs(key))))(jax.random.split(jax.random.key(3), 3))
    y, acts = jax.vmap(taps.record(fn, ["last.in"]), (0, None))(population, x)
    close(y, jax.vmap(linear)(nnx.to_pure_dict(population)["last"], acts["last.in"]))


def test_other_methods_and_written_variables(x):
    fn, state = tapped(Net(nnx.Rngs(0)), method="features")
    y, acts = taps.record(fn, ["features.in", "features.out", "layers.0.out"])(state, x)
    same(acts, {"features.in": x, "features.out": y, "layers.0.out": y})
    norm = nnx.BatchNorm(D, rngs=nnx.Rngs(0))
    fn, state = tapped(norm, mutable=nnx.BatchStat)
    (y, new), acts = taps.record(fn, ["out"])(state, x)
    same((y, acts["out"]), (norm(x), norm(x)))
    close(new["mean"][...], 0.01 * x.mean(0))
    same(state["mean"][...], jnp.zeros(D))  # the function is pure


def test_a_shared_module_has_numbered_calls(x):
    class Shared(nnx.Module):
        def __init__(self, rngs):
            self.one = nnx.Linear(D, D, rngs=rngs)
            self.two = self.one

        def __call__(self, x):
            run = nnx.remat(lambda m, x: m(x))  # numbers go on from one body to the next
            return run(self.two, run(self.one, x))

    fn, state = tapped(Shared(nnx.Rngs(0)))
    _, acts = taps.record(fn, ["one#0.out", "one#1.in", "one#1.out", "out"])(state, x)
    same(acts["one#0.out"], acts["one#1.in"])
    same(acts["one#1.out"], acts["out"])
    with pytest.raises(TapError, match="'one.out' is called more than once: name the call, 'one#0.out', 'one#1.out'"):
        taps.record(fn, ["one.out"])(state, x)


# ----------------------------------------------------------------------------------------- lifted


@pytest.mark.parametrize("kind", MODELS)
def test_scan_is_the_loop(kind, x):
    model = MODELS[kind](nnx.Rngs(0))
    plain, (fn, state) = model(x), tapped(model)
    y, acts = taps.record(fn, {"blocks.linear.out": (2, 0), "blocks.out": ..., "head.in": ...})(state, x)
    (close if kind == "scan of jit" else same)(y, plain)
    seen = []
    looped(state, x, lambda i, h: seen.append(h) or h)
    close(acts["blocks.linear.out"], jnp.stack([seen[2], seen[0]]))
    same(acts["blocks.out"][-1], acts["head.in"])

    v = jax.random.normal(jax.random.key(2), (L, 1, D))
    one = taps.edit(fn)({"blocks.linear.out": Edit("add", v[1], layer=1)}, state, x)
    close(one, looped(state, x, lambda i, h: h + v[1] if i == 1 else h))
    every = taps.edit(fn)({"blocks.linear.out": Edit("add", v)}, state, x)
    close(every, looped(state, x, lambda i, h: h + v[i]))
    same(model(x), plain)


@pytest.mark.parametrize("kind", ["scan", "scan of remat"])
def test_scan_gradients_and_sweeps(kind, x):
    fn, state = tapped(MODELS[kind](nnx.Rngs(0)))

    def of(shift):
        return taps.edit(fn)({"blocks.linear.out": Edit("add", shift)}, state, x).sum()

    zeros = jnp.zeros((L, 2, D))
    close(jax.grad(of)(zeros), jax.grad(lambda z: looped(state, x, lambda i, h: h + z[i]).sum())(zeros))

    def at(layer):
        return taps.edit(fn)({"blocks.linear.out": Edit("scale", 0.0, layer=layer)}, state, x)

    grid = jax.jit(jax.vmap(at))(jnp.arange(L))
    close(grid, jnp.stack([looped(state, x, lambda i, h, j=j: h * (i != j)) for j in range(L)]))


def test_scan_over_a_population(x):
    fn, _ = tapped(Deep(nnx.Rngs(0)))
    population = jax.vmap(lambda key: nnx.state(Deep(nnx.Rngs(key))))(jax.random.split(jax.random.key(3), 2))
    y, acts = jax.vmap(taps.record(fn, ["blocks.linear.out"]), (0, None))(population, x)
    close(y, jax.vmap(looped, (0, None))(population, x))
    assert acts["blocks.linear.out"].shape == (2, L, 2, D)


class Scanned(nnx.Module):
    """Layers that its own `__call__` runs through: itself scanned, over all that it holds."""

    def __init__(self, rngs):
        make = nnx.vmap(lambda rngs: nnx.Linear(D, D, rngs=rngs), in_axes=0, out_axes=0)
        self.linear = nnx.split_rngs(splits=L)(make)(rngs)

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def __call__(self, x):
        return x + jnp.tanh(self.linear(x))


class Tower(nnx.Module):
    def __init__(self, rngs):
        self.blocks, self.head = Scanned(rngs), nnx.Linear(D, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.blocks(x))


def test_a_call_under_scan_has_its_sites_outside_of_the_loop_and_its_children_inside(x):
    model = Tower(nnx.Rngs(0))
    plain, (fn, state) = model(x), tapped(model)
    y, acts = taps.record(fn, ["blocks.in", "blocks.out", "blocks.linear.out", "head.in"])(state, x)
    same((y, acts["blocks.in"], acts["blocks.out"]), (plain, x, acts["head.in"]))
    seen = []
    looped(state, x, lambda i, h: seen.append(h) or h)
    close(acts["blocks.linear.out"], jnp.stack(seen))
    v = jax.random.normal(jax.random.key(2), (1, D))
    one = taps.edit(fn)({"blocks.linear.out": Edit("add", v, layer=1)}, state, x)
    close(one, looped(state, x, lambda i, h: h + v if i == 1 else h))
    close(taps.edit(fn)({"blocks.out": Edit("scale", 0.0)}, state, x), jnp.tile(model.head.bias[...], (2, 1)))
    with pytest.raises(TapError, match="lies outside every scan"):
        taps.record(fn, {"blocks.out": (0,)})(state, x)


def test_random_numbers_stay_those_of_flax(x):
    model = Deep(nnx.Rngs(0), rate=0.5)
    fn, state = tapped(model)
    y, acts = taps.record(fn, ["blocks.drop.out"])(state, x)
    same((y, fn(state, x)), (model(x),) * 2)
    assert (acts["blocks.drop.out"] == 0).any() and (acts["blocks.drop.out"] != 0).any()


# ----------------------------------------------------------------------------------------- errors


class Inside(nnx.Module):
    """Its child runs inside `transform`."""

    def __init__(self, transform, twice=False):
        self.child, self.transform, self.twice = nnx.Linear(D, D, rngs=nnx.Rngs(0)), transform, twice

    def __call__(self, x):
        y = self.transform(lambda module, x: module(x))(self.child, x)
        return self.child(y) if self.twice else y


_jitted = nnx.jit(lambda module, x: module(x))


def custom_vjp(f):
    """`f` with its own gradients."""
    function = nnx.custom_vjp(f)
    function.defvjp(lambda m, x: (f(m, x), (m, x)), lambda residual, gradient: (residual[0], gradient))
    return function


REFUSED = {
    "grad": lambda f: nnx.grad(lambda m, x: f(m, x).sum(), argnums=1),
    "grad (by nnx.value_and_grad)": lambda f: lambda m, x: nnx.value_and_grad(lambda x: f(m, x).sum())(x)[1],
    "vjp": lambda f: lambda m, x: nnx.vjp(f, m, x, graph_updates=False)[0],
    "jvp": lambda f: lambda m, x: nnx.jvp(lambda x: f(m, x), (x,), (x,), graph_updates=False)[1],
    "custom_vjp": custom_vjp,
    "switch": lambda f: lambda m, x: nnx.switch((x.sum() > 0).astype(int), [lambda m, x: x, f], m, x),
    "while_loop": lambda f: (
        lambda m, x: nnx.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1], f(c[1], c[2])), (0, m, x))[2]
    ),
    "fori_loop": lambda f: lambda m, x: nnx.fori_loop(0, 2, lambda i, c: (c[0], f(c[0], c[1])), (m, x))[1],
    "vmap": lambda f: nnx.vmap(f, in_axes=(None, 0)),
    "jit": nnx.jit,
    "jit that is kept": lambda f: _jitted,
    "cond": lambda f: lambda m, x: nnx.cond(x.sum() > 0, f, lambda m, x: x, m, x),
    "jax.vmap": lambda f: lambda m, x: jax.vmap(lambda row: f(m, row))(x),
    "scan": lambda f: lambda m, x: nnx.scan(f, in_axes=(None, 0), out_axes=0, reverse=True)(m, x),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_lifted_raises_and_names_module_and_transform(name, x):
    model = Inside(REFUSED[name])
    plain, (fn, state) = model(x), tapped(model)
    y, acts = taps.record(fn, ["in", "out"])(state, x)
    same((y, acts["out"]), (plain, plain))
    around = "a transformation" if name.startswith("jax") else f"Flax's lifted {name.split()[0]},"
    for _ in range(2):  # the second time JAX has traced it before
        for act in (taps.record(fn, ["child.out"]), partial(taps.edit(fn), {"child.out": Edit("scale", 2.0)})):
            with pytest.raises(TapError, match=rf"'child.out' is out of reach: module 'child' \(Linear\).*{around}"):
                act(state, x)


def test_a_call_in_reach_does_not_excuse_one_out_of_reach(x):
    fn, state = tapped(Inside(REFUSED["jit that is kept"], twice=True))
    for _ in range(2):
        with pytest.raises(TapError, match="'child.out' is out of reach"):
            taps.edit(fn)({"child.out": Edit("scale", 0.0)}, state, x)


def test_unknown_sites_and_errors_inside(x):
    fn, state = tapped(Deep(nnx.Rngs(0)))
    with pytest.raises(TapError, match="never reached.*'blocks.lin.out': did you mean 'blocks.linear.out'"):
        taps.record(fn, ["blocks.lin.out"])(state, x)
    names = jax.lax.scan, jax.checkpoint, jax.remat
    with pytest.raises(ZeroDivisionError):
        taps.edit_with(fn, {"blocks.linear.out": lambda h, i: 1 / 0})(state, x)
    assert (jax.lax.scan, jax.checkpoint, jax.remat) == names

    class Pair(nnx.Module):
        def __call__(self, x):
            return {"a": x, "b": None}

    fn, state = tapped(Pair())
    with pytest.raises(
        TapError, match=r"'out' of the root module \(Pair\) is not one array; the arrays here: .out\['a'\]"
    ):
        taps.record(fn, ["out"])(state, x)
