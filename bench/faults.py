"""Whether the proof of an export names what is wrong with it:  python bench/faults.py

Plants twelve faults, four of them also where the manifest does not say so, in tiny exports of every family before their
manifests are made, asks the proof of each and of twelve clean exports, prints the first lines, writes
results/faults.json and the table in docs/guides/bundles.md.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.proof.planted import (  # noqa: E402
    FAMILIES,
    FAULTS,
    HIDDEN,
    POLICIES,
    Planted,
    exported,
    first_line,
    graph,
    source,
    written,
)
from vitrail import __version__  # noqa: E402
from vitrail.bundle.write import tools  # noqa: E402

GUIDE = ROOT / "docs" / "guides" / "bundles.md"
TABLE = re.compile(r"(?<=<!-- bench/faults.py -->\n).*?(?=<!-- end -->)", re.DOTALL)


def planted(network: str, fault: Planted) -> dict[str, object]:
    """What the proof says first of a faulty export, and whether that names the fault."""
    clean = source(network)
    faulty = fault.into(clean)
    data = written(faulty)
    line = first_line(clean, exported(faulty, data), data)
    return {"first_line": line, "named": line is not None and any(words in line for words in fault.words)}


def table(faults: dict[str, dict[str, dict[str, object]]]) -> str:
    """The table of the guide: how often each fault was named, and what was said of the first family."""
    rows = ["| planted | named | the first line, for a ViT: `the export ...` |", "|---|---|---|"]
    for name, cases in faults.items():
        line = str(cases[FAMILIES[0]]["first_line"]).removeprefix("the export ")
        rows.append(f"| {name} | {sum(bool(c['named']) for c in cases.values())} of {len(cases)} | {line} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Plant, prove, print, write."""
    faults: dict[str, dict[str, dict[str, object]]] = {}
    for fault in (*FAULTS, *HIDDEN):
        faults[fault.name] = {network: planted(network, fault) for network in FAMILIES}
        for network, case in faults[fault.name].items():
            print(
                f"{fault.name:<32}{network:<6}{'named' if case['named'] else 'MISSED':<8}{case['first_line']}",
                flush=True,
            )
    clean = {
        f"{network}, {policy}": first_line(source(network, policy), exported(source(network, policy), data), data)
        for network in FAMILIES
        for policy in POLICIES
        for data in [graph(network)]
    }
    named = [sum(bool(cases[network]["named"]) for cases in faults.values()) for network in FAMILIES]
    failed = sum(line is not None for line in clean.values())
    print(f"\nnamed {sum(named)} of {len(FAMILIES) * len(faults)}; clean exports that fail: {failed} of {len(clean)}")
    versions = {"vitrail": __version__, **tools(("torch", "onnx", "onnxruntime", "numpy", "pillow"))}
    values = {"faults": faults, "clean": clean, "versions": versions}
    (ROOT / "results" / "faults.json").write_text(json.dumps(values, indent=1) + "\n")
    GUIDE.write_text(TABLE.sub(lambda _: table(faults), GUIDE.read_text()))


if __name__ == "__main__":
    main()
