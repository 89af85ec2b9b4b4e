"""What an experiment looks at: a model built by hand, published weights, or one that was grown here, with its tokens."""

from interp_jax.experiments.subjects.model import Model, Subject, load_params, subject_of

__all__ = ["Model", "Subject", "load_params", "subject_of"]
