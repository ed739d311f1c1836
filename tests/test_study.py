"""The script as a user runs it: what it writes, what it keeps, how it stops, how it fails."""

import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from kills import alive
from matplotlib.image import imread
from scipy import stats
from sklearn.neighbors import KNeighborsClassifier

import cnn
import engine
import gallery
import helpers
import NN_tutorial
import xg

ROOT = Path(__file__).parents[1]
SECTIONS = ["6.1.1", "6.1.2", "6.1.3", "6.1.4", *(f"6.2.1.{number}" for number in range(1, 8))]
FIGURES = {
    "6.1.1_learning_rate", "6.1.2_epochs", "6.1.3_batch_norm", "6.1.4_batch_size",
    "6.2.1.1_best_model", "6.2.1.1_best_model_map", "6.2.1.1_map_forming", "6.2.1.2_worst_model",
    "6.2.1.2_worst_model_map", "6.2.1.3_depth", "6.2.1.4_width", "6.2.1.5_gradients", "6.2.1.6_remedy_accuracy",
    "6.2.1.6_remedy_gradients", "6.2.1.7_implicit", "6.2.1.7_implicit_map",
}  # fmt: skip


def command(*arguments) -> list[str]:
    return [sys.executable, str(ROOT / "NN_tutorial.py"), *map(str, arguments)]


def script(*arguments, cwd=None) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, env=environment, timeout=280)


@pytest.fixture(scope="session")
def quick(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """One run of everything on a tiny budget, from another folder."""
    out = tmp_path_factory.mktemp("quick")
    return out, script("--quick", "--out", out, cwd=out)


def test_everything_is_written(quick):
    out, process = quick
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""  # no warnings, and no progress bar off a terminal
    assert {path.stem for path in out.glob("*.png")} == FIGURES
    for path in out.glob("*.png"):
        picture = imread(path)
        assert min(picture.shape[:2]) >= 450
        assert picture[..., :3].std() > 0.01  # something is drawn
    assert len(list((out / "runs" / "NN_tutorial").glob("*.npz"))) == 27


def test_the_table_is_tidy(quick):
    out, _ = quick
    table = pd.read_csv(out / "NN_tutorial.csv", dtype={"section": str})
    assert list(table.columns) == helpers.COLUMNS
    assert list(dict.fromkeys(table["section"])) == SECTIONS
    assert set(table["split"]) == set(helpers.SPLITS)
    assert not table.duplicated(["section", "run", "seed", "split", "metric"]).any()
    accuracy = table[table["metric"] == "accuracy"]["value"]
    assert accuracy.between(0, 1).all()
    assert not table["metric"].str.contains("seconds").any()
    for section in ("6.1.3", "6.1.4", "6.2.1.1", "6.2.1.3", "6.2.1.4", "6.2.1.6", "6.2.1.7"):
        runs = set(table[table["section"] == section]["run"])
        assert {"majority class", "nearest neighbour", "random forest"} <= runs
    seconds = pd.read_csv(out / "NN_tutorial.seconds.csv")
    assert list(seconds.columns) == helpers.COLUMNS
    assert (seconds["value"] > 0).all()


def test_a_run_that_several_experiments_need_is_the_same_run(quick):
    table = pd.read_csv(quick[0] / "NN_tutorial.csv", dtype={"section": str})

    def losses(section: str, run: str) -> list[float]:
        return table[(table["section"] == section) & (table["run"] == run) & (table["metric"] == "loss")][
            "value"
        ].tolist()

    assert len(losses("6.1.1", "lr 0.001")) == 6
    assert losses("6.1.1", "lr 0.001") == losses("6.1.3", "without batch norm") == losses("6.2.1.7", "raw")
    assert losses("6.2.1.3", "depth 6") == losses("6.2.1.4", "width 16") == losses("6.2.1.1", "(6, 16)")


def test_the_report_is_printed_and_saved(quick):
    out, process = quick
    page, printed = (out / "README.md").read_text(), " ".join(process.stdout.split())
    assert re.findall(r"^## (\S+)", page, re.MULTILINE) == SECTIONS
    assert page.count("\nRule: ") == len(SECTIONS)
    assert {Path(name).stem for name in re.findall(r"^!\[.+\]\((.+)\)$", page, re.MULTILINE)} == FIGURES
    for verdict in re.findall(r"^- .*", page, re.MULTILINE):
        assert re.sub(r"\\(.)", r"\1", verdict) in printed
        assert re.search(r"\(rows? \d", verdict), f"cites no row: {verdict}"


def test_a_second_call_repeats_nothing_and_redraws_the_same(quick, capsys):
    out, _ = quick
    names = ["NN_tutorial.csv", "README.md", "6.1.1_learning_rate.png", "6.2.1.1_best_model_map.png"]
    before = {name: (out / name).read_bytes() for name in names}
    process = script("--quick", "--out", out)
    assert "0 to do" in process.stdout
    assert {name: (out / name).read_bytes() for name in names} == before
    NN_tutorial.main(["epochs", "width", "--quick", "--out", str(out)])
    assert "0 to do" in capsys.readouterr().out  # whichever experiment they were for
    assert {name: (out / name).read_bytes() for name in names} == before


def test_redraw_trains_nothing(quick, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(engine, "_do_all", None)  # what trains
    out = tmp_path / "plots"
    command = ["learning-rate", "width", "--quick", "--redraw", "--out", str(out)]
    assert helpers.run_script(lambda: NN_tutorial.main(command)) == 2
    assert capsys.readouterr().err.startswith("error: no experiment has all its finished runs, ")
    shutil.copytree(quick[0] / "runs", out / "runs", dirs_exist_ok=True)
    next((out / "runs" / "NN_tutorial").glob("learning-rate-lr_1-*")).unlink()
    assert helpers.run_script(lambda: NN_tutorial.main(command)) == 0
    assert {path.name for path in out.glob("*.png")} == {"6.2.1.4_width.png"}
    table, full = (pd.read_csv(folder / "NN_tutorial.csv", dtype=str) for folder in (out, quick[0]))
    assert table.equals(full[full.section == "6.2.1.4"].reset_index(drop=True))


@pytest.mark.parametrize(("module", "experiment"), [(NN_tutorial, "epochs"), (cnn, "scratch"), (xg, "xgboost")])
def test_scripts_started_on_the_same_folder_write_one_after_the_other(module, experiment, tmp_path, monkeypatch):
    written, write = [], helpers.write_whole

    def write_whole(path: Path, content: bytes) -> None:
        with pytest.raises(filelock.Timeout):
            gallery.writing(tmp_path).acquire(timeout=0)
        written.append(path.suffix)
        write(path, content)

    monkeypatch.setattr(helpers, "write_whole", write_whole)
    assert helpers.run_script(lambda: module.main([experiment, "--quick", "--jobs", "1", "--out", str(tmp_path)])) == 0
    assert {".png", ".csv", ".md"} <= set(written)
    with gallery.writing(tmp_path).acquire(timeout=0):  # free again
        pass


def test_chosen_experiments_keep_the_other_sections(quick, tmp_path):
    out = tmp_path / "plots"
    full = quick[0]
    out.mkdir()
    for name in ("NN_tutorial.csv", "NN_tutorial.seconds.csv", "README.md"):
        (out / name).write_bytes((full / name).read_bytes())
    NN_tutorial.main(["learning-rate", "depth", "--seeds", "1", "--quick", "--jobs", "1", "--out", str(out)])
    assert {path.stem for path in out.glob("*.png")} == {"6.1.1_learning_rate", "6.2.1.3_depth"}
    old, new = (pd.read_csv(folder / "NN_tutorial.csv", dtype={"section": str}) for folder in (full, out))
    assert list(dict.fromkeys(new["section"])) == SECTIONS
    assert set(new[new["section"].isin(["6.1.1", "6.2.1.3"])]["seed"]) == {0}
    rest = ~new["section"].isin(["6.1.1", "6.2.1.3"])
    assert (
        new[rest].reset_index(drop=True).equals(old[~old["section"].isin(["6.1.1", "6.2.1.3"])].reset_index(drop=True))
    )


def test_ctrl_c_ends_with_130_one_line_and_no_worker(tmp_path):
    kept = tmp_path / "runs" / "NN_tutorial"
    process = subprocess.Popen(
        command("--quick", "--out", tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(kept.glob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the workers too
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "stopped: finished runs are kept, the same command goes on from here\n"
    deadline = time.monotonic() + 10
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(process.pid)  # no worker is left behind


def test_damaged_and_foreign_runs_are_done_again(tmp_path, capsys):
    table = tmp_path / "NN_tutorial.csv"

    def to_do(*options: str) -> int:
        NN_tutorial.main(["width", "--quick", "--seeds", "1", "--jobs", "1", "--out", str(tmp_path), *options])
        return int(re.search(r"(\d+) to do", capsys.readouterr().out)[1])

    assert to_do() == 6
    before = table.read_bytes()
    next((tmp_path / "runs" / "NN_tutorial").glob("best-model*.npz")).write_bytes(b"half a file")
    assert to_do() == 1
    assert to_do("--seeds", "2") == 5  # other seeds are other runs, but for references without seeds
    assert to_do() == 0
    assert table.read_bytes() == before
    assert to_do("--fresh") == 6
    assert table.read_bytes() == before


def test_other_peoples_files_work_unchanged(tmp_path):
    generator = np.random.default_rng(3)
    folder = tmp_path / "theirs"
    folder.mkdir()
    for split, rows in {"train": 400, "validation": 80, "test": 80}.items():
        places = pd.DataFrame(generator.uniform((100, -40), (150, -10), (rows, 2)), columns=["long", "lat"])
        places["country"] = 7 * (places["long"] > 125) + 2 * (places["lat"] > -25) + 1
        places.to_csv(folder / f"{split}.csv")  # with the unnamed index
    options = ["--quick", "--seeds", "1", "--jobs", "1"]
    NN_tutorial.main(["--data", str(folder), "--out", str(tmp_path / "out"), *options])
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == FIGURES


def test_list_names_all_experiments(capsys):
    with pytest.raises(SystemExit) as end:
        NN_tutorial.main(["--list"])
    assert end.value.code == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        [experiment.section, experiment.name] for experiment in NN_tutorial.EXPERIMENTS
    ]
    assert [experiment.section for experiment in NN_tutorial.EXPERIMENTS] == SECTIONS


@pytest.mark.parametrize("experiment", NN_tutorial.EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_experiment_says_what_it_asks_what_is_varied_and_what_to_look_for(experiment):
    assert re.fullmatch(
        r"[^\n]+(\n[^\n]+)?\?\n\nVaried: [^\n]+(\n[^\n]+)?\.\nLook for: [^\n]+(\n[^\n]+)?\.",
        inspect.getdoc(experiment.report),
    )


def readme_block(start: str) -> str:
    """The Python block of the README that starts like this."""
    (block,) = re.findall(rf"^```python\n({start}.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return block


@pytest.fixture
def pasted(monkeypatch) -> str:
    """The README's ten lines, as if they were pasted into the script."""
    monkeypatch.setattr(NN_tutorial, "EXPERIMENTS", [*NN_tutorial.EXPERIMENTS])
    block = readme_block("ACTIVATIONS_COMPARED")
    exec(block, dict(vars(NN_tutorial)))
    return block


SCRIPTS = {
    "NN_tutorial": (NN_tutorial, None),
    "cnn": (cnn, cnn.options),
    "xg": (xg, xg.photo_options),
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.usefixtures("pasted")
def test_every_documented_command_parses(name):
    module, options = SCRIPTS[name]
    text = (ROOT / "README.md").read_text() + module.__doc__
    commands = re.findall(rf"^ *(?:.*&& )?python {name}\.py(.*)", text, re.MULTILINE)
    assert len(commands) >= 2
    for line in commands:
        arguments = re.split(r"\s{2,}|#", line)[0].split()
        if arguments != ["--list"]:
            helpers.parse_arguments("", module.EXPERIMENTS, arguments, options)


def test_continuous_integration_sets_up_as_the_readme_says():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    steps = [
        step.strip() for line in re.findall(r"^python -m pip .*", readme, re.MULTILINE) for step in line.split("&&")
    ]
    assert len(steps) == 4
    for step in steps:
        words = step.split("#")[0].split()
        assert all(word in ci for word in words), step


def test_the_readmes_one_line_is_a_line_of_the_script():
    line = readme_block("    activation")
    assert (ROOT / "NN_tutorial.py").read_text().count(line.replace('"tanh"', '"relu"', 1)) == 1


def test_the_readmes_ten_lines_are_an_experiment(tmp_path, pasted):
    assert sum(bool(line) for line in pasted.splitlines()) <= 10
    NN_tutorial.main(["activations", "--quick", "--seeds", "2", "--jobs", "1", "--out", str(tmp_path)])
    assert imread(tmp_path / "6.3_activations.png")[..., :3].std() > 0.01
    table = pd.read_csv(tmp_path / "NN_tutorial.csv", dtype={"section": str})
    assert set(table["section"]) == {"6.3"}
    accuracy = table[(table["metric"] == "accuracy") & (table["split"] == "test")].set_index("run")["value"]
    assert accuracy.loc[["relu", "tanh", "leaky_relu"]].groupby(level=0).nunique().eq(2).all()  # of two seeds
    assert set(accuracy.loc["relu"]) != set(accuracy.loc["tanh"])


# ------------------------------------------------------------------ rules, on numbers whose verdict is known


def test_interval_is_students():
    mean, half = helpers.interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert mean == 3
    assert half == pytest.approx(2.776445 * np.sqrt(2.5 / 5), rel=1e-6)
    assert np.isnan(helpers.interval(np.array([1.0]))[1])


def test_compare():
    low, high = np.array([0.90, 0.91, 0.92]), np.array([0.95, 0.96, 0.97])
    assert NN_tutorial.compare(low, high)[0] == "higher"
    assert NN_tutorial.compare(high, low)[0] == "lower"
    assert NN_tutorial.compare(low, np.array([0.85, 0.92, 0.99]))[0] == "no difference shown"
    assert NN_tutorial.compare(low, low)[0] == "the same"
    assert NN_tutorial.compare(np.array([0.5]), high)[0] == "higher"
    assert NN_tutorial.compare(low[:1], high[:1]) == ("no difference shown", "+0.0500, no interval with one seed")


def test_seeds_that_differ_more_than_two_runs_do_are_paired():
    seeds = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
    better = seeds + np.array([0.010, 0.011, 0.012, 0.011, 0.010])
    assert NN_tutorial.compare(seeds, better)[0] == "higher"
    assert stats.ttest_ind(better, seeds).pvalue > 0.9  # which an unpaired test can't see
    assert NN_tutorial.compare(seeds, better[::-1])[0] == "no difference shown"  # the same values of other seeds


def test_the_best_is_named_with_all_to_which_no_difference_is_shown():
    values = {"a": [0.7, 0.8, 0.9], "b": [0.71, 0.79, 0.9], "c": [0.6, 0.7, 0.8]}
    rows = {label: {("validation", "accuracy"): np.array(cells)} for label, cells in values.items()}
    assert NN_tutorial.best(rows, "abc") == ["a", "b"]
    assert NN_tutorial.best(rows, "abc", sign=-1) == ["c"]
    assert NN_tutorial.named(["a", "b"]) == "a (no difference shown to b)"
    assert NN_tutorial.named(["c"]) == "c"
    assert NN_tutorial.named(list("abcd")) == "a (no difference shown to 3 others)"


def test_how_much_choosing_on_test_would_flatter():
    accuracies = {  # validation, test; of two seeds
        "a": ([0.90, 0.90], [0.80, 0.90]),
        "b": ([0.80, 0.92], [0.85, 0.89]),
        "c": ([0.70, 0.70], [0.70, 0.99]),
    }
    rows = {
        label: {("validation", "accuracy"): np.array(validation), ("test", "accuracy"): np.array(test)}
        for label, (validation, test) in accuracies.items()
    }
    text = NN_tutorial.flattery(rows, "ab")
    assert "picked b and flattered the test accuracy by 0.0200;" in text
    assert "for each seed, by 0.0300, at most 0.0500 (rows 1, 2)" in text  # 0.85 for 0.80, and 0.90 for 0.89
    assert "picked a too and flattered the test accuracy by 0.0000; " in NN_tutorial.flattery(rows, "a")
    assert "at most 0.1000 (row" in NN_tutorial.flattery(rows, "abc")


def study(tmp_path) -> NN_tutorial.Study:
    y = {split: np.array([0, 0, 1, 1]) for split in helpers.SPLITS}
    places = helpers.Places({split: np.zeros((4, 2), np.float32) for split in y}, y, ["a", "b"])
    return NN_tutorial.Study(places, range(2), tmp_path, False, {"nearest neighbour.validation": np.array([0.99])})


def losses(train, validation, accuracy_train=0.98, accuracy_validation=0.98) -> dict:
    two = {"loss_train": train, "loss_validation": validation}
    result = {name: np.tile(np.array(values, float), (2, 1)) for name, values in two.items()}
    result["accuracy_train"] = np.full((2, len(train)), accuracy_train)
    result["accuracy_validation"] = np.full((2, len(train)), accuracy_validation)
    return result


def test_fit_verdict(tmp_path):
    def verdict(*arguments) -> str:
        return NN_tutorial.fit_verdict(losses(*arguments), study(tmp_path)).split(":")[0]

    assert verdict([3, 2, 1], [3, 2, 1]) == "neither over- nor under-fits"
    assert verdict([3, 2, 1], [3, 2, 2.2]) == "over-fits"
    assert verdict([3, 2, 2.2], [3, 2, 2.2]) == "neither over- nor under-fits"  # both rise: noise, not over-fitting
    assert verdict([3, 2, 1], [3, 2, 1], 0.99, 0.97) == "over-fits"
    assert verdict([3, 2, 1], [3, 2, 1], 0.90, 0.90) == "under-fits"
    assert verdict([3, 2, 1], [3, 2, 1], 0.90, 0.80) == "over-fits and under-fits at once"


def test_diverged(tmp_path):
    where = study(tmp_path)
    assert where.prior_loss == pytest.approx(np.log(2))
    assert not NN_tutorial.diverged(losses([0.9, 0.8, 0.6], [0.9, 0.8, 0.6]), where, 3).any()
    assert NN_tutorial.diverged(losses([0.9, 0.8, 0.9], [0.9, 0.8, 0.9]), where, 3).all()
    assert not NN_tutorial.diverged(losses([0.9, 0.85, 0.8], [0.9, 0.85, 0.8]), where, 3).any()  # slow, but falling
    assert NN_tutorial.diverged(losses([0.9, np.nan, 0.1], [0.9, 0.5, 0.1]), where, 3).all()


@pytest.mark.parametrize(
    ("first", "last", "word"),
    [
        (1e-9, 1e-2, "vanishing"),
        (0, 0, "vanishing"),
        (1e-2, 1e-2, "even"),
        (20, 1e-3, "exploding"),
        (1e5, 1e5, "exploding"),
    ],
)
def test_flow(first, last, word):
    gradient = np.full((2, 3, 5), 1.0)
    gradient[:, -1, 0], gradient[:, -1, 3] = first, last  # layer 4 is the head
    assert NN_tutorial.flow({"gradient": gradient})[0] == word


@pytest.fixture(scope="module")
def atlas() -> NN_tutorial.Atlas:
    return NN_tutorial.Atlas(helpers.load_places(ROOT / "data"))


def test_neighbouring_countries_differ_in_colour(atlas):
    assert max(atlas.rows, atlas.columns) >= 400
    colour = dict(zip(atlas.places.countries, map(tuple, atlas.colours), strict=True))
    alike_in_grey = 0
    for a, b in [
        ("France", "Germany"), ("France", "Spain"), ("France", "Italy"), ("France", "Belgium"), ("Spain", "Portugal"),
        ("Germany", "Poland"), ("Germany", "Austria"), ("Germany", "The Netherlands"), ("Austria", "Hungary"),
        ("Norway", "Sweden"), ("Sweden", "Finland"), ("Finland", "Russia"), ("Ukraine", "Russia"),
        ("Romania", "Hungary"), ("Romania", "Bulgaria"), ("Greece", "Albania"), ("Serbia", "Croatia"),
        ("Latvia", "Lithuania"), ("Latvia", "Estonia"), ("Ireland", "United Kingdom"), ("Luxembourg", "Belgium"),
    ]:  # fmt: skip
        assert colour[a] != colour[b], f"{a} and {b}"
        alike_in_grey += abs(np.subtract(colour[a], colour[b]) @ (0.299, 0.587, 0.114)) < 0.04
    assert alike_in_grey <= 2
    assert atlas.aspect == pytest.approx(1 / np.cos(np.radians(52.9)), rel=0.02)


def test_the_inhabited_area_of_a_map_is_europes(atlas):
    def inside(long: float, lat: float) -> bool:
        nearest = abs(atlas.grid(atlas.COARSE) - (long, lat)).sum(axis=2).argmin()
        return bool(atlas.land.flat[nearest] > 0)

    assert all(inside(*city) for city in [(2.35, 48.86), (13.4, 52.5), (23.7, 37.98), (25.5, 65.0), (-3.7, 40.4)])
    assert not any(inside(*sea) for sea in [(3.0, 56.5), (-8.0, 46.0), (5.0, 40.5), (19.0, 37.5), (34.0, 43.5)])


def test_names_on_a_map_neither_overlap_nor_leave_it(atlas):
    fig, (ax,) = atlas.figure("where the nearest place is")
    extent = (atlas.low[0], atlas.high[0], atlas.low[1], atlas.high[1])
    ax.imshow(np.zeros((atlas.rows, atlas.columns)), origin="lower", extent=extent, aspect=atlas.aspect)
    x, y = atlas.places.x["train"], atlas.places.y["train"]
    labels = KNeighborsClassifier(1).fit(x, y).predict(atlas.grid(atlas.COARSE).reshape(-1, 2))
    atlas.write_names(ax, np.where(atlas.land > 0, labels.reshape(atlas.land.shape), -1))
    fig.draw_without_rendering()
    boxes = {text.get_text().replace("\n", " "): text.get_window_extent() for text in ax.texts}
    plt.close(fig)
    assert len(boxes) >= 30
    assert {"France", "Germany", "The Netherlands", "Bosnia and Herzegovina"} <= set(boxes)
    for name, box in boxes.items():
        assert all(ax.bbox.padded(2).contains(*corner) for corner in box.corners()), name
        others = [other for other in boxes if other != name and boxes[other].padded(-1).overlaps(box)]
        assert not others, f"{name} covers {others}"


def test_a_map_sees_what_the_network_says():
    """A network of one unit, written down by hand, that says the second country east of 10 degrees."""
    generator = np.random.default_rng(0)
    x = {split: generator.uniform((0, 40), (20, 60), (500, 2)).astype(np.float32) for split in helpers.SPLITS}
    places = helpers.Places(x, {split: (x[split][:, 0] > 12).astype(int) for split in x}, ["$west$", "東"])
    config = NN_tutorial.Config(depth=1, width=1)
    parameters = {"weight.0": [[[1.0, 0.0]]], "bias.0": [[[0.0]]], "weight.1": [[[0.0], [1.0]]]}
    parameters["bias.1"] = [[[10.0], [0.0]]]
    result = {f"3.{name}": np.array(value, np.float32) for name, value in parameters.items()}
    atlas = NN_tutorial.Atlas(places)
    picture, _ = atlas.picture(atlas.predictor(config, result, 3, 0), step=1)
    west, east = (picture[atlas.rows // 2, int(atlas.columns * (0.5 + shift))] for shift in (-0.01, 0.01))
    assert np.allclose(west, 255 * atlas.colours[0], atol=1.5)
    assert np.allclose(east, 255 * atlas.colours[1], atol=1.5)
    fig, (ax,) = atlas.figure("by hand")
    atlas.draw(ax, config, result, 3, 0)
    plt.close(fig)
    wrong = ((x["test"][:, 0] > 10) != places.y["test"]).sum()
    assert ax.get_legend().get_texts()[0].get_text() == f"test place given to the wrong country: {wrong} of 500"
    assert {text.get_text() for text in ax.texts} == {"$west$", "東"}


def test_a_diverged_run_is_drawn_and_marked(tmp_path):
    two = losses([0.9, np.nan, np.nan], [0.9, np.inf, np.nan])
    two |= {name.replace("train", "test"): values for name, values in two.items() if "train" in name}
    fine = losses([0.9, 0.5, 0.1], [0.9, 0.5, 0.1])
    fine |= {name.replace("train", "test"): values for name, values in fine.items() if "train" in name}
    names = list(NN_tutorial.LEARNING_RATES)
    report = NN_tutorial.learning_rate({names[0]: two, **dict.fromkeys(names[1:], fine)}, study(tmp_path))
    assert (tmp_path / "6.1.1_learning_rate.png").exists()
    assert "diverged in 2 of 2 seeds" in report.verdicts[0]
    assert report.rows[names[0]]["train", "diverged"].tolist() == [1, 1]
