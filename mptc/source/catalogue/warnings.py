"""W0xxx: right, but worth a word."""

from mptc.source.catalogue.entry import Entry
from mptc.source.catalogue.lowering import ENTRIES as LOWERING

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "W0601",
        "a score for each pair of tokens",
        "Fused attention needs memory linear in length, but it takes only a softmax over one context of one bilinear term and a bias, whatever "
        "its spelling. Where the tokens of the sequence ask, any other score is computed for some of them at a time, in linear memory too. What "
        "the tokens of a memory ask one another, and what is put out, is right but is stored for every pair of tokens: the message says which, and "
        "`mptc explain SPEC:LINE` also what keeps the score from fused attention.",
        """\
context notes
context other
dim d = 4
model m bidirectional {
  input x:       [d]
  input written: [notes, d] per sequence
  seen = written[notes -> other]
  m = sum[other](softmax[other](tanh(sum[d](written * seen))) * seen)
  output y = x * sum[notes](m)
}
""",
    ),
    Entry(
        "W0602",
        "not lowered yet",
        "`mptc check` accepts the whole language; this construct of it cannot be turned into code yet, and `mptc compile` gives E0901 for it.",
        LOWERING[0].example,
    ),
    Entry(
        "W0603",
        "an energy where its gradient is meant",
        "The value of an energy is one number for each token. Where `<-` adds it to a value with axes it is spread over all of them, which no "
        "step of descent does: that takes `grad`. Where it is meant, bind the energy with `=` before.",
        """\
dim d = 4
energy well(x: [d]) {
  minimize sum[d](x^4)
}
model m {
  input x: [d]
  h = tanh(x)
  h <- h - well(h)
  output y = h
}
""",
    ),
    Entry(
        "W0604",
        "a name that nothing reads",
        "A parameter that nothing reads is stored and never learns, and a binding that nothing reads is computed for nothing: most often another "
        "name was meant where it should have been read. Used files, and files without a model, are libraries and not asked.",
        """\
dim d = 4
model m {
  input x: [d]
  param gain: [d] = 1
  output y = tanh(x)
}
""",
    ),
)
