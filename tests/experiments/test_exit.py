"""How a command ends, in a process of its own."""

import subprocess
import sys

START = """
import jax, jax.numpy as jnp
from interp_jax.errors import InputError
from interp_jax.experiments.exit import exit_cleanly
"""

ENDLESS = """
jax.config.update("jax_num_cpu_devices", 2)

def main(arguments):
    endless = jax.jit(lambda x: jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: jnp.tanh(x @ x) + 1, x))
    for device in jax.devices():
        endless(jax.device_put(jnp.ones((300, 300)), device))
    print("dispatched")
    raise KeyboardInterrupt

exit_cleanly(main)
"""

BAD = """
def main(arguments):
    raise InputError("no" + chr(10) + "  such key")

exit_cleanly(main)
"""


def run(program: str) -> tuple[int, str, str]:
    """Status, output and errors."""
    ended = subprocess.run([sys.executable, "-c", START + program], capture_output=True, text=True, timeout=120)
    return ended.returncode, ended.stdout, ended.stderr


def test_an_interrupt_does_not_wait_for_what_devices_are_at():
    assert run(ENDLESS) == (130, "dispatched\n", "interrupted; the same command goes on from the last checkpoint\n")


def test_bad_input_is_one_line():
    assert run(BAD) == (2, "", "error: no such key\n")
