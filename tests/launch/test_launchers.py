"""The launchers themselves, in an environment that exists already: this one, or a stub that says which check ran."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from interp_jax.errors import InputError
from interp_jax.launch.__main__ import ENGINES
from interp_jax.launch.__main__ import main as engines

ROOT = Path(__file__).parents[2]

# Answers the launcher's question for its packages; reports each check, and fails those named in FAIL.
STUB = """\
#!/bin/bash
case "$1 $2" in
  '-c import importlib.metadata'*) echo jax 0.10.2 ;;
  '-c '*) echo layers; [[ $FAIL != *layers* ]] ;;
  *) echo "${*:2}"; [[ $2 != pytest ]] || exit ${PYTEST:-0}; [[ $FAIL != *$3* ]] ;;
esac
"""
PYTEST = "pytest -n auto --maxprocesses 4 --dist loadfile"
CHECKS = ["ruff format --check .", "ruff check .", "layers"]


@pytest.fixture
def launch(tmp_path):
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)

    def run(name: str, *arguments: str, **environ: str) -> tuple[int, list[str], str]:
        environ = {"INTERP_JAX_PYTHON": str(stub), "FAIL": "none", **environ}
        done = subprocess.run(
            [ROOT / "launch" / name, *arguments],
            cwd=tmp_path,
            env=os.environ | environ,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run


def test_test_runs_every_check(launch):
    status, ran, err = launch("test", "-k", "two words")
    assert (status, ran) == (0, [*CHECKS, f"{PYTEST} -k two words"])
    assert err.splitlines()[-1].endswith("all checks passed")


@pytest.mark.parametrize("fail", ["format", "check", "layers"])
def test_test_goes_on_after_a_failure_and_names_it(launch, fail):
    status, ran, err = launch("test", FAIL=fail)
    assert (status, ran) == (1, [*CHECKS, f"{PYTEST} --ignore=tests/calibration", f"{PYTEST} tests/calibration"])
    name = {"format": "format (ruff)", "check": "lint (ruff)", "layers": "import layers (import-linter)"}[fail]
    assert err.splitlines()[-1] == f"interp_jax: failed: {name}"


@pytest.mark.parametrize("status", [1, 2, 5])
def test_failed_tests_fail_the_command(launch, status):
    assert launch("test", PYTEST=str(status))[0] == 1


@pytest.mark.parametrize(("pytest_status", "status"), [(0, 0), (5, 0), (1, 1)])
def test_peers_are_a_command_of_their_own(launch, pytest_status, status):
    result = launch("test", "--peers", "-x", PYTEST=str(pytest_status))
    assert result[:2] == (status, [f"{PYTEST} -m peers -x"])


def test_peers_starts_its_module(launch):
    assert launch("peers", "nameless")[1] == ["third_party.peers nameless"]


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_has_a_launcher(launch, name):
    assert launch(name, "a b", "--x")[1] == [f"interp_jax.launch {name} a b --x"]


def test_engines_are_listed_and_an_unknown_one_is_one_line(capsys):
    engines([])
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(ENGINES) and all(len(line.split()) > 4 for line in lines)
    with pytest.raises(InputError, match="there is no engine 'slrum'; did you mean 'slurm'?"):
        engines(["slrum", "submit"])
    engines(["slurm"])
    assert "./launch/slurm submit" in capsys.readouterr().out


def test_peers_lists_and_names_the_nearest(launch):
    status, lines, _ = launch("peers", INTERP_JAX_PYTHON=sys.executable)
    files = {path.stem for path in (ROOT / "third_party/peers").glob("[!_]*.py")}
    assert status == 0 and {line.split()[0] for line in lines[1:] if "(" not in line} <= files
    assert all(any(line.startswith(f"  {name}") for line in lines) for name in files)
    status, lines, err = launch("peers", "superpositoin", INTERP_JAX_PYTHON=sys.executable)
    assert (status, lines, err.count("\n")) == (2, [], 1)
    assert "superpositoin" in err


@pytest.mark.slow
def test_tests_of_peers_are_left_out_unless_asked_for(tmp_path):
    (tmp_path / "parity").mkdir()
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "parity/test_other.py").write_text("import a_package_of_other_people\n")
    (tmp_path / "test_own.py").write_text(
        "import pytest\ndef test_own(): pass\n@pytest.mark.peers\ndef test_peer(): pass\n"
    )

    def outcome(*arguments: str) -> str:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            ROOT / "pyproject.toml",
            "--rootdir",
            tmp_path,
            tmp_path,
            *arguments,
        ]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout

    assert "1 passed, 1 deselected" in outcome()
    assert "1 passed, 1 deselected" in outcome("-m", "not slow")
    assert "1 error" in outcome("-m", "peers")  # asked for, and its package is missing


@pytest.mark.parametrize("fails", [None, "ci_packages", "test", "test --peers", "local"])
def test_continuous_integration_runs_everything_and_stops_at_a_failure(tmp_path, fails):
    log = tmp_path / "log"
    for folder in (".ci", "launch"):
        (tmp_path / folder).mkdir()
    (tmp_path / ".ci/run").write_text((ROOT / ".ci/run").read_text())
    (tmp_path / "launch/environment.sh").write_text("working_pythons() { printf '12\\t/a\\n11\\t/b\\n'; }\n")
    for name in ("ci_packages", "test", "local"):
        script = tmp_path / "launch" / name
        script.write_text(
            '#!/bin/bash\nstep="${0##*/}"; [ "$1" != --peers ] || step+=" $1"\n'
            f'echo "$step $INTERP_JAX_BASE_PYTHON" >>{log}\n[ "$step" != "{fails}" ]\n'
        )
        script.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INTERP_JAX")}
    command = ["bash", tmp_path / ".ci/run"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    ran = [line.strip() for line in log.read_text().splitlines()]
    steps = ["ci_packages", "test", "test --peers", "test /b", "local /b"]
    stop = [step.removesuffix(" /b") for step in steps].index(fails) + 1 if fails else len(steps)
    assert ran == steps[:stop], done.stderr
    assert (done.returncode == 0) == (fails is None)
