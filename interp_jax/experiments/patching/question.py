"""The blocks of the report that say what is asked: the model, the pairs, the metric, and what shares are shares of."""

from collections.abc import Sequence

from interp_jax.data.contrast.templates import TEMPLATES
from interp_jax.experiments.patching.corruption import NOISE, RESAMPLE
from interp_jax.experiments.patching.listing import MEANING
from interp_jax.experiments.patching.sources import MEAN, RUN, ZERO
from interp_jax.experiments.patching.view import View
from interp_jax.results import tables
from interp_jax.results.blocks import Block, Code, Section, TableBlock, Text
from interp_jax.results.plot_style import BLANKS
from interp_jax.results.tables import Table

KNOWN = (
    "Of this circuit the truth is known. Head 0.0 writes at every position the token before it; head 1.0 looks where its own"
    " token was the one before, and says the token there. So head 0.0, head 1.0, and the path from the one into the keys of the"
    " other must each carry the whole effect, and so must what these are made of: the values of 0.0 and the keys of 1.0. Every"
    " other head and path must carry nothing."
)
DIRECTIONS_TEXT = (
    "An activation is put into one of the two runs at one place, and all that follows is computed anew; the metric is then read"
    " again. Two directions, which are two questions. Denoising puts it into the corrupted run: is the node enough?"
    " `restored = (patched - corrupted) / (clean - corrupted)`. Noising puts it into the clean run: is it needed?"
    " `lost = (clean - patched) / (clean - corrupted)`. Both are 0 for a node that does nothing and 1 for one that does"
    " everything; means over pairs are divided, not pairs. A node that is enough but not needed has others that back it up;"
    " one that is needed but not enough works only along with others."
)
PUT_IN = {  # in a table, and in full
    RUN: ("the other run's activation", "What is put in is the activation of the pair's other run."),
    MEAN: (
        "the mean over all other pairs",
        "What is put in is the mean of the other side's activations there, over all other pairs (mean ablation). So denoising"
        " asks what clean runs have in common, and noising what a node says of its own prompt.",
    ),
    ZERO: (
        "zero",
        "What is put in is 0 (zero ablation), in both directions. So noising asks whether the clean run needs what the node"
        " says at all, and denoising whether the corrupted run does better without it.",
    ),
}
LINES = {blank: mark for blank, mark in BLANKS.items() if blank != " "}  # a pair is two lines, whatever is in it


def question_blocks(view: View) -> list[Block]:
    """What is patched, and how to read it."""
    text = KNOWN if is_known(view) else ""
    return [
        Section("The model and the task", text),
        TableBlock(Table(("", ""), [*view.about["facts"], *task_facts(view)], "What is asked.")),
        *example_blocks(view),
        Text(f"{DIRECTIONS_TEXT}\n\n{PUT_IN[view.config.source][1]}\n\n{MEANING}"),
        TableBlock(metric_table(view)),
    ]


def is_known(view: View) -> bool:
    """Whether the truth of the circuit built by hand is what is asked."""
    task = view.config.task
    standard = not task.file and task.name == "induction" and task.corruption in ("", "key")
    return standard and not view.config.model.path and view.config.source == RUN


def task_facts(view: View) -> list[tuple[str, str]]:
    """The task, for people."""
    task = view.config.task
    what = f"pairs of {task.file}" if task.file else f"{task.name}: {TEMPLATES[task.name].about}"
    return [
        ("task", what),
        ("corruption", corruption_of(view)),
        ("put in", PUT_IN[view.config.source][0]),
        ("pairs", str(len(view.clean))),
        ("metric", view.unit),
    ]


def corruption_of(view: View) -> str:
    """How the other run differs, for people."""
    task = view.config.task
    if task.corruption == NOISE:
        return f"noise on the embeddings of the tokens with ~, {task.noise:g} times their standard deviation"
    if task.corruption == RESAMPLE:
        return "the clean prompt of another pair, whose places may lie elsewhere"
    return task.corruption or ("the file's" if task.file else next(iter(TEMPLATES[task.name].corruptions)))


def example_blocks(view: View) -> list[Block]:
    """Some pairs, with the tokens that differ in brackets."""
    lines = [line for pair in view.about["examples"] for line in example_lines(pair)]
    noisy = view.config.task.corruption == NOISE
    differ = "with ~ have noise on their embeddings" if noisy else "in which the two sides differ are in brackets"
    return [
        Text(f"Some of the pairs; the tokens {differ}."),
        Code("\n".join(lines)),
    ]


def example_lines(pair: dict[str, list[str]]) -> list[str]:
    """The two sides of a pair, one above the other."""
    space = " " if all(token.isdecimal() for token in pair["clean"]) else ""
    sides = {"clean": [], "corrupted": []}
    clean, corrupted = (["".join(LINES.get(c, c) for c in token) for token in pair[name]] for name in sides)
    for tokens in zip(clean, corrupted, strict=True):
        width = max(map(len, tokens)) if space else 0
        for side, token in zip(sides.values(), tokens, strict=True):
            side.append(f"[{token:>{width}}]" if tokens[0] != tokens[1] else token)
    ends = {"clean": f"→ {shown(pair['answers'])}", "corrupted": f"against {shown(pair['others'])}"}
    return [f"{name:<11}{space.join(side)}   {ends[name]}" for name, side in sides.items()] + [""]


def shown(tokens: Sequence[str], most: int = 4) -> str:
    """Some of several tokens."""
    rest = f" and {len(tokens) - most} more" if len(tokens) > most else ""
    return ", ".join(map(repr, tokens[:most])) + rest


def metric_table(view: View) -> Table:
    """The two runs, and the effect whose shares are shown."""
    rows = [
        ("clean", tables.interval(view.clean)),
        ("corrupted", tables.interval(view.corrupted)),
        ("whole effect", tables.interval(view.clean - view.corrupted)),
    ]
    pairs = f"{len(view.clean)} pairs"
    return Table(("run", view.unit), rows, f"The metric of the two runs, mean and 95% interval over {pairs}.")
