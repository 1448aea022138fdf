"""E09xx: not lowered yet."""

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
)
