"""Tables as text, Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Format = Literal["text", "markdown", "csv", "latex"]
FORMATS: tuple[Format, ...] = ("text", "markdown", "csv", "latex")
SUFFIXES = {"text": "txt", "markdown": "md", "csv": "csv", "latex": "tex"}

_LATEX = {
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "±": r"$\pm$", "–": "--", "<": r"$<$", ">": r"$>$",
    "Δ": r"$\Delta$", "×": r"$\times$",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with sentences below it. The first column is left-aligned, the others right-aligned."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str] = field(default=())


def render(table: Table, form: Format) -> str:
    """The table in one of FORMATS, ending with a newline."""
    return {"text": _text, "markdown": _markdown, "csv": _csv, "latex": _latex}[form](table)


def plus_minus(mean: float | None, sd: float | None, digits: int = 3) -> str:
    """mean ± sd; the mean alone where there is one value; a dash where there is none."""
    if mean is None:
        return "–"
    return f"{mean:.{digits}f}" if sd is None else f"{mean:.{digits}f} ± {sd:.{digits}f}"


def _text(table: Table) -> str:
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()

    lines = [table.title, line(table.head), "  ".join("-" * width for width in widths), *map(line, table.rows)]
    return "\n".join([*lines, *table.notes]) + "\n"


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    rule = [":--", *["--:"] * (len(table.head) - 1)]
    lines = [f"**{table.title}**", "", line(table.head), line(rule), *map(line, table.rows)]
    return "\n".join([*lines, "", *(f"* {note}" for note in table.notes)]) + "\n"


def _csv(table: Table) -> str:
    """Rows alone: a title and sentences are no data."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([table.head, *table.rows])
    return file.getvalue()


def _latex(table: Table) -> str:
    """A table environment for the package booktabs."""

    def escaped(text: str) -> str:
        return "".join(_LATEX.get(character, character) for character in text)

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(escaped, cells)) + r" \\"

    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
            r"\toprule",
            line(table.head),
            r"\midrule",
            *map(line, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{escaped(' '.join([table.title + '.', *table.notes]))}}}",
            r"\end{table}",
            "",
        ]
    )
