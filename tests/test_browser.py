"""The page in a real browser: it opens from disk in three widths, its parts answer, and nothing leaves the machine."""

import json
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import NN_tutorial
from helpers import SPLITS, Places
from lab.draw.maps import Atlas
from lab.gallery import live, page

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

COMMITTED = Path(__file__).parents[1] / "plots" / page.PAGE
WIDTHS = (1280, 768, 360)


class Browser:
    """Chromium, and what tests ask of it."""

    def __init__(self, program: str, driver: str):
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(driver))
        self.run = self.driver.execute_script

    def open(self, page: Path, width: int = 1280) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(page.as_uri())

    def find(self, selector: str) -> list:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, script: str, seconds: float = 60):
        """What a script returns as soon as that is true."""
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < end, script
            time.sleep(0.05)
        return found

    def move(self, element, x: float, y: float) -> None:
        """The mouse to a point, in shares of an element's size from its upper left."""
        box = element.rect
        across, down = int((x - 0.5) * box["width"]), int((y - 0.5) * box["height"])
        webdriver.ActionChains(self.driver).move_to_element_with_offset(element, across, down).perform()

    def check_silent(self) -> None:
        """Nothing on the console, and no request but for files beside the page."""
        assert self.driver.get_log("browser") == []
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        assert asked
        assert {url.partition(":")[0] for url in asked} <= {"file", "data"}


@pytest.fixture(scope="module")
def browser():
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("no browser: needs Debian's chromium and chromium-driver")
    found = Browser(program, driver)
    yield found
    found.driver.quit()


@pytest.fixture(params=["committed", "NN_tutorial", "cnn"])
def page(request, run_quick) -> Path:
    """The committed page, and those of quick runs."""
    return COMMITTED if request.param == "committed" else run_quick(request.param).out / page.PAGE


def test_a_page_opens_in_every_width_with_all_its_figures_and_without_the_network(browser, page):
    for width in WIDTHS:
        browser.open(page, width)
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out
        browser.run("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
        browser.wait("return [...document.querySelectorAll('figure img')].every(image => image.complete)")
        assert browser.run(
            "return [...document.querySelectorAll('figure img')].every(image => image.naturalWidth > 99)"
        )
        assert browser.run("return [...document.querySelectorAll('img[src]')].every(image => image.alt.length > 20)")
        browser.check_silent()


def test_tables_are_sorted_rules_unfold_figures_grow_and_verdicts_lead_to_their_rows(browser):
    browser.open(COMMITTED)
    (head,) = (h for h in browser.find("[id='6.2.1.1'] th") if h.text.startswith("test accuracy"))
    column = (
        "return [...document.getElementById('6.2.1.1').querySelectorAll('tbody tr')].map(row => row.cells[5].innerText)"
    )
    for order, step in (("ascending", 1), ("descending", -1)):
        head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
        values = [float(text.split()[0]) for text in browser.run(column)]
        assert len(values) == 10
        assert values == sorted(values)[::step]
        assert head.get_attribute("aria-sort") == order
    fold = browser.find("[id='6.2.1.1'] details")[0]
    text = fold.find_element(By.CSS_SELECTOR, "li")
    assert not text.is_displayed()
    fold.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    assert text.is_displayed()
    link = next(a for a in browser.find("[id='6.2.1.1'] li a") if "-row-" in a.get_attribute("href"))
    link.send_keys(Keys.ENTER)
    row = browser.run("return document.querySelector('tr:target').cells[0].innerText")
    assert row == link.text
    picture = browser.find("[id='6.1.1'] .figures a")[0]
    picture.send_keys(Keys.ENTER)
    assert browser.run("return document.querySelector('dialog').open")
    browser.find("dialog")[0].send_keys(Keys.ESCAPE)
    assert not browser.run("return document.querySelector('dialog').open")
    browser.check_silent()


def live_of(page: Path, section: str) -> dict:
    return json.loads(PAGES.read_data(page)[section])


def test_the_map_answers_a_mouse_a_key_and_its_slider(browser, run_quick):
    opened = run_quick("NN_tutorial").out / page.PAGE
    browser.open(opened)
    ready = (
        "document.querySelector('.live').scrollIntoView(); return document.querySelector('.live .map')?.dataset.ready"
    )
    first, shown = browser.wait(ready), live_of(page, "6.2.1.1")
    assert first == f"6.2.1.1 {shown['shown']} 1"
    part = "[id='6.2.1.1'] .live "
    (map_,), (answer,), (slider,) = (browser.find(part + name) for name in (".map", ".answer", "input"))
    (scores,) = browser.find(part + ".controls > span")
    browser.move(map_, 0.6, 0.6)
    told = [answer.text]
    assert " is predicted at " in told[0]
    assert "The nearest training place, " in told[0]
    map_.send_keys(Keys.ARROW_LEFT * 30)
    told.append(answer.text)
    accuracy = {epoch: f"test accuracy {value:.3f}" for epoch, value, _ in next(
        network["epochs"] for network in shown["networks"] if network["name"] == shown["shown"])}  # fmt: skip
    assert scores.text.startswith(accuracy[1])
    wrong = [browser.run("return document.querySelector('.live .controls > span').innerText")]
    slider.send_keys(Keys.HOME)
    assert scores.text.startswith(accuracy[0])
    told.append(answer.text)
    browser.wait(f"{ready} === '6.2.1.1 {shown['shown']} 0'")
    browser.run("const s = document.querySelector('.live select'); s.value = 'nearest neighbour'")
    browser.run("document.querySelector('.live select').dispatchEvent(new Event('change'))")
    told.append(answer.text)
    assert "right there." in told[-1]
    assert len(set(told)) == 4
    browser.wait(f"{ready}.startsWith('nearest neighbour')")
    of = len(
        np.frombuffer(live.base64.b64decode(json.loads(PAGES.read_data(page)[shown["uses"][0]])["test"]["y"]), "<u2")
    )
    assert wrong[0].endswith(f"of {of:,} test places that it gets wrong")
    browser.check_silent()


def test_the_threshold_calls_photos_and_marks_the_roc_curve(browser):
    browser.open(COMMITTED)
    part = "document.querySelector('[data-kind=photos]')"
    browser.wait(f"{part}.scrollIntoView(); return {part}.querySelector('.answer')")
    data = live_of(COMMITTED, "7.5.2")
    y = np.array(data["y"])
    (select,), (slider,) = (browser.find(f"[data-kind=photos] {name}") for name in ("select", "input"))
    for name, keys, at in (
        ("fine-tune", "", 0.5),
        ("fine-tune", Keys.ARROW_RIGHT * 40, 0.7),
        ("XGBoost", Keys.HOME, 0.0),
    ):
        Select(select).select_by_visible_text(name)
        slider.send_keys(keys)
        (text,) = (one["fake"] for one in data["baselines"] if one["name"] == name)
        fake = np.frombuffer(live.base64.b64decode(text)) > at
        real = f"{(~fake & (y == 0)).sum()} of {(y == 0).sum()} real photos real"
        found = f"{(fake & (y == 1)).sum()} of {(y == 1).sum()} fake ones fake: accuracy {np.mean(fake == y):.3f}"
        assert browser.find("[data-kind=photos] .answer")[0].text.startswith(
            f"{name}, seed 0, calls {real} and {found}."
        )
        point = browser.find("[data-kind=photos] circle")[0]
        assert float(point.get_attribute("cx")) == pytest.approx(40 + 200 * fake[y == 0].mean())
        assert float(point.get_attribute("cy")) == pytest.approx(210 - 200 * fake[y == 1].mean())
        shown = [figure.get_attribute("class") for figure in browser.find(".cards figure")]
        assert shown == [("wrong", "right")[int(fake[one["number"]] == y[one["number"]])] for one in data["photos"]]
    browser.check_silent()


def test_countries_and_files_of_any_name_stay_names(browser, tmp_path):
    names = [
        "<script>alert(1)</script>",
        "\"'><img src=x onerror=alert(1)>",
        "\N{RIGHT-TO-LEFT OVERRIDE}",
        "x" * 70_000,
    ]
    draws = np.random.default_rng(0)
    x = {split: draws.uniform((0, 40), (20, 60), (400, 2)).astype(np.float32) for split in SPLITS}
    places = Places(x, {split: (points[:, 0] // 5).astype(int) for split, points in x.items()}, names)
    shared = live.places(places, Atlas(places, 120))
    data = {
        "6": page.dump(
            {"kind": "map", "networks": [], "left_out": {names[0]: names[1]}, "shown": "", "uses": [*shared]}
        )
    }
    data |= {name: page.dump(each) for name, each in shared.items()}
    photos = [(name, number, np.zeros((8, 8, 3), np.uint8)) for number, name in enumerate(names)]
    seven = live.photos(np.array([0, 1, 0, 1]), {names[0]: np.linspace(0, 1, 4)}, names[0], photos, names[1])
    data["7"] = page.dump(seven | {"uses": []})
    sections = {number: f"{number} a\n\n![a picture of it](a.png)" for number in data if len(number) == 1}
    (tmp_path / page.PAGE).write_text(page.page("title", "intro", sections, data, tmp_path))
    Image.new("RGB", (300, 100)).save(tmp_path / "a.png")
    browser.open(tmp_path / page.PAGE, 360)
    browser.wait("return document.querySelector('.map')?.dataset.ready && document.querySelector('.cards')")
    told = []
    for share in (0.1, 0.35, 0.6, 0.85):
        browser.move(browser.find(".map")[0], share, 0.5)
        told.append(browser.find("[id='6'] .answer strong")[0].get_attribute("textContent"))
    assert told == [*names[:3], "x" * live.LONGEST_NAME + "…"]
    assert [name.get_attribute("textContent") for name in browser.find("figcaption bdi")] == names
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert len(browser.find("script")) == 3 + 1  # data and the page's own
    browser.check_silent()


# ---------------------------------------------------------------------------- the page's answers are PyTorch's

POINTS = np.random.default_rng(0).uniform([-25, 34], [45, 72], (1000, 2)).astype(np.float32)
ANSWERS = """
const [network, text, points] = arguments, numbers = unpack(text, Float32Array);
return points.map(([x, y]) => softmax(logits(network, numbers, x, y)));
"""


def in_page(browser, network: dict, stop: int) -> np.ndarray:
    return np.array(browser.run(ANSWERS, network, network["epochs"][stop][2], POINTS.tolist()), float)


def close(found: np.ndarray, expected: torch.Tensor) -> None:
    """Probabilities of 1,000 points."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-3)
    assert (found.argmax(axis=1) == expected.numpy().argmax(axis=1)).mean() >= 0.998  # but where two are as likely


def test_the_page_computes_what_pytorch_does(browser):
    browser.open(COMMITTED)
    scale = np.array([[14.0, 49.0], [11.0, 7.0]])
    for features in NN_tutorial.FEATURES:
        for change in ({}, {"activation": "tanh"}, {"batch_norm": True}):
            config = NN_tutorial.Config(depth=3, features=features, **change)
            inputs = partial(NN_tutorial.represent, config=config, scale=scale)
            torch.manual_seed(0)
            model = NN_tutorial.mlp(config, inputs(POINTS).shape[1], 7)
            model.train()(3 * inputs(POINTS))  # moves the means of batch normalisation
            packed = live.Network("a", 0, features, scale, inputs, {1: (model, 0.5)}).packed(POINTS)
            with torch.no_grad():
                close(in_page(browser, packed, 0), model.eval()(inputs(POINTS)).softmax(dim=1))


def test_the_committed_networks_answer_in_the_page_as_in_pytorch(browser):
    browser.open(COMMITTED)
    seen = set()
    for section in ("6.2.1.1", "6.2.1.7", "6.3"):
        for network in live_of(COMMITTED, section)["networks"]:
            numbers = torch.frombuffer(bytearray(live.base64.b64decode(network["epochs"][-1][2])), dtype=torch.float32)
            layers = []
            for inputs, outputs, activation in network["layers"]:
                linear = nn.Linear(inputs, outputs)
                weight, bias, numbers = numbers.split(
                    [inputs * outputs, outputs, len(numbers) - (inputs + 1) * outputs]
                )
                linear.weight.data, linear.bias.data = weight.view(inputs, outputs).T, bias
                layers += [linear, *([nn.ReLU()] if activation == "relu" else [])]
            config = NN_tutorial.Config(features=network["features"])
            with torch.no_grad():
                x = NN_tutorial.represent(POINTS, config, np.array(network["scale"]))
                close(in_page(browser, network, -1), nn.Sequential(*layers)(x).softmax(dim=1))
            seen.add(network["name"])
    assert {*NN_tutorial.SEVEN, *NN_tutorial.IMPLICIT, *NN_tutorial.LADDER} <= seen
    assert COMMITTED.stat().st_size < 8e6
