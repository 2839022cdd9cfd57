"""Takes the pictures of the README while the demo runs: ``script/pictures``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from rich.console import Console
from rich.terminal_theme import MONOKAI
from selenium.webdriver.chrome.webdriver import WebDriver

from tefmanager.demo import play
from tefmanager.demo.grid import Grid, new_grid
from tefmanager.demo.observation import View
from tefmanager.demo.screen import picture
from tests.page.test_page import browser
from tests.paths import ROOT

FOLDER = ROOT / "docs" / "pictures"

OPTIONS = play.DemoOptions(tasks=36, workers=6, etcd_api="v3", seed=1, timeout=120.0, plain=True)

COLUMNS, LINES = 92, 26
"""Size of the terminal."""

_AT_WORK = 4
"""How many workers have a task in the pictures."""

PAGE = (1280, 1248)
"""Width and height of the browser's window, in pixels."""

TERMINAL = (960, 697)
"""The same for the picture of the terminal."""


class Photographer:
    """Watches the demo instead of its display, and takes both pictures.

    The pictures are taken when a quarter of the tasks are done and most workers have a task.
    """

    def __init__(self, grid: Grid, driver: WebDriver) -> None:
        self._grid = grid
        self._driver = driver
        self._view: View | None = None
        self._page_opened = False

    @contextmanager
    def open_screen(self, _console: Console, _plain: bool) -> Iterator[Photographer]:
        """Replaces the demo's function of this name."""
        yield self

    def show(self, view: View) -> None:
        """Watch the demo."""
        if not self._page_opened:
            self._open_page()
        elif self._view is None and view.working >= _AT_WORK and 4 * view.done >= view.total:
            self._view = view
            self._save("page")

    def _open_page(self) -> None:
        self._page_opened = True
        [address] = re.findall(r"HTTP_LISTENING\|(\S+)", self._grid.log.read_text())
        self._driver.set_window_size(*PAGE)
        self._driver.get(f"http://{address}/")

    def terminal(self, folder: Path) -> None:
        """Save what the terminal showed when the page's picture was taken."""
        assert self._view is not None, "the demo ended too early"
        console = Console(
            record=True, width=COLUMNS, file=(folder / "shown").open("w"), force_terminal=True
        )
        console.print(picture(self._view, COLUMNS, LINES))
        svg = folder / "terminal.svg"
        drawn = console.export_svg(title="script/demo", theme=MONOKAI)
        svg.write_text(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL))
        self._driver.set_window_size(*TERMINAL)
        self._driver.get(svg.as_uri())
        self._save("demo")

    def _save(self, name: str) -> None:
        FOLDER.mkdir(exist_ok=True)
        assert self._driver.save_screenshot(str(FOLDER / f"{name}.png"))


def main() -> None:
    """Run the demo, and take the pictures."""
    driver = browser("--hide-scrollbars")
    try:
        with new_grid() as grid:
            run = play.Play(OPTIONS, Console(), grid)
            photographer = Photographer(grid, driver)
            with mock.patch.object(play, "open_screen", photographer.open_screen):
                run.run()
            photographer.terminal(grid.folder)
            run.stop()
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
