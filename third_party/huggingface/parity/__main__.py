"""Measures every case, writes docs/parity.md and its first table into README.md; with the word `golden`, stores what the
reference says instead.
"""

import argparse
import re
import tempfile
from pathlib import Path

import torch
import transformers

from interp_jax.models.sites import SITES
from third_party.huggingface.parity import comparison, golden, ours, theirs
from third_party.huggingface.parity.cases import CASES
from third_party.huggingface.parity.comparison import BARS, OUTPUT

PAGE = Path(__file__).parents[3] / "docs" / "parity.md"
README = PAGE.parents[1] / "README.md"
INTRODUCTION = f"""# Agreement with the reference

Tiny models with random weights are written by `transformers` {transformers.__version__} (PyTorch {torch.__version__},
eager attention), read by `third_party/huggingface`, and run by both on rows with padding on the left, on the right and
not at all. An error is the largest difference at a site, over all layers and rows that are no padding, relative to the
largest value at that site. Of a family with several members (tied or not, one key head or as many as heads, scaled
positions …) it is that of the worst. The bars are {BARS["float64"]:.0e} in float64, for which the reference's internal casts to
float32 are lifted, and {BARS["float32"]:.0e} in float32. Gradients are those of a random projection of the output with
respect to the stream. The output is logits, or the last stream of an encoder without a head. GPT-NeoX's worst is its member
with the activation "gelu_fast", of which the reference truncates a constant. This page, and its first table in the README, are
written by

```text
python -m third_party.huggingface.parity
```

in the environment of `./launch/test --peers`, which checks the same bars.
"""

Errors = dict[str, dict[str, float]]  # of families, by site


def measure(dtype: str) -> Errors:
    """The worst error of every family at every site."""
    worst: Errors = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as directory:
            theirs.write_model(case, Path(directory))
            errors = comparison.errors(case, Path(directory), dtype)
        family = worst.setdefault(name.partition(",")[0], {})
        family |= {site: max(error, family.get(site, 0.0)) for site, error in errors.items()}
        print(f"{name}, {dtype}: {max(errors.values()):.1e}", flush=True)
    return worst


def summary(results: dict[str, Errors]) -> list[str]:
    """Output, worst site and worst gradient of every family."""
    head = [f"{what}, {dtype}" for dtype in results for what in ("output", "sites", "gradients")]
    lines = [row(["family", *head]), row(["---"] * (1 + len(head)))]
    for family in next(iter(results.values())):
        cells = [family]
        for errors in (result[family] for result in results.values()):
            gradients = [error for site, error in errors.items() if site.startswith(ours.GRADIENT)]
            sites = [error for site, error in errors.items() if site != OUTPUT and not site.startswith(ours.GRADIENT)]
            cells += [f"{errors[OUTPUT]:.0e}", f"{max(sites):.0e}", f"{max(gradients):.0e}"]
        lines.append(row(cells))
    return lines


def by_site(worst: Errors) -> list[str]:
    """Every site of every family; an empty cell where a family has no such site."""
    order = [OUTPUT, *(site.name for site in SITES), *(f"{ours.GRADIENT}{site}" for site in ours.STREAM)]
    sites = [site for site in order if any(site in family for family in worst.values())]
    lines = [row(["site", *worst]), row(["---"] * (1 + len(worst)))]
    for site in sites:
        cells = [f"{family[site]:.0e}" if site in family else "" for family in worst.values()]
        lines.append(row([f"`{site}`" if " " not in site else site, *cells]))
    return lines


def quoting(text: str, table: list[str]) -> str:
    """A text whose table of families has the rows of `table`, under a head of its own."""
    rows = "".join(f"{line}\n" for line in table[2:])
    return re.sub(r"^(\| family \|.*\n\|[-|]+\n)(?:\|.*\n)+", rf"\g<1>{rows}", text, flags=re.MULTILINE)


def row(cells: list[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("table", "golden"), default="table")
    torch.set_num_threads(1)
    if parser.parse_args().what == "golden":
        golden.write()
        return
    results = {dtype: measure(dtype) for dtype in BARS}
    table = summary(results)
    parts = [INTRODUCTION, *table]
    for dtype, worst in results.items():
        parts += ["", f"## Every site, {dtype}", "", *by_site(worst)]
    PAGE.write_text("\n".join(parts) + "\n")
    README.write_text(quoting(README.read_text(), table))
    print(PAGE)


if __name__ == "__main__":
    main()
