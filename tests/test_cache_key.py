"""lab/run/cache_key.py: what a run depends on is in its key, found in the code; all else may be edited freely."""

import cProfile
import dataclasses
import functools
import importlib
import json
import os
import re
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import SourceFileLoader
from pathlib import Path

import numpy as np
import pytest

import lab.nets.stack
from lab.nets import stack
from lab.run.cache_key import fingerprint

ROOT = Path(__file__).parents[1]


TREES = "xg.train"
NETWORKS = "cnn.(train_network|extract_features)"
PHOTOS = f"{TREES}|{NETWORKS}"
MLPS, REFERENCES = "NN_tutorial.train", "NN_tutorial.fit"
# (file, a text that stands there once, what takes its place, the runs that are then done again: SCRIPT.FUNCTION: NAME)
COUNTS = [
    ("xg.py", "crop=64", "crop=32", TREES),
    ("xg.py", "rounds: int = 100", "rounds: int = 50", TREES),
    ("lab/nets/xgb_matrices.py", "np.where(largest < 0,", "np.where(largest <= 0,", TREES),
    ("lab/data/decode.py", "Image.Resampling.BILINEAR", "Image.Resampling.BICUBIC", PHOTOS),
    ("lab/data/decode.py", "255 / top", "256 / top", PHOTOS),
    ("cnn.py", "MEAN, DEVIATION = (0.485,", "MEAN, DEVIATION = (0.5,", NETWORKS),
    ("cnn.py", "self.backbone(inputs).float()", "2 * self.backbone(inputs).float()", NETWORKS),
    ("cnn.py", "return View(self.size, self.size)", "return View(self.size, self.size // 2)", "cnn.*"),
    ("lab/nets/grad_cam.py", "weight[0]) / act", "weight[0]) * act", "cnn.train_network"),
    ("cnn.py", "LogisticRegression(max_iter=10_000)", "LogisticRegression(max_iter=10)", "cnn.fit_sklearn"),
    ("cnn.py", "[config.seed, 1]", "[config.seed, 2]", "cnn.train_linear"),
    ("helpers.py", "losses.append(loss", "losses.append(2 * loss", "cnn.train_(network|linear)"),
    ("lab/nets/backbones.py", '"batch_norm_momentum": 0.9', '"batch_norm_momentum": 0.8', NETWORKS),
    ("lab/nets/stack.py", "UPDATES = 4", "UPDATES = 5", MLPS),
    ("lab/nets/stack.py", "nn.Tanh: (torch.Tensor.tanh_,", "nn.Tanh: (torch.Tensor.sin_,", MLPS),
    ("lab/nets/record.py", "BLOCK = 1024", "BLOCK = 512", MLPS),
    ("lab/nets/inputs.py", "(frequency * z)", "(-frequency * z)", MLPS),
    ("NN_tutorial.py", "tuple(tenths / 10 for", "tuple(tenths / 5 for", MLPS),
    ("NN_tutorial.py", "total_steps=updates)", "total_steps=updates, pct_start=0.1)", MLPS),
    ("NN_tutorial.py", "torch.optim.Adam(parameters, config.lr)", "torch.optim.AdamW(parameters, config.lr)", MLPS),
    ("NN_tutorial.py", '"tanh": nn.Tanh', '"tanh": nn.GELU', MLPS),
    ("NN_tutorial.py", "batch_size: int = 256", "batch_size: int = 255", f"{MLPS}: (?!batch-size)"),
    ("NN_tutorial.py", "TUNED = Config(lr=1e-2", "TUNED = Config(lr=2e-2", f"{MLPS}: (best|closing|.*one-cycle)"),
    ("lab/nets/replicas.py", "rows = np.random.default_rng(0)", "rows = np.random.default_rng(1)",
     f"{MLPS}|{REFERENCES}"),
    ("lab/nets/references.py", "KNeighborsClassifier(1)", "KNeighborsClassifier(2)", REFERENCES),
    ("lab/data/places.py", "x[:rows] for split, x in", "x[-rows:] for split, x in", f"{MLPS}|{REFERENCES}"),
    ("lab/run/pool.py", "torch.set_num_threads(1)", "torch.set_num_threads(2)", ".*"),
]  # fmt: skip
FREE = [
    ("NN_tutorial.py", "All of training, for one network", "How one network is trained"),
    ("NN_tutorial.py", "def inputs_of(config: Config) -> Callable:", "def inputs_of(config):"),
    ("NN_tutorial.py", "depth: int = 6  # hidden layers", 'depth: "int" = 6  # layers'),
    ("NN_tutorial.py", "        optimizer.step()\n", "        optimizer.step()  # Adam's\n\n"),
    ("NN_tutorial.py", "from lab.nets import inputs, replicas, stack", "from lab.nets import stack, inputs, replicas"),
    ("NN_tutorial.py", "size = min(config.batch_size, rows)\n    return size, rows // size",
     "many = min(config.batch_size, rows)\n    return many, rows // many"),
    ("NN_tutorial.py", "layer = (2.5 + size", "layer = (2.6 + size"),
    ("NN_tutorial.py", "def seconds_of(", "def unused(x):\n    return x\n\n\ndef seconds_of("),
    ("xg.py", "0.8 + 7e-5 * count", "0.9 + 7e-5 * count"),
    ("cnn.py", '"color": "#CC79A7"', '"color": "#000000"'),
    ("cnn.py", "SHUFFLES = 10", "SHUFFLES = 11"),  # more of them leave the first ten alone
    ("lab/draw/curves.py", '"train": {"color": "#0072B2"', '"train": {"color": "#000000"'),
    ("lab/tell/phrases.py", "UNSTABLE = 0.10", "UNSTABLE = 0.20"),
    ("lab/nets/backbones.py", "TIMEOUT = 10.0", "TIMEOUT = 20.0"),
]  # fmt: skip


def name(edit: tuple[str, ...]) -> str:
    return f"{edit[0]}: {edit[1]}"


def runs_planned(folder: Path, as_scripts: bool = False, features: float = 0.0) -> dict[str, str]:
    """{SCRIPT.FUNCTION: NAME: the name of its file} of all runs of the scripts in `folder`, imported afresh.

    Nothing is read or run: photos and places are few and made up, and all features are the same.
    """
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]
    importlib.invalidate_caches()
    names = "helpers", "lab.nets.backbones", "lab.data.photos", "lab.data.places", "lab.run.runs", "lab.run.pool"
    helpers, backbones, photos, places, runs, pool = map(importlib.import_module, names)
    found, few = {}, {split: np.arange(300) % 2 for split in helpers.SPLITS}

    def note(planned, data, context, folder, done, **_) -> None:
        for run in planned:
            label = f"{folder.name}.{run.function.__name__}: {run.name}"
            name = run.path(folder, data, context).name
            assert found.setdefault(label, name) == name, label
            if run.function.__name__ == "extract_features":
                done(run.name, {split: np.full((300, 2), features) for split in few} | {"digest": np.array(features)})

    runs.finish_runs, pool.versions = note, functools.cache(pool.versions)
    helpers.load_places = lambda *_: places.Places({s: np.zeros((300, 2), np.float32) for s in few}, few, ["A", "B"])
    helpers.demo_faces, helpers.Reports.close = lambda: folder, lambda *_: None
    helpers.load_photos = lambda *_: photos.Photos({}, few, "some", {})
    backbones.choose_backbone = lambda choice, file: (choice, np.zeros(1, np.uint8))
    given = ["--redraw", "--seeds", "1", "--jobs", "1", "--out", str(folder / "out")]
    for script in ("NN_tutorial", "cnn", "xg"):
        sys.argv = [f"{script}.py", *given, *(["--backbone", "efficientnet-lite0"] if script == "cnn" else [])]
        if as_scripts:
            with pytest.raises(SystemExit, match="0"):
                runpy.run_path(str(folder / sys.argv[0]), run_name="__main__")
        else:
            importlib.import_module(script).main(sys.argv[1:])
    return found


def process(folder: Path, edits: list[list[str]]) -> None:
    """Write down the runs that are planned without and with each edit; without any edits, in several ways."""
    sys.dont_write_bytecode = True  # its time stamps have whole seconds
    compiled = functools.cache(lambda source, path: compile(source, path, "exec", dont_inherit=True))
    SourceFileLoader.source_to_code = staticmethod(compiled)  # what is not edited is compiled once
    planned = {"as it is": runs_planned(folder)}
    for file, old, new in edits:
        before = (folder / file).read_text()
        (folder / file).write_text(before.replace(old, new))
        planned[name((file, old))] = runs_planned(folder) if before.count(old) == 1 else None
        (folder / file).write_text(before)
    if not edits:
        planned["as scripts"] = runs_planned(folder, as_scripts=True)
        planned["profiled"] = cProfile.Profile().runcall(runs_planned, folder)
        with ThreadPoolExecutor(1) as thread:
            planned["in a thread"] = thread.submit(runs_planned, folder).result()
        planned["with other features"] = runs_planned(folder, features=1.0)
    (folder / "planned.json").write_text(json.dumps(planned))


@pytest.fixture(scope="module")
def edited_and_linked(copied) -> list[dict[str, dict[str, str]]]:
    """{edit: the runs that are then planned}, and {way: the same} through a link, with other hashes of strings."""
    edited, there = copied({}), copied({})
    linked = there.with_name("link")
    linked.symlink_to(there)
    edits, started = [edit[:3] for edit in (*COUNTS, *FREE)], []
    for seed, folder, given in ((0, edited, edits), (1, linked, [])):
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": str(seed)}
        command = [sys.executable, __file__, str(folder), json.dumps(given)]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
    assert [process.wait(280) for process in started] == [0, 0]
    return [json.loads((folder / "planned.json").read_text()) for folder in (edited, linked)]


@pytest.mark.parametrize("edit", COUNTS, ids=name)
def test_a_run_is_done_again_when_code_that_it_depends_on_is_edited(edited_and_linked, edit):
    planned, again = edited_and_linked[0], edit[-1]
    before, after = planned["as it is"], planned[name(edit)]
    assert after, "this text does not stand there once"
    assert before.keys() == after.keys()
    changed = {label for label, file in before.items() if after[label] != file}
    assert changed == {label for label in before if re.match(again, label)}
    assert changed


@pytest.mark.parametrize("edit", FREE, ids=name)
def test_no_run_is_done_again_for_words_looks_and_reports(edited_and_linked, edit):
    before, after = (edited_and_linked[0][which] for which in ("as it is", name(edit)))
    assert after, "this text does not stand there once"
    assert {label: after[label] for label in before} == before


def test_the_same_run_has_the_same_file_however_the_script_is_started_but_for_other_features(edited_and_linked):
    before, ways = edited_and_linked[0]["as it is"], edited_and_linked[1]
    for way in ("as it is", "as scripts", "profiled", "in a thread"):
        assert ways[way] == before, way
    after = ways["with other features"]
    changed = {label for label, file in before.items() if after[label] != file}
    assert changed == {label for label in before if re.match("cnn.(train_linear|fit_)", label)}


@dataclasses.dataclass(frozen=True)
class Config:
    rate: float = 0.1
    name: str = "a"


class Plain:
    def __init__(self, value):
        self.value = value

    def add(self, x):
        return x + self.value


def plus(x, y=1):
    return x + y


def times(x, y=1):
    return x * y


def adder(y):
    return lambda x: x + y


def values() -> list:
    """All different, and the same at each call."""
    changed = np.zeros(100_000)
    changed[50_000] = 1
    return [
        *(None, True, 1, 1.0, "1", b"1", 0.0, -0.0, float("nan"), 1e-300, "<x at 0x1>", "<x at 0x2>", range(3)),
        *((1,), [1], (1, 2), (2, 1), ((1,), 2), (1, (2,)), ((1, 2),), {1}, {1, 2}, {"a", "b"}, {"a", "c"}),
        *({1: 2}, {2: 1}, {"1": 2}, {1: (2,)}, {1: {2: 3}}, {1: {3: 2}}),
        *(np.zeros(100_000), changed, np.zeros(100_000, np.float32), np.zeros((100, 1000)), np.array(["a"])),
        *(Config(), Config(0.2), Config(name="b"), Plain(1), Plain(2), Plain({1: 2})),
        *(plus, times, lambda x: x, lambda x: x + 1, lambda x: x + 2, lambda x=1: x, adder(1), adder(2)),
        *(functools.partial(plus, 1), functools.partial(plus, 2), functools.partial(plus, y=1)),
        *(functools.partial(times, 1), functools.cache(plus), functools.cache(times)),
        *(Plain(1).add, Plain(2).add, Plain.add, Plain, Config, {}.get, {1: 2}.get),
        *({"a": plus, "b": times, "c": plus}, {"a": plus, "b": times, "c": times}),
    ]


def test_different_values_have_different_fingerprints_and_equal_ones_the_same():
    found = [fingerprint(value) for value in values()]
    assert found == [fingerprint(value) for value in values()]
    assert [values()[n] for n, one in enumerate(found) if found.index(one) != n] == []


def function(source: str):
    """The function f of some source text of this repository."""
    names = {"__name__": __name__, "plus": plus, "times": times, "functools": functools, "lab": lab, "stack": stack}
    exec(compile(source, str(ROOT / "NN_tutorial.py"), "exec"), names)
    return names["f"]


WRAPPED = "def g(f):\n  @functools.wraps(f)\n  def h(x): return {} * f(x)\n  return h\n@g\ndef f(x): return x"
ALIKE = [
    ("def f(x):\n  'one'\n  return x", "def f(x):\n  return x"),
    ("def f(x): return x", "def f(x: int) -> int:\n\n  return x  # itself"),
    ("def f(x):\n  y = x\n  return [y for _ in x]", "def f(x):\n  z = x\n  return [z for _ in x]"),
    ("def f(x): return x in {'a', 'b', 'c'}", "def f(x): return x in {'c', 'a', 'b'}"),
    ("f = lambda x: (x, 1)", "f = lambda x: (\n  x,\n  1,\n)"),
]
UNLIKE = [
    ("def f(x): return x in {'a', 'b'}", "def f(x): return x in {'a', 'c'}"),
    ("def f(x): return ['a' for _ in x]", "def f(x): return ['b' for _ in x]"),
    ("def f(x):\n  def g(): return 1\n  return g", "def f(x):\n  def g(): return 2\n  return g"),
    ("def f(x): return x.a", "def f(x): return x.b"),
    ("def f(x, y=1): return x", "def f(x, y=2): return x"),
    ("def f(x, *, y=1): return x", "def f(x, *, y=2): return x"),
    ("def f(x, y): return x - y", "def f(y, x): return y - x"),  # called by name, they differ
    ("def f(x): return (lambda: plus(x))()", "def f(x): return (lambda: times(x))()"),
    ("def f(x): return [plus(y) for y in x]", "def f(x): return [times(y) for y in x]"),
    ("K = 1\ndef f(x): return x + K", "K = 2\ndef f(x): return x + K"),
    ("K = {'a': plus}\ndef f(x): return K[x]", "K = {'a': times}\ndef f(x): return K[x]"),
    ("def g(x): return h(x)\ndef h(x): return 1\nf = g", "def g(x): return h(x)\ndef h(x): return 2\nf = g"),
    ("def f(x):\n  try: x()\n  except KeyError: x = 0\n  x()", "def f(x):\n  try: x(); x()\n  except KeyError: x = 0"),
    (WRAPPED.format(2), WRAPPED.format(3)),
    *((source.format(1), source.format(2)) for source in (
        "class C:\n  @property\n  def k(self): return {}\ndef f(x): return C().k",
        "class B: k = {}\nclass C(B): ...\ndef f(x): return C",
        "def f(x): return g(x, {})\ndef g(x, y): return f(x)",  # which has an end
        "def f(x):\n  import no_such_package.part{} as it\n  return it",  # the function's own affair
    )),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), [*ALIKE, *UNLIKE])
def test_functions_have_the_same_fingerprint_where_they_do_the_same(one, other):
    assert (fingerprint(function(one)) == fingerprint(function(other))) == ((one, other) in ALIKE)


@pytest.mark.parametrize("body", [
    "from lab.nets import stack; return stack.UPDATES",
    "from lab import nets; return nets.stack.UPDATES",
    "from lab.nets.stack import LEAKY, UPDATES; return UPDATES",
    "import lab.nets.stack; return lab.nets.stack.UPDATES",
    "import lab.nets.stack as s; return (lambda: s.UPDATES)()",
    "return stack.UPDATES",
    "return lab.nets.stack.UPDATES",
])  # fmt: skip
def test_what_a_function_has_of_another_room_counts_too_and_if_it_imports_it_itself(body, monkeypatch):
    f = function(f"def f(x): {body}")
    before = fingerprint(f)
    monkeypatch.setattr("lab.nets.stack.LN2", 0, raising=False)
    assert fingerprint(f) == before
    monkeypatch.setattr("lab.nets.stack.UPDATES", 5)
    assert fingerprint(f) != before


if __name__ == "__main__":
    process(Path(sys.argv[1]), json.loads(sys.argv[2]))
