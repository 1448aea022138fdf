"""`mptc bench`: how fast a spec's module is, alone or beside a module by hand, and what it holds in memory. Importing this loads no torch."""

from __future__ import annotations

from mptc.runtime.bench.job import Job
from mptc.runtime.bench.launch import bench
from mptc.runtime.bench.report import Figures, Report, Row
from mptc.runtime.bench.rounds import interval, ratios, timed

__all__ = ["Figures", "Job", "Report", "Row", "bench", "interval", "ratios", "timed"]
