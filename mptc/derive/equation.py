"""Steps as equations, for those who read: token i sees token j, R turns by position, ᵀ transposes, ⊙ is element by element."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from mptc.ir.axis import CTX, SEQ, Axis, Role
from mptc.ir.node import Node
from mptc.ir.number import ONE, ZERO, Monomial
from mptc.ops.compare import Compare, Where
from mptc.ops.concat import Concat, Slice
from mptc.ops.contract import Contract, Label, Sum
from mptc.ops.contract_text import is_constant
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Formal, Index, Input, Length, Mask, Param, Position
from mptc.ops.norm import GainedRms, Rms, Rstd
from mptc.ops.reduce import Lse, Max, Softmax
from mptc.ops.rotary import Rope
from mptc.ops.stream import Stream
from mptc.ops.view import Hold, Limit, View

NOTHING: Mapping[Node, Monomial | None] = {}
SEER = "ij"  # the token that sees, and the one seen
ADD, TIMES, CHAIN, CALL = 0, 1, 2, 3  # a + b, a ⊙ b, W x and Σ …, f(x)
POWERS = str.maketrans("-/0123456789", "⁻ᐟ⁰¹²³⁴⁵⁶⁷⁸⁹")


class Equations:
    """Writes nodes; those that have a name are written by it (and listed in `used`), all but the one asked for.

    `scales`: of a name, the number that its value is times the node (see `Calculus`); what is scaled by something learned is written out.
    """

    def __init__(self, names: Mapping[Node, str], scales: Mapping[Node, Monomial | None] = NOTHING) -> None:
        self.names, self.scales = names, scales
        self.used: list[Node] = []

    def of(self, node: Node, token: str = SEER) -> str:
        return self._written(node, token)[0]

    def text(self, node: Node, token: str, at: int) -> str:
        """A part of an equation, in parentheses where it binds more loosely than `at`."""
        code, level = self._text(*self._entered(node, token))
        return code if level >= at else f"({code})"

    def _text(self, node: Node, token: str) -> tuple[str, int]:
        if node not in self.names or isinstance(node.op, Param) or self.scales.get(node, ONE) is None:
            return self._written(node, token)
        scale, code = self.scales.get(node) or ONE, self._named(node, token)
        return (code, CALL) if scale == ONE else (scaled(ONE.over(scale), code), TIMES)

    def _named(self, node: Node, token: str) -> str:
        if node not in self.used and not isinstance(node.op, Formal):
            self.used.append(node)
        return self.names[node] + (letters(node, token) if not self.names[node].endswith(")") else "")

    def _pulled(self, node: Node, token: str, power: Fraction = Fraction(1)) -> tuple[Monomial, str]:
        """A factor, and the number that comes out of it: of 30 (s / 30), with s a name, nothing is left but s."""
        inner, own = self._entered(node, token)
        scale = self.scales.get(inner) if inner in self.names else None
        factor = None if scale is None else ONE.over(scale).power(power)
        if factor is None or scale is None:
            return ONE, self._power(self.text(node, token, TIMES if power == 1 else CALL), power)
        return factor, self._power(self._named(inner, own), power)

    def _power(self, code: str, power: Fraction) -> str:
        if power == Fraction(1, 2):
            return f"√{code}"
        return code if power == 1 else f"{code}{str(power).translate(POWERS)}"

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
            case GainedRms() | Rms() | Rstd():
                return self._norm(node, token)
            case Compare() | Where() | Mask():
                return self._condition(node, token)
            case Concat():
                return f"[{'; '.join(self.text(arg, token, ADD) for arg in node.args)}]", CALL
            case Slice(part=part):
                return f"({self.text(node.args[0], token, ADD)})[{part}]", CALL
            case _:
                return f"{node.op.name}({', '.join(self.text(arg, token, ADD) for arg in node.args)})", CALL

    def _norm(self, node: Node, token: str) -> tuple[str, int]:
        """`rms` as the language has it: what is added below the root is said where it is not what `rms` adds by itself."""
        op, inner = node.op, node.args[0]
        assert isinstance(op, GainedRms | Rms | Rstd)
        if isinstance(op, Rstd):
            return f"1/√(mean({self.text(inner, token, CALL)}²) + {float(op.eps):g})", TIMES
        said = "" if op.eps == Rms(()).eps else f", eps={float(op.eps):g}"
        code = f"rms({self.text(inner, token, ADD)}{said})"
        return (f"{self.text(node.args[1], token, TIMES)} ⊙ {code}", TIMES) if isinstance(op, GainedRms) else (code, CALL)

    def _condition(self, node: Node, token: str) -> tuple[str, int]:
        if isinstance(node.op, Mask):
            return f"({tokens_seen(node, token)})", CALL
        parts = [self.text(arg, token, ADD) for arg in node.args]
        if isinstance(node.op, Compare):
            return f"({parts[0]} {node.op.sign} {parts[1]})", CALL
        return f"where({', '.join(parts)})", CALL

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
                assert isinstance(node.op, Length)
                return count(node.op.axis)

    def _sum(self, node: Node, token: str) -> str:
        assert isinstance(node.op, Sum)
        result = ""
        pulled = [(coef, *self._pulled(arg, token)) for coef, arg in zip(node.op.coefs, node.args, strict=True)]
        terms = [scaled(coef * factor, code) for coef, factor, code in pulled]
        for term in sorted(terms, key=lambda term: term.lstrip("−").startswith(("(−∂", "(∂"))):
            sign, term = ("−", term[1:]) if term.startswith("−") else ("", term)
            result += f" {sign or '+'} {term}" if result else sign + term
        return result

    def _contract(self, node: Node, token: str) -> tuple[str, int]:
        op = node.op
        assert isinstance(op, Contract)
        if not node.args:
            return number(op.coef), TIMES
        over = [axis for label, axis in op.label_axes(arg.type for arg in node.args).items() if isinstance(label, int)]
        tokens = [self._token(node, place, token) for place in range(len(node.args))]
        if op.renames:
            return self._text(*self._entered(node.args[0], tokens[0]))
        summed = sorted({letter for letter, label in _labelled(node, token) if isinstance(label, int)})
        coef, factors, marks = op.coef, [], []
        for place in sorted(range(len(node.args)), key=lambda place: not _weighs(node.args[place])):
            arg, power = node.args[place], op.operands[place].power
            mask = _hides(arg) if summed else None
            marks += [] if mask is None else [tokens_seen(mask, tokens[place])]
            arg = arg.args[1] if summed and isinstance(arg.op, Where) and _hides(arg) is not None else arg
            value = _number(arg)
            factor, code = (value.power(power), "") if value is not None else (None, "")
            if factor is None and not (isinstance(arg.op, Mask) and summed):
                factor, code = self._pulled(arg, tokens[place], power)
            coef = coef if factor is None else coef * factor
            factors += [code] if code else []
        matrix = self._matrix(node, over, tokens) if len(factors) == len(node.args) == 2 and not summed else None
        if matrix is not None:
            return scaled(op.coef, matrix), CHAIN if op.coef == ONE else TIMES
        dims = [str(axis) for axis in over if axis.role is Role.DIM]
        sums = [f"Σ_{marks[0] if marks else ','.join(summed)}"] if summed else []
        sums += [f"Σ_{','.join(dims)}"] if dims else []
        if not factors and not sums:
            return number(coef), TIMES
        factors.sort(key=lambda factor: factor.startswith(("Σ", "log")))
        product = (" " if over else " ⊙ ").join(factors) or "1"
        return scaled(coef, " ".join([*sums, product])), CHAIN if sums and coef == ONE else TIMES

    def _token(self, node: Node, place: int, token: str) -> str:
        """The letters of what an operand has itself, and of what it sees."""
        arg, op = node.args[place], node.op
        assert isinstance(op, Contract)
        called = {label: letter for letter, label in _labelled(node, token)}
        own = [called[label] for axis, label in zip(arg.axes, op.operands[place].labels, strict=True) if axis.role is Role.TOKEN]
        seen = [called[label] for axis, label in zip(arg.axes, op.operands[place].labels, strict=True) if axis.role is Role.CONTEXT]
        first = own[0] if own else next((letter for letter in token if letter not in seen[:1]), token[0])
        return first + (seen[0] if seen else next((letter for letter in token[::-1] if letter != first), token[1]))

    def _matrix(self, node: Node, over: list[Axis], tokens: list[str]) -> str | None:
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
        return f"{self.text(weight, tokens[place], CALL)}{mark} {self.text(node.args[1 - place], tokens[1 - place], CHAIN)}"

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


def count(axis: Axis) -> str:
    """How many tokens there are along an axis."""
    return "n" if axis in (SEQ, CTX) else f"n_{axis}"


def _weighs(node: Node) -> bool:
    """Whether a factor is softmax weights, or a product with them."""
    op = node.op
    return isinstance(op, Softmax) or (isinstance(op, Contract) and not op.bound and any(map(_weighs, node.args)))


def _hides(node: Node) -> Node | None:
    """The mask outside of which a factor is 0."""
    op = node.op
    if isinstance(op, Mask):
        return node
    if isinstance(op, Softmax):
        return _hides(node.args[1]) if len(node.args) > 1 else None
    if isinstance(op, Where) and _number(node.args[2]) == ZERO:
        return _hides(node.args[0])
    if isinstance(op, Contract) and not op.bound:
        return next((mask for arg in node.args if (mask := _hides(arg)) is not None), None)
    return None


def _labelled(node: Node, token: str) -> list[tuple[str, Label]]:
    """A letter for each label of tokens in a product: the result's own first, then what it sees, then what is summed."""
    op = node.op
    assert isinstance(op, Contract)
    own = next((axis for axis in node.axes if axis.role is Role.TOKEN), SEQ)
    labels = [label for label, axis in op.label_axes(arg.type for arg in node.args).items() if axis.role in (Role.TOKEN, Role.CONTEXT)]
    others = sorted((label for label in labels if label != own), key=lambda label: (isinstance(label, int), str(label)))
    return [*((token[0], label) for label in labels if label == own), *zip(f"{token[1]}lmnop", others, strict=False)]


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
        name = count(base) if isinstance(base, Axis) and base.role is not Role.DIM else str(base)
        text = name if size == 1 else f"√{name}" if size == Fraction(1, 2) else f"{name}{str(size).translate(POWERS)}"
        sides[power < 0].append(text)
    return " ".join(sides[0]), " ".join(sides[1]) if len(sides[1]) < 2 else f"({' '.join(sides[1])})"
