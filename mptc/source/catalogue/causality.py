"""E04xx: causality."""

from mptc.source.catalogue.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "E0401",
        "`all` in a causal model",
        "In a causal model no output at token i depends on a token after i, and `all` sees those too. `past` and `window` do not.",
        "model m {\n  input x: []\n  output y = mean[ctx](all(x))\n}\n",
    ),
    Entry(
        "E0402",
        "a choice among all tokens in a causal model",
        "Whether a token is among the best of its sequence depends on the tokens after it. Its rank in its own past does not; `route_causal` of "
        "the prelude chooses by that.",
        "model m {\n  input x: []\n  output y = exp(topk[seq](x, 2))\n}\n",
    ),
    Entry(
        "E0403",
        "the length of the sequence in a causal model",
        "How many tokens there will be is not known at a token. `position + 1` counts those so far.",
        "model m {\n  input x: []\n  output y = x / seq\n}\n",
    ),
    Entry(
        "E0404",
        "a reduction over the sequence in a causal model",
        "A sum or mean over the sequence takes in the tokens after the one where it is used. Over `past(…)` it does not.",
        "model m {\n  input x: []\n  output y = x - mean[seq](x)\n}\n",
    ),
    Entry(
        "E0405",
        "a gradient that reaches back",
        "Where an energy views its own variable, the energies of later tokens depend on this token too, and their gradients flow back to it. Held "
        "fixed, as a condition after the bar, what is seen does that no more.",
        "energy e(x: []) { minimize -logsumexp[ctx](x * past(x)) }\nmodel m {\n  input x: []\n  output y = x - grad e(x)\n}\n",
    ),
    Entry(
        "E0406",
        "`next` outside a loss",
        "`next(ids)` is the token to come. It is what a loss compares with, and nothing else may see it.",
        "dim vocab = 16\nmodel m {\n  input tokens: id[vocab]\n  param E: [vocab]\n  output y = lookup(E, next(tokens))\n}\n",
    ),
    Entry(
        "E0407",
        "a shift from later tokens in a causal model",
        "`shift(e, n)` is the value n tokens earlier; a negative n would be later.",
        "model m {\n  input x: []\n  output y = shift(x, -1)\n}\n",
    ),
)
