"""All dialects: one table for each world, family and generation of names, and which of them are our own names."""

from __future__ import annotations

from vitrail.errors import WeightsError, nearest
from vitrail.weights.dialects import google, huggingface, keras, mindspore, timm
from vitrail.weights.dialects.shi_labs import SHI_LABS
from vitrail.weights.dialects.unilm import UNILM
from vitrail.weights.rules import Dialect

# In order of preference where two explain the same tensors; of a name and family the first is the one written.
TABLES: tuple[Dialect, ...] = (
    timm.VIT,
    timm.BEIT,
    SHI_LABS,
    UNILM,
    *google.TABLES,
    *huggingface.TABLES,
    *keras.TABLES,
    *mindspore.TABLES,
)

# family -> the dialect whose names are ours
NATIVE: dict[str, Dialect] = {"cct": SHI_LABS, "vit": timm.VIT, "beit": timm.BEIT}


def dialect_names(family: str | None = None) -> tuple[str, ...]:
    """The dialects that there are, of all families or of one.

    >>> dialect_names("beit")
    ('huggingface', 'mindspore', 'timm', 'unilm')
    """
    return tuple(sorted({table.name for table in TABLES if family in (None, table.family)}))


def tables(name: str | None = None, family: str | None = None) -> tuple[Dialect, ...]:
    """The tables of a dialect and a family, either left open; WeightsError V205 when there is none.

    name: `native` for our own names, `google` for all its generations, `google:linen` for one.

    >>> [str(table) for table in tables("timm")]
    ['timm', 'timm']
    """
    world, colon, form = (name or "").partition(":")
    if name == "native":
        return tuple(table for kind, table in NATIVE.items() if family in (None, kind))
    if colon and not (world and form):
        raise WeightsError("V205", f"`{name}` is no dialect", hint="`google` has all its forms, `google:linen` one")
    named = [table for table in TABLES if world in ("", table.name) and form in ("", table.form)]
    found = tuple(table for table in named if family in (None, table.family))
    if not found:
        known = ["native", *dialect_names(family)]
        of = f" of the family {family}" if family else ""
        raise WeightsError("V205", f"`{name}` is no dialect{of}", hint=nearest(name or "", known))
    return found


def written(name: str, family: str, suffix: str = "") -> tuple[Dialect, ...]:
    """The tables in which a dialect can be written to a file of that suffix, best first; errors as `tables`.

    WeightsError V205 for a form that is only read.
    """
    open_tables = [table for table in tables(name, family) if table.rename is None]
    if not open_tables:
        raise WeightsError("V205", f"`{name}` is only read", hint=f"name the dialect alone: `{name.partition(':')[0]}`")
    made_for = [table for table in open_tables if suffix in table.containers]
    return tuple(made_for or [table for table in open_tables if not table.containers] or open_tables)
