"""MINDIR, MindSpore's own format, through MindSpore in an environment of its own.

`cell.py` turns our ONNX graph into the source of an `nn.Cell` (`operators.py` has the table), `child.py` runs in the
other environment, `process.py` is our side of it, `program.py` reads what came of it, `engine.py` has write and open.
"""

from __future__ import annotations

from vitrail.engines.mindir.engine import FILE, facts, open, write

__all__ = ["FILE", "facts", "open", "write"]
