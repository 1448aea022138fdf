"""E01xx: text and syntax."""

from mptc.source.catalogue.entry import Entry
from mptc.source.text import MOST_CHARACTERS

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "E0101",
        "a character without a meaning",
        "Outside of comments, a spec is made of ASCII letters, digits and the signs of the language. Anything else is left out, and what is"
        " around it is read as if it were not there.",
        "dim d = 64 %\n",
    ),
    Entry(
        "E0102",
        "not a name",
        "A name is ASCII letters, digits and `_`, begins with a letter, and has at most 100 characters. Generated modules bear the same names.",
        "dim _d = 64\n",
    ),
    Entry(
        "E0103",
        "not a number",
        "A number is `30_000`, `0.5` or `1e-6`: it begins and ends with a digit, single `_` may group the digits, and a name does not follow"
        " without a space. Numbers are exact, so their length and exponent are limited.",
        "dim d = 64k\n",
    ),
    Entry(
        "E0104",
        "a path that is not closed",
        "The path after `use` stands between double quotes, on one line.",
        'use "lib/std.mpt\n',
    ),
    Entry(
        "E0105",
        "a bracket that is never closed",
        "Every `(`, `[` and `{` has its partner. One that has none is reported where it opens, since the end of the file says nothing about it."
        " Which one that is, is told by the layout where the brackets alone leave it open.",
        "block f(x: [d]) {\n  return tanh(x\n}\n",
    ),
    Entry(
        "E0106",
        "a bracket that closes nothing",
        "A closing bracket stands where no bracket of its kind is open.",
        "dim d = (64 + 64) * 2)\n",
    ),
    Entry(
        "E0107",
        "unexpected text",
        "What stands here does not go on with what is before it. The message says what could: a statement is ended by a newline, except inside"
        " `(` and `[`; comparisons do not chain; a statement that begins with a name binds it, with `=` or `<-`.",
        "dim d 64\n",
    ),
    Entry(
        "E0108",
        "a reserved word as a name",
        "The words of the language name nothing of a spec, except as labels after `as` and in paths.",
        "dim block = 64\n",
    ),
    Entry(
        "E0109",
        "in the wrong place",
        "A declaration stands at the top level of a file; a statement stands in the braces of a `model`, `block` or `energy`.",
        "block f(x: [d]) {\n  dim e = 4\n  return x\n}\n",
    ),
    Entry(
        "E0110",
        "nested too deep",
        "Brackets, braces and operators may nest a hundred deep. What is deeper is better read, and compiled, in parts that have names.",
        "dim d = " + "-" * 120 + "64\n",
    ),
    Entry(
        "E0111",
        "a file that is too long",
        f"A file has at most {MOST_CHARACTERS:,} characters. Longer specs are split, and put together by `use`.",
        "# " + "x" * MOST_CHARACTERS + "\n",
    ),
    Entry(
        "E0112",
        "an unknown distribution",
        "A parameter begins as `~ normal(s)`, with standard deviation s, as `~ uniform(a)`, between -a and a, or with every entry `= value`.",
        "block f(x: [d]) {\n  param W: [d] ~ gaussian(0.02)\n  return W * x\n}\n",
    ),
    Entry(
        "E0113",
        "not the number of a copy",
        "The copies of a stack are numbered from 0: `layers[3].f.W` is a parameter of the fourth, and `layers[*].f.W` stands for that of each.",
        "model m {\n  freeze layers[0.5]\n}\n",
    ),
)
