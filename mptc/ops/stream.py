"""`Stream`: the sum of values weighted by the softmax of a score over the tokens that i sees. A bilinear score makes it fused attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mptc.ir.axis import BATCH, CTX, SEQ, Axis, Role
from mptc.ir.node import Node, Type, absent, axes_of
from mptc.ir.number import ONE, Monomial
from mptc.ops.arrays import Array, Sizes, full
from mptc.ops.base import Arrangement, Operation, Order
from mptc.ops.contract_text import scalar
from mptc.ops.onnx_reduce import onnx_stream
from mptc.ops.sample import D, E, K, Sample, of
from mptc.ops.site import Site


@dataclass(frozen=True)
class Stream(Operation):
    """Σ_j softmax_j(scale Σ_inner q_i k_j + bias_ij) v_j

    Arguments: query [batch, heads…, seq, inner], key and value over their own tokens [batch, heads…, seq or a memory, …], then a bias and a mask
    where there are any (`causal` needs none). Keys (values) may lack heads that queries (keys) have; those are shared.
    Over no token at all the result is 0.
    """

    over: Axis
    inner: tuple[Axis, ...]
    scale: Monomial
    causal: bool  # i sees j ≤ i; where the keys are kept ones, by the positions of both
    biased: bool
    masked: bool

    def infer(self, *types: Type) -> Type:
        query, key, value = types[:3]
        heads = (set(query.axes) | set(key.axes)) - set(self.inner)
        bias = set(types[3].axes) - {self.over} if self.biased else set()
        return Type(axes_of((heads | set(value.axes) | bias | {SEQ}) - {self.over}))

    def token(self, node: Node) -> Axis:
        """The axis of the tokens that are seen: those of the sequence, or a memory's own."""
        return self.over if self.over in node.args[1].axes else SEQ

    def cost(self, node: Node, sizes: Sizes) -> float:
        pairs = float(np.prod([sizes[axis] for axis in {*node.args[0].axes, *node.args[1].axes} - set(self.inner)])) * sizes[SEQ]
        return pairs * float(np.prod([sizes[axis] for axis in self.inner]) + np.prod([sizes[axis] for axis in self.width(node)]))

    def width(self, node: Node) -> Order:
        """The axes of the values that are not heads."""
        heads = (set(node.args[0].axes) | set(node.args[1].axes)) - set(self.inner)
        return tuple(axis for axis in node.args[2].axes if axis not in heads and axis not in (SEQ, self.over))

    def takes_exact(self, node: Node, index: int) -> bool:
        return self.masked and index == len(node.args) - 1

    gradient = absent("made after energies are differentiated")

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        query, key, value = node.args[:3]
        heads = axes_of({*query.axes, *key.axes} - set(self.inner) - {SEQ, self.over})
        scores = (*heads, SEQ, self.over)
        pairs = (*scores, *self.inner)
        sizes = {**sizes, self.over: sizes[self.token(node)]}
        product_ = full(arrays[0], query.axes, pairs, sizes) * full(arrays[1], self._seen(key.axes), pairs, sizes)
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
        mixed = full(weights, scores, out, sizes) * full(arrays[2], self._seen(value.axes), out, sizes)
        return np.asarray(mixed.sum(axis=out.index(self.over)))

    def _seen(self, axes: Sequence[Axis]) -> Order:
        return tuple(self.over if axis == SEQ else axis for axis in axes)

    # -- torch ----------------------------------------------------------------------------------------

    def heads(self, node: Node, order: Order) -> Order:
        """Every head, those that keys have first: how `enable_gqa` wants them."""
        query = [axis for axis in order if axis not in (BATCH, SEQ, self.over, *self.inner)]
        key = [axis for axis in query if axis in node.args[1].axes]
        return tuple(key) + tuple(axis for axis in query if axis not in key)

    def fits(self, node: Node) -> bool:
        """Whether `F.scaled_dot_product_attention` can say it: queries have every head, keys and values the same, all have batch and tokens."""
        query, key, value = (set(arg.axes) for arg in node.args[:3])
        inner, width = set(self.inner), set(self.width(node))
        token = self.token(node)
        if not {BATCH, SEQ} <= query or not {BATCH, token} <= key & value or len(inner) != 1:
            return False
        if any(axis.role is Role.CONTEXT for axis in query):
            return False
        key_heads, value_heads = key - inner - {BATCH, token}, value - width - {BATCH, token}
        known = {BATCH, SEQ, self.over, *(query - inner)}
        extra = all(set(arg.axes) <= known for arg in node.args[3:])
        return len(width) == 1 and key_heads == value_heads and key_heads <= query - inner and extra

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        heads = self.heads(node, orders[0])
        key = tuple(axis for axis in heads if axis in node.args[1].axes)
        width, token = self.width(node), self.token(node)
        extra = tuple(tuple(axis for axis in (BATCH, *heads, SEQ, self.over) if axis in arg.axes) for arg in node.args[3:])
        wanted = ((BATCH, *heads, SEQ, *self.inner), (BATCH, *key, token, *self.inner), (BATCH, *key, token, *width), *extra)
        return Arrangement(wanted, (BATCH, *heads, SEQ, *width))

    def torch(self, site: Site) -> str:
        node = site.node
        heads = self.heads(node, site.orders[0])
        key_heads = [axis for axis in heads if axis in node.args[1].axes]
        tensors = [self._folded(site, 0, len(heads)), *(self._folded(site, index, len(key_heads)) for index in (1, 2))]
        options = self._options(site, heads)
        if len(key_heads) < len(heads):
            options.append("enable_gqa=True")
        code = f"F.scaled_dot_product_attention({', '.join([*tensors, *options])})"
        if len(heads) < 2:
            return code if heads else f"{code}.squeeze(1)"
        return f"{code}.unflatten(1, ({', '.join(str(site.sizes[axis]) for axis in heads)}))"

    def _folded(self, site: Site, index: int, heads: int) -> str:
        """One head dimension, whatever the heads."""
        if heads == 1:
            return site.whole(index)
        return f"{site.tight(index)}.unsqueeze(1)" if heads == 0 else f"{site.tight(index)}.flatten(1, {heads})"

    def _options(self, site: Site, heads: Order) -> list[str]:
        options = []
        mask = site.node.args[-1] if self.masked else None
        if self.causal:
            options.append("is_causal=True" if self.token(site.node) == SEQ else f"attn_mask={site.helper('seen')}")
        elif self.biased:
            bias = self._lined_up(site, 3, heads)
            options.append(f"attn_mask={bias}" if mask is None else f"attn_mask={bias}.masked_fill(~{self._lined_up(site, 4, heads)}, -torch.inf)")
        elif mask is not None:
            options.append(f"attn_mask={self._lined_up(site, 3, heads)}")
        default = Monomial.of(1)
        for axis in self.inner:
            default = default * Monomial.size(axis)
        if self.scale != default.power(Fraction(-1, 2)):
            options.append(f"scale={scalar(self.scale, site.sizes)}")
        return options

    def _lined_up(self, site: Site, index: int, heads: Order) -> str:
        """A mask or bias broadcast to [batch, heads, seq, context], heads folded."""
        own = site.orders[index]
        code = site.tight(index)
        missing = [axis for axis in (BATCH, *heads) if axis not in own]
        if len(missing) == 1 + len(heads) and len(own) == 2:
            return code
        whole = (BATCH, *heads, SEQ, self.over)
        picks = ", ".join(":" if axis in own else "None" for axis in whole)
        if any(axis.role is Role.CONTEXT or axis == SEQ for axis in whole if axis not in own) or missing:
            code = f"{code}[{picks}]"
        if len(heads) == 0:
            return f"{code}[:, None]"
        sizes = ", ".join(str(site.sizes[axis]) for axis in heads)
        return code if len(heads) == 1 else f"{code}.expand(-1, {sizes}, -1, -1).flatten(1, {len(heads)})"

    triton = absent("printed by the region that contains it")
    onnx = onnx_stream

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        token = (BATCH, SEQ)
        scores, biases = of(SEQ, CTX), of(SEQ, CTX, E)
        return (
            Sample(Stream(CTX, (K,), ONE, True, False, False), (of(*token, E, K), of(*token, E, K), of(*token, E, D))),
            Sample(Stream(CTX, (K,), Monomial.size(K), False, False, True), (of(*token, E, K), of(*token, K), of(*token, K), scores), masks=(3,)),
            Sample(Stream(CTX, (K,), ONE, False, True, True), (of(*token, E, K), of(*token, E, K), of(*token, E, D), biases, scores), masks=(4,)),
        )
