# What generated modules decode with. Not imported by the compiler: it copies the parts a module uses, as they stand.
from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from mptc.backends.torch.helpers import rope


def rotation_at(position: Tensor, size: int, base: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary position at positions [batch, seq], each [batch, seq, size]."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    rates = base ** (-torch.arange(0, size, 2, device=position.device, dtype=wide) / size)
    angles = (position[..., None] * rates).repeat(1, 1, 2)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rope_at(x: Tensor, table: tuple[Tensor, Tensor], sign: int = 1) -> Tensor:
    """Rotary position of x [batch, ..., seq, size] by tables [batch, seq, size]."""
    cos, sin = (each.view(each.shape[0], *[1] * (x.dim() - 3), *each.shape[1:]) for each in table)
    return rope(x, (cos, sin), sign)


class Cache:
    """What decoding keeps of the tokens so far, for a batch of sequences. `model(tokens, cache=cache)` adds its tokens to it.

    `lengths`: how many tokens each sequence has had, [batch]. Entries are made when they are first written, and grow up to `capacity` tokens;
    those of windows stay as long as the window.
    """

    def __init__(self, kind: str, batch: int, capacity: int, dtype: torch.dtype | None, device: torch.device) -> None:
        if batch < 1 or capacity < 1:
            raise ValueError(f"a cache is of one sequence and one token or more; batch={batch}, capacity={capacity} were given")
        self.kind, self.batch, self.capacity, self.dtype = kind, batch, capacity, dtype
        self.lengths = torch.zeros(batch, dtype=torch.int64, device=device)
        self.path = ""
        self.kept: dict[str, Tensor] = {}
        self.later: dict[str, Tensor] = {}  # what windows will hold after this call
        self.state = {"most": 0, "seq": 0, "even": True}  # the longest sequence, the tokens of this call, whether all are of one length
        self.counts: list[Tensor] = []

    @property
    def bytes(self) -> int:
        """How much memory it takes now."""
        return sum(each.numel() * each.element_size() for each in self.kept.values())

    def at(self, path: str) -> Cache:
        """The part of it below a path."""
        part = copy(self)
        part.path = f"{self.path}{path}."
        return part

    def reorder(self, rows: Tensor) -> None:
        """The sequences at `rows` [new batch] in the place of all: some of them again, others not, as beams go on."""
        self.kept.update({name: each.index_select(0, rows) for name, each in self.kept.items()})
        self.lengths = self.lengths.index_select(0, rows)
        self.batch = len(rows)

    # -- one call ----------------------------------------------------------------------------------

    def begin(self, first: Tensor, ids: Tensor | None) -> None:
        """Before the tokens of a call: are they such as it can take?"""
        batch, seq = first.shape[:2]
        most = self.state["most"]
        if batch != self.batch:
            raise ValueError(f"this cache is for {self.batch} sequences, and {batch} go on")
        if not seq:
            raise ValueError("there is no token to go on with: give one at least")
        if most + seq > self.capacity:
            full = f"the cache holds {most} tokens of {self.capacity} at most"
            raise ValueError(f"{full}; {seq} more do not fit: new_cache(capacity=...) says how many")
        there = None if ids is None else ids >= 0
        if there is not None and not bool(there.all()):
            if bool((there[:, 1:] > there[:, :-1]).any()):
                raise ValueError("ids below 0 come after all tokens of a row, not before")
            self.state["even"] = False
        self.counts[:] = [torch.full_like(self.lengths, seq) if there is None else there.sum(1)]
        self.state["seq"] = seq
        self.later.clear()

    def end(self) -> None:
        """After them."""
        self.kept.update(self.later)
        self.lengths += self.counts[0]
        self.state["most"] += self.state["seq"] if self.state["even"] else int(self.counts[0].max())

    def position(self) -> Tensor:
        """Where the tokens of this call stand: [batch, seq]."""
        return self.lengths[:, None] + torch.arange(self.state["seq"], device=self.lengths.device)

    def places(self, window: int | None = None) -> Tensor:
        """Where those kept stand, as `keep` gives them: [batch, kept]."""
        device = self.lengths.device
        if window is None:
            return torch.arange(self.state["most"] + self.state["seq"], device=device).expand(self.batch, -1)
        return self.lengths[:, None] + torch.arange(1 - window, self.state["seq"], device=device)

    def seen(self) -> Tensor | None:
        """Which of those kept each token of this call sees, [batch, 1, seq, kept]; None where it is one token, that sees all."""
        if self.state["even"] and self.state["seq"] == 1:
            return None
        return (self.position()[:, :, None] >= self.places()[:, None])[:, None]

    def keep(self, name: str, value: Tensor, dim: int, window: int | None = None) -> Tensor:
        """The value of the tokens of this call, which lie along `dim`, behind that of those before them."""
        if window is not None:
            return self.behind(name, value, dim, window - 1)
        whole = self.room(self.path + name, value, dim)
        most, seq = self.state["most"], self.state["seq"]
        if self.state["even"]:
            whole.narrow(dim, most, seq).copy_(value)
        else:
            whole.scatter_(dim, self.spread(self.position(), value, dim), value)
        return whole.narrow(dim, 0, most + seq)

    def earlier(self, name: str, value: Tensor, dim: int, by: int, blank: int = 0) -> Tensor:
        """The value `by` tokens before each token of this call."""
        return self.behind(name, value, dim, by, blank).narrow(dim, 0, self.state["seq"])

    def behind(self, name: str, value: Tensor, dim: int, length: int, blank: int = 0) -> Tensor:
        """The values of the last `length` tokens, and then of those of this call."""
        shape = [*value.shape[:dim], length, *value.shape[dim + 1 :]]
        old = self.checked(self.kept.get(self.path + name, value.new_full(shape, blank)), value)
        whole = torch.cat((old, value), dim)
        last = self.counts[0][:, None] + torch.arange(length, device=value.device)
        self.later[self.path + name] = whole.gather(dim, self.spread(last, old, dim))
        return whole

    def room(self, name: str, value: Tensor, dim: int) -> Tensor:
        """Where an entry is written: twice as long as it was, whenever it is full."""
        needed = self.state["most"] + self.state["seq"]
        old = self.checked(self.kept.get(name, value.narrow(dim, 0, 0)), value)
        if old.shape[dim] < needed:
            length = min(self.capacity, max(needed, 2 * old.shape[dim], 64))
            made = value.new_zeros([*value.shape[:dim], length, *value.shape[dim + 1 :]])
            made.narrow(dim, 0, old.shape[dim]).copy_(old)
            self.kept[name] = made
        return self.kept[name]

    def checked(self, old: Tensor, value: Tensor) -> Tensor:
        if old.dtype != value.dtype or (self.dtype and value.is_floating_point() and value.dtype != self.dtype):
            raise ValueError(f"the cache holds {self.dtype}, and the model computes {value.dtype}; make a new one")
        return old

    @staticmethod
    def spread(index: Tensor, like: Tensor, dim: int) -> Tensor:
        """An index [batch, n] along `dim` of a tensor."""
        shape = [1] * like.dim()
        shape[0], shape[dim] = index.shape
        return index.view(shape).expand([*like.shape[:dim], index.shape[1], *like.shape[dim + 1 :]])
