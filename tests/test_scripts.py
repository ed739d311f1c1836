"""The three scripts as a user runs them: what they write, keep and redraw, and what an edit does."""

import json
import re
import shutil
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest
import torch
import xgboost
from conftest import Quick
from matplotlib.image import imread
from sklearn.base import ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import cnn
import helpers
import NN_tutorial
import xg
from lab import files
from lab.gallery import sections
from lab.run import command_line, runs

ROOT = Path(__file__).parents[1]
SCRIPTS = {"NN_tutorial": NN_tutorial, "cnn": cnn, "xg": xg}
DRAWN = re.findall(r"^!\[.+\]\((.+)\.png\)$", (ROOT / "plots" / "README.md").read_text(), re.MULTILINE)
FIGURES = {  # those of the committed gallery
    "NN_tutorial": {name for name in DRAWN if name.startswith("6.")},
    "cnn": {name for name in DRAWN if name.startswith("7.") and name != "7.2.1_xgboost"},
    "xg": {"7.2.1_xgboost"},
}
OPTIONS = {"NN_tutorial": None, "cnn": cnn.options, "xg": xg.photo_options}
nn_only, cnn_only, _ = (pytest.mark.parametrize("quick", [name], indirect=True) for name in SCRIPTS)
ONE_JOB = "--seeds", "1", "--jobs", "1"


@pytest.fixture(params=SCRIPTS)
def quick(request, run_quick) -> Quick:
    return run_quick(request.param)


def results(out: Path) -> dict[str, bytes]:
    """All files but the kept runs."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


BOXES = r"warning: (\d) of \1 names have letters that the figures' font lacks .+ \('.+脸.png'.*\), 7.5.2_samples, .+\n"


def test_everything_is_written_and_nothing_said_on_stderr(quick):
    assert quick.process.returncode == 0, quick.process.stderr
    said = BOXES if quick.name == "cnn" else ""  # no other warnings, and no progress bar off a terminal
    assert re.fullmatch(said, quick.process.stderr)
    moving = {"6.2.1.1_map_forming.webp"} if quick.name == "NN_tutorial" else set()
    tables = moving | {f"{quick.name}.csv", f"{quick.name}.seconds.csv", "README.md", "index.html"}
    folders = {"runs", "sections"}
    assert {path.name for path in quick.out.iterdir()} == {f"{x}.png" for x in FIGURES[quick.name]} | tables | folders
    for path in quick.out.glob("*.png"):
        picture = imread(path)
        assert min(picture.shape[:2]) >= 350
        assert picture[..., :3].std() > 0.01  # something is drawn
    table, page, printed = quick.table(), (quick.out / "README.md").read_text(), " ".join(quick.process.stdout.split())
    sections = [one.section for one in helpers.experiments_in(vars(SCRIPTS[quick.name])) if one.by_default]
    assert list(dict.fromkeys(table["section"])) == re.findall(r"^## (\S+)", page, re.MULTILINE) == sections
    assert not table.duplicated(["section", "run", "seed", "split", "metric"]).any()
    assert table[table["metric"] == "accuracy"]["value"].between(0, 1).all()
    assert {Path(x).stem for x in re.findall(r"^!\[.+\]\((.+)\)$", page, re.MULTILINE)} == FIGURES[quick.name]
    whys = [why for path in quick.out.glob("sections/[67]*.json") for why in json.loads(path.read_text())["whys"]]
    assert whys
    assert all(" ".join(why["text"].split()) in printed for why in whys)
    assert any("Not so here" in text for text in (page, printed)) == any(not why["holds"] for why in whys)
    assert quick.name == "xg" or "Not so here" in printed


@nn_only
def test_references_stand_beside_the_networks_and_a_run_that_several_experiments_need_is_the_same_run(quick):
    named = quick.table().groupby("section")["run"].apply(set)
    for section in ("6.1.3", "6.1.4", "6.2.1.1", "6.2.1.3", "6.2.1.4", "6.2.1.6", "6.2.1.7"):
        assert {"majority class", "nearest neighbour", "random forest"} <= named[section]
    losses = quick.table().query("metric == 'loss'").groupby(["section", "run"])["value"].apply(list)
    assert len(losses["6.1.1", "lr 0.001"]) == 6
    assert losses["6.1.1", "lr 0.001"] == losses["6.1.3", "without batch norm"] == losses["6.2.1.7", "raw"]
    assert losses["6.2.1.3", "depth 6"] == losses["6.2.1.4", "width 16"] == losses["6.2.1.1", "(6, 16)"]


def test_what_takes_long_is_done_where_it_is_named_and_leaves_nothing_unfinished(photo_folder, tmp_path):
    given = ["epochs", "--quick", "--data", str(photo_folder), "--backbone", "efficientnet-lite0", "--jobs", "1"]
    assert helpers.run_script(lambda: cnn.main([*given, "--out", str(tmp_path)])) == 0
    table = pd.read_csv(tmp_path / "cnn.csv", dtype={"section": str})
    assert set(table["section"]) == {"7.6"}
    assert table["run"].nunique() == 5  # of both baselines two numbers of epochs, and the larger photos
    assert (tmp_path / "7.6_epochs.png").exists()
    assert {path.suffix for path in tmp_path.glob("runs/cnn/*")} == {".npz"}


@cnn_only
def test_all_five_baselines_are_compared_in_pairs_and_with_a_control_and_xg_shares_its_runs(quick, run_quick):
    assert "\n3 runs: 3 kept in " in run_quick("xg").process.stdout
    table = quick.table()
    compared = table[(table["section"] == "7.5.1") & (table["split"] == "test") & (table["metric"] == "accuracy")]
    assert len(compared) == 5
    assert compared["run"].str.contains("EfficientNet-Lite0").sum() == 4
    p = table[table["metric"] == "mcnemar_holm_p"]["value"]
    assert len(p) == 10
    assert p.between(0, 1).all()
    control = table[table["run"].str.startswith("shuffled-probe")]
    assert (set(control["section"]), control["run"].nunique()) == ({"7.2.3"}, 1)


@pytest.fixture
def nothing_is_trained(monkeypatch):
    """What trains, fits or attributes fails."""
    for owner, name in (
        *((runs, "_Doing"), (xgboost, "train"), (torch.Tensor, "backward")),
        *((PCA, "fit"), (PCA, "fit_transform"), (PCA, "_fit"), (LogisticRegression, "fit")),
        *((KNeighborsClassifier, "fit"), (RandomForestClassifier, "fit"), (ClassifierMixin, "score")),
    ):
        monkeypatch.setattr(owner, name, None)


@pytest.mark.usefixtures("nothing_is_trained")
def test_redraw_and_a_second_call_train_and_fit_nothing_and_give_the_same_bytes(quick, tmp_path, capsys):
    few = {"NN_tutorial": ["epochs", "width"], "cnn": ["sklearn-probe", "samples"], "xg": []}[quick.name]
    quick.copy_runs(tmp_path)
    old = tmp_path / f"{min(FIGURES[quick.name])}_as_it_was_called_before.png"
    old.write_bytes(b"other")
    for options in (["--redraw"], few):
        assert quick.again(tmp_path, *options) == 0
        assert results(tmp_path) == results(quick.out) | {old.name: b"other"}  # nor does the page show it
        said = capsys.readouterr().out
    assert said.count(", 0 to do") == said.count(" runs: ") > 0


@pytest.mark.usefixtures("nothing_is_trained")
def test_redraw_leaves_out_what_lacks_a_run(quick, tmp_path, capsys):
    names, missing, left = {
        "NN_tutorial": (["learning-rate", "width"], "learning-rate-lr_1-*", "6.2.1.4"),
        "cnn": (["scratch", "fine-tune"], "fine-tune_lr_0.1-*", "7.2.2"),
        "xg": ([], "XGBoost-lr-0.1-*", None),
    }[quick.name]
    quick.copy_runs(tmp_path)
    next((tmp_path / "runs" / quick.name).glob(missing)).unlink()
    assert quick.again(tmp_path, *names, "--redraw") == (0 if left else 2)
    assert left or capsys.readouterr().err.startswith("error: no experiment has all its finished runs, ")
    figures = {f"{figure}.png" for figure in FIGURES[quick.name] if left and figure.startswith(left)}
    assert {path.name for path in tmp_path.glob("*.png")} == figures
    if left:
        whole = quick.table()
        assert quick.table(tmp_path).equals(whole[whole["section"] == left].reset_index(drop=True))


@nn_only
def test_damaged_and_foreign_runs_are_done_again(quick, tmp_path, capsys):
    def to_do(*options: str) -> int:
        assert quick.again(tmp_path, "width", "--jobs", "1", *options) == 0
        return int(re.search(r"(\d+) to do", capsys.readouterr().out)[1])

    shutil.copytree(quick.out, tmp_path, dirs_exist_ok=True)
    next((tmp_path / "runs" / "NN_tutorial").glob("best-model-(6_8)*.npz")).write_bytes(b"half a file")
    assert to_do() == 1
    assert to_do("--seeds", "1") == 4  # other seeds are other runs, but for the references, which have one
    assert to_do() == 0
    assert to_do("--fresh") == 7
    assert results(tmp_path)["NN_tutorial.csv"] == results(quick.out)["NN_tutorial.csv"]


def test_one_process_gives_the_bytes_that_two_gave(quick, tmp_path):
    name = {"NN_tutorial": "width", "cnn": "fine-tune", "xg": "xgboost"}[quick.name]
    assert quick.again(tmp_path, name, "--jobs", "1") == 0
    expected, found = results(quick.out), results(tmp_path)
    figures = [name for name in found if name.endswith(".png")]
    assert {name: found[name] for name in figures} == {name: expected[name] for name in figures}
    section = figures[0].partition("_")[0].encode() + b","
    lines = [line for line in expected[f"{quick.name}.csv"].splitlines() if line.startswith(section)]
    assert found[f"{quick.name}.csv"].splitlines()[1:] == lines


def test_scripts_started_on_the_same_folder_write_one_after_the_other(quick, tmp_path, monkeypatch):
    name = {"NN_tutorial": "epochs", "cnn": "scratch", "xg": "xgboost"}[quick.name]
    written, write = [], files.write_whole

    def write_whole(path: Path, content: bytes) -> None:
        with pytest.raises(filelock.Timeout):
            sections.writing(tmp_path).acquire(timeout=0)
        written.append(path.suffix)
        write(path, content)

    monkeypatch.setattr(files, "write_whole", write_whole)
    quick.copy_runs(tmp_path)
    assert quick.again(tmp_path, name, "--redraw") == 0
    assert {".png", ".csv", ".md"} <= set(written)
    with sections.writing(tmp_path).acquire(timeout=0):  # free again
        pass


@pytest.fixture(scope="module")
def their_places(tmp_path_factory) -> Path:
    """Four countries in Australia, by number, with pandas' unnamed index."""
    folder, generator = tmp_path_factory.mktemp("theirs"), np.random.default_rng(3)
    for split, rows in {"train": 400, "validation": 80, "test": 80}.items():
        places = pd.DataFrame(generator.uniform((100, -40), (150, -10), (rows, 2)), columns=["long", "lat"])
        places["country"] = 7 * (places["long"] > 125) + 2 * (places["lat"] > -25) + 1
        places.to_csv(folder / f"{split}.csv")
    return folder


def test_other_peoples_places_work_unchanged(their_places, tmp_path):
    given = ["--data", str(their_places), "--out", str(tmp_path), "--quick", *ONE_JOB]
    NN_tutorial.main(["best-model", "remedy", "implicit", *given])
    drawn = {x for x in FIGURES["NN_tutorial"] if x.startswith(("6.2.1.1", "6.2.1.6", "6.2.1.7"))}
    assert {path.stem for path in tmp_path.glob("*.png")} == drawn


def test_the_public_layout_is_streamed(photo_folder, tmp_path):
    for name, label in (("0_real", "real"), ("1_fake", "fake")):
        shutil.copytree(photo_folder / "train" / label, tmp_path / "photos" / name)
    given = ["--data", str(tmp_path / "photos"), "--out", str(tmp_path / "out"), "--backbone", "efficientnet-lite0"]
    cnn.main(["fine-tune", "--quick", *given, "--memory", "0", "--jobs", "2"])
    assert set(pd.read_csv(tmp_path / "out" / "cnn.csv")["section"]) == {"7.2.5"}


README = (ROOT / "README.md").read_text()


@pytest.fixture
def pasted(monkeypatch) -> str:
    """The README's ten lines, as if they were pasted into the script; and its one line is one of the script."""
    blocks = re.findall("^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (line,) = (text for text in blocks if text.startswith("    activation"))
    (block,) = (text for text in blocks if text.startswith("ACTIVATIONS_COMPARED = "))
    assert (ROOT / "NN_tutorial.py").read_text().count(line.replace('"tanh"', '"relu"', 1)) == 1
    names = dict(vars(NN_tutorial))
    exec(block, names)
    monkeypatch.setattr(NN_tutorial, "activations", names["activations"], raising=False)
    return block


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.usefixtures("pasted")
def test_every_documented_command_parses(name):
    pages = [*ROOT.glob("docs/*.md"), ROOT / "data" / "README.md", ROOT / "plots" / "README.md"]
    text = "\n".join([SCRIPTS[name].__doc__, README, *(page.read_text() for page in pages)])
    given = re.findall(rf"(?:^ *|&& |`)python {name}\.py([^`&#\n]*)", text, re.MULTILINE)
    assert len(given) >= 5
    for line in given:
        arguments = re.split(r"\s{2,}", line)[0].split()
        if arguments != ["--list"]:
            command_line.parse_arguments("", helpers.experiments_in(vars(SCRIPTS[name])), arguments, OPTIONS[name])


def test_continuous_integration_sets_up_as_the_readme_says():
    ci, lines = (ROOT / ".ci" / "run").read_text(), re.findall(r"^(python -m pip [^#\n]*)", README, re.MULTILINE)
    assert lines
    assert all(word in ci for word in " ".join(lines).replace("&&", "").split())


@nn_only
def test_the_readmes_ten_lines_are_an_experiment(quick, pasted, tmp_path):
    assert sum(bool(line) for line in pasted.splitlines()) <= 10
    (section,) = re.findall(r'@experiment\("([\d.]+)", "activations", "three activations"', pasted)
    quick.copy_runs(tmp_path)
    assert quick.again(tmp_path, "activations", "--jobs", "1") == 0
    assert imread(tmp_path / f"{section}_activations.png")[..., :3].std() > 0.01
    table = quick.table(tmp_path)
    assert set(table["section"]) == {section}
    accuracy = table[(table["metric"] == "accuracy") & (table["split"] == "test")].set_index("run")["value"]
    assert accuracy.loc[["relu", "tanh", "leaky_relu"]].groupby(level=0).nunique().eq(2).all()  # of two seeds
    assert set(accuracy.loc["relu"]) != set(accuracy.loc["tanh"])


LAYER = "layer = nn.Sequential(linear, *norm, ACTIVATIONS[config.activation]()"
MINE = "class Mine(nn.Module):\n    def forward(self, x):\n        return x + torch.sin(x)\n\n\n"
SAVED = "    return replicas.train(lesson(), config, places, seeds, device, progress)"
KEEPS = {SAVED: f'{SAVED} | {{"mine": np.ones(3), "answer": 42}}'}  # an array and a number of one's own
SLOW = {"def mlp(": f"{MINE}def mlp(", f"{LAYER})": f"{LAYER}, nn.Dropout(0.5), Mine())"}


def losses(out: Path) -> np.ndarray:
    return pd.read_csv(out / "NN_tutorial.csv").query("metric == 'loss'")["value"].to_numpy()


@pytest.mark.parametrize(("edits", "said"), [
    (KEEPS, ""),
    (SLOW, "warning: nn.Dropout and Mine is trained one network at a time, slower\n"),
])  # fmt: skip
def test_what_an_edit_adds_is_kept_or_trained_in_one_line(edits, said, copied, python, their_places, tmp_path):
    given = "epochs", "--quick", "--seeds", "1", "--jobs", "2", "--data", str(their_places), "--out"
    folder = copied(edits)
    process = python(folder / "NN_tutorial.py", *given, folder)
    assert (process.returncode, process.stderr) == (0, said)
    assert (folder / "6.1.2_epochs.png").exists()
    NN_tutorial.main([*given, str(tmp_path)])
    difference = np.abs(losses(folder) - losses(tmp_path))
    if edits is SLOW:
        assert difference.min() > 1e-4
    else:
        assert not difference.any()
        with np.load(next(folder.glob("runs/NN_tutorial/learning-rate-*.npz"))) as arrays:
            assert (arrays["mine"].tolist(), arrays["answer"]) == ([1, 1, 1], 42)
