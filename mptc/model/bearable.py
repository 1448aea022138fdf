"""Names that the generated module cannot bear.

Every name of a body becomes an attribute of an `nn.Module`, a field of a result or a variable beside Python's own words. The list is written out,
because asking torch for it would load torch.
"""

from __future__ import annotations

import keyword
import sys

_MODULE = """
T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval extra_repr float forward
get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules mtia named_buffers named_children named_modules
named_parameters parameters register_backward_hook register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter
register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to to_empty train
training type xpu zero_grad
"""
_SURFACE = "loss cache probe probes new_cache"  # what `model(...)` takes and gives beside what the spec declares
# What the generated text itself says.
_VARIABLES = "self torch nn F math typing triton tl Tensor Model NamedTuple batch seq INITIAL Output Evaluation reset_parameters"
_CALLED = "next range sum"  # Python's own functions that the text of `forward` calls
_TUPLE = "count index"  # methods of a NamedTuple

MODULE = frozenset(_MODULE.split())
SURFACE = frozenset(_SURFACE.split())
VARIABLES = frozenset(_VARIABLES.split())
CALLED = frozenset(_CALLED.split())
TUPLE = frozenset(_TUPLE.split())
_OTHER_MODULES = frozenset({"torch", "triton", "numpy", "onnx", "mptc", "modeling", "configuration", "kernels"})


def objection(name: str) -> str | None:
    """Why a name of a body cannot stand in the generated module, or None."""
    if keyword.iskeyword(name):
        return "it is a word of Python"
    if name in MODULE:
        return "every `torch.nn.Module` has a member of that name"
    if name in SURFACE:
        return "it is a name of the module's own surface"
    if name in VARIABLES:
        return "the generated text uses it itself"
    return None


def input_objection(name: str) -> str | None:
    """An input is an argument of `forward`, under its own name."""
    return "the generated text calls Python's own function of that name" if name in CALLED else objection(name)


def output_objection(name: str) -> str | None:
    return "a `NamedTuple` has a method of that name" if name in TUPLE else objection(name)


def axis_objection(name: str) -> str | None:
    """Dims and consts are only mentioned, so fewer names are taken."""
    if keyword.iskeyword(name):
        return "it is a word of Python"
    if name in VARIABLES:
        return "the generated text uses it itself"
    return None


def model_objection(name: str) -> str | None:
    """A model's name is that of a Python file, which must not hide a module that the file imports."""
    if name in sys.stdlib_module_names or name in _OTHER_MODULES:
        return f"its file `{name}.py` would hide a Python module of that name"
    return objection(name)
