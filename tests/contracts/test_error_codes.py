"""Every row of the table of codes is provoked, by what a user could do."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitrail
from tests.verbs.small import small
from vitrail import disk, opening, weights
from vitrail.bundle.read import check
from vitrail.data.configs import Data
from vitrail.data.sources import open_source
from vitrail.engines import open_bundle
from vitrail.engines.table import need
from vitrail.errors import CODES, VitrailError
from vitrail.locks import locked
from vitrail.models.catalog import variant
from vitrail.pictures.decode import decode, from_pil
from vitrail.recipe import load_recipe
from vitrail.recipe.read import parse_recipe
from vitrail.training import checkpoint, generation
from vitrail.training.stall import stood_still
from vitrail.verbs.predict import found_pictures
from vitrail.verbs.train import no_recipe_given, train
from vitrail.weights.detect import detect

Provoke = Callable[[Path, Path], object]  # (an empty folder, a copy of a finished run with an exported bundle)


def _raise(error: VitrailError) -> None:
    raise error


def _nobody_to_meet() -> None:
    """A rank whose others never come."""
    from vitrail.ranks.group import Group
    from vitrail.ranks.world import World

    Group(World(rank=1, size=2, meeting=("127.0.0.1", 1)), 1.0, meeting=1.0)


def _picture(place: Path, data: bytes) -> object:
    (place / "x.png").write_bytes(data)
    return decode(place / "x.png")


def _png(place: Path) -> bytes:
    Image.new("RGB", (8, 8)).save(place / "made.png")
    return (place / "made.png").read_bytes()


def _huge_png(place: Path) -> object:
    data = bytearray(_png(place))
    data[16:24] = (30_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return _picture(place, bytes(data))


def _folders(place: Path, **counts: int) -> Data:
    for name, count in counts.items():
        (place / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(place / name / f"{index}.png")
    return Data(root=str(place))


def _bad_in_class(place: Path) -> object:
    _folders(place / "photos", a=4, b=4)
    (place / "photos" / "a" / "0.png").write_bytes(b"")
    return train(load_recipe("folder/scratch", [f"data.root={place / 'photos'}", "data.batch=2"]), out=place / "run")


def _val_differs(place: Path) -> object:
    _folders(place / "train", a=2, b=2)
    _folders(place / "val", a=2, c=2)
    return open_source(Data(root=str(place)))


def _cifar(place: Path) -> object:
    (place / "cifar-10-batches-bin").mkdir()
    (place / "cifar-10-batches-bin" / "data_batch_1.bin").write_bytes(bytes(3072))
    return open_source(Data(root=str(place)))


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _manifest(run: Path) -> object:
    _edit(run / "bundle" / "manifest.json", "0.4914", "0.4913")
    return vitrail.open(run / "bundle")


def _flipped(run: Path) -> object:
    path = run / "bundle" / "engines" / "onnx-fp32" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    return vitrail.open(run / "bundle")


def _linked(run: Path) -> object:
    path = run / "bundle" / "engines" / "onnx-fp32" / "model.onnx"
    path.rename(run / "elsewhere.onnx")
    path.symlink_to(run / "elsewhere.onnx")
    return vitrail.open(run / "bundle")


def _no_weights(run: Path) -> object:
    """A bundle that holds a graph alone cannot become a torch network."""
    from vitrail.proof.export import export

    out = run / "graph-only"
    export(opening.classifier(run), out, with_weights=False)
    return open_bundle(out, engine="torch")


def _not_a_graph(_: Path) -> object:
    from vitrail.engines import onnx

    return onnx.open(b"\x08\x07garbage")


def _other_weights(run: Path, place: Path) -> object:
    train(small("train.seed=9", "schedule.steps=3"), out=place / "other")
    return vitrail.export(place / "other", run / "bundle")


def _no_proof(place: Path) -> object:
    train(small("schedule.steps=3"), out=place / "bare")
    return vitrail.verify(place / "bare" / "bundle")


def _unwritable_network(_: Path) -> object:
    import torch

    from vitrail.engines import onnx

    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum().item() > 0 else -x

    return onnx.write(Odd(), classes=("a", "b"), image=(3, 8, 8))


def _program_from_elsewhere(run: Path) -> object:
    from vitrail.engines import trust

    out = run / "program"
    vitrail.export(run, out, format="torchscript")
    folder = trust.made_here()
    assert folder is not None
    for path in folder.iterdir():
        path.unlink()
    return open_bundle(out, engine="torchscript")


def _newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-????????"))


def _none_good(run: Path) -> object:
    for folder in (run / "checkpoints").glob("step-????????"):
        (folder / "state.json").write_text("{")
    return checkpoint.newest_good(run / "checkpoints")


def _cut(run: Path) -> object:
    path = _newest(run) / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    return vitrail.open(_newest(run))


def _newer(run: Path) -> object:
    path = _newest(run) / "manifest.json"
    values = json.loads(path.read_text())
    values["version"] = "2.0"
    rest = {key: value for key, value in values.items() if key != "digest"}
    path.write_bytes(generation.sealed(rest))
    return checkpoint.load(_newest(run))


def _held(place: Path) -> object:
    with locked(place), locked(place):
        return None


def _memory(_: Path) -> object:
    import torch

    from tests.training.tiny import batch
    from vitrail.training import memory
    from vitrail.training.average import start
    from vitrail.training.configs import CrossEntropy
    from vitrail.training.optimizer_configs import SGD
    from vitrail.training.optimizers import make
    from vitrail.training.state import TrainState
    from vitrail.training.step import How

    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 5))
    state = TrainState(module, make(SGD(), module), start(module))
    how = How(device=torch.device("cpu"), precision="fp32", loss=CrossEntropy(), seed=0)
    return _raise(memory.shortage(state, batch(0), how, "can't allocate memory"))


def _sabotaged(run: Path) -> object:
    from dataclasses import replace

    from vitrail.proof.prove import prove

    source = opening.classifier(run)
    candidate = replace(source, classes=tuple(reversed(source.classes)))
    prove(source, candidate).raise_if_failed()
    return None


def _other_answers(run: Path) -> object:
    from dataclasses import replace

    from vitrail.proof.verify import verify

    bundle = open_bundle(run / "bundle", engine="onnx")

    class Shifted:
        def logits(self, batch: np.ndarray, /) -> np.ndarray:
            return bundle.logits(batch) + np.float32(0.01)

    verify(replace(bundle, runner=Shifted())).raise_if_failed()
    return None


def _strict(run: Path) -> object:
    shutil.rmtree(run / "bundle")
    (_newest(run) / "state.json").write_text("{")
    return train(small(), out=run, resume=True, strict=True)


def _nan(place: Path) -> object:
    return train(small("schedule.lr=1.0e+30", "train.clip=null", "schedule.warmup_epochs=0"), out=place / "run")


def _stopped(place: Path) -> object:
    def stop(event: Mapping[str, object]) -> None:
        if event["event"] == "step" and event["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    return train(small(), out=place / "run", listener=stop)


def _tensors(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def _no_fit(_: Path) -> object:
    made = vitrail.create("cct_2_3x2_32")
    tensors = {name: value.numpy() for name, value in made.module.state_dict().items()}
    return weights.from_tensors(tensors, "cct_4_3x2_32")


def _evil(place: Path) -> object:
    import pickle
    import zipfile

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {place / 'canary'}",)

    with zipfile.ZipFile(place / "evil.pth", "w") as archive:
        archive.writestr("evil/data.pkl", pickle.dumps(Evil(), protocol=2))
        archive.writestr("evil/version", "3\n")
    return weights.load(place / "evil.pth")


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _detected(place: Path) -> object:
    from vitrail.formats.stored import Stored

    return detect({"a.weight": Stored.of(np.zeros((2, 2), np.float32))})


def _another_file(place: Path) -> object:
    from vitrail import remote

    url = "https://example.org/vit.npz"
    path = remote.place(url, place)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"put here by hand")
    return remote.pull(url, cache=place, sha256="0" * 64)


def _nobody_answers(place: Path) -> object:
    import socket

    from vitrail import remote

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    how = remote.How(tries=2, pause=0.0, loopback=True)
    return remote.pull(f"http://127.0.0.1:{port}/vit.npz", cache=place, how=how)


TABLE: dict[str, Provoke] = {
    "V001": lambda place, run: _raise(no_recipe_given()),
    "V002": lambda place, run: vitrail.open("nothing"),
    "V003": lambda place, run: need("surely_absent", "train"),
    "V004": lambda place, run: found_pictures([str(place / "*.png")]),
    "V005": lambda place, run: vitrail.evaluate("cct_2_3x2_32", "digits"),
    "V006": lambda place, run: vitrail.export(run, place),
    "V007": lambda place, run: vitrail.predict(run, ["x.png"], top=0),
    "V101": lambda place, run: load_recipe("digits/cct_2_3x2_32", ["train.sed=1"]),
    "V102": lambda place, run: load_recipe("nothing"),
    "V103": lambda place, run: parse_recipe("a: [", "r.yaml"),
    "V104": lambda place, run: train(small("model.classes=7"), out=place / "run"),
    "V201": lambda place, run: weights.load(_written(place / "x.safetensors", b"\x08" + bytes(7) + b"{nothing")),
    "V202": lambda place, run: _evil(place),
    "V203": lambda place, run: variant("nothing"),
    "V204": lambda place, run: _no_fit(place),
    "V205": lambda place, run: _detected(place),
    "V206": lambda place, run: weights.load(_written(place / "x.bin", b"hello, world, this is text")),
    "V207": lambda place, run: _another_file(place),
    "V301": lambda place, run: _picture(place, b"hello"),
    "V302": lambda place, run: _picture(place, _png(place)[:-30]),
    "V303": lambda place, run: _huge_png(place),
    "V304": lambda place, run: decode(place / "missing.png"),
    "V305": lambda place, run: from_pil(Image.new("F", (4, 4))),
    "V401": lambda place, run: open_source(Data(root=str(place))),
    "V402": lambda place, run: open_source(Data(root=str(place / "missing"))),
    "V403": lambda place, run: _val_differs(place),
    "V404": lambda place, run: _cifar(place),
    "V405": lambda place, run: open_source(_folders(place, cat=2, CAT=2)),
    "V406": lambda place, run: _bad_in_class(place),
    "V407": lambda place, run: open_source(_folders(place, a=2, b=1)),
    "V501": lambda place, run: _manifest(run),
    "V502": lambda place, run: _flipped(run),
    "V503": lambda place, run: _linked(run),
    "V504": lambda place, run: _no_weights(run),
    "V505": lambda place, run: _not_a_graph(place),
    "V506": lambda place, run: _other_weights(run, place),
    "V507": lambda place, run: _no_proof(place),
    "V508": lambda place, run: _unwritable_network(place),
    "V509": lambda place, run: _program_from_elsewhere(run),
    "V601": lambda place, run: train(small(), out=run),
    "V602": lambda place, run: train(small("schedule.lr=0.5"), out=run, resume=True),
    "V603": lambda place, run: _none_good(run),
    "V604": lambda place, run: _cut(run),
    "V605": lambda place, run: _newer(run),
    "V606": lambda place, run: _held(place),
    "V607": lambda place, run: checkpoint.load(place),
    "V701": lambda place, run: disk.write_file(place / "missing" / "x", b""),
    "V702": lambda place, run: disk.sha256_file(place / "missing"),
    "V703": lambda place, run: _memory(place),
    "V704": lambda place, run: _nobody_answers(place),
    "V705": lambda place, run: _raise(stood_still("step 3", 120.0)),
    "V706": lambda place, run: _nobody_to_meet(),
    "V801": lambda place, run: _sabotaged(run),
    "V802": lambda place, run: _other_answers(run),
    "V803": lambda place, run: _strict(run),
    "V804": lambda place, run: vitrail.compare(run, run, engines=("torch", "onnx"), bound=0.0).raise_if_differ(),
    "V811": lambda place, run: _nan(place),
    "V901": lambda place, run: _stopped(place),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codes") / "run"
    train(small(), out=folder)
    vitrail.export(folder)
    return folder


def test_the_table_is_whole() -> None:
    assert list(TABLE) == sorted(CODES)


@pytest.mark.parametrize("code", sorted(CODES))
def test_code(code: str, tmp_path: Path, finished: Path) -> None:
    run, place = tmp_path / "run", tmp_path / "place"
    shutil.copytree(finished, run)
    place.mkdir()
    with pytest.raises(VitrailError) as caught:
        TABLE[code](place, run)
    error = caught.value
    assert error.code == code, str(error)
    assert type(error) is CODES[code][0]
    assert error.what
    assert error.hint, f"{code} shows no way out: {error}"
    assert not (place / "canary").exists()


def test_check_opens_what_was_exported(finished: Path) -> None:
    with check(finished / "bundle") as opened:
        assert list(opened.manifest.engines) == ["onnx-fp32"]
