"""A model's `config.json`, read field by field, so that no field goes unnoticed.

An adapter asks for the fields that it handles. What is left in the end must be known to change nothing that a model computes
(`INERT`), else the configuration is refused: a field that nobody looked at is how a port goes wrong silently.

Fields and their meanings are those of the transformers library (https://huggingface.co/docs/transformers, Apache-2.0), of
versions 4 and 5.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from interp_jax.data.paths_io import shown
from interp_jax.errors import InputError, nearest

Chosen = TypeVar("Chosen")
LARGEST = 2**31 - 1  # sizes and positions are 32-bit on a device
MOST_LAYERS = 10_000  # each has names of its own, which are listed

INERT = frozenset(
    # what the file says about itself
    "_name_or_path architectures auto_map dtype model_type tokenizer_class torch_dtype transformers_version"
    # training and initialisation
    " attention_dropout attention_probs_dropout_prob attn_pdrop classifier_dropout embd_pdrop gradient_checkpointing"
    " hidden_dropout hidden_dropout_prob initializer_factor initializer_range resid_pdrop"
    # how it is run: speed and memory, what is returned
    " _attn_implementation _attn_implementation_autoset attn_implementation cache_implementation chunk_size_feed_forward"
    " output_attentions output_hidden_states output_scores pretraining_tp return_dict return_dict_in_generate torchscript"
    " use_bfloat16 use_cache"
    # tokens with a role; a padding token's embedding is a row like any other
    " begin_suppress_tokens bos_token_id cls_token_id decoder_start_token_id eos_token_id forced_bos_token_id"
    " forced_eos_token_id mask_token_id pad_token_id sep_token_id suppress_tokens unk_token_id"
    # other tasks' heads
    " finetuning_task id2label label2id num_labels prefix problem_type summary_activation summary_first_dropout"
    " summary_proj_to_labels summary_type summary_use_proj task_specific_params"
    # how text is generated
    " bad_words_ids diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size"
    " exponential_decay_length_penalty length_penalty max_length min_length no_repeat_ngram_size num_beam_groups num_beams"
    " num_return_sequences remove_invalid_values repetition_penalty temperature top_k top_p typical_p".split()
)
# fields that any model may have and that must say nothing unusual
USUAL: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "is_encoder_decoder": (False,),
    "per_layer_config": (None, {}),
    "pruned_heads": (None, {}),
    "quantization_config": (None,),
    "tie_encoder_decoder": (False,),
}
ACTIVATIONS = {  # the reference's names, and ours
    "gelu": "gelu_erf",
    "gelu_fast": "gelu",
    "gelu_new": "gelu",
    "gelu_python": "gelu_erf",
    "gelu_pytorch_tanh": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


class Fields:
    """The fields of a JSON object, and which of them somebody asked for. `null` counts as missing.

    Attributes:
      content: the object.
      file: where it comes from, for messages.
      within: what precedes a field's name in messages, "rope_scaling.".
    """

    def __init__(self, content: Mapping[str, Any], file: str = "config.json", within: str = ""):
        self.content, self.file, self.within = content, file, within
        self._seen: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        """A field's value, `default` where it is missing."""
        self._seen.add(name)
        value = self.content.get(name)
        return default if value is None else value

    def integer(self, name: str, default: int | None = None, least: int = 1, most: int = LARGEST) -> int:
        """A whole number from `least` to `most`, or `default`; without one, the field is needed."""
        value = self._needed(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.refused(name, f"expected a whole number from {least}")
        if value > most:
            raise self.refused(name, f"expected at most {most}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A positive number, or `default`; without one, the field is needed."""
        value = self._needed(name, default)
        if not is_positive(value):
            raise self.refused(name, "expected a positive number")
        return float(value)

    def head_width(self, heads: str, width: str) -> int:
        """The dimensions of each head, where the heads share all of `width`."""
        n, dims = self.integer(heads), self.integer(width)
        if dims % n:
            raise self.refused(heads, f"must divide {width} = {dims}")
        return dims // n

    def flag(self, name: str, default: bool) -> bool:
        """True or false, or `default`."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self.refused(name, "expected true or false")
        return value

    def choice(self, name: str, known: Mapping[str, Chosen], default: str) -> Chosen:
        """What a field's value stands for."""
        value = self.get(name, default)
        if not isinstance(value, str) or value not in known:
            raise self.refused(name, f"not handled; {nearest(str(value), known)}")
        return known[value]

    def only(self, name: str, *allowed: Any) -> None:
        """Nothing but these values of a field is handled; it may be missing."""
        self._seen.add(name)
        if name in self.content and not any(same(self.content[name], value) for value in allowed):
            raise self.refused(name)

    def ignore(self, *names: str) -> None:
        """These change nothing that this family computes."""
        self._seen.update(names)

    def finish(self) -> None:
        """Raise `InputError` for a field that nobody asked for and that is not known to be inert."""
        for name, allowed in USUAL.items():
            self.only(name, *allowed)
        for name in self.content:
            if name not in self._seen and (self.within or name not in INERT):
                raise self.refused(name)

    def refused(self, name: str, why: str = "not handled") -> InputError:
        """The error about a field's value."""
        value = json.dumps(self.content.get(name), default=str)
        brief = value if len(value) <= 60 else value[:57] + "..."
        return InputError(f"{self.file}: {self.within}{shown(name)[:60]} = {brief}: {why}")

    def _needed(self, name: str, default: Any) -> Any:
        value = self.get(name, default)
        if value is None and name in self.content:
            raise self.refused(name, "it is needed")
        if value is None:
            raise InputError(f"{self.file}: no field {self.within + name!r}; {nearest(name, self.content)}")
        return value


def is_positive(value: Any) -> bool:
    """Whether it is a number above 0, and finite."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


def same(value: Any, other: Any) -> bool:
    """Equality that tells true from 1."""
    return type(value) is type(other) and value == other
