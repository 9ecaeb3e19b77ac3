"""Whether Ascend's offline compiler (ATC) takes an ONNX file of ours, and the command that hands it over.

AIR and OM files are made on Ascend alone: ATC comes with its toolkit (CANN), and none has been run here.  So this says
what can be said without it: every operator stands in the published list, at the opset that the list is for.
"""

from __future__ import annotations

from vitrail.engines.graph import Graph
from vitrail.errors import BundleError

# https://www.hiascend.com/document/detail/zh/canncommercial/700/inferapplicationdev/atctool/atlasatc_16_0201.html
OPSETS = range(9, 19)  # of CANN 7.0: "v9 to v18"

# Operator -> where it is listed, of those that our graphs are allowed (`bounds.RULES`). LIST is
# https://www.hiascend.com/doc_center/source/zh/canncommercial/5046/reference/fwoperatorlist/operatorlist_0071.html
# and NORM, of CANN 8.5 with "Opset v17/v18",
# https://www.hiascend.com/document/detail/en/canncommercial/850/API/aolapi/atlasoxol_09_0076.html
LIST, NORM = "CANN 5.0.4, list of ONNX operators", "CANN 8.5, LayerNormalization"
LISTED: dict[str, str] = {
    "Add":                   LIST,
    "Cast":                  LIST,
    "Concat":                LIST,
    "Constant":              LIST,
    "Conv":                  LIST,
    "Div":                   LIST,
    "Erf":                   LIST,
    "Expand":                LIST,
    "Flatten":               LIST,
    "Gather":                LIST,
    "Gemm":                  LIST,
    "Identity":              LIST,
    "InstanceNormalization": LIST,
    "LayerNormalization":    NORM,
    "MatMul":                LIST,
    "MaxPool":               LIST,
    "Mul":                   LIST,
    "Pow":                   LIST,
    "ReduceMean":            LIST,
    "Relu":                  LIST,
    "Reshape":               LIST,
    "Shape":                 LIST,
    "Sigmoid":               LIST,
    "Slice":                 LIST,
    "Softmax":               LIST,
    "Split":                 LIST,
    "Sqrt":                  LIST,
    "Squeeze":               LIST,
    "Sub":                   LIST,
    "Tanh":                  LIST,
    "Transpose":             LIST,
    "Unsqueeze":             LIST,
}  # fmt: skip


def unlisted(graph: Graph) -> list[str]:
    """The operators of a graph that ATC's lists do not name, and its opset where that is not theirs; [] is good."""
    strange = sorted({node.kind for node in graph.nodes} - LISTED.keys())
    return strange if graph.opset in OPSETS else [*strange, f"opset {graph.opset}"]


def command(graph: Graph, file: str, *, batch: int = 1) -> str:
    """The line that compiles `file`, which holds the graph, for so many pictures at once.

    `<soc_version>` is the reader's to fill in (`npu-smi info` names the chip). ATC computes in float16 unless
    `--precision_mode` says otherwise. BundleError V508 for a graph that ATC's lists do not cover.
    """
    if strange := unlisted(graph):
        raise BundleError(
            "V508", f"ATC's lists do not name: {', '.join(strange)}", hint="export it in fp32, or take MINDIR"
        )
    end = graph.inputs[0]
    shape = ",".join(map(str, (batch, *end.shape[1:])))
    output = file.rsplit("/", 1)[-1].removesuffix(".onnx")
    return (
        f"atc --framework=5 --model={file} --output={output} --input_format=NCHW "
        f'--input_shape="{end.name}:{shape}" --soc_version=<soc_version>'
    )
