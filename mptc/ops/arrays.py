"""Numpy arrays whose dimensions are the sorted axes of a node's type: how the reference facets line them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mptc.ir.axis import Axis

Array = NDArray[Any]
Sizes = Mapping[Axis, int]


def spread(array: Array, axes: Sequence[Axis], onto: Sequence[Axis]) -> Array:
    """`array` over `axes` with a dimension of size 1 for every axis of `onto` that it lacks."""
    order = [axis for axis in onto if axis in axes]
    array = np.transpose(array, places(order, axes))
    return array.reshape([array.shape[order.index(axis)] if axis in axes else 1 for axis in onto])


def full(array: Array, axes: Sequence[Axis], onto: Sequence[Axis], sizes: Sizes) -> Array:
    """`array` broadcast over every axis of `onto`."""
    return np.broadcast_to(spread(array, axes, onto), [sizes[axis] for axis in onto])


def places(axes: Sequence[Axis], all_axes: Sequence[Axis]) -> tuple[int, ...]:
    return tuple(all_axes.index(axis) for axis in axes)
