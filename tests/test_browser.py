"""The page in a real browser: it opens from disk in three widths, its parts answer, and nothing leaves the machine."""

import base64
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import SCALE, WAVES, asked, make, make_all, network, places
from torch import nn

from lab.draw.maps import Atlas
from lab.gallery import live, sections
from lab.nets.inputs import Inputs, represent
from lab.study import Condition

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

COMMITTED = Path(__file__).parents[1] / "plots" / sections.PAGE
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

    def wait(self, script: str, *given, seconds: float = 60):
        """What a script returns as soon as that is true."""
        end = time.monotonic() + seconds
        while not (found := self.run(script, *given)):
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


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The page of the made-up study."""
    return make_all(tmp_path_factory.mktemp("made"))


@pytest.fixture(params=["committed", "made up", "NN_tutorial", "cnn"])
def page(request, made, run_quick) -> Path:
    """The committed page, that of the made-up study, and those of quick runs."""
    known = {"committed": COMMITTED, "made up": made}
    return known.get(request.param) or run_quick(request.param).out / sections.PAGE


def test_a_page_opens_in_every_width_with_all_its_figures_and_without_the_network(browser, page):
    for width in WIDTHS:
        browser.open(page, width)
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out
        browser.run("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
        loaded = "return [...document.querySelectorAll('figure img')].every(image => image."
        browser.wait(f"{loaded}complete)")
        assert browser.run(f"{loaded}naturalWidth > 99)")
        assert browser.run("return [...document.querySelectorAll('img[src]')].every(image => image.alt.length > 20)")
        browser.run("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        wide = browser.run(
            "return [...document.querySelectorAll('.wide')].map(box => box.scrollWidth - box.clientWidth)"
        )
        assert width < 1280 or max(wide) <= 0  # no table is to be scrolled
        browser.check_silent()


def test_tables_are_sorted_numbers_unfold_and_are_printed_figures_grow_and_films_stop(browser, made):
    browser.open(made)
    part = "[id='6.2.1.1'] "
    (table,), (fold,) = browser.find(f"{part}.sortable"), browser.find(f"{part}details")
    assert not table.is_displayed()
    fold.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    assert table.is_displayed()
    heads = browser.find(f"{part}th")
    rows = "return [...document.getElementById('6.2.1.1').querySelectorAll('tbody tr')].map(row => row.cells"
    for column, last in ((2, []), (len(heads) - 1, ["reference"])):
        for order, step in (("ascending", 1), ("descending", -1)):
            heads[column].find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
            texts = [text.split()[0] for text in browser.run(f"{rows}[{column}].innerText)")]
            values = [float(text) for text in texts[: 18 - len(last)]]
            assert (values, texts[18 - len(last) :]) == (sorted(values)[::step], last)
            assert heads[column].get_attribute("aria-sort") == order
    assert (
        browser.run(
            "dispatchEvent(new Event('beforeprint')); return document.querySelectorAll('details:not([open])').length"
        )
        == 0
    )
    browser.find(f"{part}.figures a")[0].send_keys(Keys.ENTER)
    assert browser.run("return document.querySelector('dialog').open")
    browser.find("dialog")[0].send_keys(Keys.ESCAPE)
    assert not browser.run("return document.querySelector('dialog').open")
    (stop,), (film,) = browser.find(f"{part}figure button"), browser.find(f"{part}picture:has(source) img")
    browser.run("arguments[0].scrollIntoView()", film)
    shows = "return arguments[0].currentSrc.endsWith(arguments[1])"
    browser.wait(shows, film, ".webp")
    stop.send_keys(Keys.ENTER)
    assert stop.text == "Play the film"
    browser.wait(shows, film, ".png")
    (rule,) = browser.find(f"{part}a[href='#rule-1']")
    rule.send_keys(Keys.ENTER)
    assert browser.run("return document.querySelector('li:target').innerText") == "chosen: by mean validation accuracy"
    browser.check_silent()


def live_of(page: Path, section: str) -> tuple[dict, dict[str, dict]]:
    """A live figure, and what such figures share."""
    held, shared = sections.read(page.parent)
    return next(one["live"]["data"] for one in held if one["section"] == section), shared


def test_the_map_answers_a_mouse_a_key_and_its_slider(browser, made):
    browser.open(made)
    part = "[id='6.2.1.1'] .live"
    box = f'document.querySelector("{part}")'
    ready = f"{box}.scrollIntoView(); return {box}.querySelector('.map')?.dataset.ready"
    assert browser.wait(ready) == "6.2.1.1 best 1"
    (map_,), (answer,), (slider,) = (browser.find(f"{part} {name}") for name in (".map", ".answer", "input"))
    (scores,), (select,) = (browser.find(f"{part} {name}") for name in (".controls > span", "select"))
    browser.move(map_, 0.6, 0.6)
    told = [answer.text]
    assert " is predicted at " in told[0]
    assert "The nearest training place, " in told[0]
    map_.send_keys(Keys.ARROW_LEFT * 30)
    told.append(answer.text)
    assert scores.text.startswith("test accuracy 0.750, seed 0; dots: ")
    assert scores.text.endswith(" of 400 test places that it gets wrong")
    slider.send_keys(Keys.HOME)
    assert scores.text.startswith("test accuracy 0.250")
    told.append(answer.text)
    browser.wait(f"{ready} === '6.2.1.1 best 0'")
    Select(select).select_by_visible_text("nearest neighbour")
    told.append(answer.text)
    assert "right there." in told[-1]
    assert len(set(told)) == 4
    browser.wait(f"{ready}.startsWith('nearest neighbour')")
    browser.check_silent()


def test_the_threshold_calls_photos_and_marks_the_roc_curve(browser, made):
    browser.open(made)
    part = "document.querySelector('[data-kind=photos]')"
    browser.wait(f"{part}.scrollIntoView(); return {part}.querySelector('.answer')")
    data, _ = live_of(made, "7.5.2")
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
        fake = np.frombuffer(base64.b64decode(text)) > at
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
    script, image = "<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>"
    names = [script, image, "\N{RIGHT-TO-LEFT OVERRIDE}", "x" * 70_000]

    def map_(runs, report):
        of = places(names)
        report.live = live.figure([], "", live.places(of, Atlas(of, 120)), of.x["test"])
        report.live["left_out"] = {script: image}
        report.rows = {name: {("test", "loss"): np.ones(1)} for name in names}
        report.why(script, Condition(False, image))

    def photos(runs, report):
        seen = [(name, number, np.zeros((8, 8, 3), np.uint8)) for number, name in enumerate(names)]
        report.live = live.photos(np.array([0, 1, 0, 1]), {script: np.linspace(0, 1, 4)}, script, seen, image)

    make(tmp_path, asked("6", map_), asked("7", photos))
    browser.open(tmp_path / sections.PAGE, 360)
    browser.run("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    for kind, there in (("photos", ".cards"), ("map", "[data-ready]")):
        box = f"document.querySelector('[data-kind={kind}]')"
        browser.wait(f"{box}.scrollIntoView(); return {box}.querySelector('{there}')")
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


@pytest.mark.parametrize("inputs", [Inputs(), Inputs(True), Inputs(frequencies=(0.1, 0.7)), WAVES], ids=str)
def test_the_page_computes_what_pytorch_does(browser, made, inputs):
    browser.open(made)
    for between in ([nn.ReLU()], [nn.Tanh()], [nn.BatchNorm1d(8), nn.ReLU()]):
        one = network("a", inputs, *between)
        given = represent(POINTS, inputs, SCALE)
        model, _ = one.stops[0]
        model.train()(3 * given)  # moves the means of batch normalisation
        with torch.no_grad():
            close(in_page(browser, one.packed(POINTS), 0), model.eval()(given).softmax(dim=1))


def test_the_committed_networks_answer_in_the_page_as_in_pytorch(browser):
    browser.open(COMMITTED)
    for section in ("6.2.1.1", "6.2.1.7", "6.3"):
        held, _ = live_of(COMMITTED, section)
        assert held["left_out"] == {}
        for one in held["networks"]:
            numbers = torch.frombuffer(bytearray(base64.b64decode(one["epochs"][-1][2])), dtype=torch.float32)
            layers = []
            for inputs, outputs, activation in one["layers"]:
                linear = nn.Linear(inputs, outputs)
                rest = len(numbers) - (inputs + 1) * outputs
                weight, bias, numbers = numbers.split([inputs * outputs, outputs, rest])
                linear.weight.data, linear.bias.data = weight.view(inputs, outputs).T, bias
                layers += [linear, *([nn.ReLU()] if activation == "relu" else [])]
            with torch.no_grad():
                x = represent(POINTS, Inputs(**one["inputs"]), np.array(one["scale"]))
                close(in_page(browser, one, -1), nn.Sequential(*layers)(x).softmax(dim=1))
    assert COMMITTED.stat().st_size < 8e6
