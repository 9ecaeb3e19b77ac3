"""Print docs/errors.md from the table in vitrail/errors.py:  python docs/errors.py > docs/errors.md"""

from __future__ import annotations

from vitrail.errors import CODES


def text() -> str:
    """The page."""
    lines = [
        "# Error codes",
        "",
        "Made by `python docs/errors.py` from the table in `vitrail/errors.py`. The exit code is what the command line",
        "leaves with; from Python the class is what to catch, all of them are `vitrail.VitrailError`.",
        "",
        "| code | class | exit | what it means |",
        "|---|---|---|---|",
        *(f"| {code} | {kind.__name__} | {kind.exit_code} | {what} |" for code, (kind, what) in sorted(CODES.items())),
        "",
        "Further exit codes: 0 done, 70 a bug of ours (one line, and a report file), 130 interrupted at once.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(text(), end="")
