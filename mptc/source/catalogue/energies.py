"""E05xx: gradients and energies."""

from mptc.source.catalogue.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "E0501",
        "an energy that is not one number",
        "An energy is a scalar for each token, so that it has one gradient. Axes are summed in `minimize`.",
        "dim d = 8\nenergy e(x: [d]) { minimize x^2 }\n",
    ),
    Entry(
        "E0502",
        "what cannot stand in an energy",
        "An energy is differentiated when the spec is compiled. `grad`, `stack`, `repeat`, `each`, `on`, `dropout` and reductions over `seq` do "
        "not stand in it, nor in what it calls.",
        "dim d = 8\nenergy e(x: [d]) { minimize sum[d](dropout(x, 0.1)) }\n",
    ),
    Entry(
        "E0503",
        "a gradient of what is not an energy",
        "`grad` is of an energy, by its variable.",
        "dim d = 8\nblock f(x: [d]) { return sum[d](x^2) }\nblock g(x: [d]) { return grad f(x) }\n",
    ),
    Entry(
        "E0504",
        "a variable that cannot be one",
        "The variable of an energy is what a step updates: numbers that one token has. Ids and contexts are conditions, after the bar.",
        "dim d = 8\nenergy e(x: [ctx, d]) { minimize sum[d](sum[ctx](x)) }\n",
    ),
    Entry(
        "E0505",
        "a bar that is missing or too many",
        "What an energy holds fixed stands after a bar, where it is declared and where it is called: `E(x | c)`. Blocks and functions have no "
        "conditions.",
        "dim d = 8\nenergy e(x: [d] | c: [d]) { minimize sum[d](x * c) }\nblock f(x: [d]) { return grad e(x, x) }\n",
    ),
    Entry(
        "E0507",
        "a gradient for each index of a condition",
        "Arguments may have more axes than their types, and the callee works for each index. In `grad`, a condition cannot add an axis that the "
        "variable does not have: the gradient has the variable's axes.",
        "dim d = 8\ndim e = 4\nenergy f(x: [d] | c: [d]) { minimize sum[d](x * c) }\nblock g(x: [d], c: [e, d]) { return grad f(x | c) }\n",
    ),
)
