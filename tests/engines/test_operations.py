"""C18: an operation of torch that no network of ours has is refused, whichever it is."""

from __future__ import annotations

import pytest
import torch

from vitrail.engines import torchscript
from vitrail.errors import BundleError

LEAST = 500  # operations that must have been tried; torch 2.13 has more than a thousand that can be

# What a graph may give for an argument: a constant, or its own input.
CONSTANTS = {
    "int": "int = prim::Constant[value=1]()",
    "number": "int = prim::Constant[value=1]()",
    "bool": "bool = prim::Constant[value=1]()",
    "float": "float = prim::Constant[value=1.]()",
    "str": 'str = prim::Constant[value="a"]()',
    "None": "NoneType = prim::Constant()",
    "List[int]": "int[] = prim::ListConstruct(%one)",
    "List[Tensor]": "Tensor[] = prim::ListConstruct(%x)",
}


def program(schema: torch.FunctionSchema) -> bytes | None:
    """A saved program of that one operation; None where its arguments or answers are of no plain kind."""
    kinds = ["None" if str(given.type).startswith("Optional") else str(given.type) for given in schema.arguments]
    tensor_out = [str(given.type) for given in schema.returns] == ["Tensor"]
    if not tensor_out or any(kind != "Tensor" and kind not in CONSTANTS for kind in kinds):
        return None
    lines, names = [f"%one : {CONSTANTS['int']}"], []
    for place, (argument, kind) in enumerate(zip(schema.arguments, kinds, strict=True)):
        name = "%x" if kind == "Tensor" else f"%a{place}"
        if kind != "Tensor":
            lines.append(f"{name} : {CONSTANTS[kind]}")
        names.append(f"{argument.name}={name}" if argument.kwarg_only else name)
    lines.append(f"%out : Tensor = {schema.name}({', '.join(names)})")
    text = "graph(%x : Tensor):\n" + "".join(f"  {line}\n" for line in lines) + "  return (%out)\n"
    try:
        function = torch._C._create_function_from_graph("forward", torch._C.parse_ir(text))
        return bytes(function.save_to_buffer())
    except RuntimeError:  # torch itself knows no such call
        return None


def held(data: bytes) -> set[str]:
    """What torch makes of it: some operations are other names of others, some it does not take back."""
    try:
        module, _ = torchscript.load(data)
    except BundleError:
        return set()
    return {str(node.kind()) for node in module.inlined_graph.nodes()}


def test_C18_every_operation_that_is_not_on_the_list_is_refused() -> None:
    tried: set[str] = set()
    for schema in torch._C._jit_get_all_schemas():
        if schema.name in tried | torchscript.OPERATIONS or (data := program(schema)) is None:
            continue
        if foreign := held(data) - torchscript.OPERATIONS:
            with pytest.raises(BundleError) as caught:
                torchscript.open(data)
            assert (caught.value.code, f"`{min(foreign)}` is not on the list" in caught.value.what) == ("V505", True)
            tried |= foreign
    assert len(tried) >= LEAST
    assert {"aten::linalg_inv", "aten::fft_fft"} <= tried
