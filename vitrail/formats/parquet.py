"""Parquet files with pictures in them, read by row group, and small tables written: the only place of pyarrow."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitrail.errors import UsageError
from vitrail.formats import json
from vitrail.formats.bounds import damaged, hostile
from vitrail.formats.ranges import Ranges, ranges

if TYPE_CHECKING:
    import pyarrow

CACHE_BYTES = 256 << 20
GROUP_BYTES = 4 << 30

Kind = Literal["pictures", "binary", "text", "number", "other"]


@dataclass(frozen=True)
class Table:
    """A Parquet file. columns: name -> what it holds, `pictures` being Hugging Face's struct of bytes and path.

    groups: rows of each row group. names: of the classes of a column of Hugging Face's ClassLabel.
    """

    file: Ranges
    columns: Mapping[str, Kind]
    groups: tuple[int, ...]
    names: Mapping[str, tuple[str, ...]]
    group_bytes: int  # of the largest group, unpacked

    def labels(self, column: str) -> list[int | str]:
        """A whole column of numbers or names; WeightsError V201 where one is missing."""
        with _reading(self.file) as file:
            values: list[int | str] = file.read(columns=[column], use_threads=False).column(column).to_pylist()
        missing = next((row for row, value in enumerate(values) if value is None), None)
        if missing is not None:
            raise damaged(self.file.path, f"row {missing} has no `{column}`")
        return values

    def pictures(self, column: str, group: int) -> Sequence[bytes | None]:
        """The bytes of the pictures of one row group."""
        with _reading(self.file) as file:
            values = file.read_row_group(group, columns=[column], use_threads=False).column(column).combine_chunks()
            if self.columns[column] == "pictures":
                values = _file_bytes(values)
        return _Pictures(values)


class _Pictures(Sequence[bytes | None]):
    """An Arrow array of bytes, each copied when it is asked for."""

    def __init__(self, values: pyarrow.Array) -> None:
        self._values = values
        self.nbytes = int(values.nbytes)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        value = self._values[index]
        return value.as_py() if value.is_valid else None


def open_table(path: Path) -> Table:
    """What a Parquet file holds.

    WeightsError V201 or V202 for one that does not stand; UsageError V003 without pyarrow.
    """
    held = ranges(path)
    with _reading(held) as file:
        meta, schema = file.metadata, file.schema_arrow
        sizes = [meta.row_group(group).total_byte_size for group in range(meta.num_row_groups)]
        if any(not 0 <= size <= GROUP_BYTES for size in sizes):
            raise hostile(path, f"a row group of {max(sizes)} bytes, the limit is {GROUP_BYTES}")
        rows = tuple(meta.row_group(group).num_rows for group in range(meta.num_row_groups))
        columns = {field.name: _kind(field.type) for field in schema}
        return Table(held, columns, rows, _class_names(schema.metadata or {}), max(sizes, default=0))


def need_parquet() -> None:
    """UsageError V003 with the pip command when pyarrow is absent."""
    try:
        import pyarrow.parquet  # noqa: F401 - whether it can be
    except ImportError as error:
        raise UsageError(
            "V003",
            "Parquet is read and written with pyarrow, which is not installed",
            hint='pip install "vitrail[parquet]"',
        ) from error


def table_bytes(columns: Mapping[str, tuple[type[str] | type[float], Sequence[object]]]) -> bytes:
    """A Parquet file of these columns, texts or float64, None where a value is missing.

    The same columns and the same pyarrow give the same bytes. UsageError V003 without pyarrow.
    """
    need_parquet()
    import pyarrow
    from pyarrow import parquet

    types = {str: pyarrow.string(), float: pyarrow.float64()}
    file = io.BytesIO()
    table = pyarrow.table({name: pyarrow.array(values, types[kind]) for name, (kind, values) in columns.items()})
    parquet.write_table(table, file, compression="zstd")
    return file.getvalue()


@contextmanager
def _reading(held: Ranges) -> Iterator[Any]:
    """The open file, if it is still the same; what pyarrow says of damaged bytes becomes WeightsError V201."""
    need_parquet()
    import pyarrow
    from pyarrow import parquet

    limits = {"thrift_string_size_limit": 64 << 20, "thrift_container_size_limit": 1 << 20}
    try:
        with (
            held.opened(),
            open(held.path, "rb") as raw,
            parquet.ParquetFile(raw, page_checksum_verification=True, **limits) as file,
        ):
            yield file
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        said = str(error).splitlines() or [type(error).__name__]
        raise damaged(held.path, f"pyarrow cannot read it: {said[0][:200]}") from error


def _kind(kind: pyarrow.DataType) -> Kind:
    from pyarrow import types

    if types.is_struct(kind):
        inside = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        return "pictures" if "bytes" in inside and _is_binary(inside["bytes"]) else "other"
    if _is_binary(kind):
        return "binary"
    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    return "number" if types.is_integer(kind) else "other"


def _is_binary(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _file_bytes(values: pyarrow.StructArray) -> pyarrow.Array:
    """The bytes of Hugging Face's struct, none where the struct itself is missing."""
    from pyarrow import compute

    return compute.struct_field(values, "bytes")


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Columns of ClassLabel in the metadata that Hugging Face's `datasets` writes."""
    try:
        value = json.loads(metadata.get(b"huggingface", b"{}"))
    except ValueError:
        return {}  # a note of another tool: numbers are names then
    info = value.get("info") if isinstance(value, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    found = {}
    for column, feature in (features if isinstance(features, dict) else {}).items():
        names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            found[str(column)] = tuple(names)
    return found


class GroupCache:
    """Row groups of many files, the newest up to a number of bytes; each is read once however many threads wait."""

    def __init__(self, load: Callable[[tuple[int, int]], Sequence[bytes | None]], limit: int = CACHE_BYTES) -> None:
        self._load, self._limit = load, limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int], Future[Sequence[bytes | None]]] = OrderedDict()

    def __getitem__(self, key: tuple[int, int]) -> Sequence[bytes | None]:
        with self._lock:
            future = self._kept.get(key)
            mine = future is None
            if future is None:
                future = self._kept[key] = Future()
            self._kept.move_to_end(key)
        if mine:
            try:
                future.set_result(self._load(key))
            except BaseException as error:
                future.set_exception(error)
                with self._lock:
                    self._kept.pop(key, None)  # another try may read it
            self._trim()
        return future.result()

    def _trim(self) -> None:
        """Let the oldest go until the rest fits; one stays in any case."""
        with self._lock:
            done = {
                key: getattr(future.result(), "nbytes", 0)
                for key, future in self._kept.items()
                if future.done() and future.exception() is None
            }
            total = sum(done.values())
            for key, size in list(done.items())[:-1]:
                if total <= self._limit:
                    break
                del self._kept[key]
                total -= size
