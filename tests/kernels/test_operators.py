"""The kernels as operators of torch: what torch.compile, export, autocast and `torch.func` make of them; sizes, strides, dtypes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.kernels.models import ROOT, SINGLE, Run, apart, compiled, run
from tests.kernels.test_models import filled


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    yield
    torch._dynamo.reset()


def kernels(name: str, **settings: str) -> ModuleType:
    found: ModuleType = compiled(ROOT / "specs" / f"{name}.mpt", "tiny", settings).module().kernels
    return found


def drawn(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention, in float64."""
    group = q.shape[1] // k.shape[1]
    q, k, v = q.double(), k.double().repeat_interleave(group, 1), v.double().repeat_interleave(group, 1)
    score = q @ k.mT / math.sqrt(q.shape[-1])
    return score.masked_fill(~torch.ones(score.shape[-2:], dtype=torch.bool).tril(), -torch.inf).softmax(-1) @ v


SIZES = [(1, 1, 1, 1), (2, 4, 2, 33), (1, 3, 1, 64), (3, 2, 2, 50)]  # batch, heads, those of keys, tokens


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("width", [16, 20])
@pytest.mark.parametrize("repeatable", [False, True])
def test_tied_attention(size: tuple[int, ...], width: int, repeatable: bool) -> None:
    batch, heads, shared, tokens = size
    own = kernels("cem_small", head="2", d=str(2 * width))
    q, k = drawn((batch, tokens, heads, width), (batch, shared, tokens, width))
    check(own, (q.transpose(1, 2), k), (q, k), attended(q.transpose(1, 2), k, k), repeatable)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("repeatable", [False, True])
def test_attention_of_grouped_queries(size: tuple[int, ...], repeatable: bool) -> None:
    batch, heads, shared, tokens = size
    own = kernels("llama_small", d="64", kv="2", group="2")
    width = 16
    q, k, v = drawn((batch, heads, tokens, width), (batch, shared, tokens, width), (batch, tokens, shared, width))
    check(own, (q, k, v.transpose(1, 2)), (q, k, v), attended(q, k, v.transpose(1, 2)), repeatable)


def check(own: ModuleType, given: tuple[Tensor, ...], leaves: tuple[Tensor, ...], wanted: Tensor, repeatable: bool) -> None:
    torch.use_deterministic_algorithms(repeatable)
    try:
        out = own.attention(*given)
        flow = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
        found = torch.autograd.grad((out * flow).sum(), leaves)
    finally:
        torch.use_deterministic_algorithms(False)
    right = torch.autograd.grad((wanted * flow).sum(), leaves)
    if repeatable:
        torch.use_deterministic_algorithms(True)
        again = torch.autograd.grad((own.attention(*given) * flow).sum(), leaves)
        torch.use_deterministic_algorithms(False)
        assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    assert torch.allclose(out.double(), wanted, atol=SINGLE, rtol=0)
    assert all(torch.allclose(one, other, atol=SINGLE, rtol=SINGLE) for one, other in zip(found, right, strict=True))


def test_offsets_of_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    own = kernels("cem_small", head="2", d="32")
    assert not own.is_long(*drawn((1, 2, 50, 16)))
    assert own.is_long(torch.empty(1, device="meta").expand(1, 1, 2**20, 2**12))
    monkeypatch.setattr(own, "is_long", lambda *_: True)
    q, k = drawn((1, 2, 50, 16), (1, 2, 50, 16))
    check(own, (q, k), (q, k), attended(q, k, k), repeatable=False)
    check(own, (q, k), (q, k), attended(q, k, k), repeatable=True)


def test_half_precision_rounds_once() -> None:
    """As far from the truth as torch's own attention in float16, twice at most. Of bfloat16 the interpreter knows nothing; the text is the same."""
    own = kernels("cem_small", head="2", d="32")
    q, k = drawn((2, 2, 50, 16), (2, 2, 50, 16), dtype=torch.float16)
    with pytest.raises(TypeError, match="bfloat16"):
        own.attention(q.bfloat16(), k.bfloat16())
    wanted = attended(q, k, k)
    right = torch.autograd.grad(wanted.square().sum(), (q, k))

    def far(out: Tensor) -> float:
        found = torch.autograd.grad(out.float().square().sum(), (q, k))
        pairs = [(out, wanted), *zip(found, right, strict=True)]
        return max((one.detach().double() - other.detach().double()).abs().max().item() for one, other in pairs)

    assert own.attention(q, k).dtype == torch.float16
    assert far(own.attention(q, k)) <= 2 * far(F.scaled_dot_product_attention(q, k, k, is_causal=True))


@pytest.mark.parametrize("name", ["cem_small", "llama_small"])
def test_operators_are_as_torch_wants_them(name: str) -> None:
    own = kernels(name, d="32" if name == "cem_small" else "64")
    tensors = drawn(*[(1, 2, 9, 16)] * (2 if name == "cem_small" else 3))
    torch.library.opcheck(own.attention_op, tuple(tensors))
    out, lse = (each.detach() for each in own.attention_op(*tensors))
    torch.library.opcheck(own.attention_backward_op, (*(each.detach() for each in tensors), out, lse, torch.randn_like(out), False))


def test_row_kernels_are_as_torch_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Σ of squares learned by a gain that all rows share, the same bits each time."""
    own = kernels("llama_small", d="64")
    name = next(each for each in own.TILES if "tl.rsqrt" in inspect.getsource(getattr(own, f"{each}_forward").fn))
    count = len(inspect.signature(getattr(own, name)).parameters) - 1
    tensors = drawn(*[(2, 9, 64)] * (count - 1), (64,))
    op = getattr(own, f"{name}_op")
    torch.library.opcheck(op, tuple(tensors))
    flows = [torch.randn_like(each) for each in op(*tensors)]
    one, other = (torch.autograd.grad(op(*tensors), tensors, flows) for _ in range(2))
    assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))
    monkeypatch.setattr(own, "PROGRAMS", 2)  # each of them has several tiles
    monkeypatch.setitem(own.TILES[name]["other", "float32"], "rows", 4)
    several = torch.autograd.grad(op(*tensors), tensors, flows)
    assert all(torch.allclose(left, right, atol=SINGLE) for left, right in zip(several, one, strict=True))
    with pytest.raises(RuntimeError, match='load the model with kernels="torch"'):
        torch.func.jvp(lambda x: getattr(own, name)((2, 9), x, *tensors[1:])[0], (tensors[0].detach(),), (tensors[0].detach(),))


@pytest.mark.parametrize("tokens", [1, 40])
def test_a_tied_gated_map(tokens: int) -> None:
    """Sizes that are multiples of nothing, against the same by torch's own products in float64."""
    own = kernels("cem_small", head="2", d="44", hidden="70")
    x, up, gate = drawn((2, tokens, 44), (70, 44), (70, 44))
    torch.library.opcheck(own.gated1_op, (x, up, gate))

    def plain(x: Tensor, up: Tensor, gate: Tensor) -> Tensor:
        return (F.silu(x @ up.T) * (x @ gate.T)) @ up

    out, right = own.gated1(x, up, gate), plain(x.double(), up.double(), gate.double())
    flow = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
    found = torch.autograd.grad((out * flow).sum(), (x, up, gate))
    wanted = torch.autograd.grad((right * flow).sum(), (x, up, gate))
    for one, other in zip((out, *found), (right, *wanted), strict=True):
        assert float((one - other).abs().max() / other.abs().max()) < 1e-5


def test_a_compiled_and_an_exported_model() -> None:
    made = compiled(ROOT / "specs" / "cem_small.mpt", "tiny", {"depth": "1"})
    module = made.module()
    model, inputs = filled(module), made.inputs(19)
    plain = run(model, inputs)
    fast = torch.compile(model, backend="aot_eager", fullgraph=True)
    found = run(fast, inputs)
    assert apart(Run(found.outputs, {name.removeprefix("_orig_mod."): each for name, each in found.gradients.items()}), plain) < SINGLE
    assert torch.equal(torch.export.export(model, tuple(inputs.values())).module()(*inputs.values())[0], model(**inputs)[0])


def test_autocast_reaches_kernels() -> None:
    own = kernels("cem_small", head="2", d="32")
    q, k = drawn((1, 2, 9, 16), (1, 2, 9, 16))
    with torch.autocast("cpu", torch.float16):
        out = own.attention(q, k.half())
    assert out.dtype == torch.float16
    assert torch.autograd.grad(out.float().sum(), q)[0].dtype == torch.float32


def test_transforms_without_a_derivative_are_refused() -> None:
    own = kernels("cem_small", head="2", d="32")
    q, k = (each.detach() for each in drawn((1, 2, 9, 16), (1, 2, 9, 16)))
    with pytest.raises(RuntimeError, match='load the model with kernels="torch"'):
        torch.func.grad(lambda q: own.attention(q, k).sum())(q)
    with pytest.raises(RuntimeError, match='load the model with kernels="torch"'):
        torch.func.jvp(lambda q: own.attention(q, k), (q,), (q,))
    with torch.autograd.forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward-mode"):
        own.attention(torch.autograd.forward_ad.make_dual(q, q), k)
    leaf = q.clone().requires_grad_()
    (first,) = torch.autograd.grad(own.attention(leaf, k).square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(first.sum(), leaf)


def test_double_precision_is_refused_where_kernels_are_asked_for() -> None:
    own = kernels("cem_small", head="2", d="32")
    with pytest.raises(TypeError, match="float64"):
        own.takes("attention", torch.zeros(1, dtype=torch.float64))


def test_nothing_to_attend_to() -> None:
    own = kernels("cem_small", head="2", d="32")
    q, k = drawn((0, 2, 3, 16), (0, 2, 3, 16))
    assert own.attention(q, k).shape == (0, 2, 3, 16)
