"""The lines of steps that one kernel may take: the kernel's call, or else a line for each as it would be without."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mptc.backends.torch.function import Function
    from mptc.backends.torch.modules import Together


def lines_together(function: Function, group: Together) -> list[str]:
    """What is named in between is there in one of the two cases alone, so nothing is let go of after them."""
    test, call = group.call(function)
    always, function.always = function.always, False
    lines: list[str] = []
    for node in group.nodes:
        if node in function.plan.assigned and node not in function.text:
            lines += [comment for part in function.plan.line_of(node) for comment in function.comments.before(part)]
            lines.append(function.line(node))
    function.always = always
    names = ", ".join(function.text[node] for node in group.outputs)
    return [f"if {test}:", f"    {names} = {call}", "else:", *("    " + line for line in lines)]
