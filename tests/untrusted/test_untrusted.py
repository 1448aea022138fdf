"""Specs from people who mean harm: nothing of them runs, is pasted unchecked into generated code, or reaches what they may not read or write."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from mptc.cli import main
from mptc.compile import check, compile
from mptc.runtime.module import as_module
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source

PAYLOADS = [
    "__import__('os').system('touch PWNED')",
    '"""\nimport os\nos.system("touch PWNED")\n"""',
    "'''\nimport PWNED\n'''",
    "\\\nimport PWNED",
    "\x0cimport PWNED",
    "\x85import PWNED",
    "\u2028import PWNED",
    "\u2029import PWNED",
    "\rimport PWNED",
    "{{ cycler.__init__.__globals__.os.popen('touch PWNED').read() }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}PWNED{% endfor %}",
    "{# PWNED #}",
    "$(touch PWNED)",
    "`touch PWNED`; touch PWNED | tee PWNED",
    "</script><script>PWNED()</script>",
    "../../../PWNED",
    "# coding: PWNED",
    "\x00PWNED",
    "%s%n{0.__class__}{PWNED}",
]
PLAIN = """# a comment
use "lib/std.mpt"  # a comment
dim d = 4  # a comment
model m {  # a comment
  input x: [d]  # a comment
  h = rmsnorm(x)  # a comment
  # a comment
  output y = h * x  # a comment
}
# a comment
"""
# Names that Python, torch or the text around would rather keep for themselves.
NAMES = [
    "exec",
    "eval",
    "compile",
    "open",
    "print",
    "input_",
    "type",
    "object",
    "vars",
    "globals",
    "locals",
    "getattr",
    "super",
    "id_",
    "map",
    "range",
    "len",
    "sum",
    "max",
    "abs",
    "int",
    "float",
    "list",
    "set",
    "str",
    "bytes",
    "Tensor",
    "tensor",
    "tensors",
    "nn",
    "F",
    "re",
    "hashlib",
    "Callable",
    "torch",
    "math",
    "os",
    "sys",
    "subprocess",
    "builtins",
    "Output",
    "output_",
    "outputs",
    "Evaluation",
    "evaluation",
    "evaluations",
    "Model",
    "models",
    "Parameters",
    "parameter",
    "parameterss",
    "empty",
    "begin",
    "rotation",
    "rope",
    "Layer",
    "layer",
    "layers",
    "self",
    "cls",
    "None",
    "True",
    "False",
    "lambda",
    "import",
    "class",
    "def",
    "return_",
    "yield",
    "async",
    "await",
    "match",
    "case",
    "global",
    "del",
    "nonlocal",
    "assert",
    "with",
    "dtype",
    "device",
    "batch",
    "seq",
    "position",
    "behind",
    "probe_",
    "probes",
    "loss_",
    "evaluated",
    "seed",
    "INITIAL",
    "freeze_",
    "forward",
    "register",
    "training",
    "weight",
    "bias",
    "state_dict",
    "x_",
    "_x",
    "__class__",
    "__init__",
    "__import__",
    "annotations",
    "NamedTuple",
    "Copy",
    "con",
    "nul",
    "aux",
    "prn",
]
ROLES = {
    "parameter": "  param {}: [d] = 1\n  y = x * {}",
    "binding": "  {} = tanh(x)\n  y = {} * {}",
    "label": "  y = rmsnorm(x) as {}",
    "share": "  share {}: rmsnorm\n  y = {}(x)",
    "stack": "  y = x\n  stack 2 as {} {{ y <- rmsnorm(y) }}",
    "stacks": "  y = x\n  stack 2 as {} {{ y <- rmsnorm(y) }}\n  stack 2 as {}s {{ y <- rmsnorm(y) }}",
    "probe": "  y = tanh(x)\n  probe {} = y",
    "update": "  {} = x\n  repeat 2 {{ {} <- tanh({}) + x }}\n  y = {}",
}


def made(text: str, path: str = "spec.mpt") -> str | None:
    """The generated module; None where the spec is refused, which is fine here."""
    diagnostics = Diagnostics()
    compiled = compile(Source(path, text), diagnostics)
    assert compiled is not None or diagnostics.failed
    return None if compiled is None else compiled.files[f"{compiled.name}.py"]


def shape(text: str) -> str:
    """The code of a module without its own docstring, which names the file."""
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    return ast.dump(ast.Module(tree.body[1:], []))


def strings(text: str) -> list[str]:
    """The string constants of a module that are no docstrings."""
    tree = ast.parse(text)
    bodies = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, bodies)}
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docs]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_comments_leave_no_trace(payload: str) -> None:
    """A comment ends with its line; what a payload puts after that is read as a spec, and is none."""
    text = made(PLAIN.replace("a comment", f"a comment {payload}"))
    assert ("\n" in payload) <= (text is None)
    assert text is None or text == made(PLAIN)


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize(
    "place", ["dim {} = 4", "const c = {}", 'use "{}"', 'use "{}.mpt"', "variant {} {{ d = 2 }}", "context {}", "block {}(x: []) {{ return x }}"]
)
def test_code_in_the_place_of_a_word_is_refused(payload: str, place: str) -> None:
    diagnostics = Diagnostics()
    check(Source("spec.mpt", place.format(payload) + "\n" + PLAIN), diagnostics)
    assert diagnostics.failed


@pytest.mark.parametrize("payload", PAYLOADS)
def test_the_path_of_a_spec_stays_in_its_comment(payload: str) -> None:
    """A file may have any name; the generated module says where it came from."""
    text = made(PLAIN, f"specs/{payload}.mpt")
    assert text is not None
    assert shape(text) == shape(made(PLAIN) or "")


@pytest.mark.parametrize("role", ROLES)
def test_names_are_names(role: str) -> None:
    """Refused, or a module that runs, in which the name is no string but one of a parameter or a probe."""
    ran = 0
    for name in NAMES:
        text = made(f'use "lib/std.mpt"\ndim d = 4\nmodel m {{\n  input x: [d]\n{ROLES[role].replace("{}", name).format()}\n  output out = y\n}}\n')
        if text is not None:
            ran += 1
            result = as_module("m", text).Model()(torch.randn(2, 3, 4), probe=True).out
            assert result.shape == (2, 3, 4), (role, name)
    assert ran >= 30


def test_strings_of_a_module_are_its_own() -> None:
    """From the spec come paths of parameters and names of probes, both made of names; a hash tells its caches from others'."""
    plain, other = made(PLAIN), made(PLAIN.replace("h = rmsnorm(x)", "param W: [d]\n  h = rmsnorm(x) * W\n  probe seen = h"))
    assert plain is not None and other is not None
    new = set(strings(other)) - set(strings(plain))
    assert {string for string in new if not re.fullmatch("[0-9a-f]{16}", string)} == {"W", "seen"}
    assert len(new) == 3


# -- files -----------------------------------------------------------------------------------------


def uses(path: Path, what: str) -> list[str]:
    path.write_text(f'use "{what}"\ndim d = secret\n')
    diagnostics = Diagnostics()
    check(Source.read(path), diagnostics)
    return [one.code for one in diagnostics.found]


def test_use_stays_in_the_folder_of_the_spec(tmp_path: Path) -> None:
    (tmp_path / "secret.mpt").write_text("const secret = 1\n")
    folder = tmp_path / "specs" / "deep"
    folder.mkdir(parents=True)
    (tmp_path / "specs" / "beside.mpt").write_text("const secret = 1\n")
    (folder / "inner.mpt").write_text('use "../beside.mpt"\n')
    spec = tmp_path / "specs" / "spec.mpt"
    assert uses(spec, "beside.mpt") == []
    assert uses(spec, "deep/../beside.mpt") == []
    assert uses(spec, "deep/inner.mpt") == []
    assert uses(spec, "../secret.mpt") == ["E0205"]
    assert uses(spec, "deep/../../secret.mpt") == ["E0205"]
    assert uses(spec, str(tmp_path / "secret.mpt")) == ["E0205"]
    assert uses(spec, "lib/../../secret.mpt") == ["E0205"]


def test_links_lead_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret.mpt").write_text("const secret = 1\n")
    folder = tmp_path / "specs"
    folder.mkdir()
    (folder / "link.mpt").symlink_to(tmp_path / "secret.mpt")
    (folder / "away").symlink_to(tmp_path, target_is_directory=True)
    (folder / "loop.mpt").symlink_to(folder / "loop.mpt")
    for what in ("link.mpt", "away/secret.mpt", "loop.mpt"):
        assert uses(folder / "spec.mpt", what) == ["E0205"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mpt")
    (tmp_path / "folder.mpt").mkdir()
    assert uses(tmp_path / "spec.mpt", "pipe.mpt") == ["E0205"]
    assert uses(tmp_path / "spec.mpt", "folder.mpt") == ["E0205"]


def test_a_chain_of_files_ends(tmp_path: Path) -> None:
    for number in range(400):
        (tmp_path / f"f{number}.mpt").write_text(f'use "f{number + 1}.mpt"\n')
    assert uses(tmp_path / "spec.mpt", "f0.mpt")[0] == "E0206"


def test_a_file_without_an_end(tmp_path: Path) -> None:
    (tmp_path / "long.mpt").write_text("# x\n" * 1_000_000)
    assert uses(tmp_path / "spec.mpt", "long.mpt")[0] == "E0111"


@pytest.mark.parametrize("name", ["os", "torch", "sys", "x/y", "../up", "..", "/tmp/x", "a\\b", "a b", "~", "-o", "'m'", "m;touch", "Ω"])
def test_the_folder_is_named_after_the_model_alone(name: str, tmp_path: Path) -> None:
    spec = tmp_path / "in" / "spec.mpt"
    spec.parent.mkdir()
    spec.write_text(f"model {name} {{\n  input x: []\n  output y = x\n}}\n")
    done = CliRunner().invoke(main, ["compile", str(spec), "-o", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("value", [*PAYLOADS, "9^9^9", "9^9^9^9", "1e400", "1/0", "0x10", "d", "", "1\n2", "tanh(1)", "[4]", "{4}", "4 # 5"])
def test_values_from_outside_are_numbers(value: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.mpt"
    spec.write_text(PLAIN)
    done = CliRunner().invoke(main, ["compile", str(spec), "-o", str(tmp_path / "out"), "--set", f"d={value}"])
    assert done.exit_code in (1, 2)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert not (tmp_path / "out").exists()
