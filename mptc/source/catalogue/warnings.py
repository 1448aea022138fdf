"""W0xxx: right, but worth a word."""

from mptc.source.catalogue.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "W0601",
        "a score for each pair of tokens",
        "Fused attention needs memory linear in the length of the sequence, but it takes only a softmax over one context of one bilinear term and a "
        "bias, whatever its spelling. Any other score, and weights that are used twice (as where an energy views its own variable through `all`), "
        "are right but are stored for every pair of tokens.",
        """\
dim d = 4
energy capped(x: [d] | c: [ctx, d]) {
  minimize -logsumexp[ctx](tanh(sum[d](x * c)))
}
model m {
  input x: [d]
  output y = x - grad capped(x | past(x))
}
""",
    ),
)
