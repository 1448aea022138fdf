"""E09xx: well formed, but not to be had: what cannot be lowered yet, or not to what was asked for."""

from mptc.source.catalogue.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "E0901",
        "not lowered yet",
        "The spec is well formed, but it uses a construct of the language that this version of the compiler cannot turn into code.",
        """\
dim vocab = 16
dim d = 4
model m {
  input tokens: id[vocab]
  param embed: [vocab, d]
  x = lookup(embed, tokens)
  output y = integral(ceil)(x)
}
""",
    ),
    Entry(
        "E0902",
        "too large to be written out",
        "An ONNX graph has no loops here: every copy of a stack and every pass of a repeat is written out. This model has more of them than any "
        "runtime would load; `mptc cost`, which follows each of them, stops there too. A generated torch module does not grow with them.",
        """\
dim d = 4
model m {
  input x: [d]
  repeat 100_000 {
    x <- x + rms[d](x)
  }
  output y = x
}
""",
    ),
    Entry(
        "E0903",
        "a score that no kernel takes",
        "With --strict every attention has a kernel. One takes a softmax over one context, whose score is element by element in one product of what "
        "both tokens have. `mptc explain --where SPEC` says what runs where.",
        """\
dim d = 4
dim key = 4
model m {
  input x: [d]
  param W: [key, d]
  param V: [key, d]
  c = past(x)
  s = tanh(sum[key]((W @ x) * (W @ c))) + sum[key]((V @ x) * (V @ c))
  output y = sum[ctx](softmax[ctx](s) * c)
}
""",
    ),
)
