"""`pip install .`: what is in the package, and that its dependencies are requirements.txt, said once."""

import shutil
import subprocess
import sys
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
pytest.importorskip("setuptools", "77", reason="the build backend of requirements-dev.txt")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package as pip installs it, without a network; from a copy, since a build leaves files in its source."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name in ("interp_jax", "configs", "third_party", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "requirements-dev.txt", "README.md"):
        shutil.copy(ROOT / name, source)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", target]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, source], check=True, timeout=120)
    return target


def files(package: Path) -> set[Path]:
    return {
        path.relative_to(package) for path in package.rglob("*.*") if path.suffix in (".py", ".css", ".js", ".html")
    }


def requirements(name: str) -> set[Requirement]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return {Requirement(line) for line in lines if line}


def test_it_holds_the_whole_library_and_nothing_else(installed):
    assert {path.name for path in installed.iterdir() if not path.name.endswith("-info")} == {"interp_jax"}
    assert files(ROOT / "interp_jax") == files(installed / "interp_jax")


def test_it_is_importable_from_anywhere(installed, tmp_path):
    command = [sys.executable, "-c", "import interp_jax, interp_jax.taps; print(interp_jax.__file__)"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(installed)}, capture_output=True, text=True)
    assert done.stdout.strip() == str(installed / "interp_jax/__init__.py"), done.stderr


def test_its_dependencies_are_the_requirements_files(installed):
    (metadata,) = installed.glob("interp_jax-*.dist-info/METADATA")
    fields = HeaderParser().parsestr(metadata.read_text())
    declared = {Requirement(line) for line in fields.get_all("Requires-Dist")}
    extra = {requirement for requirement in declared if "extra" in str(requirement.marker)}
    assert declared - extra == requirements("requirements.txt")
    assert {r.name for r in extra} == {r.name for r in requirements("requirements-dev.txt")}
    assert fields["Requires-Python"] == "<3.14,>=3.11"
