"""A real Slurm on this machine, for tests: two virtual nodes on loopback, without munge, systemd, cgroups or accounting."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

CONFIGURATION = """\
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
PluginDir=/usr/lib/{machine}-linux-gnu/slurm-wlm
StateSaveLocation={state}/saved
SlurmdSpoolDir={state}/spool/%n
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd-%n.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdLogFile={state}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=30
SlurmdTimeout=10
MinJobAge=600
MaxArraySize=10001
SlurmdParameters=config_overrides
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{second}] CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """The daemons of a cluster whose state is in a directory; `environ` makes Slurm's commands talk to it."""

    def __init__(self, state: Path):
        most = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (0, most))  # of what is killed here, none is to lie about
        self.state = state
        for folder in ("saved", "spool"):
            (state / folder).mkdir(parents=True)
        controller, first, second = free_ports(3)
        second = first + 1
        text = CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            machine=os.uname().machine,
            state=state,
            controller=controller,
            first=first,
            second=second,
        )
        (state / "slurm.conf").write_text(text)
        self.environ = {**os.environ, "SLURM_CONF": str(state / "slurm.conf")}
        self.controller = self._daemon("slurmctld", "-D", "-c")
        self.nodes = {name: self.start_node(name) for name in ("n1", "n2")}

    def _daemon(self, name: str, *options: str) -> subprocess.Popen:
        program = shutil.which(f"{name}-wlm") or shutil.which(name)
        out = open(self.state / f"{name}.out", "a")
        return subprocess.Popen([program, *options], env=self.environ, stdout=out, stderr=out)

    def start_node(self, name: str) -> subprocess.Popen:
        """Start a node's daemon, with nothing that a killed one left: it would refuse a job that it had begun before."""
        shutil.rmtree(self.state / "spool" / name, ignore_errors=True)
        stepd = shutil.which("slurmstepd-wlm") or shutil.which("slurmstepd") or "/usr/sbin/slurmstepd"
        return self._daemon("slurmd", "-D", "-N", name, "-d", stepd)

    def run(self, *words: str) -> str:
        """What a command prints."""
        return subprocess.run(words, env=self.environ, check=True, capture_output=True, text=True, timeout=60).stdout

    def wait_until_up(self, seconds: float = 60) -> None:
        """Until both nodes take jobs."""
        wait_for(lambda: self._states() == ["idle", "idle"], seconds, lambda: str(self._states()))

    def _states(self) -> list[str]:
        try:
            return [line.split()[1] for line in self.run("sinfo", "-N", "-h", "-o", "%N %T").splitlines()]
        except subprocess.CalledProcessError:
            return []

    def jobs(self, number: str) -> dict[int, str]:
        """{index: state} of an array's tasks."""
        lines = self.run("squeue", "-h", "-r", "-t", "all", "-j", number, "-o", "%K %T").split("\n")
        return {int(line.split()[0]): line.split()[1] for line in lines if line.strip()}

    def wait_for_jobs(self, number: str, seconds: float = 120) -> None:
        """Until nothing of a job is queued or runs."""
        left = lambda: self.run("squeue", "-h", "-j", number).strip()
        wait_for(lambda: not left(), seconds, left)

    def close(self) -> None:
        """End all jobs and daemons."""
        subprocess.run(["scancel", "-u", "root"], env=self.environ, capture_output=True, timeout=60)
        for process in (*self.nodes.values(), self.controller):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        for pid, (program, environ) in processes().items():  # of jobs that were under way
            if "slurmstepd" in program and f"SLURM_CONF={self.state}/slurm.conf" in environ:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def processes():
    """{pid: (program, environment)} of all that can be read."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environ = (process / "environ").read_bytes().decode(errors="replace").split("\0")
            found[int(process.name)] = (os.readlink(process / "exe"), environ)
    return found


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens on, so far apart that each one's neighbour is likely free too."""
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(condition, seconds, describe=lambda: ""):
    """Until a condition holds; fails after some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s: {describe()}"
        time.sleep(0.2)
