"""Writes ``performance.md`` from ``page.md``, in which braces stand for tables and plots.

A section is left out if its heading names, in a comment, a group that was not measured.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report.plots import PLOTS
from benchmarks.report.tables import TABLES, plain_table
from benchmarks.results import Results

TEMPLATE = Path(__file__).with_name("page.md")

_GROUP = re.compile(r" <!-- (\w+) -->")
_TABLE = re.compile(r"\{table (\w+)\}")
_PLOT = re.compile(r"\{plot (\w+): (.*)\}\n\n")


@dataclass(frozen=True)
class Page:
    """The page.

    Attributes:
        results: the results.
        output: folder for the page; plots go into ``performance`` there.
    """

    results: Results
    output: Path

    def text(self) -> str:
        """Return the text, after drawing its plots."""
        head, *sections = TEMPLATE.read_text().split("\n## ")
        return "\n## ".join([self._head(head), *filter(None, map(self._section, sections))])

    def _head(self, text: str) -> str:
        rounds = max((each.round for each in self.results.measurements), default=0)
        return text.replace("{machine}", plain_table(self.results.machine)).replace("{rounds}", str(rounds))

    def _section(self, text: str) -> str:
        group = _GROUP.search(text)
        if group is None or not self.results.find(group[1]):
            return ""
        text = _PLOT.sub(self._plot, text.replace(group[0], ""))
        return _TABLE.sub(lambda found: TABLES[found[1]](self.results), text)

    def _plot(self, found: re.Match[str]) -> str:
        name, alt = found.groups()
        if not PLOTS[name](self.results, self.output / "performance"):
            return ""
        return f"![{alt}](performance/{name}.png)\n\n([as SVG](performance/{name}.svg))\n\n"


def write(results: Path, output: Path) -> None:
    """Write the page for some results into a folder."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / "performance.md"
    path.write_text(Page(Results.load(results), output).text())
    sys.stdout.write(f"{path}\n")
