"""Maps: their colours, their coast, their names, and that they show what a function of points says."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import cKDTree

import NN_tutorial
from lab.data.places import Places, load_places
from lab.draw import maps, save
from lab.draw.maps import Atlas
from lab.nets import replicas
from lab.study import SPLITS, Result


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return Atlas(load_places(Path(__file__).parents[1] / "data"))


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


def test_a_map_of_europe_has_its_inhabited_area_and_its_proportions(atlas):
    assert atlas.aspect == pytest.approx(1 / np.cos(np.radians(52.9)), rel=0.02)

    def inside(long: float, lat: float) -> bool:
        nearest = abs(atlas.grid(atlas.COARSE) - (long, lat)).sum(axis=2).argmin()
        return bool(atlas.land.flat[nearest] > 0)

    assert all(inside(*city) for city in [(2.35, 48.86), (13.4, 52.5), (23.7, 37.98), (25.5, 65.0), (-3.7, 40.4)])
    assert not any(inside(*sea) for sea in [(3.0, 56.5), (-8.0, 46.0), (5.0, 40.5), (19.0, 37.5), (34.0, 43.5)])


@pytest.mark.parametrize("cells", [400, 1600])
def test_cities_that_are_far_apart_are_seen_where_they_are_and_nowhere_else(cells):
    generator, cities = np.random.default_rng(0), np.array([[151, -34], [140, 36], [-74, 41], [2, 49]])
    y = generator.integers(0, 4, 400)
    x = (cities[y] + generator.normal(0, 0.2, (400, 2))).astype(np.float32)
    atlas = Atlas(
        Places(dict.fromkeys(SPLITS, x), dict.fromkeys(SPLITS, y), ["Sydney", "Tokyo", "New York", "Paris"]), cells
    )
    _, ax = atlas.figure("where the nearest place is", "")
    atlas.draw(ax, maps.nearest(atlas.places))
    assert 0.02 < (atlas.land > 0).mean() < 0.1
    far = np.linalg.norm(atlas.grid(atlas.COARSE)[:, :, None] - cities, axis=-1).min(axis=2)
    assert far[atlas.land > 0].max() < 16
    assert {text.get_text() for text in ax.texts} == {"Sydney", "Tokyo", "New York", "Paris"}


def test_a_campus_fills_its_map_and_its_degrees_can_be_told_apart():
    x = np.random.default_rng(0).uniform((151.2050, -33.8930), (151.2070, -33.8915), (300, 2)).astype(np.float32)
    atlas = Atlas(
        Places(dict.fromkeys(SPLITS, x), dict.fromkeys(SPLITS, (x[:, 0] > 151.206).astype(int)), ["a", "b"]), 400
    )
    assert (atlas.high - atlas.low < 1.2 * (x.max(axis=0) - x.min(axis=0))).all()
    _, ax = atlas.figure("where the nearest place is", "")
    atlas.draw(ax, maps.nearest(atlas.places))
    for axis in (ax.xaxis, ax.yaxis):
        written = [axis.get_major_formatter()(value) for value in axis.get_majorticklocs()]
        assert len(set(written)) == len(written) >= 3


def test_names_in_letters_that_the_font_lacks_are_told_once_and_control_characters_are_shown(capsys):
    x = np.random.default_rng(0).uniform((0, 40), (20, 60), (300, 2)).astype(np.float32)
    y = (x[:, 0] > 12).astype(int)
    atlas = Atlas(Places(dict.fromkeys(SPLITS, x), dict.fromkeys(SPLITS, y), ["日本", "\x1b[2KGrèce Ελλάς"]), 400)
    _, ax = atlas.figure("where the nearest place is", "")
    atlas.draw(ax, maps.nearest(atlas.places))
    told = capsys.readouterr().err
    assert told.startswith(
        "warning: 1 of 2 names have letters that the figures' font lacks and shows as boxes ('日本'), "
    )
    assert len(told.splitlines()) == 1
    assert {text.get_text().replace("\n", " ") for text in ax.texts} == {"日本", "\\x1b[2KGrèce Ελλάς"}


def test_places_in_a_row_make_no_mere_strip():
    x = np.stack([np.linspace(0, 20, 100), np.full(100, 50)], axis=1).astype(np.float32)
    atlas = Atlas(Places(dict.fromkeys(SPLITS, x), dict.fromkeys(SPLITS, (x[:, 0] > 10).astype(int)), ["a", "b"]), 400)
    assert atlas.columns <= 4.1 * atlas.rows


@pytest.mark.parametrize("crowd", [False, True])
def test_names_on_a_map_neither_overlap_nor_leave_it(crowd, atlas):
    if crowd:  # many countries with long names, each of the places nearest to its middle
        generator = np.random.default_rng(0)
        x = {split: generator.uniform((0, 40), (20, 60), (2000, 2)).astype(np.float32) for split in SPLITS}
        middles = cKDTree(generator.uniform((0, 40), (20, 60), (200, 2)))
        countries = [f"The {number}th Republic{' of Somewhere' * (number % 2)}" for number in range(200)]
        atlas = Atlas(Places(x, {split: middles.query(x[split])[1] for split in x}, countries), 800)
    fig, ax = atlas.figure("where the nearest place is", "")
    atlas.draw(ax, maps.nearest(atlas.places))
    fig.draw_without_rendering()
    boxes = {text.get_text().replace("\n", " "): text.get_window_extent() for text in ax.texts}
    assert len(boxes) == len(ax.texts) >= 30
    assert crowd or {"France", "Germany", "The Netherlands", "Bosnia and Herzegovina"} <= set(boxes)
    for name, box in boxes.items():
        assert all(ax.bbox.padded(2).contains(*corner) for corner in box.corners()), name
        # The width of a word in another size of its font is right to 2 pixels.
        others = [other for other in boxes if other != name and boxes[other].padded(-2).overlaps(box)]
        assert not others, f"{name} covers {others}"


@pytest.fixture(scope="module")
def halves() -> Places:
    """Two countries on either side of 12 degrees."""
    generator = np.random.default_rng(0)
    x = {split: generator.uniform((0, 40), (20, 60), (500, 2)).astype(np.float32) for split in SPLITS}
    return Places(x, {split: (x[split][:, 0] > 12).astype(int) for split in x}, [r"$\west$", "東"])


def by_hand(places: Places, east_of: float):
    """A network of one unit that says the second country east of these degrees, trained in 3 epochs as it were."""
    state = {"0.0.weight": [[1, 0]], "0.0.bias": [0], "1.weight": [[0], [1]], "1.bias": [east_of, 0]}
    arrays = {f"3.{name}": np.array([np.zeros_like(value), value], np.float32) for name, value in state.items()}
    arrays |= {"scale": np.ones((2, 2, 2)), "stacked": np.zeros(2, bool)}
    result, lesson = Result(NN_tutorial.Config(depth=1, width=1), arrays), NN_tutorial.lesson()
    model = replicas.trained(lesson, result, len(places.countries), 3, 1)
    return replicas.predictor(lesson, result, model, 1)


@pytest.mark.parametrize(
    ("make", "border"),
    [
        (lambda places: by_hand(places, 10.0), 10.0),  # a network
        (lambda places: lambda points: (points[..., 0] > 9).astype(int), 9.0),
        (maps.nearest, 12.0),
    ],
)
@pytest.mark.parametrize("small", [False, True])
def test_a_map_shows_what_a_function_says(make, border, small, halves):
    predict, atlas = make(halves), Atlas(halves, 800)
    _, ax = atlas.figure("a title", "a foot")
    atlas.draw(ax, predict, small)
    (image,), (dots,) = ax.images, ax.collections
    picture, (left, right, low, high) = np.asarray(image.get_array()), image.get_extent()
    assert (left, right, low, high) == (atlas.low[0], atlas.high[0], atlas.low[1], atlas.high[1])
    for country, long in enumerate((border - 0.4, border + 0.4)):
        column = int((long - left) / (right - left) * picture.shape[1])
        seen = picture[picture.shape[0] // 3 : -picture.shape[0] // 3, column]
        assert np.allclose(np.median(seen, axis=0), 255 * atlas.colours[country], atol=1.5)
    wrong = halves.x["test"][predict(halves.x["test"]) != halves.y["test"]]
    np.testing.assert_array_equal(np.asarray(dots.get_offsets()), wrong)
    assert {text.get_text() for text in ax.texts} == (set() if small else {r"$\west$", "東"})
    if not small:
        assert ax.get_legend().get_texts()[0].get_text().endswith(f" wrong country: {len(wrong)} of 500")
        written = [[axis.get_major_formatter()(value) for value in (-7.5, 0, 10)] for axis in (ax.xaxis, ax.yaxis)]
        assert written == [["7.5°W", "0°", "10°E"], ["7.5°S", "0°", "10°N"]]


def test_a_map_is_seen_forming_up_to_its_last_stage(halves):
    stages = {f"up to {border}": by_hand(halves, border) for border in (2, 5, 10, 12)}
    fig = Atlas(halves, 400).forming("a title", "a foot", stages)
    fig.get_layout_engine().execute(fig)
    widths = {ax.get_title("left") or ax.get_title(): ax.get_position().width for ax in fig.axes}
    assert widths.keys() == stages.keys()
    assert all(2 * widths[name] < widths["up to 12"] for name in stages if name != "up to 12")


def test_the_distance_to_another_country_is_on_the_sphere_across_the_antimeridian_too():
    train = np.array([[179.9, 0], [0, 0], [0, 60]], np.float32)
    test = np.array([[-179.9, 0], [1, 60]], np.float32)
    places = Places(
        {"train": train, "test": test}, {"train": np.array([0, 1, 0]), "test": np.array([1, 0])}, ["a", "b"]
    )
    assert maps.nearest(places)(np.array([[[1.0, 1.0], [170, 0]]])).tolist() == [[1, 0]]
    angles = np.radians([0.2, np.degrees(np.arccos(0.5 * np.cos(np.radians(1))))])
    np.testing.assert_allclose(maps.to_another_country(places), 2 * 6371 * np.sin(angles / 2), rtol=1e-4)


def test_in_an_animation_the_map_and_its_title_change_and_nothing_else(halves, tmp_path):
    atlas = Atlas(halves, 120, np.array([[1, 0, 0], [0, 0, 1]]))
    stages = [(title, lambda points, x=x: (points[..., 0] > x).astype(int)) for title, x in (("a", 99), ("bb", 12))]
    animation = atlas.animation("Two countries", "foot", iter(stages))
    frames = [np.asarray(frame).astype(int) for frame in animation.frames]
    assert len(frames) == 2
    changed = np.argwhere((frames[0] != frames[1]).any(axis=2))
    red, blue = ((frames[1] == colour).all(axis=2) for colour in ([255, 0, 0], [0, 0, 255]))
    assert red.sum() > 1000 < blue.sum()
    assert not (frames[0] == [0, 0, 255]).all(axis=2).any()
    inside = np.argwhere(red | blue)
    title = changed[changed[:, 0] < inside[:, 0].min()]
    assert 0 < len(title) < 2000
    assert (changed[:, 0] <= inside[:, 0].max() + 1).all()  # not the foot
    dark = (frames[0].max(axis=2) < 60) & (frames[0].min(axis=2) < 60)
    below = dark[inside[:, 0].min() :]
    assert below.any()  # the names
    np.testing.assert_array_equal(below, (frames[1].max(axis=2) < 60)[inside[:, 0].min() :])
    save.save_animation((Image.fromarray(frame.astype(np.uint8)) for frame in frames), tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as saved:
        assert saved.n_frames == 2
        saved.seek(1)
        np.testing.assert_array_equal(np.asarray(saved.convert("RGB")), frames[1])  # no loss
