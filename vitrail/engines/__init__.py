"""What runs a bundle: one file an engine, one table of them, and the opened bundle."""

from __future__ import annotations

from vitrail.engines.opened import Bundle, bundle_classifier, open_bundle
from vitrail.engines.table import ENGINES, Runner

__all__ = ["ENGINES", "Bundle", "Runner", "bundle_classifier", "open_bundle"]
