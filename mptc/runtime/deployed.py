"""Deployed graphs, run by onnxruntime. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mptc.runtime.errors import UserError

Array = NDArray[Any]

KINDS: Mapping[str, type[np.generic]] = {
    "tensor(int64)": np.int64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class Given:
    """An input or output of a graph: what it is of, and its dimensions, a name where only the run tells how long one is."""

    name: str
    kind: type[np.generic]
    dims: tuple[int | str, ...]


class Graph:
    """A graph that is open to be run, on the CPU."""

    def __init__(self, path: str | Path, session: Any) -> None:
        self.path = Path(path)
        self._session = session
        self.inputs = [_given(each) for each in session.get_inputs()]
        self.outputs = [_given(each) for each in session.get_outputs()]
        self.blank = session.get_modelmeta().custom_metadata_map.get("blank", "").split()  # inputs that begin as -1

    def __call__(self, **values: Any) -> dict[str, Array]:
        """The outputs by name. Ids are whole numbers, numbers become those of the graph's element type.

        Raises `UserError` where the inputs are not those of the graph, or it cannot be run on them.
        """
        names = [each.name for each in self.inputs]
        if sorted(values) != sorted(names):
            raise UserError(f"error: {self.path} has the inputs {', '.join(names)}; given were {', '.join(values) or 'none'}")
        feed = {each.name: np.asarray(values[each.name]).astype(each.kind) for each in self.inputs}
        try:
            found = self._session.run([each.name for each in self.outputs], feed)
        except Exception as error:
            raise UserError(f"error: onnxruntime cannot run {self.path}: {_first_line(error)}") from error
        return {each.name: array for each, array in zip(self.outputs, found, strict=True)}


def open_graph(path: str | Path, threads: int | None = None) -> Graph:
    """Open a `.onnx` file, its weights beside it, on `threads` threads (default: onnxruntime's choice).

    Raises `UserError` where onnxruntime is not installed, or cannot load the file.
    """
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # or it would round what meets a matrix of bytes to bytes as well
    if threads is not None:
        options.intra_op_num_threads = threads
    if not Path(path).is_file():
        raise UserError(f"error: there is no file {path}")
    try:
        return Graph(path, runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
    except Exception as error:
        raise UserError(f"error: onnxruntime cannot load {path}: {_first_line(error)}") from error


def is_there() -> bool:
    """Whether onnxruntime is installed."""
    return find_spec("onnxruntime") is not None


def onnxruntime() -> Any:
    """The module. Raises `UserError` where it is not installed."""
    try:
        import onnxruntime as runtime
    except ImportError as error:
        raise UserError("error: to run a graph, onnxruntime is needed: pip install 'mptc[onnx]'") from error
    return runtime


def _given(each: Any) -> Given:
    return Given(each.name, KINDS[each.type], tuple(each.shape))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
