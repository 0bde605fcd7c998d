"""The page in a real browser: sorting, filtering, and links that open what they lead to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.report.page import finish
from tests.helpers.pages import MakeRun

pytestmark = pytest.mark.browser


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[object]:
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "window-size=390,844"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def test_the_scripts_of_the_page_do_what_they_say(browser, tmp_path: Path, finished_run: MakeRun) -> None:
    root = tmp_path / "out"
    finished_run(root, "a", test_accuracy=0.953)
    finished_run(root, "b", method="lora", label="LoRA", test_accuracy=0.99)
    finished_run(root, "c", method="full", label="Full", test_accuracy=0.87)
    finish([[str(root), ""]])
    browser.get(f"file://{root}/report.html")

    def rows() -> list[str]:
        found = browser.find_elements("css selector", "main > section:first-of-type tbody tr")
        return [row.find_element("css selector", "th").text for row in found if row.is_displayed()]

    title = browser.find_element("xpath", "//section[1]//th/button[text()='Digits (UCI)']")
    browser.execute_script("arguments[0].click()", title)
    assert rows() == ["LoRA", "GLoRA-8-4", "Full"]
    browser.execute_script("arguments[0].click()", title)
    assert rows() == ["Full", "GLoRA-8-4", "LoRA"]
    assert title.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"

    field = browser.find_element("css selector", "main > section:first-of-type input")
    field.send_keys("lora")
    assert rows() == ["GLoRA-8-4", "LoRA"]
    field.clear()
    field.send_keys(" ")
    assert len(rows()) == 3

    # A run that its filter hides is shown and opened by a number that leads to it.
    browser.find_element("css selector", "#runs input").send_keys("Full")
    number = browser.find_element("link text", "99.0")
    browser.execute_script("arguments[0].click()", number)
    opened = [d for d in browser.find_elements("css selector", "details.run") if d.get_attribute("open")]
    assert [d.find_element("css selector", "summary").text for d in opened] == ["LoRA, digits, seed 0: 99.0"]
    assert opened[0].is_displayed()
    pictures = opened[0].find_elements("css selector", "img")
    assert len(pictures) == 4
    for picture in pictures:
        browser.execute_script("arguments[0].loading = 'eager'; arguments[0].scrollIntoView()", picture)
        assert browser.execute_async_script(
            "const [i, done] = arguments; i.decode().then(() => done(i.naturalWidth), () => done(0))", picture
        )
    # Nothing is wider than a phone; wide tables scroll inside their own frames.
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.get_log("browser") == []
