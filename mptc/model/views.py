"""Typing rules of context views and of what speaks of places in the sequence."""

from __future__ import annotations

from fractions import Fraction

from mptc.ir.axis import Axis
from mptc.model.shapes import UNKNOWN, brackets, is_context, joined, ordered, words
from mptc.model.site import Function, Site
from mptc.model.tree import Binding, Per, Shape


def _count(value: Fraction) -> bool:
    return value.denominator == 1 and value >= 1


def _whole(value: Fraction) -> bool:
    return value.denominator == 1


def _view(site: Site) -> Shape:
    shape, axis = site.shape, site.axes[0]
    if not site.tokens(site.args[0]):
        return UNKNOWN
    if _is_memory(site, axis):
        help = f"declare another context, `context NAME`, and write `{site.name}[NAME](…)`"
        return site.fail("E0317", site.spans[0], f"`{axis}` is the axis of a memory, of a length of its own: tokens are not viewed along it", help)
    if axis in shape.axes:
        help = f"declare another context, `context NAME`, and write `{site.name}[NAME](…)`"
        return site.fail("E0317", site.args[0].span, f"this is a view along `{axis}` already; `{site.name}` would view it along `{axis}` again", help)
    return Shape(ordered((axis, *shape.axes)), Per.TOKEN, shape.vocabulary, shape.limited | {axis})


def _window(site: Site) -> Shape:
    return _view(site) if site.require("n", _count, "a positive integer") else UNKNOWN


def _only(site: Site) -> Shape:
    view, condition = (arg.shape for arg in site.args)
    if condition.vocabulary is not None:
        return site.fail(
            "E0307", site.args[1].span, "the condition of `only` is a number for each token, and these are ids", "compare them: `past(ids) == ids`"
        )
    axis = _context_of(site, view)
    if axis is None:
        return UNKNOWN
    site.axes = (axis,)
    more = [each for each in condition.axes if not is_context(each)]
    if more:
        message = f"the condition of `only` is one number for each token or pair of tokens, and this also has the axes {brackets(more)}"
        return site.fail("E0317", site.args[1].span, message, f"reduce {words(more)} first")
    seers = tuple(each for each in condition.axes if each != axis)  # the tokens of a memory, which see those of the view
    limited = view.limited | condition.limited.intersection(seers)
    return Shape(ordered((*view.axes, *seers)), max(view.per, condition.per), view.vocabulary, limited)


def _context_of(site: Site, view: Shape) -> Axis | None:
    """The context that `only` thins out: the one in its brackets, or the view's single one."""
    contexts = [axis for axis in view.axes if is_context(axis) and axis in view.limited]
    if site.axes:
        if site.axes[0] in contexts:
            return site.axes[0]
        site.fail("E0317", site.args[0].span, f"this is not a view along `{site.axes[0]}`")
    elif len(contexts) == 1:
        return contexts[0]
    elif contexts:
        site.fail("E0317", site.args[0].span, f"this is viewed along {words(contexts)}", f"say which: `only[{contexts[0]}](…)`")
    else:
        site.fail("E0317", site.args[0].span, "`only` thins out a view, and this is none", "write `only(past(e), condition)`")
    return None


def _distance(site: Site) -> Shape:
    if not is_context(site.axes[0]):
        return site.fail("E0308", site.spans[0], f"`distance` is along a context, and `{site.axes[0]}` is not one", "write `distance(ctx)`")
    return Shape(site.axes, Per.TOKEN)


def _index(site: Site) -> Shape:
    axis = site.axes[0]
    if axis.name == "seq":
        message = "`index` counts along a declared axis or a context, and `seq` is neither"
        return site.fail("E0308", site.spans[0], message, "the place of a token is `position`")
    if is_context(axis):
        return Shape(site.axes, Per.SEQUENCE, None, frozenset(site.axes) if _is_memory(site, axis) else frozenset())
    return Shape(() if axis in site.scope.gone else (axis,))


def _is_memory(site: Site, axis: Axis) -> bool:
    """Whether an input of the model, seen from here, stands along a context."""
    return site.scope.owner.kind == "model" and any(
        isinstance(entry, Binding) and entry.shape.per is Per.SEQUENCE and axis in entry.shape.limited
        for scope in site.scope.chain()
        for entry in scope.names.values()
    )


def _position(_: Site) -> Shape:
    return Shape((), Per.TOKEN)


def _shift(site: Site) -> Shape:
    if not site.tokens(site.args[0]) or not site.require("n", _whole, "an integer"):
        return UNKNOWN
    return site.shape


def _here(site: Site) -> Shape:
    if not site.scope.chosen:
        return site.fail("E0321", site.span, "`here` is among the chosen tokens of an `on`, and no `on` is around it")
    return site.shape


VIEWS = [
    Function("past", _view, brackets="view", ids=True),
    Function("all", _view, brackets="view", ids=True),
    Function("window", _window, brackets="view", numbers=("n",), ids=True),
    Function("only", _only, 2, brackets="context", ids=True),
    Function("distance", _distance, 0, brackets="argument"),
    Function("index", _index, 0, brackets="argument"),
    Function("position", _position, 0),
    Function("shift", _shift, numbers=("n",), ids=True),
    Function("here", _here, ids=True),
]


def comparison(left: Shape, right: Shape) -> Shape:
    """The shape of `==` between ids."""
    both = joined((left, right))
    return both if both is UNKNOWN else Shape(both.axes, both.per, None, both.limited)
