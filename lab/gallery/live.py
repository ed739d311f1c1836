"""What answers its reader in the page, as JSON: networks and their map, photos and a threshold. page.html does it.

Numbers are float32 in base64, so that the page gives the answers of PyTorch: a few thousand parameters a network.
"""

import base64
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn

from lab.data.photos import Photos, View
from lab.data.places import Places
from lab.draw.maps import Atlas, nearest
from lab.nets.inputs import Inputs, represent
from lab.tell.baselines import Samples

# ---------------------------------------------------------------------------- the map

MOST_PLACES = {"train": 100_000, "test": 20_000}  # in the page, of more some drawn once
MOST_LETTERS = 2_000_000  # of all networks of a section: three sections and the places stay below 8 MB
LONGEST_NAME = 60  # letters of a country
MOST_PHOTOS = 12  # that a page shows
CHECKED = 1_000  # places at which a network's parameters must give its answers
ACTIVATIONS = {nn.ReLU: "relu", nn.Tanh: "tanh"}
WAVES = {"sin": np.sin, "cos": np.cos}


def pack(values: np.ndarray, kind: str = "<f4") -> str:
    """Numbers in C order as base64."""
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


def places(of: Places, atlas: Atlas) -> dict[str, dict]:
    """{its name: what the page knows of the places and the map}; the name changes with the places."""
    rows = {split: _some(len(of.y[split]), most) for split, most in MOST_PLACES.items()}
    sets = {}
    for split, chosen in rows.items():
        chosen = chosen[np.argsort(of.x[split][chosen, 1], kind="stable")]  # by latitude, to find the nearest in few
        sets[split] = {"x": pack(of.x[split][chosen]), "y": pack(of.y[split][chosen], "<u2"), "of": len(of.y[split])}
    names = [name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…" for name in of.countries]
    spots = [[*where.tolist(), size, country, lines] for where, size, country, lines in atlas.names(nearest(of))]
    held = {
        **sets,
        "countries": names,
        "colours": (255 * atlas.colours).astype(int).tolist(),
        "names": [[*(round(number, 4) for number in spot[:3]), *spot[3:]] for spot in spots],
        "low": atlas.low.tolist(),
        "high": atlas.high.tolist(),
        "aspect": float(atlas.aspect),
        "land": {"columns": atlas.land.shape[1], "inside": pack(128 + 32 * atlas.land.clip(-4, 3.9), "<u1")},
    }
    return {f"places-{hashlib.sha256(of.fingerprint().encode()).hexdigest()[:8]}": held}


def _some(count: int, most: int) -> np.ndarray:
    return np.arange(count) if count <= most else np.sort(np.random.default_rng(0).permutation(count)[:most])


def parameters(model: nn.Module) -> tuple[list, np.ndarray]:
    """The layers of a network, (inputs, outputs, activation) each, and all numbers: per layer W (in, out), b (out,).

    Batch normalisation is folded into the layer before it. Raises TypeError for a module that the page doesn't know.
    """
    layers: list[list] = []
    for module in _leaves(model):
        free = bool(layers) and layers[-1][2] == "none"
        if isinstance(module, nn.Linear):
            bias = module.bias if module.bias is not None else torch.zeros(module.out_features)
            layers.append([module.weight.detach().double(), bias.detach().double(), "none"])
        elif isinstance(module, nn.BatchNorm1d) and free and module.affine and module.track_running_stats:
            weight, bias, _ = layers[-1]
            scale = (module.weight / (module.running_var + module.eps).sqrt()).detach().double()
            shift = (module.bias - scale * module.running_mean).detach().double()
            layers[-1] = [scale[:, None] * weight, scale * bias + shift, "none"]
        elif type(module) in ACTIVATIONS and free:
            layers[-1][2] = ACTIVATIONS[type(module)]
        elif not isinstance(module, (nn.Dropout, nn.Identity)):
            raise TypeError(f"nn.{type(module).__name__}")
    shapes = [(weight.shape[1], weight.shape[0], activation) for weight, _, activation in layers]
    return shapes, np.concatenate([np.append(weight.T, bias) for weight, bias, _ in layers])


def _leaves(model: nn.Module) -> Iterable[nn.Module]:
    """The modules that an nn.Sequential calls one after the other."""
    for module in model if type(model) is nn.Sequential else [model]:
        yield from _leaves(module) if type(module) is nn.Sequential else [module]


def answers(inputs: dict, scale: np.ndarray, shapes: list, numbers: np.ndarray, x: np.ndarray) -> np.ndarray:
    """What the page computes: logits (n, classes) at degrees (n, 2); inputs: as Inputs.described, scale (2, 2)."""
    z = (x.astype(float) - scale[0]) / scale[1] if inputs["standardised"] else x.astype(float)
    waves = [WAVES[wave](frequency * z) for frequency in inputs["frequencies"] for wave in inputs["waves"]]
    values, numbers = np.hstack(waves or [z]), numbers.astype(np.float32).astype(float)
    for count, outputs, activation in shapes:
        weight, bias, numbers = np.split(numbers, [count * outputs, (count + 1) * outputs])
        values = values @ weight.reshape(count, outputs) + bias
        values = {"relu": values.clip(min=0), "tanh": np.tanh(values), "none": values}[activation]
    return values


@dataclass(frozen=True)
class Network:
    """One for a live map.

    scale: (2, 2), mean and deviation of the degrees; stops: {epoch: (the network then, its test accuracy)}.
    """

    name: str
    seed: int
    inputs: Inputs
    scale: np.ndarray
    stops: dict[int, tuple[nn.Module, float]]

    def packed(self, x: np.ndarray) -> dict:
        """As JSON. Raises TypeError where the page would answer otherwise at the places x (n, 2), as after an edit."""
        if not isinstance(self.inputs, Inputs) or not {*self.inputs.waves} <= WAVES.keys():
            raise TypeError(f"inputs={self.inputs!r}")
        described, epochs = self.inputs.described(), []
        for epoch, (model, accuracy) in self.stops.items():
            shapes, numbers = parameters(model)
            with torch.no_grad():
                given = represent(x, self.inputs, self.scale)
                expected = model.eval()(given).softmax(dim=1).numpy()
            found = torch.tensor(answers(described, self.scale, shapes, numbers, x)).softmax(dim=1).numpy()
            if not np.allclose(found, expected, atol=0.01, equal_nan=True):
                raise TypeError("what it makes of its inputs")
            epochs.append([epoch, round(float(accuracy), 6), pack(numbers)])
        own = {"inputs": described, "scale": self.scale.tolist(), "layers": shapes, "epochs": epochs}
        return {"name": self.name, "seed": self.seed, **own}


def figure(networks: Sequence[Network], shown: str, shared: dict[str, dict], x: np.ndarray) -> dict:
    """The live map of a section; shown: the network that comes first; shared: `places`; x (n, 2): some of them.

    What the page can't evaluate is left out, and it says so. Where all would be too large for it, only the last epoch
    of a network is there, or nothing; the shown one goes first.
    """
    packed, left_out, room = {}, {}, MOST_LETTERS
    for one in sorted(networks, key=lambda one: one.name != shown):
        try:
            made = one.packed(x[:CHECKED])
        except TypeError as error:
            left_out[one.name] = f"the page doesn't know {error}"
            continue
        size = len(made["epochs"][-1][2])
        if size * len(made["epochs"]) > room:
            del made["epochs"][:-1]
        if size > room:
            left_out[one.name] = "it is too large for the page"
        else:
            room -= size * len(made["epochs"])
            packed[one.name] = made
    kept = [packed[one.name] for one in networks if one.name in packed]
    return {"kind": "map", "networks": kept, "left_out": left_out, "shown": shown, "shared": shared}


# ---------------------------------------------------------------------------- photos


def photos(
    y: np.ndarray, fake: dict[str, np.ndarray], shown: str, pictures: Iterable[tuple[str, int, np.ndarray]], note: str
) -> dict:
    """Photos and a threshold to move: y (n,), 1 for fakes; fake: {baseline: its probabilities of fake (n,)}.

    shown: the baseline that comes first; pictures: (file name, number among the n, (height, width, 3) uint8) each;
    note: which these are.
    """
    baselines = [{"name": name, "fake": pack(values, "<f8")} for name, values in fake.items()]
    seen = [{"name": name, "number": int(number), "picture": _jpeg(pixels)} for name, number, pixels in pictures]
    held = {"y": y.tolist(), "baselines": baselines, "shown": shown, "photos": seen, "note": note}
    return {"kind": "photos", "shared": {}, **held}


def samples(shown: Samples, of: Photos, view: View) -> dict:
    """The picked photos and more of the candidates, and what each baseline says of all test photos."""
    others = (number for number in shown.candidates if number not in shown.picked)
    first = [*shown.picked, *others][:MOST_PHOTOS]
    seen = of.pixels(view, "test", first) if first else ()
    names = [of.name("test", number) for number in first]
    fake = {name: shown.found.fake(name) for name in shown.found.looks}
    wrong = f"{shown.best} gets right and {' and '.join(shown.group)} wrong"
    note = f"{len(first)} of the {len(shown.candidates)} photos that {wrong} at 0.5:"
    return photos(shown.found.y, fake, shown.best, zip(names, first, seen, strict=True), note)


def _jpeg(pixels: np.ndarray) -> str:
    """A photo as the address of an <img>."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
