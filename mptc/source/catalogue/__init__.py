"""Every diagnostic code, with its explanation and an example that triggers it."""

from __future__ import annotations

from mptc.source.catalogue import causality, energies, lowering, names, outside, syntax, types, warnings
from mptc.source.catalogue.entry import Entry

__all__ = ["CATALOGUE", "Entry"]


def _join(*rooms: tuple[Entry, ...]) -> dict[str, Entry]:
    """One table of all ranges; a code stands in it once."""
    table: dict[str, Entry] = {}
    for entry in (entry for room in rooms for entry in room):
        assert entry.code not in table, f"{entry.code} is in the catalogue twice"
        table[entry.code] = entry
    return table


CATALOGUE: dict[str, Entry] = _join(
    syntax.ENTRIES,
    names.ENTRIES,
    types.ENTRIES,
    causality.ENTRIES,
    energies.ENTRIES,
    outside.ENTRIES,
    lowering.ENTRIES,
    warnings.ENTRIES,
)
