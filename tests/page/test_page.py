"""The page as people see it: it shows what is, as it happens, and does what is asked with the token."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.integration.daemon import Daemon, until
from tests.integration.grid_client import Grid, ReadmeWorker, fresh
from tests.integration.grid_etcd import APIS, Shared
from tests.integration.http_client import TOKEN, Http, shown
from tests.services import Services

PICTURES = os.environ.get("PICTURES", "")
"""Folder for screenshots; empty: none are taken."""


class Page:
    """A browser that has the page open."""

    def __init__(self, driver: WebDriver, http: Http) -> None:
        self.driver = driver
        self.http = http
        driver.get(http.url)
        self.until(lambda: self.text("link") == "live", "the stream")

    def by_id(self, name: str) -> WebElement:
        """Return an element."""
        return self.driver.find_element(By.ID, name)

    def text(self, name: str) -> str:
        """Return the text of an element."""
        return str(self.by_id(name).text)

    def until(self, true: Callable[[], object], what: str) -> None:
        """Wait for what the page is to show."""
        until(true, what)

    def press(self, state: str) -> None:
        """Press the button for a state."""
        self.driver.find_element(By.CSS_SELECTOR, f"[data-state={state}]").click()

    def run(self, script: str) -> object:
        """Return what JavaScript says."""
        found: object = self.driver.execute_script(script)
        return found

    def picture(self, name: str) -> None:
        """Take a screenshot of the whole page."""
        if PICTURES:
            wide = self.driver.get_window_size()["width"]
            high = self.run("return document.documentElement.scrollHeight")
            self.driver.set_window_size(wide, int(str(high)) + 140)
            Path(PICTURES).mkdir(parents=True, exist_ok=True)
            assert self.driver.save_screenshot(str(Path(PICTURES) / f"{name}.png"))


SMALL = """
const shown = [...document.querySelectorAll("button")].filter((each) => each.offsetParent);
return shown.filter((each) => each.offsetHeight < 38).length;
"""

HIDDEN = """
const all = [...document.querySelectorAll(".scroll")];
return all.filter((each) => each.scrollWidth > each.clientWidth).map((each) => each.textContent);
"""
"""What can be seen only by scrolling sideways."""

BROKEN = """
const shown = [...document.querySelectorAll("button")].filter((each) => each.offsetParent);
return shown.filter((each) => each.offsetHeight > 60).map((each) => each.textContent);
"""
"""Counts buttons that are too small for a finger."""

CONTRAST = """
const linear = (c) => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
const level = (text) => {
  const [r, g, b] = text.match(/[\\d.]+/g).map((n) => linear(n / 255));
  return .2126 * r + .7152 * g + .0722 * b;
};
const behind = (element) => {
  for (let each = element; each; each = each.parentElement) {
    const color = getComputedStyle(each).backgroundColor;
    if (!color.endsWith(", 0)")) return color;
  }
  return "rgb(255, 255, 255)";
};
const hasText = (each) => [...each.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
const bad = [];
for (const each of document.querySelectorAll("body *")) {
  if (!each.offsetParent || !hasText(each)) continue;
  const [a, b] = [level(getComputedStyle(each).color), level(behind(each))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) bad.push(`${each.tagName} ${each.className} ${each.textContent}: ${ratio}`);
}
return [...new Set(bad)];
"""
"""Names the elements whose text has less contrast than WCAG's level AA asks for."""

UNNAMED = """
const named = (each) => each.hasAttribute("aria-label") || each.hasAttribute("aria-labelledby")
  || each.textContent.trim() || (each.labels && each.labels.length);
const all = [...document.querySelectorAll("button, input, section, [role=region], svg[role=img]")];
return all.filter((each) => each.checkVisibility() && !named(each)).map((each) => each.outerHTML);
"""
"""Names what a screen reader could not."""


@pytest.fixture(scope="module")
def both(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Http]]:
    """A daemon, and its HTTP."""
    options = ("--max-attempts=1", "--dispatch-timeout=600")
    with shown(services, tmp_path_factory.mktemp("page"), fresh("page"), *options) as found:
        yield found


@pytest.fixture
def grid(services: Services, both: tuple[Daemon, Http]) -> Iterator[Grid]:
    """A client of the daemon."""
    grid = Grid(services.amqp_url, both[0].prefix)
    yield grid
    grid.close()


def browser(*arguments: str) -> WebDriver:
    """Start one."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        *arguments,
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))


@pytest.fixture(scope="module")
def driver() -> Iterator[WebDriver]:
    """One for all tests, as wide as a desk's."""
    driver = browser("--window-size=1280,1000")
    yield driver
    driver.quit()


@pytest.fixture
def page(driver: WebDriver, both: tuple[Daemon, Http]) -> Iterator[Page]:
    """The page, opened anew; afterwards the browser has complained of nothing."""
    driver.set_window_size(1280, 1000)
    page = Page(driver, both[1])
    yield page
    resource_faults = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]  # type: ignore[no-untyped-call]
    assert [each for each in resource_faults if "401" not in each["message"]] == []


def story(grid: Grid, services: Services) -> str:
    """Let there be something to see; return the suite."""
    keys = APIS["v3"](services.etcd)
    for name, limit in (("database", 3), ("licence", 1), ("closed", 0)):
        Shared(keys, name).make(limit)
    suite, kind = "nightly-0417", "browser-tests"
    for number in range(4):
        worker = ReadmeWorker(grid, kind, f"worker-{number}")
        worker.work_off(lambda: 0.2)
        worker.free()
    wanted: tuple[list[str], ...] = (["database"], ["database", "licence"], [])
    for number in range(30):
        more: dict[str, Any] = {"priority": number % 3, "resources": wanted[number % 3]}
        grid.task(kind, suite_guid=suite, guid=f"{suite}-{number:02}", **more)
    grid.serve(6.0)
    for number in range(8):
        grid.task(kind, suite_guid="waits-for-closed", guid=f"closed-{number}", resources=["closed"])
    blocked = ReadmeWorker(grid, "unit-tests", "slow-worker")
    blocked.free()
    grid.task("unit-tests", guid="long-running", resources=["licence"])
    blocked.begin(blocked.expect())
    for number in range(3):
        grid.task("unit-tests", guid=f"needs-licence-{number}", resources=["database", "licence"])
    let_die(grid, "never-ends", suite_guid=suite)
    ReadmeWorker(grid, "deploys", "vanished", declared=False).free()
    grid.task("deploys", guid="deploy-1")
    ReadmeWorker(grid, "reports", "slow-to-begin").free()
    grid.task("reports", guid="report-1")
    grid.settle()
    return "waits-for-closed"


def let_die(grid: Grid, guid: str, **fields: Any) -> None:
    """Let a task die at a worker that is stalled then."""
    kind = fresh("endless")
    worker = ReadmeWorker(grid, kind, f"stalled-{guid}")
    worker.free()
    grid.task(kind, guid=guid, time_limit=0.2, **fields)
    worker.begin(worker.expect())
    grid.wait(lambda: worker.status == "stalled", "the end of its time")


def test_it_shows_what_is(page: Page, grid: Grid, services: Services) -> None:
    """Numbers, workers, resources, suites and events are there, and the plots are drawn."""
    suite = story(grid, services)
    page.until(lambda: page.text("n-waiting") == "12", "twelve waiting tasks")
    for worker, status in (
        ("vanished", "missing"),
        ("slow-to-begin", "dispatched"),
        ("stalled-", "stalled"),
    ):
        assert re.search(rf"{worker}\S* \S+ {status}", page.text("t-workers"))
    page.until(lambda: page.text("n-dead") == "1", "a dead task")
    assert re.search(
        r"never-ends endless\S* nightly-0417 1 stalled at stalled-never-ends", page.text("t-dead")
    )
    assert page.text("state") == "running"
    assert "worker-0" in page.text("t-workers")
    assert re.search(r"slow-worker unit-tests working long-running", page.text("t-workers"))
    assert suite in page.text("t-suites")
    assert re.search(r"licence\s+1 of 1\s+long-running at slow-worker", page.text("t-resources"))
    assert "browser-tests" in page.text("t-types")
    assert re.search(r"^waits-for-closed 8\nnone 4$", page.text("t-in-suites"), re.MULTILINE)
    assert "TASK_WORKING|unit-tests|long-running|slow-worker" in page.text("t-events")
    label = page.driver.find_element(By.CSS_SELECTOR, "#plot-rates svg").get_attribute("aria-label")
    assert re.search(r"accepted: at most [1-9]", str(label))
    page.picture("light")


def test_it_changes_by_itself(page: Page, grid: Grid) -> None:
    """What happens is seen within seconds, without a reload and without losing the focus."""
    before = int(page.text("n-waiting"))
    page.run("document.querySelector('[data-state=paused]').focus()")
    grid.task(fresh("nobody"))
    page.until(lambda: page.text("n-waiting") == str(before + 1), "one more")
    assert page.run("return document.activeElement.dataset.state") == "paused"


def test_text_of_others_stays_text(page: Page, grid: Grid) -> None:
    """A name that looks like HTML is shown as it is, and does nothing."""
    name = "<img src=x onerror=document.title='broken'>"
    ReadmeWorker(grid, fresh("kind"), name, declared=False).say("ready")
    page.until(lambda: name in page.text("t-workers"), "the worker")
    assert page.run("return document.title") != "broken"


def test_nothing_is_done_without_the_token(page: Page) -> None:
    """The page asks for it; a wrong one is told."""
    page.press("paused")
    page.until(lambda: page.text("done") == "Enter the token first.", "the demand")
    page.by_id("token").send_keys("wrong")
    page.press("paused")
    page.until(lambda: page.text("done") == "Pause: the token is missing or wrong", "the refusal")
    assert page.http.get("/api/status").json["state"] == "running"


def test_pause_and_run(page: Page) -> None:
    """With the token the manager is paused and runs again, by the keyboard alone."""
    token = page.by_id("token")
    token.send_keys(TOKEN, Keys.TAB, Keys.TAB, Keys.ENTER)
    page.until(lambda: page.text("state") == "paused", "the pause")
    assert page.text("done") == "Pause: done."
    pressed = page.driver.find_element(By.CSS_SELECTOR, "[data-state=paused]")
    page.until(lambda: pressed.get_attribute("aria-pressed") == "true", "the pressed button")
    page.press("running")
    page.until(lambda: page.text("state") == "running", "the end of it")


def test_suites(page: Page, grid: Grid) -> None:
    """A suite is paused, let go, and its waiting tasks are removed after a question."""
    suite = fresh("suite/1")
    grid.task(fresh("nobody"), suite_guid=suite)
    page.by_id("token").send_keys(TOKEN)
    button = f"//tr[td='{suite}']//button[@data-action='%s']"
    page.until(lambda: page.driver.find_elements(By.XPATH, button % "pause"), "the suite")
    page.driver.find_element(By.XPATH, button % "pause").click()
    page.until(lambda: page.driver.find_elements(By.XPATH, button % "ready"), "its pause")
    page.driver.find_element(By.XPATH, button % "ready").click()
    page.until(lambda: page.driver.find_elements(By.XPATH, button % "pause"), "its end")
    page.driver.find_element(By.XPATH, button % "stop").click()
    page.driver.switch_to.alert.accept()
    page.until(lambda: suite not in page.text("t-suites"), "its removal")


def test_dead_tasks(page: Page, grid: Grid) -> None:
    """One is sent again, and another is dropped after a question; then neither is shown."""
    for guid in ("retried", "dropped"):
        let_die(grid, guid)
    page.by_id("token").send_keys(TOKEN)
    button = "//tr[td='%s']//button[@data-action='%s']"
    page.until(lambda: page.driver.find_elements(By.XPATH, button % ("dropped", "drop")), "the dead task")
    before = int(page.text("n-waiting"))
    page.driver.find_element(By.XPATH, button % ("retried", "retry")).click()
    page.until(lambda: page.text("done") == "Task retried: done.", "the answer")
    page.until(lambda: page.text("n-waiting") == str(before + 1), "the task")
    page.driver.find_element(By.XPATH, button % ("dropped", "drop")).click()
    page.driver.switch_to.alert.accept()
    page.until(lambda: not {"retried", "dropped"} & set(page.text("t-dead").split()), "the end of both")


def test_on_a_phone(page: Page) -> None:
    """On a narrow screen nothing sticks out sideways, and what can be pressed is large and legible."""
    page.run("document.getElementById('token').value = ''")
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        assert page.run("return document.documentElement.scrollWidth") == 360
        assert page.run(SMALL) == 0
        assert page.run(BROKEN) == []
        assert page.run(HIDDEN) == []
        page.picture("phone")
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(page: Page, scheme: str) -> None:
    """All text can be read, by day and by night."""
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    try:
        assert page.run(CONTRAST) == []
        page.picture(scheme)
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_screen_readers_find_their_way(page: Page) -> None:
    """Every control, table, region and picture has a name, and headings leave no level out."""
    assert page.run(UNNAMED) == []
    levels = page.run("return [...document.querySelectorAll('h1, h2, h3')].map(e => e.tagName)")
    assert isinstance(levels, list)
    assert levels[0] == "H1"
    assert set(levels[1:]) == {"H2"}
    assert page.run("return document.documentElement.lang") == "en"
    assert page.run("return document.querySelectorAll('th:not([scope])').length") == 0


def test_nothing_comes_from_elsewhere(page: Page) -> None:
    """All that the page loads is the manager's own."""
    urls = page.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert isinstance(urls, list)
    assert urls
    assert [url for url in urls if not url.startswith(page.http.url)] == []


def test_when_the_manager_goes(driver: WebDriver, services: Services, tmp_path: Path, unique: str) -> None:
    """The page says that what it shows is old, and is live again when the manager is back."""
    with shown(services, tmp_path, unique) as (daemon, http):
        page = Page(driver, http)
        daemon.stop()
        page.until(lambda: "old" in page.text("link"), "the warning")
        daemon.start()
        page.until(lambda: page.text("link") == "live", "the stream again")
    driver.get("about:blank")
