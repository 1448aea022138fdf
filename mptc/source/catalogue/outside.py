"""E08xx: values from outside (--set, --variant).

The first lines of an example say what is passed beside it: `# --set NAME=VALUE`, `# --variant NAME`.
"""

from mptc.source.catalogue.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "E0801",
        "an unknown name in --set",
        "`--set` overrides a dim or const that the spec, or a file that it uses, declares.",
        "# --set dd=16\ndim d = 8\n",
    ),
    Entry(
        "E0802",
        "an unknown variant",
        "`--variant` chooses one of the variants that the spec itself declares; those of used files are not taken over.",
        "# --variant tyni\ndim d = 8\nvariant tiny { d = 4 }\n",
    ),
    Entry(
        "E0803",
        "a value that is not a number",
        "The value after `=` is a number, or an expression of numbers, dims and consts with `+ - * / ^`, `ceil` and `floor`.",
        "# --set d=tanh(1)\ndim d = 8\n",
    ),
    Entry(
        "E0804",
        "a name that cannot be set",
        "Only dims and consts can be set from outside; the vocabulary of a `types` follows from its parts.",
        "# --set V=16\ntypes T of V { a = 4, b = 4 }\n",
    ),
)
