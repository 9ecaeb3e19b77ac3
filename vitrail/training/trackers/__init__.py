"""Trackers: whoever gets every row of a run besides its own journal. One file each; a failing one never ends a run."""

from vitrail.training.trackers.table import Run, Tracker, Trackers, need_trackers

__all__ = ["Run", "Tracker", "Trackers", "need_trackers"]
