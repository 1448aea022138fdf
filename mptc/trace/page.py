"""What each stage did to a spec, as one page with the differences."""

from __future__ import annotations

import difflib
import html
import itertools

from mptc.trace import DOES, STAGES, Trace

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font-family: sans-serif; margin: 2em; }}
table.diff {{ font-family: monospace; font-size: 12px; border-collapse: collapse; }}
table.diff td {{ padding: 0 0.5em; white-space: pre; }}
.diff_add {{ background: #d4f5d4; }} .diff_chg {{ background: #fff3bf; }} .diff_sub {{ background: #f9d3d3; }} .diff_header {{ color: #888; }}
pre {{ font-size: 12px; }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def page(found: Trace) -> str:
    """One HTML page: what each stage did, as differences of the listings, and the module at the end."""
    differ = difflib.HtmlDiff(tabsize=2)
    parts = [f"<h2>build</h2><p>{html.escape(DOES['build'])}</p><pre>{html.escape(found.page('build'))}</pre>"]
    for before, after in itertools.pairwise(STAGES):
        old, new = (found.page(stage).splitlines() for stage in (before, after))
        table = differ.make_table(old, new, before, after, context=True, numlines=1)
        parts.append(f"<h2>{after}</h2><p>{html.escape(DOES[after])}</p>{table}")
    parts.append(f"<h2>{html.escape(found.derived.program.name)}.py</h2><pre>{html.escape(found.text)}</pre>")
    return PAGE.format(title=html.escape(f"{found.derived.program.name}, stage by stage"), body="\n".join(parts))
