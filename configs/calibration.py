"""The certificate: every instrument on models whose truth is known, with its error over seeds.

    ./launch/local --config configs/calibration.py           all instruments, about ten minutes
    ./launch/local --config configs/calibration.py:tiny      the same machinery in a minute; certifies nothing
    ./launch/local --config configs/calibration.py --config.only=superposition

Expect: report.html and calibration.json, a row per instrument, "holds" in each.
"""

from ml_collections import ConfigDict

from interp_jax.experiments.config import compose, variant

VARIANTS = {"": {}, "tiny": {"quick": True}}


def get_config(arg: str = "") -> ConfigDict:
    return compose("interp_jax.experiments.calibration", **{"engine.cpu_devices": 0, **variant(arg, VARIANTS)})
