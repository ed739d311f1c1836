"""What holds for any input: laws of labels, splits, networks, training and intervals, tried on generated examples."""

import csv
import os
import random
import re
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import logsumexp
from sklearn.metrics import accuracy_score

import faces
import helpers
import NN_tutorial
from helpers import SPLITS, Places
from NN_tutorial import Config, Layer, Replicas, adam_plan, evaluate, mlp, represent

settings.register_profile("study", derandomize=True, deadline=None, max_examples=50)  # the same examples each time
settings.load_profile("study")

SEEDS = st.integers(0, 10**6)

# ------------------------------------------------------------------ labels of places


def as_is(name: str) -> bool:
    """Is this a name that the loader takes for one and leaves alone?"""
    return name == name.strip() and name.lower() not in ("", "nan") and not re.fullmatch(r"-?\d+\.0+", name)


def tables(countries: st.SearchStrategy) -> st.SearchStrategy:
    """{split: countries of its rows}; each occurs in train, and at least two do."""
    several = st.lists(countries, min_size=2, max_size=8, unique=True)
    return several.flatmap(
        lambda names: st.fixed_dictionaries(
            {
                "train": st.lists(st.sampled_from(names), max_size=12).map(lambda more: names + more),
                "validation": st.lists(st.sampled_from(names), min_size=1, max_size=12),
                "test": st.lists(st.sampled_from(names), min_size=1, max_size=12),
            }
        )
    )


def load(table: dict[str, list[str]], quoting: int = csv.QUOTE_MINIMAL) -> Places:
    """The places of CSV files with these countries; the longitude is the number of the row."""
    with tempfile.TemporaryDirectory() as folder:
        for split, countries in table.items():
            with open(Path(folder, f"{split}.csv"), "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, quoting=quoting)
                writer.writerow(["long", "lat", "country"])
                writer.writerows((row, -row, country) for row, country in enumerate(countries))
        return helpers.load_places(Path(folder))


def countries(places: Places) -> dict[str, list[str]]:
    return {split: [places.countries[label] for label in places.y[split]] for split in SPLITS}


NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),  # all that UTF-8 can say
    st.text("aB,;\"' \t\n\r-.0", max_size=6),
    st.sampled_from(["NA", "null", "None", "1e3", "-", "03", "3", "-3", "inf", "True", "#"]),
).filter(as_is)
NUMBERS = st.from_regex(
    r"-{0,2}[\d²③]{1,20}", fullmatch=True
)  # "007", digits of any script, and what only looks like it


@given(tables(NAMES) | tables(NUMBERS), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_every_row_keeps_its_country_and_its_place(table, quoting):
    places = load(table, quoting)
    assert countries(places) == table
    assert len(places.countries) == len(set(table["train"]))
    for split, rows in table.items():
        assert places.x[split].tolist() == [[row, -row] for row in range(len(rows))]
        assert places.y[split].dtype == np.int64


@given(tables(st.integers(-(10**20), 10**20)), st.sampled_from(["{}", "{}.0", " {} ", "{}.00"]))
def test_integer_codes_are_labelled_in_numerical_order_however_they_are_written(table, form):
    places = load({split: [form.format(code) for code in codes] for split, codes in table.items()})
    assert countries(places) == {split: [str(code) for code in codes] for split, codes in table.items()}
    assert places.countries == [str(code) for code in sorted(set(table["train"]))]


@given(tables(st.integers(-50, 50)))
def test_names_and_codes_give_the_same_groups(table):
    by_code = load({split: [str(code) for code in codes] for split, codes in table.items()})
    by_name = load({split: [f"country {code}" for code in codes] for split, codes in table.items()})
    pairs = {pair for split in SPLITS for pair in zip(by_code.y[split], by_name.y[split], strict=True)}
    assert len(pairs) == len(set(table["train"]))  # one label, one name


# ------------------------------------------------------------------ splits of photos

PHOTOS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "one/", "two/"]),
    st.text("abc019 _-'é漢", min_size=1, max_size=8),  # what every file system takes
    st.sampled_from([".jpg", ".jpeg", ".png"]),
)


@settings(max_examples=25)
@given(*[st.lists(PHOTOS, min_size=10, max_size=33, unique=True)] * 2, SEEDS)
def test_a_split_of_photos_is_disjoint_complete_of_the_right_size_and_the_same_in_any_order(real, fake, seed):
    shuffle = random.Random(seed).shuffle
    rglob = Path.rglob

    def in_any_order(folder: Path, pattern: str) -> list[Path]:
        files = list(rglob(folder, pattern))
        shuffle(files)
        return files

    found = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            for name in ("0_real", "1_fake"):
                for sub in ("one", "two"):
                    Path(folder, name, sub).mkdir(parents=True)
                Path(folder, name, "notes.txt").touch()
                Path(folder, name, ".hidden.jpg").touch()
            files = [Path(folder, "0_real", name) for name in real] + [Path(folder, "1_fake", name) for name in fake]
            shuffle(files)
            for path in files:
                path.touch()
            patch.setattr(Path, "rglob", in_any_order)
            split = faces._find(Path(folder))
            found.append([(s, c, str(p.relative_to(folder))) for s in SPLITS for c in split[s] for p in split[s][c]])

    assert found[0] == found[1]
    assert Counter(path for _, _, path in found[0]) == Counter(
        [f"0_real/{name}" for name in real] + [f"1_fake/{name}" for name in fake]
    )
    for label, folder, names in (("real", "0_real/", real), ("fake", "1_fake/", fake)):
        sizes = Counter(split for split, its_label, path in found[0] if its_label == label and path.startswith(folder))
        assert sizes.total() == len(names)
        for split, share in {"train": 0.7, "validation": 0.1, "test": 0.2}.items():
            assert abs(sizes[split] - share * len(names)) < 1


def test_a_photo_whose_name_is_not_utf_8_is_found(tmp_path):
    for folder in ("0_real", "1_fake"):
        (tmp_path / folder).mkdir()
        for number in range(10):
            (tmp_path / folder / f"{number}.jpg").touch()
    try:
        (tmp_path / "1_fake" / os.fsdecode(b"caf\xe9.jpg")).touch()  # as an archive made under Latin-1 unpacks
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 only")
    assert sum(len(files["fake"]) for files in faces._find(tmp_path).values()) == 11


# ------------------------------------------------------------------ networks

INPUTS, CLASSES = 2, 3
CONFIGS = st.builds(
    Config,
    depth=st.integers(1, 4),
    width=st.integers(1, 6),
    activation=st.sampled_from(sorted(NN_tutorial.ACTIVATIONS)),
    batch_norm=st.booleans(),
    residual=st.booleans(),
    init=st.sampled_from(["default", "he", "rezero"]),
)
COMPANIES = st.lists(SEEDS, min_size=1, max_size=4, unique=True)  # seeds of networks that are trained together
BATCHES = st.integers(2, 12)


def network(config: Config, seed: int) -> torch.nn.Sequential:
    """An `mlp` in float64, moved a little, as ReZero's gates and many biases start at 0, where much goes unseen."""
    torch.manual_seed(seed)
    model = mlp(config, INPUTS, CLASSES).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def batch(seeds: list[int], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (N, in, B) and classes (N, 1, B), those of a network drawn under its seed."""
    x, y = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        x.append(10 * torch.randn(INPUTS, size, generator=generator, dtype=torch.float64))
        y.append(torch.randint(CLASSES, (1, size), generator=generator))
    return torch.stack(x), torch.stack(y)


@given(CONFIGS, COMPANIES, st.integers(1, 12), st.integers(1, 300))
def test_the_written_out_gradient_is_that_of_autograd(config, seeds, size, cached):
    assume(size > 1 or not config.batch_norm)  # PyTorch's batch norm refuses to train on one place
    models = [network(config, seed) for seed in seeds]
    x, y = batch(seeds, size)
    stack = Replicas(models)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NN_tutorial, "CACHED", cached)  # a batch in up to 12 parts
        losses = stack.differentiate(x, y)

    for model, inputs, classes, its_losses in zip(models, x, y, losses, strict=True):
        expected = F.cross_entropy(model(inputs.T), classes[0], reduction="none")
        torch.testing.assert_close(its_losses[0], expected.detach())
        expected.mean().backward()
        for parameter in model.parameters():
            parameter.data = parameter.grad
    torch.testing.assert_close(stack.gradient, Replicas(models).flat)


def trained(config: Config, seeds: list[int], size: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Losses (N, steps) and state after three steps."""
    stack = Replicas([network(config, seed) for seed in seeds])
    x, y = batch(seeds, size)
    losses = [stack.step(x * (step + 1), y, 1e-2, 0.9).mean(dim=(1, 2)) for step in range(3)]
    return torch.stack(losses, dim=1), stack.state()


@given(CONFIGS, COMPANIES, BATCHES, st.data())
def test_another_network_with_other_inputs_leaves_the_rest_alone_bit_for_bit(config, seeds, size, data):
    changed = data.draw(st.integers(0, len(seeds) - 1))
    others = [number for number in range(len(seeds)) if number != changed]
    losses, state = trained(config, seeds, size)
    again, other_state = trained(config, [*seeds[:changed], 10**6 + 1, *seeds[changed + 1 :]], size)
    assert losses[others].equal(again[others])
    assert not losses[changed].equal(again[changed])
    for name, values in state.items():
        assert values[others].equal(other_state[name][others]), name


@given(CONFIGS, COMPANIES, BATCHES)
def test_a_seed_alone_is_that_seed_in_company(config, seeds, size):
    together, _ = trained(config, seeds, size)
    alone = torch.cat([trained(config, [seed], size)[0] for seed in seeds])
    torch.testing.assert_close(together, alone)


@given(CONFIGS, st.integers(1, 4), SEEDS)
def test_a_seed_starts_as_the_same_network_whoever_else_starts(config, n, state):
    torch.manual_seed(state)
    before = torch.get_rng_state()
    together = NN_tutorial.replicas(config, range(n), INPUTS, CLASSES).state()
    for seed in range(n):
        alone = NN_tutorial.replicas(config, range(seed, seed + 1), INPUTS, CLASSES).state()
        assert all(value[0].equal(together[name][seed]) for name, value in alone.items())
    assert torch.get_rng_state().equal(before)


@given(st.lists(st.tuples(st.floats(-180, 180, width=32), st.floats(-90, 90, width=32)), min_size=1, max_size=20))
def test_implicit_features_are_ten_sines_of_each_coordinate(places):
    x = torch.tensor(places)
    features = represent(x, "implicit")
    assert features.shape == (len(places), 20)
    assert features.abs().max() <= 1
    scales = np.repeat(np.arange(1, 11) / 10, 2)  # 0.1 long, 0.1 lat, 0.2 long, 0.2 lat, ...
    np.testing.assert_allclose(features, np.sin(scales * np.tile(x.double().numpy(), 10)), atol=1e-4)


# ------------------------------------------------------------------ training and its judgement


def test_training_on_shuffled_labels_stays_at_chance():
    generator = np.random.default_rng(0)
    x = {split: generator.uniform(-1, 1, (1000, 2)).astype(np.float32) for split in SPLITS}
    y = {split: (points.sum(axis=1) > 0.5).astype(np.int64) for split, points in x.items()}  # 28% are in country 1
    places = Places(x, y, ["south-west", "north-east"])
    share = 1 - y["validation"].mean()
    low, high = np.array(stats.binom.interval(0.999, 1000, share)) / 1000

    def accuracy(shuffled: bool) -> np.ndarray:
        config = Config(depth=2, lr=1e-2, batch_size=100, epochs=5, shuffled_labels=shuffled)
        return NN_tutorial.train(config, places, range(4), "cpu", lambda fraction: None)["accuracy_validation"][:, -1]

    by_chance = accuracy(True)
    assert ((low <= by_chance) & (by_chance <= high)).all()
    assert (accuracy(False) > high).all()  # where there is something to learn, it is learnt


def judge(logits: np.ndarray, labels: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """`evaluate` of networks with these logits (N, classes, n)."""
    n, classes, _ = logits.shape
    model = SimpleNamespace(
        layers=[Layer(torch.zeros(n, 1, 1), torch.zeros(n, 1, 1))],
        forward=lambda x: x[0].reshape(n, classes, -1),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NN_tutorial, "BLOCK", block)
        return evaluate(model, torch.from_numpy(logits.reshape(n * classes, -1)), torch.from_numpy(labels))


LOGITS = st.tuples(st.integers(1, 4), st.integers(2, 6), st.integers(1, 30))  # networks, classes, places
SCALES = st.sampled_from([1e-3, 1.0, 10.0, 1e3])


@given(LOGITS, SCALES, SEEDS, st.integers(1, 40))
def test_loss_and_accuracy_are_those_of_the_textbook(shape, scale, seed, block):
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, scale, shape)
    labels = generator.integers(shape[1], size=shape[2])
    losses, accuracies = judge(logits, labels, block)
    own = np.take_along_axis(logits, labels[None, None], axis=1)[:, 0]
    np.testing.assert_allclose(losses, (logsumexp(logits, axis=1) - own).mean(axis=1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(accuracies, [accuracy_score(labels, top) for top in logits.argmax(axis=1)])


@given(LOGITS, SEEDS, st.sampled_from([np.nan, np.inf, -np.inf]))
def test_logits_that_overflow_are_never_right(shape, seed, value):
    labels = np.random.default_rng(seed).integers(shape[1], size=shape[2])
    assert (judge(np.full(shape, value), labels, 7)[1] == 0).all()


RATES = st.floats(1e-6, 1)


@given(RATES, st.integers(50, 400))
def test_one_cycle_starts_low_peaks_at_the_learning_rate_and_ends_lower(lr, updates):
    plan = adam_plan(Config(lr=lr, schedule="one-cycle"), updates)
    assert len(plan) == updates
    rates, betas = np.transpose(plan)
    peak = rates.argmax()
    assert rates[0] == pytest.approx(lr / 25)
    assert rates[peak] == pytest.approx(lr, rel=0.01)  # the peak may lie between two updates
    assert rates.max() <= lr * (1 + 1e-9)
    assert rates[-1] < lr / 1e5
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()
    assert abs(betas.argmin() - peak) <= 1  # the momentum goes the other way
    assert ((betas > 0.85 - 1e-9) & (betas < 0.95 + 1e-9)).all()


@given(RATES, st.integers(0, 400))
def test_a_constant_plan_is_constant(lr, updates):
    assert adam_plan(Config(lr=lr), updates) == [(lr, 0.9)] * updates


# ------------------------------------------------------------------ intervals

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12)


@given(VALUES, st.randoms(use_true_random=False))
def test_the_interval_is_students_symmetric_and_the_same_in_any_order(values, generator):
    mean, half = helpers.interval(values)
    assert half >= 0
    assert helpers.interval([-value for value in values]) == pytest.approx((-mean, half))
    generator.shuffle(values)
    assert helpers.interval(values) == pytest.approx((mean, half), rel=1e-6, abs=1e-6)
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    if error > 1e-6:
        ends = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
        assert ends == pytest.approx((mean - half, mean + half), rel=1e-6, abs=1e-6)


@given(st.floats(0, 1), st.integers(1, 10**6))
def test_wilsons_interval_of_any_share_lies_in_0_to_1_and_contains_it(share, n):
    low, high = helpers.wilson(share, n)
    assert 0 <= low <= share <= high <= 1


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.integers(2, 50))
def test_wilsons_interval_shrinks_with_n_and_mirrors_with_the_share(counts, times):
    right, n = counts
    low, high = helpers.wilson(right / n, n)
    for end in (low, high):  # the shares from which this one is just 1.96 standard errors away
        assert abs(end - right / n) == pytest.approx(1.959964 * np.sqrt(end * (1 - end) / n), abs=1e-6)
    many_low, many_high = helpers.wilson(right / n, times * n)
    assert many_high - many_low < high - low
    assert helpers.wilson(1 - right / n, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
def test_a_comparison_is_the_paired_t_test_and_mirrors(pairs):
    a, b = np.transpose(pairs)
    gaps = b - a
    assume(np.ptp(gaps) > 1e-3 and np.ptp(b) > 1e-3)
    word, text = NN_tutorial.compare(a, b)
    ends = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert text == f"{gaps.mean():+.4f}, 95% interval {ends.low:+.4f} to {ends.high:+.4f}"
    assert word == ("higher" if ends.low > 0 else "lower" if ends.high < 0 else "no difference shown")
    mirrored = {"higher": "lower", "lower": "higher"}.get(word, word)
    assert NN_tutorial.compare(b, a)[0] == mirrored
    reference = a[:1]  # has no seeds
    ends = stats.ttest_1samp(b - reference, 0).confidence_interval(0.95)
    assert f"interval {ends.low:+.4f} to {ends.high:+.4f}" in NN_tutorial.compare(reference, b)[1]


# ------------------------------------------------------------------ the command


def test_the_table_is_the_same_bytes_with_any_number_of_jobs(tmp_path):
    for jobs in ("1", "2"):  # in this process, as a third of a quick run is imports
        NN_tutorial.main(["width", "--quick", "--seeds", "2", "--jobs", jobs, "--out", str(tmp_path / jobs)])
    assert (tmp_path / "1" / "NN_tutorial.csv").read_bytes() == (tmp_path / "2" / "NN_tutorial.csv").read_bytes()
