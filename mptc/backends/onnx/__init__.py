"""IR → ONNX: standard operators alone, lengths known at run time, every weight once, in a file beside the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import onnx

from mptc.backends.deployment import Deployed, Deployment, File
from mptc.backends.onnx.decode import LENGTH, ONE, Behind
from mptc.backends.onnx.graph import OPSET, Graph
from mptc.backends.onnx.stored import file
from mptc.backends.onnx.unrolled import Unrolled, input_order, lengths
from mptc.ir.axis import Axis, Sizes
from mptc.ir.node import Kind, Node
from mptc.ir.program import Output, Probe, Program
from mptc.ops.leaf import Input
from mptc.ops.site import Element

Equations = Mapping[Node, Sequence[str]]

NUMBERS = {"float32": onnx.TensorProto.FLOAT, "float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}


@dataclass(frozen=True)
class Written:
    """A graph as bytes, how many operators it has, and the inputs that it does without."""

    data: bytes
    operators: int
    without: tuple[str, ...]


def deployed(program: Program, following: Program | str, equations: Equations, deployment: Deployment) -> Deployed:
    """`<model>.onnx`, `<model>.decode.onnx` where there is a program of the next tokens, and the file that the weights of both will be in.

    Raises `TooLarge`.
    """
    weights = file(program, deployment)
    written = graph(program, weights, deployment.dtype, equations, deployment.probes)
    packed = ".int8" if deployment.packed else ""
    name, decode = f"{program.name}{packed}.onnx", f"{program.name}{packed}.decode.onnx"
    kind = f"int8 and {deployment.dtype}" if deployment.packed else deployment.dtype
    notes = {name: f"{kind}, opset {OPSET}, {written.operators} operators", weights.name: f"{kind}, {len(weights.tensors)} tensors"}
    files = {name: written.data}
    if isinstance(following, Program):
        behind = decode_graph(following, weights, deployment.dtype)
        files[decode] = behind.data
        notes[decode] = f"{kind}, opset {OPSET}, {behind.operators} operators"
    remarks = [f"the graph does without {', '.join(written.without)}, which no output needs"] if written.without else []
    if not program.outputs and not (deployment.probes and program.probes):
        remarks.append("without an output the graph computes nothing, and onnxruntime does not load it")
    if deployment.dtype == "bfloat16":
        remarks.append("onnxruntime does not run bfloat16 on a CPU")
    return Deployed(files, weights, notes, tuple(remarks), deployment)


def graph(program: Program, weights: File, dtype: str = "float32", equations: Equations | None = None, probes: bool = False) -> Written:
    """The graph of a program's outputs, and of its probes where they are asked for; the parameters are in `weights`. Losses are left out.

    Inputs and outputs are called as in the spec, a probe of a stack as `layers.3.name`; their dimensions as the axes whose size only the run tells.
    `equations`: lines that explain a node. Raises `TooLarge`.
    """
    asked: list[Output | Probe] = [*program.outputs, *(program.probes if probes else ())]
    roots = [each.node for each in asked]
    made = Graph(program.sizes, lengths(program, roots), NUMBERS[dtype], weights, public=_public(program))
    written = Unrolled(made, program, roots, equations or {})
    outputs = [output for each in asked for output in _outputs(made, written, each)]
    inputs = [(node.op.label, input_order(node), _element(node)) for node in program.inputs if isinstance(node.op, Input)]
    model = made.model(program.name, inputs, outputs)
    model.graph.doc_string = f"{program.name}, written by mptc from {program.span.source.name.rpartition('/')[2]}"
    kept = {value.name for value in model.graph.input}
    return Written(model.SerializeToString(), len(model.graph.node), tuple(name for name, _, _ in inputs if name not in kept))


def decode_graph(program: Program, weights: File, dtype: str = "float32") -> Written:
    """The graph of a program of the next tokens: beside its inputs and outputs, what is kept of those before. Raises `TooLarge`."""
    roots = [output.node for output in program.outputs]
    made = Graph(Sizes(program.sizes), lengths(program, roots), NUMBERS[dtype], weights, public=_public(program))
    written = Behind(made, program, roots, {})
    outputs = [output for each in program.outputs for output in _outputs(made, written, each)]
    inputs = [(node.op.label, input_order(node), _element(node)) for node in program.inputs if isinstance(node.op, Input)]
    model = made.model(program.name, [*inputs, (LENGTH, (ONE,), Element.WHOLE), *written.past], [*outputs, *written.present])
    model.graph.doc_string = f"{program.name}, the next tokens, written by mptc from {program.span.source.name.rpartition('/')[2]}"
    if written.blank:
        onnx.helper.set_model_props(model, {"blank": " ".join(written.blank)})
    return Written(model.SerializeToString(), len(model.graph.node), ())


def _public(program: Program) -> frozenset[str]:
    inputs = {node.op.label for node in program.inputs if isinstance(node.op, Input)}
    return frozenset({*inputs, *(output.name for output in program.outputs), *(probe.name for probe in program.probes)})


def _outputs(made: Graph, written: Unrolled, asked: Output | Probe) -> Iterator[tuple[str, Sequence[Axis], Element]]:
    """The tensors of an output, or of a probe: its first axes are the copies of the stacks that the stars of its name stand for."""
    value = written.given(asked.node, asked.order)
    stacks = asked.order[: asked.name.count("[*]")]
    for copy in product(*(range(made.sizes[axis]) for axis in stacks)):
        name, path = value.name, asked.name
        for number in copy:
            name = made.emit("Gather", name, made.constant(np.asarray(number, np.int64)), axis=0)
            path = path.replace("[*]", f".{number}", 1)
        made.nodes.append(onnx.helper.make_node("Identity", [name], [path], name=f"output/{path}"))
        yield path, asked.order[len(stacks) :], value.element


def _element(node: Node) -> Element:
    return Element.WHOLE if node.type.kind is Kind.ID else Element.NUMBER
