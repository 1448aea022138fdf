"""`Stream`: the sum of values weighted by the softmax of a score over the tokens that i sees. A bilinear score makes it fused attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mptc.ir.axis import BATCH, CTX, SEQ, Axis, Role, dim
from mptc.ir.node import Node, Type, absent, axes_of
from mptc.ir.number import ONE, Monomial
from mptc.ops.arrays import Array, Sizes, full
from mptc.ops.base import Arrangement, Operation, Order
from mptc.ops.contract import Contract
from mptc.ops.contract_text import scalar
from mptc.ops.onnx_reduce import onnx_stream
from mptc.ops.sample import D, E, K, Sample, of
from mptc.ops.site import Site, tight


@dataclass(frozen=True)
class Stream(Operation):
    """Σ_j softmax_j(scale Σ_inner q_i k_j + bias_ij) v_j

    Arguments: query [batch, heads…, asker, inner], key and value over their own tokens [batch, heads…, seq or a memory, …], then a bias and a mask
    where there are any (`causal` needs none). Keys (values) may lack heads that queries (keys) have; those are shared.
    Those who ask are the tokens i, or a memory's: then queries may lack the batch. Over no token at all the result is 0.
    """

    over: Axis
    inner: tuple[Axis, ...]
    scale: Monomial
    causal: bool  # i sees j ≤ i; where the keys are kept ones, by the positions of both
    biased: bool
    masked: bool
    asker: Axis = SEQ

    def infer(self, *types: Type) -> Type:
        query, key, value = (set(type_.axes) for type_ in types[:3])
        token = self.over if self.over in key else SEQ if SEQ in key else self.asker
        bias = set(types[3].axes) - {self.over} if self.biased else set()
        return Type(axes_of(((query | key - {token}) - set(self.inner)) | (value - {token}) | bias | {self.asker}))

    def token(self, node: Node) -> Axis:
        """The axis of the tokens that are seen: those of the sequence, a memory's own, or those that ask."""
        key = node.args[1].axes
        return self.over if self.over in key else SEQ if SEQ in key else self.asker

    def cost(self, node: Node, sizes: Sizes) -> float:
        query, key, token = {*node.args[0].axes}, {*node.args[1].axes}, self.token(node)
        pairs = float(np.prod([sizes[axis] for axis in (query | key - {token}) - set(self.inner)])) * sizes[token]
        return pairs * float(np.prod([sizes[axis] for axis in self.inner]) + np.prod([sizes[axis] for axis in self.width(node)]))

    def width(self, node: Node) -> Order:
        """The axes of the values that are not heads."""
        heads = (set(node.args[0].axes) | set(node.args[1].axes)) - set(self.inner)
        return tuple(axis for axis in node.args[2].axes if axis not in heads and axis not in (self.token(node), self.over))

    def takes_exact(self, node: Node, index: int) -> bool:
        return self.masked and index == len(node.args) - 1

    gradient = absent("made after energies are differentiated")

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        query, key, value = node.args[:3]
        token = self.token(node)
        heads = axes_of({*query.axes, *key.axes} - set(self.inner) - {self.asker, token, self.over})
        scores = (*heads, self.asker, self.over)
        pairs = (*scores, *self.inner)
        sizes = {**sizes, self.over: sizes[token]}
        product_ = full(arrays[0], query.axes, pairs, sizes) * full(arrays[1], self._seen(key.axes, token), pairs, sizes)
        score = self.scale.evaluate(sizes) * product_.sum(axis=tuple(range(len(scores), len(pairs))))
        rest = list(zip(node.args[3:], arrays[3:], strict=True))
        if self.biased:
            bias, array = rest.pop(0)
            extra = axes_of(set(bias.axes) - set(scores))
            scores, score = (*extra, *scores), score + full(array, bias.axes, (*extra, *scores), sizes)
        if self.causal:
            behind = np.arange(sizes[SEQ])[:, None] - np.arange(sizes[SEQ])[None, :]
            score = np.where(behind >= 0, score, -np.inf)
        if self.masked:
            score = np.where(full(rest[0][1], rest[0][0].axes, scores, sizes) != 0, score, -np.inf)
        top = score.max(axis=-1, keepdims=True)
        weights = np.exp(score - np.where(np.isfinite(top), top, 0))
        below = weights.sum(axis=-1, keepdims=True)
        weights = np.where(below > 0, weights / np.where(below > 0, below, 1), 0)
        out = axes_of({*node.axes, self.over})
        mixed = full(weights, scores, out, sizes) * full(arrays[2], self._seen(value.axes, token), out, sizes)
        return np.asarray(mixed.sum(axis=out.index(self.over)))

    def _seen(self, axes: Sequence[Axis], token: Axis) -> Order:
        return tuple(self.over if axis == token else axis for axis in axes)

    # -- torch ----------------------------------------------------------------------------------------

    def heads(self, node: Node, order: Order) -> Order:
        """Every head, those that keys have first: how `enable_gqa` wants them."""
        query = [axis for axis in order if axis not in (BATCH, self.asker, self.over, *self.inner)]
        key = [axis for axis in query if axis in node.args[1].axes]
        return tuple(key) + tuple(axis for axis in query if axis not in key)

    def fits(self, node: Node) -> bool:
        """Whether `F.scaled_dot_product_attention` can say it: queries have every head, keys and values the same, all have batch and tokens.

        What a memory asks may be the same for every sequence.
        """
        query, key, value = (set(arg.axes) for arg in node.args[:3])
        inner, width = set(self.inner), set(self.width(node))
        token, asker = self.token(node), self.asker
        if not {asker, *(() if asker != SEQ else (BATCH,))} <= query or not {BATCH, token} <= key & value or len(inner) != 1:
            return False
        if any(axis.role is Role.CONTEXT for axis in query - {asker}):
            return False
        key_heads, value_heads = key - inner - {BATCH, token}, value - width - {BATCH, token}
        known = {BATCH, asker, self.over, *(query - inner)}
        extra = all(set(arg.axes) <= known for arg in node.args[3:])
        return len(width) == 1 and key_heads == value_heads and key_heads <= query - inner - {asker} and extra

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        heads = self.heads(node, orders[0])
        key = tuple(axis for axis in heads if axis in node.args[1].axes)
        width, token = self.width(node), self.token(node)
        extra = tuple(tuple(axis for axis in (BATCH, *heads, self.asker, self.over) if axis in arg.axes) for arg in node.args[3:])
        batch = BATCH if BATCH in node.args[0].axes else None
        wanted = ((batch, *heads, self.asker, *self.inner), (BATCH, *key, token, *self.inner), (BATCH, *key, token, *width), *extra)
        return Arrangement(wanted, (BATCH, *heads, self.asker, *width))

    def torch(self, site: Site) -> str:
        node = site.node
        heads = self.heads(node, site.orders[0])
        key_heads = [axis for axis in heads if axis in node.args[1].axes]
        tensors = [self.folded(site, 0, len(heads)), *(self.folded(site, index, len(key_heads)) for index in (1, 2))]
        short = self._short(site)
        wide = str(max(self._size(site, self.inner[0]), self._size(site, self.width(node)[0])))
        longer = (short > 0, short > 0, short < 0)
        tensors = [f"{site.helper('widened')}({code}, {wide})" if widen else code for code, widen in zip(tensors, longer, strict=True)]
        options = self._options(site, heads, padded=short > 0)
        if len(key_heads) < len(heads):
            options.append("enable_gqa=True")
        code = f"F.scaled_dot_product_attention({', '.join([*tensors, *options])})"
        if short < 0:
            code = f"{code}[..., :{self._size(site, self.width(node)[0])}]"
        if len(heads) < 2:
            return code if heads else f"{code}.squeeze(1)"
        return f"{code}.unflatten(1, ({', '.join(str(site.sizes[axis]) for axis in heads)}))"

    def folded(self, site: Site, index: int, heads: int) -> str:
        """One head dimension, whatever the heads."""
        code = site.whole(index)
        if heads != 1:
            code = f"{site.tight(index)}.unsqueeze(1)" if heads == 0 else f"{site.tight(index)}.flatten(1, {heads})"
        if site.given[index][1][-1] != site.orders[index][-1]:  # no fused kernel takes vectors that are not whole in memory
            code = f"{tight(code)}.contiguous()"
        return code if BATCH in site.orders[index] else f"{tight(code)}.expand({site.helper('batch')}, -1, -1, -1)"

    def _short(self, site: Site) -> int:
        """By how much queries and keys are shorter than values: a fused kernel on a CPU wants all of one width. What is cached stays as it is."""
        key = site.node.args[1]
        while isinstance(key.op, Contract) and key.op.renames:
            (key,) = key.args
        if key.op.name == "kept":
            return 0
        return self._size(site, self.width(site.node)[0]) - self._size(site, self.inner[0])

    @staticmethod
    def _size(site: Site, axis: Axis) -> int:
        return site.sizes[Axis(axis.role, axis.name)]

    def _options(self, site: Site, heads: Order, padded: bool) -> list[str]:
        options = []
        mask = site.node.args[-1] if self.masked else None
        if self.causal:
            options.append("is_causal=True" if self.token(site.node) in (SEQ, self.asker) else f"attn_mask={site.helper('seen')}")
        elif self.biased:
            bias = self._lined_up(site, 3, heads)
            options.append(f"attn_mask={bias}" if mask is None else f"attn_mask={bias}.masked_fill(~{self._lined_up(site, 4, heads)}, -torch.inf)")
        elif mask is not None:
            options.append(f"attn_mask={self._lined_up(site, 3, heads)}")
        default = Monomial.of(1)
        for axis in self.inner:
            default = default * Monomial.size(axis)
        if padded or self.scale != default.power(Fraction(-1, 2)):
            options.append(f"scale={scalar(self.scale, site.sizes)}")
        return options

    def _lined_up(self, site: Site, index: int, heads: Order) -> str:
        """A mask or bias broadcast to [batch, heads, seq, context], heads folded; where it is the same for all of them, one stands for all."""
        own = site.orders[index]
        code = site.tight(index)
        if own == (self.asker, self.over):
            return code
        shared = not set(own) & set(heads)
        whole = (BATCH, *((None,) if shared else heads), self.asker, self.over)
        if any(axis not in own for axis in whole):
            code = f"{code}[{', '.join(':' if axis in own else 'None' for axis in whole)}]"
        if shared or len(heads) == 1:
            return code
        return f"{code}.expand(-1, {', '.join(str(site.sizes[axis]) for axis in heads)}, -1, -1).flatten(1, {len(heads)})"

    triton = absent("printed by the region that contains it")
    onnx = onnx_stream

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        token, other = (BATCH, SEQ), dim("d+e")
        memory = of(BATCH, other, E, K)
        scores, biases = of(SEQ, CTX), of(SEQ, CTX, E)
        return (
            Sample(Stream(CTX, (K,), ONE, True, False, False), (of(*token, E, K), of(*token, E, K), of(*token, E, D))),
            Sample(Stream(CTX, (K,), Monomial.size(K), False, False, True), (of(*token, E, K), of(*token, K), of(*token, K), scores), masks=(3,)),
            Sample(Stream(CTX, (K,), ONE, False, True, True), (of(*token, E, K), of(*token, E, K), of(*token, E, D), biases, scores), masks=(4,)),
            Sample(Stream(other, (K,), ONE, False, False, True, D), (of(BATCH, D, E, K), memory, memory, of(BATCH, other)), masks=(3,)),
            Sample(Stream(other, (K,), ONE, False, True, False, D), (of(D, E, K), memory, memory, of(D, other))),
            Sample(Stream(CTX, (K,), ONE, False, False, True, D), (of(D, K), of(*token, K), of(*token, E), of(BATCH, CTX)), masks=(3,)),
        )
