"""E02xx: names, files, dims, call sites, paths.

In an example a line `# file: NAME.mpt` begins another file beside the first.
"""

from mptc.source.catalogue.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "E0201",
        "an unknown value",
        "An expression names something that is not bound here: no argument, input, parameter or `=` before it in these braces or those around it, "
        "and no dim or const. A block or energy sees its arguments and the declarations, nothing else.",
        "dim d = 8\nblock f(x: [d]) {\n  scale = 2\n  return scael * x\n}\n",
    ),
    Entry(
        "E0202",
        "an unknown function",
        "What is called is a block or an energy of this file or a used one, a `types`, a share, or a function of the language.",
        "dim d = 8\nblock f(x: [d]) { return tahn(x) }\n",
    ),
    Entry(
        "E0203",
        "a name declared twice",
        "Dims, consts, types, parameters, bindings and callees share one namespace in a scope, so that a name means one thing. `<-` changes the "
        "value of a name; `=` never does.",
        "dim d = 8\nblock f(x: [d]) {\n  y = 2 * x\n  y = 3 * y\n  return y\n}\n",
    ),
    Entry(
        "E0204",
        "a name that the generated module cannot bear",
        "Names of a spec become attributes and variables of a Python module. Words of Python, members of `torch.nn.Module` (`type`, `forward`, …) "
        "and names of the module's own surface (`loss`, `cache`) are taken, and so are the axes `seq`, `ctx` and `batch`.",
        "dim d = 8\nblock forward(x: [d]) { return tanh(x) }\n",
    ),
    Entry(
        "E0205",
        "a used file that is not there",
        "The path of `use` is relative and ends in `.mpt`. It is looked up beside the file that uses it, then in the prelude.",
        'use "lib/sdt.mpt"\n',
    ),
    Entry(
        "E0206",
        "files that use each other in a circle",
        "Each file is read once, after the files that it uses; in a circle none can be first.",
        'use "other.mpt"\n# file: other.mpt\nuse "spec.mpt"\n',
    ),
    Entry(
        "E0207",
        "two used files with one name",
        "If two used files declare one name, it would depend on their order which one is meant. A declaration in the using file hides both.",
        'use "a.mpt"\nuse "b.mpt"\n# file: a.mpt\nblock f(x: []) { return tanh(x) }\n# file: b.mpt\nblock f(x: []) { return exp(x) }\n',
    ),
    Entry(
        "E0208",
        "two models in one file",
        "A file is one spec: it has one model, or none and is a library.",
        "model one {\n  input x: []\n  output y = x\n}\nmodel two {\n  input x: []\n  output y = x\n}\n",
    ),
    Entry(
        "E0209",
        "an unknown axis",
        "Axes are declared outside the bodies, `dim NAME = …` or `context NAME`; `seq` and `ctx` are there everywhere. The axes that a library "
        "leaves free must be declared by the file that uses it.",
        "dim head = 2\ndim d = 8\nmodel m {\n  input x: [d]\n  param W: [haed, d]\n  output y = x\n}\n",
    ),
    Entry(
        "E0210",
        "two calls of one name",
        "One call site is one set of parameters, found under the name of what it calls. Two call sites of one name in one body would be one path "
        "for two sets; `as` names one of them, `share` gives both the same.",
        "dim d = 8\nblock norm(x: [d]) {\n  param gain: [d] = 1\n  return gain * rms[d](x)\n}\nblock f(x: [d]) { return norm(x) + norm(2 * x) }\n",
    ),
    Entry(
        "E0211",
        "a parameter path that is taken",
        "Labels, stack names, shares and parameters of one body are segments of parameter paths side by side, so they differ from each other.",
        "dim d = 8\nblock norm(x: [d]) {\n  param gain: [d] = 1\n  return gain * x\n}\nblock f(x: [d]) {\n  param a: [d]\n"
        "  return norm(a * x) as a\n}\n",
    ),
    Entry(
        "E0212",
        "a path to nothing",
        "A path of `tie` or `freeze` starts at the body it stands in and follows parameters, call sites and stacks; the copies of a stack are "
        "written `layers[3]` or `layers[*]`.",
        "dim d = 8\nblock f(x: [d]) {\n  param gain: [d]\n  freeze gian\n  return gain * x\n}\n",
    ),
    Entry(
        "E0213",
        "a tie of what is not alike",
        "A tied tensor is one tensor under two names: both have the same axes, in any order, and no tensor is tied twice or in a circle. Stars on "
        "both sides run together. Where ties of several bodies meet, they come to the same tensor.",
        "dim d = 8\ndim e = 8\nblock f(x: [d]) {\n  param U: [d]\n  param V: [e]\n  tie U = V\n  return x * U * sum[e](V)\n}\n",
    ),
    Entry(
        "E0214",
        "an update of what cannot be updated",
        "`<-` updates what `=`, an argument or an input bound. Parameters and declarations stay as they are, and the value of an `each` or `on` "
        "is its last line: `<-` does not reach out of it.",
        "dim d = 8\nblock f(x: [d]) {\n  param W: [d]\n  W <- W * x\n  return x\n}\n",
    ),
    Entry(
        "E0215",
        "a statement out of place",
        "`input`, `output` and `loss` stand in the model's own body; `return` ends a block and `minimize` an energy.",
        "dim d = 8\nblock f(x: [d]) {\n  output y = x\n  return x\n}\n",
    ),
    Entry(
        "E0216",
        "a block or energy without a value",
        "A block ends with `return` and an energy with `minimize`.",
        "dim d = 8\nblock f(x: [d]) {\n  y = tanh(x)\n}\n",
    ),
    Entry(
        "E0217",
        "not a number known at compile time",
        "Sizes, consts, counts and options are computed exactly from numbers, dims and consts with `+ - * / ^`, `ceil` and `floor`. A size is a "
        "positive integer.",
        "dim d = 9\ndim half_d = d / 2\n",
    ),
    Entry(
        "E0218",
        "numbers defined by each other",
        "A dim or const follows from others, and no chain of them leads back to itself.",
        "dim d = key * 8\ndim key = d / 8\n",
    ),
    Entry(
        "E0219",
        "not a count",
        "`stack` and `repeat` take a positive integer, known at compile time.",
        "const depth = 1.5\nblock f(x: []) {\n  repeat depth { x <- tanh(x) }\n  return x\n}\n",
    ),
    Entry(
        "E0220",
        "a name of another kind",
        "The name is known, and stands where something else is wanted: a value that is called, a block used as a value, a const as an axis.",
        "dim d = 8\nblock f(x: [d]) { return tanh(x) }\nblock g(x: [d]) { return x + f }\n",
    ),
    Entry(
        "E0222",
        "a block that calls itself",
        "Calls are put in place at compile time, so no chain of them leads back. A loop is `repeat`.",
        "block f(x: []) { return g(x) }\nblock g(x: []) { return f(x) }\n",
    ),
    Entry(
        "E0223",
        "a label on what has no parameters of its own",
        "`as` names the call of a block or an energy, whose parameters are then found under that name. Functions have none, and a share has its "
        "own name.",
        "dim d = 8\nblock f(x: [d]) { return tanh(x) as squashed }\n",
    ),
    Entry(
        "E0224",
        "a model without tokens",
        "A model works on the tokens of a sequence, and learns from its inputs how many there are: at least one `input` has a value for each token.",
        "model m {\n  output y = 1\n}\n",
    ),
    Entry(
        "E0225",
        "larger than any machine",
        "Calls are put in place at compile time, and blocks that call others twice double with every line. How many operations that gives, how "
        "deep they lie in each other, how many numbers the parameters are, and how many tensors ties and freezes are about have limits.",
        "dim d = 1_000_000_000\ndim e = 1_000_000_000\nmodel m {\n  input x: [d]\n  param W: [e, d]\n  output y = W @ x\n}\n",
    ),
    Entry(
        "E0226",
        "too many axes",
        "A value has at most 24 axes, and a spec at most 16 contexts.",
        "".join(f"context c{n}\n" for n in range(17)),
    ),
)
