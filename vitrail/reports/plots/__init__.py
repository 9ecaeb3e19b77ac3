"""Plots of a run and of an evaluation, as PNG files. The same input gives the same bytes with the same matplotlib.

Figures are made without pyplot: no global state, no window system, any thread.
"""

from vitrail.reports.plots.panels import bars, class_sizes, confusion, pictures
from vitrail.reports.plots.run import curves, rates

__all__ = ["bars", "class_sizes", "confusion", "curves", "pictures", "rates"]
