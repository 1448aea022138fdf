"""Causality: in a causal model no output at token i depends on a token after i.

A conservative proof: whatever mixes tokens is a view, `shift`, a reduction over the sequence, a choice among its tokens, its length, or the
derivative of an energy that views its own variable. Those that look ahead are refused wherever they stand outside a loss or penalty.
"""

from __future__ import annotations

from mptc.model.facts import Bar, facts_of_body
from mptc.model.tree import Statement
from mptc.source.diagnostic import Diagnostics, Note
from mptc.source.text import Source, Span

_ELSE = "declare it `model NAME bidirectional { … }`"


def check_causality(name: str, body: tuple[Statement, ...], root: Source, diagnostics: Diagnostics) -> None:
    """Reports each construct of a causal model through which a later token would be seen, once."""
    for leak in facts_of_body(body).leaks.values():
        _tell(name, leak, root, diagnostics)


def _tell(name: str, leak: Bar, root: Source, diagnostics: Diagnostics) -> None:
    what, _, rest = leak.what.partition(" ")
    if what == "grad":
        energy, _, view = rest.partition(" ")
        _tell_grad(name, energy, view, leak, diagnostics)
        return
    code, message, help = _words(leak.what, name)
    span, notes = _place(leak, root)
    diagnostics.add(code, span, message, help, notes)


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
        return (
            "E0404",
            f"`load_balance` is a mean over all tokens, later ones too, and {causal}",
            "it belongs into a `penalty`, which is not an output",
        )
    instead = f"{function}[ctx](past(…))"
    return "E0404", f"`{what}` runs over all tokens, later ones too, and {causal}", f"write `{instead}`, or {_ELSE}"


def _tell_grad(model: str, energy: str, view: str, leak: Bar, diagnostics: Diagnostics) -> None:
    message = f"`{energy}` views its own variable through `{view}`, so its gradient reaches back from later tokens, and the model `{model}` is causal"
    seen = Note(leak.calls[0], "it views its variable here") if leak.calls else None
    calls = tuple(Note(call, "it is called here") for call in leak.calls[1:])
    help = f"hold what is seen fixed: `energy {energy}(x: […] | c: [ctx, …])` and `grad {energy}(x | past(…))`; or `stop` it; or {_ELSE}"
    diagnostics.add("E0405", leak.span, message, help, (*((seen,) if seen else ()), *calls))


def _place(leak: Bar, root: Source) -> tuple[Span, tuple[Note, ...]]:
    """Where to point: the construct, or the call in the spec itself that brings one of a library's in."""
    own = [span for span in (leak.span, *leak.calls) if span.source is root]
    span = own[0] if own else leak.span
    others = [each for each in (leak.span, *leak.calls) if each != span]
    return span, tuple(Note(each, "it stands here" if each == leak.span else "it is called here") for each in others)
