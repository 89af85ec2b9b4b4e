"""The launchers' environment: which Python is found, when it counts as made, what happens when something is missing.

Each test has a repository of its own with the real `launch/environment.sh`, and a PATH that holds ordinary tools and
*stub* Pythons: scripts that answer the launcher's questions, write down what they are asked, and install nothing.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = "awk bash cat cksum dirname env grep kill mkdir mv rm sleep sort tee touch tr uname".split()
LENS4 = "third_party/peers/requirements-lens4.txt"
ALONE = "third_party/peers/requirements-alone.txt"
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "third_party/peers/requirements.txt", ALONE, LENS4)

STUB = """\
#!/bin/bash
case "$1 $2" in
  '-c '*sys.implementation*) [ -z "{minor}" ] || printf '{minor}\\t%s\\t%s\\n' "$0" "$0" ;;
  '-c '*fcntl*) exec {python} -c "$2" ;;
  '-c '*) echo 0.10.2 ;;
  '-m venv') echo "venv $0" >>"$CALLS"; {venv} mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  '-m pip') {pip} true ;;
  '-u -m') shift 4; echo "pip $*" >>"$CALLS"; {install} true ;;
  *) echo "stub {minor}: $*" ;;
esac
"""


class Machine:
    """A directory that stands for a bare machine: a repository, tools, stubs on PATH, and the list of their calls."""

    def __init__(self, directory: Path):
        self.root, self.stubs, tools = directory / "repository", directory / "stubs", directory / "tools"
        for folder in (self.stubs, tools, self.root / "third_party/peers"):
            folder.mkdir(parents=True)
        shutil.copytree(ROOT / "launch", self.root / "launch")
        for name in REQUIREMENTS:
            shutil.copy(ROOT / name, self.root / name)
        for name in [*TOOLS, "cp"]:
            (tools / name).symlink_to(shutil.which(name))
        self.calls_file = directory / "calls"
        self.environ = {"PATH": f"{self.stubs}:{tools}", "HOME": str(directory), "CALLS": str(self.calls_file)}

    def add(self, name: str, minor: int | str, venv: str = "", pip: str = "", install: str = "") -> Path:
        text = STUB.format(minor=minor, python=sys.executable, venv=venv, pip=pip, install=install)
        return self.script(name, text)

    def script(self, name: str, text: str) -> Path:
        path = self.stubs / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def start(self, who: str = "local", **environ: str) -> subprocess.Popen:
        command = f'source launch/environment.sh; use_environment {who}; echo "$PYTHON"; env'
        return subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.root,
            env=self.environ | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def use(self, who: str = "local", **environ: str) -> tuple[int, list[str], str]:
        """Exit status, lines of standard output (the Python, then the environment's variables), standard error."""
        process = self.start(who, **environ)
        out, err = process.communicate(timeout=60)
        return process.returncode, out.splitlines(), err

    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def made_by(self) -> list[str]:
        return [Path(call.split()[1]).name for call in self.calls() if call.startswith("venv ")]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def refused(result: tuple[int, list[str], str], *words: str) -> None:
    """Exit status 2, nothing on standard output, and the last line of the message holds the words."""
    status, out, err = result
    assert (status, out) == (2, []), err
    assert all(word in err.splitlines()[-1] for word in words), err


def test_the_newest_python_is_chosen_wherever_it_lies_on_path(machine):
    machine.add("python3.11", 11)
    machine.add("python3", 12)
    status, (python, *_), _ = machine.use()
    assert status == 0 and Path(python).read_text() == (machine.stubs / "python3").read_text()
    assert machine.made_by() == ["python3"]


@pytest.mark.parametrize(
    "broken",
    [
        {"minor": ""},  # another version than 3.11 to 3.13, or another implementation: it does not name itself
        {"minor": 13, "venv": "exit 1;"},
        {"minor": 13, "pip": "exit 1;"},
    ],
    ids=["out of range", "no venv", "no pip"],
)
def test_a_python_that_will_not_do_is_passed_over(machine, broken):
    machine.add("python3.13", **broken)
    machine.add("python3.11", 11)
    status, _, err = machine.use()
    assert status == 0, err
    assert machine.made_by()[-1] == "python3.11"


def test_a_dead_shim_is_passed_over(machine):
    machine.script("python3.13", "#!/bin/bash\necho 'shim: python3.13: command not found' >&2; exit 127\n")
    machine.script("python3.12", "#!/no/such/interpreter\n")
    machine.add("python3.11", 11)
    status, _, err = machine.use()
    assert (status, machine.made_by()) == (0, ["python3.11"]), err
    assert "not found" not in err


def test_the_real_version_check_accepts_this_python(machine):
    machine.script("python3", f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    command = "source launch/environment.sh; working_pythons"
    found = subprocess.run(
        ["bash", "-c", command], cwd=machine.root, env=machine.environ, capture_output=True, text=True
    )
    assert found.stdout == f"{sys.version_info[1]}\t{sys.executable}\n"


def test_no_python(machine):
    refused(machine.use(), "no working Python 3.11, 3.12 or 3.13 on PATH", "install one")
    assert machine.use()[2].count("\n") == 1


def test_no_python_that_makes_environments(machine):
    machine.add("python3.12", 12, venv="exit 1;")
    refused(machine.use(), "can make an environment with pip", "python3-venv")


def test_the_second_use_starts_no_python(machine):
    stub = machine.add("python3.12", 12)
    first = machine.use()
    calls = machine.calls()
    stub.unlink()
    second = machine.use()
    assert first[:2] == second[:2] and second[2] == ""
    assert machine.calls() == calls


def test_changed_requirements_make_another_environment(machine):
    machine.add("python3.12", 12)
    before = machine.use()[1][0]
    with (machine.root / "requirements.txt").open("a") as file:
        file.write("one-more\n")
    assert machine.use()[1][0] != before


def test_each_launcher_installs_its_own_requirements(machine):
    machine.add("python3.12", 12)
    files = {"local": REQUIREMENTS[:1], "test": REQUIREMENTS[:2], "peers": REQUIREMENTS[:3]}
    files["lens4"] = (REQUIREMENTS[0], LENS4)
    for who, names in files.items():
        assert machine.use(who)[0] == 0
        asked = ["pip install " + " ".join(f"-r {machine.root / name}" for name in names)]
        asked += [f"pip install --no-deps -r {machine.root / ALONE}"] if who == "peers" else []
        assert machine.calls()[-len(asked) :] == asked


def test_pip_fails(machine):
    machine.add("python3.12", 12, install="echo 'no route to host'; exit 1;")
    refused(machine.use(), "pip could not install", ".log")
    assert "no route to host" in next((machine.root / ".environments").glob("*.log")).read_text()
    machine.add("python3.12", 12)
    assert machine.use()[0] == 0


def test_an_interrupted_start_leaves_nothing_that_counts(machine):
    machine.add("python3.12", 12, install='touch "$CALLS.busy"; sleep 60;')
    process = machine.start()
    deadline = time.monotonic() + 30
    while not Path(f"{machine.calls_file}.busy").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    half = [path for path in (machine.root / ".environments").iterdir() if path.is_dir()]
    assert len(half) == 1 and (half[0] / "bin/python").exists()

    machine.add("python3.12", 12)
    status, (python, *_), err = machine.use()
    assert status == 0 and Path(python).parents[1] == half[0], err
    assert machine.made_by() == ["python3.12"] * 2


def test_first_starts_at_once_share_one_environment(machine):
    machine.add("python3.12", 12, install="sleep 1;")
    starts = [machine.start() for _ in range(4)]
    results = [(process.communicate(timeout=60), process.returncode) for process in starts]
    assert [status for _, status in results] == [0] * 4
    assert len({out.splitlines()[0] for (out, _), _ in results}) == 1
    assert machine.made_by() == ["python3.12"]
    assert any("waiting" in err for (_, err), _ in results)


def test_an_environment_whose_python_is_gone_is_made_again(machine):
    machine.add("python3.12", 12)
    python = Path(machine.use()[1][0])
    python.unlink()
    python.symlink_to("/no/such/python3.12")
    assert machine.use()[0] == 0
    assert python.is_file() and len(machine.made_by()) == 2


def test_a_base_python_replaces_the_search_and_has_its_own_environment(machine):
    machine.add("python3.12", 12)
    other = machine.add("other", 11)
    usual, forced = machine.use()[1][0], machine.use(INTERP_JAX_BASE_PYTHON=str(other))[1][0]
    assert usual != forced
    assert machine.made_by() == ["python3.12", "other"]
    assert machine.use()[1][0] == usual
    refused(machine.use(INTERP_JAX_BASE_PYTHON="/no/such"), "no working Python", "/no/such")


@pytest.mark.parametrize(
    ("nvidia_smi", "extra"),
    [("echo 580.65.06", "jax[cuda13]"), ("echo 550.54.14; echo 550.54.14", "jax[cuda12]"), ("exit 9", None)],
    ids=["CUDA 13", "CUDA 12, two GPUs", "no GPU"],
)
def test_the_accelerators_build_of_jax(machine, nvidia_smi, extra):
    machine.add("python3.12", 12)
    machine.script("nvidia-smi", f"#!/bin/bash\n{nvidia_smi}\n")
    assert machine.use()[0] == 0
    words = machine.calls()[-1].split()
    assert words[-1] == (extra or str(machine.root / "requirements.txt"))


def test_a_named_accelerator(machine):
    machine.add("python3.12", 12)
    assert machine.use(INTERP_JAX_ACCELERATOR="tpu")[0] == 0
    assert machine.calls()[-1].endswith("jax[tpu]")
    refused(machine.use(INTERP_JAX_ACCELERATOR="gpu"), "INTERP_JAX_ACCELERATOR=gpu", "cuda13")


def test_a_given_python_is_used_and_nothing_is_installed(machine):
    status, (python, *_), err = machine.use("test", INTERP_JAX_PYTHON=sys.executable)
    assert (status, python, err) == (0, sys.executable, "")
    assert not (machine.root / ".environments").exists() and machine.calls() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#!/bin/bash\nexit 127\n", ("does not run",)),
        (f'#!/bin/bash\nexec {sys.executable} -I -S "$@"\n', ("lacks jax, pytest", "requirements-dev.txt")),
        ("#!/bin/bash\necho jax 0.9.1\n", ("has jax 0.9.1", "0.10 or later")),
    ],
    ids=["dead", "without packages", "old jax"],
)
def test_a_given_python_that_will_not_do_is_refused(machine, text, words):
    refused(
        machine.use("test", INTERP_JAX_PYTHON=str(machine.script("mine", text))), str(machine.stubs / "mine"), *words
    )


def test_a_given_python_that_does_not_exist(machine):
    refused(machine.use(INTERP_JAX_PYTHON="/no/such/python"), "INTERP_JAX_PYTHON=/no/such/python")


def test_settings_have_defaults_that_give_way(machine):
    machine.add("python3.12", 12)
    variables = dict(line.split("=", 1) for line in machine.use(PYTHONPATH="/mine")[1][1:] if "=" in line)
    assert variables["JAX_COMPILATION_CACHE_DIR"].startswith(
        f"{machine.environ['HOME']}/.cache/interp_jax/xla-0.10.2-"
    )
    assert variables["PYTHONPATH"] == f"{machine.root}:/mine"
    variables = dict(line.split("=", 1) for line in machine.use(JAX_COMPILATION_CACHE_DIR="/c")[1][1:] if "=" in line)
    assert variables["JAX_COMPILATION_CACHE_DIR"] == "/c"


def test_a_repository_that_cannot_be_written(machine):
    machine.add("python3.12", 12)
    (machine.root / ".environments").touch()  # stops root too
    refused(machine.use(), "cannot write", "INTERP_JAX_PYTHON")
