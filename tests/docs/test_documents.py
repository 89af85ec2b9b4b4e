"""Every command and code block in README.md and docs/ runs as written.

Python blocks of a page run in one namespace, in order. Shell commands, which are slow, run with the environment the tests
run in. Lines that start other projects' packages belong to the comparisons, and `./launch/test` itself is what runs this
file.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    return [text for name, text in BLOCK.findall(page.read_text()) if name == language]


def commands():
    found = {}
    for page in PAGES:
        for line in "".join(blocks(page, "bash")).splitlines():
            words = line.partition("  #")[0].strip()
            if words and not words.startswith("#"):
                found.setdefault(words, page.name)
    return [pytest.param(words, id=f"{name}: {words}", marks=pytest.mark.slow)
            for words, name in found.items() if not runs_elsewhere(words)]  # fmt: skip


def runs_elsewhere(words):
    """The suite itself; the comparisons; getting the sources."""
    return words.startswith(("./launch/test", "./launch/peers", "git clone", "cd "))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for number, text in enumerate(blocks(page, "python"), 1):
        exec(compile(text, f"{page.name}, Python block {number}", "exec"), namespace)


def test_a_new_probe_is_a_file_of_forty_lines():
    """As docs/write_a_probe.md says: its first block, all that a probe needs, and nothing else."""
    (page,) = (page for page in PAGES if page.name == "write_a_probe.md")
    first = blocks(page, "python")[0]
    assert "def fit(" in first and "def predict(" in first and "PROBE = Probe(" in first
    assert len(first.splitlines()) <= 40


@pytest.mark.parametrize("words", commands())
def test_commands(words, tmp_path):
    environment = {**os.environ, "INTERP_JAX_PYTHON": sys.executable, "INTERP_JAX_RUNS": str(tmp_path)}
    environment.pop("XLA_FLAGS", None)
    done = subprocess.run(["bash", "-c", words], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if "--config" in shlex.split(words) and "./launch/plan" not in words:
        report = Path(done.stdout.strip().splitlines()[-1].removeprefix("report: "))
        assert report.is_file() and tmp_path in report.parents


def test_every_block_is_of_a_kind_that_is_tested():
    for page in PAGES:
        kinds = {name for name, _ in BLOCK.findall(page.read_text())}
        assert kinds <= {"python", "bash", "text", "json"}, page
