"""After an error, the parser goes on where that is of use: several errors at once, and no echoes of one."""

from __future__ import annotations

import pytest

from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from mptc.syntax.parse import parse
from mptc.syntax.problems import MOST

TEXTS = {
    "statements": ("model m {\n x = \n y = 3\n z 4\n 5 = z\n}\n", ["E0107 2:6", "E0107 4:4", "E0107 5:2"]),
    "declarations": ("dim a\ndim b = 3\ndim c = = 3\n\nblock f(x) {\n y = \n}\nconst d\n", ["E0107 1:6", "E0107 3:9", "E0107 5:10", "E0107 8:8"]),
    "a header hides its body": ("block f(x: d) {\n y = \n}\nblock g() {\n z = \n}\n", ["E0107 1:12", "E0107 5:6"]),
    "in an inner body": ("model m {\n repeat 2 {\n  x = \n }\n y = \n}\n", ["E0107 3:7", "E0107 5:6"]),
    "in the body of an expression": ("model m {\n x = each e {\n  y = \n  z = 3 4\n  z }\n w = \n}\n", ["E0107 3:7", "E0107 4:9", "E0107 6:6"]),
    "a value in error": ("model m {\n x = each e {\n  y +\n }\n w = \n}\n", ["E0107 3:6", "E0107 5:6"]),
    "brackets and others": ("model m {\n x = f(a\n y = 3 4\n}\nblock g() {\n z = \n}\n", ["E0105 2:7", "E0107 3:8", "E0107 6:6"]),
    "two unclosed": ("model m {\n x = f(a\n}\nblock g() {\n z = [1\n}\n", ["E0105 2:7", "E0105 5:6"]),
    "a wrong character hides nothing": ("model m {\n x = é\n y = \n}\n", ["E0101 2:6", "E0107 3:6"]),
    "a wrong character is no more than that": ("model m {\n x = a é b\n y = a ! b\n}\n", ["E0101 2:8", "E0101 3:8"]),
    "an early brace": ("model m {\n x = 3\n}\n y = 3\n}\ndim a\n", ["E0109 4:2", "E0107 6:6"]),
    "settings": ("variant v {\n a 3\n b = 4\n}\ndim a\n", ["E0107 2:4", "E0107 5:6"]),
    "an inner brace by layout": ("model m {\n  repeat 2 {\n    x = 3\n  y = 4\n}\n", ["E0105 2:12"]),
    "a brace before a declaration": ("block f() {\n repeat 2 {\n  x = 3\n }\n\ndim a = 3\ndim b\n", ["E0105 1:11", "E0107 7:6"]),
    "a closer of the wrong kind": ("block f() {\n y = f(a]\n z = \n}\n", ["E0105 2:7", "E0107 3:6"]),
    "one of many open": ("block f() {\n y = ((((a\n}\n", ["E0105 2:9"]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_errors(name: str) -> None:
    text, expected = TEXTS[name]
    diagnostics = Diagnostics()
    assert parse(Source("test.mpt", text), diagnostics) is None
    assert [f"{one.code} {one.span.line}:{one.span.column}" for one in diagnostics.found] == expected


def test_enough_is_enough() -> None:
    diagnostics = Diagnostics()
    parse(Source("test.mpt", "dim x\n" * 100), diagnostics)
    assert len(diagnostics.found) == MOST
