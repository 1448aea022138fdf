"""`use`: what is seen, hidden, free and a default."""

from __future__ import annotations

from fractions import Fraction

from mptc.ir.number import Monomial
from mptc.model import tree
from mptc.model.listing import reached
from mptc.model.paths import parameters

SCALE = "const c = 2\nblock scale(x: []) { return c * x }\n"


def model_of(text: str) -> str:
    return f"model m {{\n  input x: []\n  output y = {text}\n}}\n"


def factor(model: tree.Model) -> Monomial:
    """The number that the first block multiplies by."""
    value = reached(model.body)[0].result
    assert isinstance(value, tree.Apply)
    assert isinstance(value.args[0], tree.Number)
    return value.args[0].value


def test_a_const_of_a_used_file_is_a_default(sound) -> None:
    assert factor(sound('use "a.mpt"\n' + model_of("scale(x)"), a=SCALE)) == Monomial(Fraction(2))
    assert factor(sound('use "a.mpt"\nconst c = 5\n' + model_of("scale(x)"), a=SCALE)) == Monomial(Fraction(5))
    assert factor(sound('use "a.mpt"\n' + model_of("scale(x)"), {"c": "7"}, a=SCALE)) == Monomial(Fraction(7))


def test_a_free_const_is_the_using_files(sound, refused) -> None:
    free = "block scale(x: []) { return factor * x }\n"
    assert factor(sound('use "a.mpt"\nconst factor = 3\n' + model_of("scale(x)"), a=free)) == Monomial(Fraction(3))
    assert [code for code, _ in refused('use "a.mpt"\n' + model_of("scale(x)"), a=free)] == ["E0209"]
    assert sound('use "a.mpt"\n' + model_of("2 * x"), a=free) is not None


def test_a_block_hides_that_of_a_used_file_which_goes_on_meaning_its_own(sound) -> None:
    library = "block f(x: []) { return 2 * x }\nblock g(x: []) { return f(x) }\n"
    model = sound('use "a.mpt"\nblock f(x: []) { return 3 * x }\n' + model_of("f(x) + g(x)"), a=library)
    called = {each.name: each for each in reached(model.body)}
    inner = called["g"].result
    assert isinstance(inner, tree.Invoke)
    assert isinstance(inner.callee.result, tree.Apply)
    assert inner.callee is not called["f"] or len([each for each in reached(model.body) if each.name == "f"]) == 2
    numbers = sorted(str(each.result.args[0].value) for each in reached(model.body) if each.name == "f")
    assert numbers == ["2", "3"]


def test_a_binding_may_take_the_name_of_a_used_block(sound) -> None:
    assert sound('use "a.mpt"\nmodel m {\n  input x: []\n  scale = 2 * x\n  output y = scale\n}\n', a=SCALE) is not None


def test_what_a_used_file_uses_is_seen_and_counts_once(sound) -> None:
    text = 'use "a.mpt"\nuse "b.mpt"\nuse "a.mpt"\n' + model_of("f(x)")
    assert sound(text, a='use "b.mpt"\n', b="block f(x: []) { return 2 * x }\n") is not None


def test_two_used_files_with_one_name(refused, sound) -> None:
    files = {"a": "block f(x: []) { return 2 * x }\n", "b": "block f(x: []) { return 3 * x }\n"}
    assert [code for code, _ in refused('use "a.mpt"\nuse "b.mpt"\n' + model_of("f(x)"), **files)] == ["E0207"]
    own = "block f(x: []) { return 4 * x }\n"
    assert factor(sound('use "a.mpt"\nuse "b.mpt"\n' + own + model_of("f(x)"), **files)) == Monomial(Fraction(4))


def test_models_and_variants_are_not_taken_over(sound, refused) -> None:
    library = "dim d = 4\nvariant tiny { d = 2 }\n" + model_of("x").replace("model m", "model other")
    assert sound('use "a.mpt"\n' + model_of("x"), a=library).name == "m"
    assert [code for code, _ in refused('use "a.mpt"\n' + model_of("x"), variant="tiny", a=library)] == ["E0802"]


def test_a_circle_names_its_files(refused) -> None:
    [(code, message)] = refused('use "a.mpt"\n', a='use "b.mpt"\n', b='use "a.mpt"\n')
    assert code == "E0206"
    assert "a.mpt → b.mpt → a.mpt" in message


def test_errors_of_a_used_file_are_told_there(refused) -> None:
    assert [code for code, _ in refused('use "a.mpt"\n' + model_of("x"), a="block f(x: []) { return tahn(x) }\n")] == ["E0202"]


def test_exchanged_axes_need_not_be_declared(sound) -> None:
    text = 'use "lib/std.mpt"\ndim key = 4\nmodel m {\n  input q: [key]\n  output y = rmsnorm[d -> key](q)\n}\n'
    assert [(path, [axis.name for axis in axes]) for path, axes in parameters(sound(text).body)] == [("rmsnorm.gain", ["key"])]


def test_the_prelude_is_found_from_anywhere(sound) -> None:
    assert sound('use "lib/cem.mpt"\nuse "lib/std.mpt"\n' + model_of("x")) is not None
