"""The graph of a manifest's entry, in a bundle or not yet: written, opened, held against what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitrail.bundle.formats import FORMATS, Form
from vitrail.bundle.manifest import Engine
from vitrail.bundle.read import OpenFile
from vitrail.engines import atc
from vitrail.engines.facts import DECIDED, facts, norm_eps, said, wanted
from vitrail.engines.graph import Far, Graph, damaged
from vitrail.engines.table import Runner, Said, TopRunner, Written
from vitrail.errors import BundleError
from vitrail.models.configs import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

    from vitrail.models.classifier import Classifier


TOLD = ("weights", "variant", "seed", "data_sha256", "data_holdout", "licences")  # of the provenance, in a program


@dataclass(frozen=True)
class Stored:
    """A graph with what must be true of it. read: the bytes of its files, by their names in the bundle.

    held: the file of a bundle, where the graph is in one; a large one is not read into memory, but opened in its place.
    """

    entry: Engine
    config: ModelConfig
    classes: tuple[str, ...]
    read: Callable[[str], bytes]
    held: Callable[[str], OpenFile] | None = None

    @property
    def form(self) -> Form:
        """What it computes in, takes, and for how many pictures."""
        return form_of(self.entry)

    def beside(self, name: str) -> str:
        """The name in the bundle of a file next to the first one."""
        return f"{self.entry.file.rpartition('/')[0]}/{name}"


def form_of(entry: Engine) -> Form:
    """The form of a manifest's entry, whose words were checked when it was read."""
    return Form(entry.precision, entry.takes, entry.batch, entry.top)  # type: ignore[arg-type]


def write(source: Classifier, format: str, form: Form) -> Written:
    """The classifier's network in a format that `check_form` of `bundle.formats` allows. Errors as its own `write`."""
    about: dict[str, object] = {
        "classes": list(source.classes),
        "policy": source.policy.to_json(),
        "takes": form.takes,
        "batch": form.batch,
        "top": form.top,
        "provenance": {key: source.provenance[key] for key in TOLD if key in source.provenance},
    }
    if format == "torchscript":
        from vitrail.engines import torchscript

        return torchscript.write(source, form, about=about)
    if format in ("torch-export", "aoti"):
        from vitrail.engines import torch_export

        compiled = format == "aoti"
        return torch_export.write_compiled(source, form) if compiled else torch_export.write(source, form, about=about)
    batch = form.batch if format != "mindir" else None  # fixed later, so that one graph is the source of any
    data = write_onnx(source, form if format == "onnx" else Form("fp32", form.takes, batch, form.top))
    if format == "openvino":
        from vitrail.engines import openvino

        return openvino.write(data, form)
    if format == "mindir":
        from vitrail.engines import mindir

        return mindir.write(data, batch=form.batch)
    return as_written(data, form)


def write_onnx(source: Classifier, form: Form) -> bytes:
    """The classifier's network as an ONNX file, from which the graphs of other formats are made, too."""
    from vitrail.engines import onnx
    from vitrail.engines.deployed import deployed
    from vitrail.models.folded import folded

    plain = form == Form(batch=form.batch)  # the weights keep their names then
    network = folded(source.module) if plain else deployed(source, form, attention="explicit")
    image = (source.policy.channels, *source.policy.size)
    return onnx.write(network, classes=source.classes, image=image, form=form)


def as_written(data: bytes, form: Form) -> Written:
    """An ONNX file of ours with what it says of itself."""
    from vitrail.engines import onnx

    checked = onnx.check(data, form)
    return Written({FORMATS["onnx"].file: data}, facts(checked) | _for_ascend(checked, form), onnx.OPSET)


def _for_ascend(checked: Graph, form: Form) -> dict[str, object]:
    """The command that compiles the graph where it lies, if ATC's lists name all of it."""
    if form != Form(batch=form.batch) or atc.unlisted(checked):
        return {}
    return {"atc": atc.command(checked, FORMATS["onnx"].file, batch=form.batch or 1)}


def open(
    graph: Stored,
    engine: str,
    *,
    threads: int | None = None,
    once: bool = False,
    level: int | None = None,
    batch: int = 1,
) -> Runner:
    """The graph ready to run on an engine that knows its format. A program is run: it must be trusted already.

    once: for a few answers, where an engine can be ready sooner for them. level: of `engines.levels`, on ONNX Runtime.
    batch: how many pictures will mostly come at a time; OpenVINO compiles the graph for so many.

    BundleError V502 unless the graph itself says what the manifest says of it and of the network that it holds (machine
    code says nothing of itself); V505 when it is refused; UsageError V007 for a precision that this machine does not
    compute in.
    """
    assert level is None or engine == "onnx", f"{engine} has no levels"
    if engine == "openvino":
        runner, words = _on_openvino(graph, threads, batch)
    elif engine == "onnx":
        runner, words = _on_onnxruntime(graph, threads, once, level)
    else:
        runner, words = _opened(graph, threads)
    if words is not None:
        check_said(graph, words)
    return in_batches(runner, graph.entry.batch)


def _on_onnxruntime(graph: Stored, threads: int | None, once: bool, level: int | None) -> tuple[Runner, Said | None]:
    from vitrail.engines import onnx

    with _checked_onnx(graph) as (data, checked):
        return onnx.open(data, threads=threads, checked=checked, once=once, level=level), said(checked)


def _on_openvino(graph: Stored, threads: int | None, batch: int) -> tuple[Runner, Said | None]:
    from vitrail.engines import openvino

    if graph.entry.format == "onnx":
        with _checked_onnx(graph) as (data, checked):
            return openvino.open(data, threads=threads, checked=checked, batch=batch), said(checked)
    assert graph.entry.format == "openvino", graph.entry.format
    files = graph.read(graph.entry.file), graph.read(graph.beside(openvino.BIN))
    runner, words, columns = openvino.open_ir(files, graph.form, threads=threads, batch=batch)
    _check_columns(graph, columns)
    return runner, words


@contextmanager
def _checked_onnx(graph: Stored) -> Iterator[tuple[bytes | Path, Graph]]:
    """An ONNX file, or where a large one lies, and what checking it gave; held to have stayed as it was."""
    from vitrail.engines import onnx

    file = None if graph.held is None else graph.held(graph.entry.file)
    large = file is not None and file.large
    data: bytes | Path = file.path() if file is not None and large else graph.read(graph.entry.file)
    checked = onnx.check(data if isinstance(data, bytes) else _far(file), graph.form)
    _check_columns(graph, checked.outputs[0].shape[1])
    yield data, checked
    if file is not None and large:
        file.unchanged()  # the engine read it again, after it was hashed


def _far(file: OpenFile | None) -> Far:
    assert file is not None
    return Far(file.part, 0, file.entry.size)


def _opened(graph: Stored, threads: int | None) -> tuple[Runner, Said | None]:
    data = graph.read(graph.entry.file)
    if graph.entry.format == "torchscript":
        from vitrail.engines import torchscript

        return _seen(graph, *torchscript.open(data))
    if graph.entry.format == "torch-export":
        from vitrail.engines import torch_export

        return _seen(graph, *torch_export.open(data))
    if graph.entry.format == "aoti":
        from vitrail.engines import torch_export

        return torch_export.open_compiled(data), None  # machine code says nothing of itself
    from vitrail.engines import mindir

    assert graph.entry.format == "mindir", graph.entry.format
    # The rest of its facts are of the graph that it was made of: it says itself what it computes with.
    return mindir.open(data, threads=threads), Said({**graph.entry.facts, **mindir.facts(data)}, graph.classes)


def _seen(graph: Stored, runner: Runner, program: Callable[[Tensor], Any], names: object) -> tuple[Runner, Said]:
    """What a program shows of itself when it runs once, and the classes that travel in it."""
    import torch

    from vitrail.engines.deployed import zeros
    from vitrail.engines.torch import seen

    images = zeros(graph.form, graph.config.channels, graph.config.image_size)
    shapes: list[list[int | None]] = []

    def ask(given: Tensor) -> None:
        out = program(given)
        parts = out if isinstance(out, tuple) else (out,)
        plain = parts and all(isinstance(part, torch.Tensor) and part.ndim == 2 for part in parts)
        shapes.append([part.shape[-1] for part in parts] if plain else [None])

    facts_seen = seen(ask, images)
    columns, *best = shapes[0]
    if best != [graph.form.top] * (len(graph.form.outputs) - 1):
        raise damaged(f"beside its logits it gives {best}, and not the best {graph.form.top} classes")
    _check_columns(graph, columns)
    return runner, Said(dict(facts_seen), tuple(map(str, names)) if isinstance(names, list) else ())


def _check_columns(graph: Stored, columns: object) -> None:
    if columns != len(graph.classes):
        raise damaged(f"it gives {columns} logits for {len(graph.classes)} classes")


def check_said(graph: Stored, words: Said) -> None:
    """BundleError V502 unless manifest, config and graph say the same: classes, GELU, epsilons, opset."""
    asked = wanted(graph.config)
    if "norm_eps" in words.facts:
        asked = {"gelu": asked["gelu"], "norm_eps": norm_eps(asked)}
    wrong = [
        f"{name}: {side} {told.get(name)}, graph {words.facts.get(name)}"
        for side, told, names in (("manifest", graph.entry.facts, words.facts), ("config", asked, decided(words.facts)))
        for name in names
        if told.get(name) != words.facts.get(name)
    ]
    if words.classes != graph.classes:
        wrong.append(f"classes: {first_difference(graph.classes, words.classes)}")
    if wrong:
        raise BundleError(
            "V502",
            f"`{graph.entry.file}` is not the graph that the manifest describes",
            evidence=wrong,
            hint="export again",
        )


def decided(found: Mapping[str, object]) -> tuple[str, ...]:
    """Of a graph's facts those that a config decides."""
    return ("gelu", "norm_eps") if "norm_eps" in found else DECIDED


def first_difference(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    """Where two lists of classes first part.

    >>> first_difference(("cat", "dog"), ("dog", "cat"))
    'class 0 is `cat` and `dog`'
    """
    if len(ours) != len(theirs):
        return f"{len(ours)} and {len(theirs)} classes"
    place = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), None)
    return "the same" if place is None else f"class {place} is `{ours[place]}` and `{theirs[place]}`"


def in_batches(runner: Runner, size: int | None) -> Runner:
    """A runner for any number of pictures, of one that takes `size` at a time; None for any number."""
    return runner if size is None else _InBatches(runner, size)


class _InBatches:
    """A graph of a fixed batch that answers for any number: the last batch is filled up with zeros."""

    def __init__(self, runner: Runner, size: int) -> None:
        self._runner = runner
        self._size = size

    def logits(self, batch: NDArray[np.generic], /) -> NDArray[np.float32]:
        return np.concatenate([self._runner.logits(part) for part in self._parts(batch)])[: len(batch)]

    def answers(self, batch: NDArray[np.generic], /) -> tuple[NDArray[np.generic], ...]:
        found = zip(*(answers_of(self._runner, part) for part in self._parts(batch)), strict=True)
        return tuple(np.concatenate(parts)[: len(batch)] for parts in found)

    def _parts(self, batch: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
        missing = -len(batch) % self._size
        filled = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), batch.dtype)]) if missing else batch
        return (filled[at : at + self._size] for at in range(0, len(filled), self._size))


def answers_of(runner: Runner, batch: NDArray[np.generic]) -> tuple[NDArray[np.generic], ...]:
    """All that a graph gives: its logits, and what its form wants beside them."""
    return runner.answers(batch) if isinstance(runner, TopRunner) else (runner.logits(batch),)
