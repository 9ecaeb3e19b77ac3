"""HDF5 weight files of Keras 2 and 3: read by a child process that can open nothing, and written.

reading.py talks with the child and checks what it tells; child.py is that process; writing.py makes the files.
"""

from vitrail.formats.hdf5.reading import Readable, parse, read
from vitrail.formats.hdf5.writing import write

__all__ = ["Readable", "parse", "read", "write"]
