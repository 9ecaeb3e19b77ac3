"""From what a training script saved to names and tensors: which mapping in it is the model's."""

from __future__ import annotations

from collections.abc import Iterator

from vitrail.formats import torch_legacy, torch_zip
from vitrail.formats.bounds import check_names, damaged, shown
from vitrail.formats.held import Held
from vitrail.formats.stored import Stored, Tensors

# Where training scripts put the weights, the plain ones first.
_KEYS = (
    "model", "state_dict", "model_state_dict", "module", "net", "network", "params", "weights", "student", "teacher",
    "model_ema", "state_dict_ema", "ema", "ema_state_dict", "model_ema_state_dict", "params_ema",
)  # fmt: skip


def parse(file: Held) -> tuple[Tensors, list[str]]:
    """The weights in a file of torch.save, of either form, and notes; errors of `torch_zip.read` and `state_dict`."""
    legacy = torch_legacy.is_legacy(bytes(file.read(0, min(file.size, 32))))
    return state_dict(torch_legacy.parse(file) if legacy else torch_zip.parse(file), file.path)


def state_dict(tree: object, where: object = "weights") -> tuple[Tensors, list[str]]:
    """The mapping of names to tensors in what was saved, in its order, and a note for everything that was passed over.

    The mapping is the tree itself or lies under keys that training scripts use, up to three deep (`model.module`);
    `model` and `state_dict` win over the averaged ones (`model_ema`, ...), which are then named in the notes.  where
    names the file in errors: WeightsError V201 when there is no such mapping, V202 for names that are no plain names.
    """
    if not isinstance(tree, dict):
        raise damaged(
            where, f"a value of type `{type(tree).__name__}` was saved where names and tensors belong", hint=_SAVE
        )
    place = _place(tree, 3)
    tensors: Tensors = {}
    notes = [f"weights taken from `{'.'.join(place)}`"] if place else []
    level, path = tree, ""
    for key in place:
        notes += [_passed_over(f"{path}{shown(other)}", value) for other, value in level.items() if other != key]
        level, path = level[key], f"{path}{key}."
    if not _holds_tensors(level):
        raise damaged(where, f"no tensors in it or under {', '.join(_KEYS[:4])}", hint=_SAVE)
    for key, value in level.items():
        if isinstance(key, str) and isinstance(value, Stored):
            tensors[key] = value
        else:
            notes.append(_passed_over(f"{path}{shown(key)}", value))
    check_names(tensors, where)
    return tensors, notes


def _place(tree: dict[object, object], depth: int) -> tuple[str, ...]:
    """The keys that lead to the weights; none when they are not under such keys."""
    for key in _KEYS:
        value = tree.get(key)
        if _holds_tensors(value):
            return (key,)
        if isinstance(value, dict) and depth > 1 and (deeper := _place(value, depth - 1)):
            return (key, *deeper)
    return ()


def _passed_over(name: str, value: object) -> str:
    return f"passed over `{name}` ({_kind(value)})"


_SAVE = "save the model's state_dict(), a dict of names to tensors"


def _holds_tensors(value: object) -> bool:
    return isinstance(value, dict) and any(
        isinstance(key, str) and isinstance(inner, Stored) for key, inner in value.items()
    )


def _kind(value: object) -> str:
    count = sum(1 for _ in _tensors_in(value))
    return f"{count} tensors" if count else type(value).__name__


def _tensors_in(value: object) -> Iterator[Stored]:
    if isinstance(value, Stored):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _tensors_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors_in(inner)
