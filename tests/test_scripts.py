"""The three scripts as a user runs them: what they write, keep and redraw, and what an edit does."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType

import filelock
import numpy as np
import pandas as pd
import pytest
import torch
import xgboost
from captum.attr import LayerGradCam
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
from lab import commands, files, gallery, runs
from lab.results import SPLITS

ROOT = Path(__file__).parents[1]
FIGURES = {
    "NN_tutorial": {
        "6.1.1_learning_rate", "6.1.2_epochs", "6.1.3_batch_norm", "6.1.4_batch_size",
        "6.2.1.1_best_model", "6.2.1.1_best_model_map", "6.2.1.1_map_forming", "6.2.1.2_worst_model",
        "6.2.1.2_worst_model_map", "6.2.1.3_depth", "6.2.1.4_width", "6.2.1.5_gradients", "6.2.1.6_remedy_accuracy",
        "6.2.1.6_remedy_gradients", "6.2.1.7_implicit", "6.2.1.7_implicit_map",
    },
    "cnn": {
        "7.2.2_examples", "7.2.2_scratch", "7.2.3_linear_probe", "7.2.4_sklearn_probe", "7.2.5_fine_tune",
        "7.5.1_baselines", "7.5.1_learning_rate", "7.5.1_pairs", "7.5.1_roc", "7.5.2_samples",
    },
    "xg": {"7.2.1_xgboost"},
}  # fmt: skip
SCRIPTS = {"NN_tutorial": NN_tutorial, "cnn": cnn, "xg": xg}
OPTIONS = {"NN_tutorial": None, "cnn": cnn.options, "xg": xg.photo_options}
nn_only, cnn_only, xg_only = (pytest.mark.parametrize("quick", [name], indirect=True) for name in SCRIPTS)


@dataclass
class Quick:
    """The --quick run of a script."""

    name: str
    out: Path
    process: CompletedProcess
    given: list[str]  # its options

    @property
    def module(self) -> ModuleType:
        return SCRIPTS[self.name]

    def again(self, out: Path, *options: str) -> int:
        """Its command with more options, in this process; returns the exit code."""
        return helpers.run_script(lambda: self.module.main([*self.given, "--out", str(out), *options]))

    def table(self, out: Path | None = None) -> pd.DataFrame:
        return pd.read_csv((out or self.out) / f"{self.name}.csv", dtype={"section": str, "run": str})

    def copy(self, out: Path) -> Path:
        return shutil.copytree(self.out, out, dirs_exist_ok=True)

    def copy_runs(self, out: Path) -> Path:
        shutil.copytree(self.out / "runs", out / "runs")
        return out


@pytest.fixture(params=SCRIPTS)
def quick(request, photo_folder) -> Quick:
    out, process = request.getfixturevalue(f"quick_{request.param}")
    data = [] if request.param == "NN_tutorial" else ["--data", str(photo_folder)]
    backbone = ["--backbone", "efficientnet-lite0"] if request.param == "cnn" else []
    return Quick(request.param, out, process, ["--quick", *data, *backbone])


def results(out: Path) -> dict[str, bytes]:
    """All files but the kept runs."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


# ---------------------------------------------------------------------------- what is written


def test_everything_is_written_and_nothing_said_on_stderr(quick):
    assert quick.process.returncode == 0, quick.process.stderr
    assert quick.process.stderr == ""  # no warnings, and no progress bar off a terminal
    tables = {f"{quick.name}.csv", f"{quick.name}.seconds.csv", "README.md"}
    assert {path.name for path in quick.out.iterdir()} == {f"{x}.png" for x in FIGURES[quick.name]} | tables | {"runs"}
    for path in quick.out.glob("*.png"):
        picture = imread(path)
        assert min(picture.shape[:2]) >= 350
        assert picture[..., :3].std() > 0.01  # something is drawn


def test_the_table_is_tidy(quick):
    table, seconds = quick.table(), pd.read_csv(quick.out / f"{quick.name}.seconds.csv")
    assert list(table.columns) == list(seconds.columns) == gallery.COLUMNS
    sections = [one.section for one in helpers.experiments_in(vars(quick.module))]
    assert list(dict.fromkeys(table["section"])) == sections
    assert set(table["split"]) == set(SPLITS)
    assert not table.duplicated(["section", "run", "seed", "split", "metric"]).any()
    assert table[table["metric"] == "accuracy"]["value"].between(0, 1).all()
    assert not table["metric"].str.contains("seconds").any()
    assert seconds["metric"].str.startswith("seconds").all()
    assert (seconds["value"] > 0).all()


@nn_only
def test_references_stand_beside_the_networks(quick):
    table = quick.table()
    for section in ("6.1.3", "6.1.4", "6.2.1.1", "6.2.1.3", "6.2.1.4", "6.2.1.6", "6.2.1.7"):
        named = set(table[table["section"] == section]["run"])
        assert {"majority class", "nearest neighbour", "random forest"} <= named


@nn_only
def test_a_run_that_several_experiments_need_is_the_same_run(quick):
    losses = quick.table().query("metric == 'loss'").groupby(["section", "run"])["value"].apply(list)
    assert len(losses["6.1.1", "lr 0.001"]) == 6
    assert losses["6.1.1", "lr 0.001"] == losses["6.1.3", "without batch norm"] == losses["6.2.1.7", "raw"]
    assert losses["6.2.1.3", "depth 6"] == losses["6.2.1.4", "width 16"] == losses["6.2.1.1", "(6, 16)"]


@cnn_only
def test_all_five_baselines_are_compared_in_pairs_and_with_a_control(quick):
    table = quick.table()
    compared = table[(table["section"] == "7.5.1") & (table["split"] == "test") & (table["metric"] == "accuracy")]
    assert len(compared) == 5
    assert compared["run"].str.contains("EfficientNet-Lite0").sum() == 4
    p = table[table["metric"] == "mcnemar_holm_p"]["value"]
    assert len(p) == 10
    assert p.between(0, 1).all()
    control = table[table["run"].str.startswith(cnn.CONTROL)]
    assert (set(control["section"]), control["run"].nunique()) == ({"7.2.3"}, 1)


@xg_only
def test_xg_shares_its_runs_with_cnn(quick, quick_cnn):
    assert "\n3 runs: 3 kept in " in quick.process.stdout
    shared = [{path.name: path.stat().st_size for path in out.glob("runs/xg/*")} for out in (quick.out, quick_cnn[0])]
    assert shared[0] == shared[1]


def test_the_report_is_printed_and_saved(quick):
    page, printed = (quick.out / "README.md").read_text(), " ".join(quick.process.stdout.split())
    sections = [one.section for one in helpers.experiments_in(vars(quick.module))]
    assert re.findall(r"^## (\S+)", page, re.MULTILINE) == sections
    assert page.count("\nRule: ") == len(sections)
    assert {Path(x).stem for x in re.findall(r"^!\[.+\]\((.+)\)$", page, re.MULTILINE)} == FIGURES[quick.name]
    for verdict in re.findall(r"^- .*", page, re.MULTILINE):
        assert re.sub(r"\\(.)", r"\1", verdict) in printed
        if quick.name == "NN_tutorial":
            assert re.search(r"\(rows? \d", verdict), f"cites no row: {verdict}"


# ---------------------------------------------------------------------------- what is kept


@pytest.fixture
def nothing_is_trained(monkeypatch):
    """What trains, fits or attributes fails."""
    for owner, name in (
        *((runs, "_do_all"), (xgboost, "train"), (torch.Tensor, "backward"), (LayerGradCam, "attribute")),
        *((PCA, "fit"), (PCA, "fit_transform"), (PCA, "_fit"), (LogisticRegression, "fit")),
        *((KNeighborsClassifier, "fit"), (RandomForestClassifier, "fit"), (ClassifierMixin, "score")),
    ):
        monkeypatch.setattr(owner, name, None)


FEW = {"NN_tutorial": ["epochs", "width"], "cnn": ["sklearn-probe", "samples"], "xg": []}


@pytest.mark.usefixtures("nothing_is_trained")
def test_a_second_call_repeats_nothing_and_gives_the_same_bytes(quick, tmp_path, capsys):
    quick.copy(tmp_path)
    assert quick.again(tmp_path, *FEW[quick.name]) == 0
    said = capsys.readouterr().out
    assert said.count(", 0 to do") == said.count(" runs: ") > 0
    assert results(tmp_path) == results(quick.out)  # whichever experiments it was for


@pytest.mark.usefixtures("nothing_is_trained")
def test_redraw_trains_and_fits_nothing_and_draws_the_same_bytes(quick, tmp_path):
    quick.copy_runs(tmp_path)
    old = tmp_path / f"{min(FIGURES[quick.name])}_as_it_was_called_before.png"
    old.write_bytes(b"other")
    assert quick.again(tmp_path, "--redraw") == 0
    assert results(tmp_path) == results(quick.out) | {old.name: b"other"}  # nor does the page show it


@pytest.mark.parametrize(
    ("quick", "names", "missing", "left"),
    [
        ("NN_tutorial", ["learning-rate", "width"], "learning-rate-lr_1-*", "6.2.1.4"),
        ("cnn", ["scratch", "fine-tune"], "fine-tune-*lr-0.1-*", "7.2.2"),
        ("xg", [], "XGBoost-lr-0.1-*", None),
    ],
    indirect=["quick"],
)
@pytest.mark.usefixtures("nothing_is_trained")
def test_redraw_leaves_out_what_lacks_a_run(quick, names, missing, left, tmp_path, capsys):
    none = "error: no experiment has all its finished runs, "
    assert quick.again(tmp_path, *names, "--redraw") == 2
    assert capsys.readouterr().err.startswith(none)
    shutil.rmtree(tmp_path / "runs")
    quick.copy_runs(tmp_path)
    next((tmp_path / "runs" / quick.name).glob(missing)).unlink()
    assert quick.again(tmp_path, *names, "--redraw") == (0 if left else 2)
    assert capsys.readouterr().err.startswith("" if left else none)
    figures = {f"{figure}.png" for figure in FIGURES[quick.name] if left and figure.startswith(left)}
    assert {path.name for path in tmp_path.glob("*.png")} == figures
    if left:
        whole = quick.table()
        assert quick.table(tmp_path).equals(whole[whole["section"] == left].reset_index(drop=True))


@nn_only
def test_chosen_experiments_keep_the_other_sections(quick, tmp_path):
    for name in ("NN_tutorial.csv", "NN_tutorial.seconds.csv", "README.md"):
        shutil.copy(quick.out / name, tmp_path)
    assert quick.again(tmp_path, "learning-rate", "--seeds", "1", "--jobs", "1") == 0
    assert {path.stem for path in tmp_path.glob("*.png")} == {"6.1.1_learning_rate"}
    old, new = quick.table(), quick.table(tmp_path)
    assert set(new[new["section"] == "6.1.1"]["seed"]) == {0}
    old, new = (table[table["section"] != "6.1.1"].reset_index(drop=True) for table in (old, new))
    assert new.equals(old)
    old, new = ((out / "README.md").read_text().split("\n## ")[1:] for out in (quick.out, tmp_path))
    assert new[0].partition(" ")[0] == "6.1.1"
    assert new[0] != old[0]
    assert new[1:] == old[1:]


@nn_only
def test_damaged_and_foreign_runs_are_done_again(quick, tmp_path, capsys):
    def to_do(*options: str) -> int:
        assert quick.again(tmp_path, "width", "--jobs", "1", *options) == 0
        return int(re.search(r"(\d+) to do", capsys.readouterr().out)[1])

    quick.copy(tmp_path)
    next((tmp_path / "runs" / "NN_tutorial").glob("best-model-(6_8)*.npz")).write_bytes(b"half a file")
    assert to_do() == 1
    assert to_do("--seeds", "1") == 5  # other seeds are other runs, but for references without seeds
    assert to_do() == 0
    assert to_do("--fresh") == 7
    assert results(tmp_path)["NN_tutorial.csv"] == results(quick.out)["NN_tutorial.csv"]


@pytest.mark.parametrize(
    ("quick", "name"), [("NN_tutorial", "width"), ("cnn", "fine-tune"), ("xg", "xgboost")], indirect=["quick"]
)
def test_one_process_gives_the_bytes_that_two_gave(quick, name, tmp_path):
    assert quick.again(tmp_path, name, "--jobs", "1") == 0
    expected, found = results(quick.out), results(tmp_path)
    (section,) = {figure.partition("_")[0] for figure in found if figure.endswith(".png")}
    for figure in (figure for figure in found if figure.endswith(".png")):
        assert found[figure] == expected[figure]
    lines = [line for line in expected[f"{quick.name}.csv"].splitlines() if line.startswith(f"{section},".encode())]
    assert found[f"{quick.name}.csv"].splitlines()[1:] == lines


@pytest.mark.parametrize(
    ("quick", "name"), [("NN_tutorial", "epochs"), ("cnn", "scratch"), ("xg", "xgboost")], indirect=["quick"]
)
def test_scripts_started_on_the_same_folder_write_one_after_the_other(quick, name, tmp_path, monkeypatch):
    written, write = [], files.write_whole

    def write_whole(path: Path, content: bytes) -> None:
        with pytest.raises(filelock.Timeout):
            gallery.writing(tmp_path).acquire(timeout=0)
        written.append(path.suffix)
        write(path, content)

    monkeypatch.setattr(files, "write_whole", write_whole)
    quick.copy_runs(tmp_path)
    assert quick.again(tmp_path, name, "--redraw") == 0
    assert {".png", ".csv", ".md"} <= set(written)
    with gallery.writing(tmp_path).acquire(timeout=0):  # free again
        pass


# ---------------------------------------------------------------------------- other data, more processes


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
    given = ["--data", str(their_places), "--out", str(tmp_path), "--quick", "--seeds", "1", "--jobs", "1"]
    NN_tutorial.main(["best-model", "remedy", "implicit", *given])
    drawn = {x for x in FIGURES["NN_tutorial"] if x.startswith(("6.2.1.1", "6.2.1.6", "6.2.1.7"))}
    assert {path.stem for path in tmp_path.glob("*.png")} == drawn


def test_the_public_layout_is_streamed(photo_folder, tmp_path):
    for name, label in (("0_real", "real"), ("1_fake", "fake")):
        shutil.copytree(photo_folder / "train" / label, tmp_path / "photos" / name)
    given = ["--data", str(tmp_path / "photos"), "--out", str(tmp_path / "out"), "--backbone", "efficientnet-lite0"]
    cnn.main(["fine-tune", "--quick", *given, "--memory", "0", "--jobs", "2"])
    assert set(pd.read_csv(tmp_path / "out" / "cnn.csv")["section"]) == {"7.2.5"}


@cnn_only
def test_two_processes_train_as_one(quick, python, photo_folder, tmp_path):
    """Under torchrun, with photos that are streamed and the runs of a single process in the same folder."""
    quick.copy_runs(tmp_path)
    kept = tmp_path / "runs" / "cnn"
    one = {path.name for path in kept.glob("fine-tune-*.npz")}
    torchrun = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2
    given = *quick.given, "--out", tmp_path, "--memory", 0, "--device", "cpu"
    done = python(*torchrun, ROOT / "cnn.py", "fine-tune", *given)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 runs: 0 kept") == done.stdout.count(" runs: ") == 1
    two = {path.name for path in kept.glob("fine-tune-*.npz")} - one
    assert len(one) == len(two) == 2
    for number, names in enumerate(zip(sorted(one), sorted(two), strict=True)):
        first, second = (np.load(kept / name) for name in names)
        np.testing.assert_allclose(second["step_loss"], first["step_loss"], rtol=1e-4)
        assert second["cam"].shape == first["cam"].shape
        if number == 0:  # Adam makes much of a rounding; tests/test_processes.py compares in float64
            for split in SPLITS:
                np.testing.assert_allclose(second[f"logits_{split}"], first[f"logits_{split}"], atol=0.03)


# ---------------------------------------------------------------------------- what the README says


def readme_block(start: str) -> str:
    """The Python block of the README that starts like this."""
    (block,) = re.findall(rf"^```python\n({start}.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return block


@pytest.fixture
def pasted(monkeypatch) -> str:
    """The README's ten lines, as if they were pasted into the script."""
    names, block = dict(vars(NN_tutorial)), readme_block("ACTIVATIONS_COMPARED = ")
    exec(block, names)
    monkeypatch.setattr(NN_tutorial, "activations", names["activations"], raising=False)
    return block


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.usefixtures("pasted")
def test_every_documented_command_parses(name):
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), ROOT / "data" / "README.md", ROOT / "plots" / "README.md"]
    text = "\n".join([SCRIPTS[name].__doc__, *(page.read_text() for page in pages)])
    given = re.findall(rf"(?:^ *|&& |`)(?:python |torchrun .*){name}\.py([^`&#\n]*)", text, re.MULTILINE)
    assert len(given) >= 5
    for line in given:
        arguments = re.split(r"\s{2,}", line)[0].split()
        if arguments != ["--list"]:
            experiments = helpers.experiments_in(vars(SCRIPTS[name]))
            commands.parse_arguments("", experiments, arguments, OPTIONS[name])


def test_continuous_integration_sets_up_as_the_readme_says():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    steps = [
        step.strip() for line in re.findall(r"^python -m pip .*", readme, re.MULTILINE) for step in line.split("&&")
    ]
    assert len(steps) == 4
    for step in steps:
        assert all(word in ci for word in step.split("#")[0].split()), step


def test_the_readmes_one_line_is_a_line_of_the_script():
    line = readme_block("    activation")
    assert (ROOT / "NN_tutorial.py").read_text().count(line.replace('"tanh"', '"relu"', 1)) == 1


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


# ---------------------------------------------------------------------------- what an edit does

LAYER = "layer = nn.Sequential(linear, *norm, ACTIVATIONS[config.activation]()"
MINE = "class Mine(nn.Module):\n    def forward(self, x):\n        return x + torch.sin(x)\n\n\n"
RECORDED = "record(train_stack(config, places, seeds, device), config, sets, updates, progress)"
EDITS = {
    "an array and a number": [(RECORDED, f'{RECORDED} | {{"mine": np.ones(3), "answer": 42}}')],
    "nn.Dropout": [(f"{LAYER})", f"{LAYER}, nn.Dropout(0.5))")],
    "nn.Dropout and Mine": [("def mlp(", f"{MINE}def mlp("), (f"{LAYER})", f"{LAYER}, nn.Dropout(0.5), Mine())")],
}


@pytest.fixture(scope="module")
def edited(python, their_places, tmp_path_factory) -> dict[str, tuple[Path, CompletedProcess]]:
    """`epochs` by copies of the repository with each of EDITS: OUT and the process."""

    def run(name: str) -> tuple[Path, CompletedProcess]:
        copy = tmp_path_factory.mktemp("copy")
        shutil.copytree(ROOT / "lab", copy / "lab", ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("helpers.py", "study.mplstyle"):
            shutil.copy(ROOT / file, copy)
        text = (ROOT / "NN_tutorial.py").read_text()
        for before, after in EDITS[name]:
            assert text.count(before) == 1
            text = text.replace(before, after)
        (copy / "NN_tutorial.py").write_text(text)
        jobs = 2 if "Mine" in name else 1  # a class goes to the workers, too
        given = "--quick", "--seeds", 1, "--jobs", jobs, "--data", their_places, "--out", copy / "out"
        return copy / "out", python(copy / "NN_tutorial.py", "epochs", *given)

    with ThreadPoolExecutor(2) as threads:
        return dict(zip(EDITS, threads.map(run, EDITS), strict=True))


def losses(out: Path) -> np.ndarray:
    return pd.read_csv(out / "NN_tutorial.csv").query("metric == 'loss'")["value"].to_numpy()


def test_an_array_and_a_number_of_ones_own_are_kept_and_disturb_nothing(edited, their_places, tmp_path):
    out, process = edited["an array and a number"]
    assert (process.returncode, process.stderr) == (0, "")
    NN_tutorial.main(
        ["epochs", "--quick", "--seeds", "1", "--jobs", "1", "--data", str(their_places), "--out", str(tmp_path)]
    )
    assert losses(out).tolist() == losses(tmp_path).tolist()
    with np.load(next(out.glob("runs/NN_tutorial/learning-rate-*.npz"))) as arrays:
        assert (arrays["mine"].tolist(), arrays["answer"]) == ([1, 1, 1], 42)


@pytest.mark.parametrize("named", ["nn.Dropout", "nn.Dropout and Mine"])
def test_what_the_stack_does_not_know_is_named_in_one_line_and_trained(named, edited):
    out, process = edited[named]
    assert process.returncode == 0, process.stderr
    assert process.stderr == f"warning: {named} is trained one network at a time, slower\n"
    assert (out / "6.1.2_epochs.png").exists()
    unedited, _ = edited["an array and a number"]
    assert np.abs(losses(out) - losses(unedited)).min() > 1e-4
