"""E03xx: types and axes."""

from mptc.source.catalogue.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "E0301",
        "axes that are missing or do not fit",
        "An argument has the axes of its declared type; it may have more, never fewer. To work along another axis, exchange it: `f[d -> e](…)`.",
        "dim d = 8\ndim key = 4\nblock f(x: [d]) { return sum[d](x) }\nblock g(q: [key]) { return f(q) }\n",
    ),
    Entry(
        "E0302",
        "`@` without a shared axis",
        "`a @ b` sums over every declared axis that both sides have; batch, sequence and contexts are never summed. To keep a shared axis write "
        "`*` and `sum`.",
        "dim d = 8\ndim e = 8\nblock f(x: [d]) {\n  param W: [e]\n  return W @ x\n}\n",
    ),
    Entry(
        "E0303",
        "a reduction over an axis that is not there",
        "`sum[a](e)`, `softmax[a](e)` and the like work over axes that `e` has. Inside `each a` the axis `a` is gone.",
        "dim d = 8\ndim head = 2\nblock f(x: [d]) { return sum[head](x) }\n",
    ),
    Entry(
        "E0304",
        "a context that no view limits",
        "A reduction over a context covers the tokens that a view shows: `past`, `window`, `all`, or a memory. A value that has the axis only "
        "from `distance` shows none.",
        "block f(x: []) { return x * sum[ctx](exp(-distance(ctx))) }\n",
    ),
    Entry(
        "E0305",
        "an output with a context axis",
        "An output is one value for each token or sequence. What is seen through a view is reduced first.",
        "dim d = 8\nmodel m {\n  input x: [d]\n  output seen = past(x)\n}\n",
    ),
    Entry(
        "E0306",
        "the wrong number of arguments",
        "Functions, blocks and energies take the arguments that they declare, in their order.",
        "dim d = 8\nblock f(x: [d]) { return where(x, x) }\n",
    ),
    Entry(
        "E0307",
        "ids where numbers are wanted, or numbers where ids are",
        "Ids are looked up, viewed, shifted and compared by `==`; there is no arithmetic on them.",
        "dim vocab = 16\nmodel m {\n  input tokens: id[vocab]\n  output y = tokens * 2\n}\n",
    ),
    Entry(
        "E0308",
        "the wrong axes in brackets",
        "Reductions name the axes that they work over; a view names a context, or none for `ctx`; element-wise functions, blocks and energies "
        "take no axes. `f[a -> b](…)` exchanges an axis of a block or energy.",
        "dim d = 8\nblock f(x: [d]) { return softmax(x) }\n",
    ),
    Entry(
        "E0309",
        "an option that does not fit",
        "Options are named numbers, known at compile time, within their range.",
        "dim d = 8\nblock f(x: [d]) { return rms[d](x, epsilon = 1e-5) }\n",
    ),
    Entry(
        "E0310",
        "an update that changes the axes",
        "`x <- e` keeps the axes of `x` and how often it exists: once, for each sequence, or for each token.",
        "dim d = 8\ndim e = 4\nblock f(x: [d]) {\n  param W: [e]\n  x <- W * x\n  return x\n}\n",
    ),
    Entry(
        "E0311",
        "axes that cannot be exchanged",
        "`e[a -> b]` renames an axis that the value has to one that it does not have, of equal size. `f[a -> b](…)` exchanges an axis that `f` "
        "names, and keeps apart what `f` tells apart.",
        "dim d = 8\ndim e = 4\nblock f(x: [d]) { return x[d -> e] }\n",
    ),
    Entry(
        "E0312",
        "ids of another vocabulary",
        "Ids belong to the vocabulary of their type. They index tables over it, and are compared with ids of it.",
        "dim vocab = 16\ndim other = 16\nblock f(ids: id[vocab]) {\n  param E: [other]\n  return lookup(E, ids)\n}\n",
    ),
    Entry(
        "E0313",
        "a value that no token has",
        "Views, `shift` and positions are of values that each token has. A constant is the same for all, and an input `per sequence` is one for "
        "each sequence.",
        "dim d = 8\nblock f(x: [d]) {\n  param W: [d]\n  return x + sum[ctx](past(W))\n}\n",
    ),
    Entry(
        "E0314",
        "an axis that the callee names itself",
        "An argument may have more axes than its type: the callee then works for each index of them. It may not name them, since it would mean "
        "its own.",
        "dim d = 8\ndim e = 4\nblock f(x: [d]) {\n  param W: [e, d]\n  return W @ x\n}\nblock g(x: [e, d]) { return f(x) }\n",
    ),
    Entry(
        "E0315",
        "a type that cannot be",
        "Parameters have declared axes, each once. Batch and sequence are implicit and never written. A context stands in the type of an argument "
        "or of an input `per sequence`.",
        "dim d = 8\nblock f(x: [d]) {\n  param W: [d, d]\n  return W @ x\n}\n",
    ),
    Entry(
        "E0316",
        "not one number for each token",
        "A loss, a penalty and the condition of `on` are one number for each token (a loss or penalty may be one for each sequence). Axes are "
        "summed or averaged first.",
        "dim d = 8\nmodel m {\n  input x: [d]\n  output y = x\n  loss x^2\n}\n",
    ),
    Entry(
        "E0317",
        "a view that cannot be",
        "`past`, `window` and `all` add a context axis that the value does not have yet. `only` thins out a view by one number for each token or "
        "pair of tokens.",
        "block f(x: []) { return sum[ctx](past(past(x))) }\n",
    ),
    Entry(
        "E0318",
        "an order that is not one of the output's axes",
        "`output n: [a, b] = e` names each axis of `e` once, in the order of the tensor that is returned.",
        "dim d = 8\ndim e = 4\nmodel m {\n  input x: [d]\n  output y: [e] = x\n}\n",
    ),
    Entry(
        "E0319",
        "no element-wise function",
        "`integral(f)` is of a function of one number, element by element: `silu`, `relu`, `tanh` and so on.",
        "dim d = 8\nblock f(x: [d]) { return integral(softmax)(x) }\n",
    ),
    Entry(
        "E0321",
        "a function out of place",
        "A function is called; its name alone has no value. `here` is called inside `on`.",
        "dim d = 8\nblock f(x: [d]) { return x * tanh }\n",
    ),
)
