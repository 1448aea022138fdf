"""Causality: in a causal model no output at token i depends on a token after i.

The proof is a data-flow (`flow`, `facts`): of every value, how many tokens ahead it looks and through which construct. What mixes tokens is a view,
`shift`, a reduction over the sequence, a choice among its tokens, its length, and the derivative of an energy that views its own variable. An output
that looks ahead is refused, with the way that the later token takes to it. What only a loss, a penalty or a probe sees is no output.

It is conservative: it goes by the constructs and the order of statements, never by numbers. So it refuses what these hide, though no output changes:

- `ZERO`      a later token that is multiplied by 0, subtracted from itself, or looked up where nothing is;
- `FLAT`      a comparison with a later token that comes out the same for each;
- `THINNED`   `all` of which `only` leaves the past, or which meets a `past` of the same context;
- `LINEAR`    a derivative in which the later token's part is a constant, or vanishes: the energy depends on it, its slope does not;
- `LOOPED`    `shift`s in a `stack` or `repeat` that cancel over its passes: what grows from pass to pass is taken to grow for ever;
- `SIZED`     a shift by a negative multiple of a dim's size, taken back by an equal one;
- `CHOSEN`    a negative `shift` inside `on`, taken back by another: among chosen tokens the next may be any number of places away.
"""

from __future__ import annotations

from mptc.model import tree
from mptc.model.facts import read
from mptc.model.flow import Flow, Source, Trail
from mptc.model.tree import Statement
from mptc.source.diagnostic import Diagnostics, Note
from mptc.source.text import Source as Text
from mptc.source.text import Span

MOST_STEPS = 8
_ELSE = "declare it `model NAME bidirectional { … }`"


def check_causality(name: str, body: tuple[Statement, ...], root: Text, diagnostics: Diagnostics) -> None:
    """Reports each construct of a causal model through which an output sees a later token, once."""
    told: set[Source] = set()

    def sink(output: tree.Output, flow: Flow) -> None:
        if flow.ahead <= 0:
            return
        for source, trail in flow.late.items():
            if source not in told:
                told.add(source)
                whole = Trail(output.span, f"the output `{output.name}`", trail)
                _tell(name, source[0], whole.steps(), root, diagnostics)

    read(body, sink)


def _tell(name: str, what: str, steps: list[Trail], root: Text, diagnostics: Diagnostics) -> None:
    """Points at the construct, or at the call in the spec itself that brings one of a library's in."""
    span = next((step.span for step in steps if step.span.source is root), steps[0].span)
    first = steps[0]
    notes = [] if span == first.span else [Note(first.span, "it stands here")]
    if first.view is not None:
        notes.append(Note(first.view, "it views its variable here"))
    code, message, help = _grad_words(what, name) if what.startswith("grad ") else _words(what, name)
    diagnostics.add(code, span, message, help, tuple(notes), _drawn(steps))


def _drawn(steps: list[Trail]) -> tuple[Note, ...]:
    """One note for each source line on the way; of a long way the two ends."""
    lines: list[Note] = []
    for step in _direct(steps):
        if lines and (lines[-1].span.source, lines[-1].span.line) == (step.span.source, step.span.line):
            lines[-1] = Note(lines[-1].span, f"{lines[-1].message}, {step.text}")
        else:
            lines.append(Note(step.span, step.text))
    if len(lines) <= MOST_STEPS:
        return tuple(lines)
    left = len(lines) - MOST_STEPS
    middle = lines[MOST_STEPS // 2]
    return (*lines[: MOST_STEPS // 2], Note(middle.span, f"{middle.message}, and on over {left} more lines"), *lines[-(MOST_STEPS // 2 - 1) :])


def _direct(steps: list[Trail]) -> list[Trail]:
    """The way without the rounds that a loop adds to it."""
    kept: dict[tuple[Span, str], Trail] = {}
    for step in steps:
        key = (step.span, step.text)
        while key in kept and next(reversed(kept)) != key:
            kept.popitem()
        kept[key] = step
    return list(kept.values())


def _words(what: str, model: str) -> tuple[str, str, str]:
    """Code, message and help for a construct."""
    causal = f"the model `{model}` is causal"
    function, _, over = what.partition("[")
    if what == "all":
        return "E0401", f"`all` sees the tokens after the one that looks, and {causal}", f"write `past(…)`, or {_ELSE}"
    if what == "shift":
        return "E0407", f"a negative `shift` shows a later token, and {causal}", f"shift by 0 or more, or {_ELSE}"
    if what == "seq":
        return "E0403", f"`seq` is how many tokens there will be, and {causal}", f"for the tokens so far write `position + 1`, or {_ELSE}"
    if function in ("softtopk", "topk") and over:
        instead = "choose by the rank in one's own past, `on route_causal(s, 4) {…}` of `lib/std.mpt`"
        return "E0402", f"`{what}` chooses among all tokens, later ones too, and {causal}", f"{instead}, or {_ELSE}"
    if what == "load_balance":
        instead = "it belongs into a `penalty`, which is not an output"
        return "E0404", f"`load_balance` is a mean over all tokens, later ones too, and {causal}", instead
    instead = f"{function}[ctx](past(…))"
    return "E0404", f"`{what}` runs over all tokens, later ones too, and {causal}", f"write `{instead}`, or {_ELSE}"


def _grad_words(what: str, model: str) -> tuple[str, str, str]:
    _, energy, view = what.split(" ")
    message = f"`{energy}` views its own variable through `{view}`, so its gradient reaches back from later tokens, and the model `{model}` is causal"
    help = f"hold what is seen fixed: `energy {energy}(x: […] | c: [ctx, …])` and `grad {energy}(x | past(…))`; or `stop` it; or {_ELSE}"
    return "E0405", message, help
