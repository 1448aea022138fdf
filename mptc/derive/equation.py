"""Steps as equations, for those who read: token i sees token j, R turns by position, ᵀ transposes, ⊙ is element by element."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from mptc.ir.axis import Axis, Role
from mptc.ir.node import Node
from mptc.ir.number import ONE, Monomial
from mptc.ops.compare import Compare
from mptc.ops.concat import Concat, Slice
from mptc.ops.contract import Contract, Sum
from mptc.ops.contract_text import is_constant
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Formal, Index, Input, Length, Mask, Param, Position
from mptc.ops.norm import GainedRms, Rms, Rstd
from mptc.ops.reduce import Lse, Max, Softmax
from mptc.ops.rotary import Rope
from mptc.ops.stream import Stream
from mptc.ops.view import Hold, Limit, View

SEER = "ij"  # the token that sees, and the one seen
ADD, TIMES, CHAIN, CALL = 0, 1, 2, 3  # a + b, a ⊙ b, W x and Σ …, f(x)
POWERS = str.maketrans("-/0123456789", "⁻ᐟ⁰¹²³⁴⁵⁶⁷⁸⁹")


class Equations:
    """Writes nodes; those that have a name are written by it (and listed in `used`), all but the one asked for."""

    def __init__(self, names: Mapping[Node, str]) -> None:
        self.names = names
        self.used: list[Node] = []

    def of(self, node: Node, token: str = SEER) -> str:
        return self._written(node, token)[0]

    def text(self, node: Node, token: str, at: int) -> str:
        """A part of an equation, in parentheses where it binds more loosely than `at`."""
        node, token = self._entered(node, token)
        if node in self.names and not isinstance(node.op, Param):
            if node not in self.used and not isinstance(node.op, Formal):
                self.used.append(node)
            return self.names[node] + (letters(node, token) if not self.names[node].endswith(")") else "")
        code, level = self._written(node, token)
        return code if level >= at else f"({code})"

    def _entered(self, node: Node, token: str) -> tuple[Node, str]:
        """What is inside a view, where j is the token whose value it is."""
        if isinstance(node.op, Limit):
            return self._entered(node.args[0], token)
        if isinstance(node.op, View) or (_renames(node) and has_token(node) != has_token(node.args[0])):
            return self._entered(node.args[0], token[::-1])
        return node, token

    def _written(self, node: Node, token: str) -> tuple[str, int]:
        match node.op:
            case View() | Limit():
                return self._written(*self._entered(node, token))
            case Param() | Input() | Formal() | Position() | Length() | Index():
                return self._leaf(node, token), CALL
            case Sum():
                return self._sum(node, token), ADD
            case Contract():
                return self._contract(node, token)
            case Hold():
                return self._written(node.args[0], token)
            case Map():
                return f"{node.op.name.replace('integral(', '∫').rstrip(')')}({self.text(node.args[0], token, ADD)})", CALL
            case Rope(inverse=inverse):
                return f"R{letters(node, token)}{'⁻¹' if inverse else ''} {self.text(node.args[0], token, CHAIN)}", CHAIN
            case Stream():
                return self._stream(node, token)
            case Lse() | Softmax() | Max():
                return self._reduction(node, token)
            case GainedRms():
                return f"{self.text(node.args[1], token, TIMES)} ⊙ rms({self.text(node.args[0], token, ADD)})", TIMES
            case Rms():
                return f"rms({self.text(node.args[0], token, ADD)})", CALL
            case Rstd():
                return f"1/rms({self.text(node.args[0], token, ADD)})", CALL
            case Compare(sign=sign):
                return f"({self.text(node.args[0], token, ADD)} {sign} {self.text(node.args[1], token, ADD)})", CALL
            case Concat():
                return f"[{'; '.join(self.text(arg, token, ADD) for arg in node.args)}]", CALL
            case Slice(part=part):
                return f"({self.text(node.args[0], token, ADD)})[{part}]", CALL
            case _:
                return f"{node.op.name}({', '.join(self.text(arg, token, ADD) for arg in node.args)})", CALL

    def _leaf(self, node: Node, token: str) -> str:
        match node.op:
            case Param(path=path):
                return path.rpartition(".")[2]
            case Input(label=label) | Formal(label=label):
                return f"{label}{letters(node, token)}"
            case Position():
                return token[0]
            case Index(axis=axis):
                return token[1] if axis.role is Role.CONTEXT else f"index({axis})"
            case _:
                return "n"

    def _sum(self, node: Node, token: str) -> str:
        assert isinstance(node.op, Sum)
        result = ""
        terms = [scaled(coef, self.text(arg, token, TIMES)) for coef, arg in zip(node.op.coefs, node.args, strict=True)]
        for term in sorted(terms, key=lambda term: term.startswith("(−∂")):
            sign, term = ("−", term[1:]) if term.startswith("−") else ("", term)
            result += f" {sign or '+'} {term}" if result else sign + term
        return result

    def _contract(self, node: Node, token: str) -> tuple[str, int]:
        op = node.op
        assert isinstance(op, Contract)
        if not node.args:
            return number(op.coef), TIMES
        over = [axis for label, axis in op.label_axes(arg.type for arg in node.args).items() if isinstance(label, int)]
        tokens = [axis for axis in over if axis.role is not Role.DIM]
        masks = [arg for part in node.args for arg in (part, *part.args[1:]) if isinstance(part.op, Mask | Softmax)]
        token = token[::-1] if any(axis.role is Role.TOKEN for axis in tokens) else token  # summed over those who see
        summed = token[0] if any(axis.role is Role.TOKEN for axis in tokens) else token[1]
        seen = next((tokens_seen(mask, token) for mask in masks if isinstance(mask.op, Mask)), summed)
        coef = op.coef
        for operand, value in zip(op.operands, map(_number, node.args), strict=True):
            factor = None if value is None else value.power(operand.power)
            coef = coef if factor is None else coef * factor
        both = sorted(zip(node.args, op.operands, strict=True), key=lambda pair: not isinstance(pair[0].op, Softmax))
        parts = [(arg, operand.power) for arg, operand in both if not (isinstance(arg.op, Mask) and tokens) and _number(arg) is None]
        matrix = self._matrix(node, over, token) if len(parts) == 2 and not tokens else None
        if matrix is not None:
            return scaled(coef, matrix), CHAIN if coef == ONE else TIMES
        if not parts:
            return number(coef), TIMES
        factors = sorted((self._factor(arg, power, token) for arg, power in parts), key=lambda factor: factor.startswith(("Σ", "log")))
        dims = [str(axis) for axis in over if axis.role is Role.DIM]
        marks = ([f"Σ_{seen}"] if tokens else []) + ([f"Σ_{','.join(dims)}"] if dims else [])
        product = (" " if over else " ⊙ ").join(factors)
        return scaled(coef, " ".join([*marks, product]) if factors else " ".join([*marks, "1"])), CHAIN if marks and coef == ONE else TIMES

    def _factor(self, node: Node, power: Fraction, token: str) -> str:
        code = self.text(node, token, TIMES if power == 1 else CALL)
        if power == Fraction(1, 2):
            return f"√{code}"
        return code if power == 1 else f"{code}{str(power).translate(POWERS)}"

    def _matrix(self, node: Node, over: list[Axis], token: str) -> str | None:
        """W x and Wᵀ x, where one side is a parameter of which some axes are summed and the others new."""
        op = node.op
        assert isinstance(op, Contract)
        constant = [is_constant(arg) for arg in node.args]
        if constant.count(True) != 1 or not over or any(operand.power != 1 for operand in op.operands):
            return None
        place = constant.index(True)
        weight, labels = node.args[place], op.operands[place].labels
        kept = {label for label in labels if isinstance(label, Axis)}
        if not isinstance(weight.op, Param) or kept & set(op.operands[1 - place].labels):
            return None
        order = [dict(zip(weight.axes, labels, strict=True))[axis] for axis in weight.op.order]
        mark = "ᵀ" if len(order) > 1 and isinstance(order[0], int) else ""
        return f"{self.text(weight, token, CALL)}{mark} {self.text(node.args[1 - place], token, CHAIN)}"

    def _stream(self, node: Node, token: str) -> tuple[str, int]:
        op = node.op
        assert isinstance(op, Stream)
        query, key, value = node.args[:3]
        score = f"{self.text(query, token, CALL)}·{self._seen(key, token)}"
        score = scaled(op.scale, score)
        if op.biased:
            score += f" + {self.text(node.args[3], token, TIMES)}"
        seen = f"{token[1]}≤{token[0]}" if op.causal else tokens_seen(node.args[-1], token) if op.masked else token[1]
        return f"Σ_{seen} softmax_{seen}({score}) {self._seen(value, token)}", CHAIN

    def _seen(self, node: Node, token: str) -> str:
        """What a token that is seen has: written for its own token, or along the context."""
        return self.text(node, token[::-1] if has_token(node) else token, CALL)

    def _reduction(self, node: Node, token: str) -> tuple[str, int]:
        op = node.op
        assert isinstance(op, Lse | Softmax | Max)
        marks = [tokens_seen(node.args[-1], token)] if any(axis.role is Role.CONTEXT for axis in op.over) else []
        marks += [str(axis) for axis in op.over if axis.role is Role.DIM]
        inner = self.text(node.args[0], token, ADD)
        if isinstance(op, Lse):
            return f"log Σ_{','.join(marks)} exp({inner})", CHAIN
        return f"{op.name}_{','.join(marks)}({inner})", CALL


def tokens_seen(mask: Node, token: str) -> str:
    """Over which tokens a reduction under a mask goes."""
    here, there = token[0], token[1]
    if not isinstance(mask.op, Mask):
        return there
    before = "" if mask.op.window is None else f"{here}−{mask.op.window}<"
    places = f"{before}{there}≤{here}" if mask.op.past else there
    return f"{places}, seen" if mask.args else places


def has_token(node: Node) -> bool:
    return any(axis.role is Role.TOKEN for axis in node.axes)


def letters(node: Node, token: str) -> str:
    """The tokens that a value belongs to, as its index: i, j, both, or none."""
    seen = any(axis.role is Role.CONTEXT for axis in node.axes)
    own = token[0] if has_token(node) else ""
    return f"_{own}{token[1] if seen else ''}" if own or seen else ""


def _renames(node: Node) -> bool:
    op = node.op
    return isinstance(op, Contract) and len(node.args) == 1 and not op.bound and op.coef == ONE and op.operands[0].power == 1


def _number(node: Node) -> Monomial | None:
    """The value of a node made of numbers alone."""
    op = node.op
    if not isinstance(op, Contract) or op.bound:
        return None
    result = op.coef
    for operand, arg in zip(op.operands, node.args, strict=True):
        inner = _number(arg)
        factor = None if inner is None else inner.power(operand.power)
        if factor is None:
            return None
        result = result * factor
    return result


def scaled(coef: Monomial, code: str) -> str:
    if coef == ONE:
        return code
    if coef == -ONE:
        return f"−{code}"
    above, below = _fraction(coef)
    sign = "−" if coef.rational < 0 else ""
    return f"{sign}{above + ' ' if above else ''}{code}{' / ' + below if below else ''}"


def number(coef: Monomial) -> str:
    above, below = _fraction(coef)
    return ("−" if coef.rational < 0 else "") + (above or "1") + (f"/{below}" if below else "")


def _fraction(coef: Monomial) -> tuple[str, str]:
    """What stands above and below the line, without the sign."""
    sides: tuple[list[str], list[str]] = ([], [])
    rational = abs(coef.rational)
    for value, side in ((rational.numerator, sides[0]), (rational.denominator, sides[1])):
        if value != 1:
            side.append(str(value))
    for base, power in coef.powers:
        size = abs(power)
        text = str(base) if size == 1 else f"√{base}" if size == Fraction(1, 2) else f"{base}{str(size).translate(POWERS)}"
        sides[power < 0].append(text)
    return " ".join(sides[0]), " ".join(sides[1]) if len(sides[1]) < 2 else f"({' '.join(sides[1])})"
