"""Section 7 as the original study did it, for benchmarks/speed.py to time against cnn.py and xg.py; draws nothing.

One process, float32, the usual layout; every photo is decoded again in every pass of every learning rate; the frozen
backbone computes its features anew for every learning rate; and the sample photos take two more trainings.

    python benchmarks/plain_faces.py networks|xgboost FOLDER --size 112 --weights FILE
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import xgboost
from efficientnet_lite_pytorch import EfficientNet
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network(size: int, weights: Path | None) -> nn.Module:
    plain = {"drop_connect_rate": 0.0, "dropout_rate": 0.0, "batch_norm_momentum": 0.9}
    model = EfficientNet.from_name("efficientnet-lite0", image_size=size, **plain)
    if weights:
        model.load_state_dict(torch.load(weights, weights_only=True))
    model._fc = nn.Linear(model._fc.in_features, 1)
    return model


def read(folder: Path, *steps) -> dict[str, ImageFolder]:
    """The photos of each split."""
    paths = sorted(path for path in folder.iterdir() if path.is_dir())
    return {path.name: ImageFolder(path, transforms.Compose(steps)) for path in paths}


def train(model: nn.Module, parameters, rate: float, data: dict[str, DataLoader], frozen: bool) -> dict[str, float]:
    """One epoch, then the accuracy on every split."""
    optimizer, criterion = torch.optim.Adam(parameters, rate), nn.BCEWithLogitsLoss()
    model.train(not frozen)
    for photos, labels in data["train"]:
        optimizer.zero_grad()
        loss = criterion(model(photos).squeeze(1), labels.float())
        loss.backward()
        optimizer.step()
        loss.item()
    model.eval()
    accuracy = {}
    with torch.no_grad():
        for split, loader in data.items():
            right = [((model(photos).squeeze(1) > 0) == labels).float() for photos, labels in loader]
            accuracy[split] = torch.cat(right).mean().item()
    return accuracy


def networks(folder: Path, size: int, weights: Path) -> None:
    steps = transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)
    data = {split: DataLoader(photos, 32, shuffle=split == "train") for split, photos in read(folder, *steps).items()}

    def run(baseline: str, rate: float) -> dict[str, float]:
        torch.manual_seed(0)
        model = network(size, None if baseline == "scratch" else weights)
        frozen = baseline == "linear-probe"
        if frozen:
            model.requires_grad_(False)
            model._fc.requires_grad_(True)
        return train(model, model._fc.parameters() if frozen else model.parameters(), rate, data, frozen)

    found = {}
    for baseline in ("scratch", "linear-probe", "fine-tune"):
        for rate in RATES:
            found[baseline, rate] = run(baseline, rate)
            print(baseline, rate, found[baseline, rate], flush=True)
    model = network(size, weights).eval()
    model._fc = nn.Identity()
    with torch.no_grad():
        features = {}
        for split, loader in data.items():
            batches = [(model(photos).numpy(), labels.numpy()) for photos, labels in loader]
            features[split] = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000)).fit(*features["train"])
    print("sklearn-probe", {split: probe.score(*part) for split, part in features.items()}, flush=True)
    test = {name: accuracy["test"] for name, accuracy in found.items()}
    for name in (max(test, key=test.get), min(test, key=test.get)):  # for the sample photos
        print("again", *name, run(*name), flush=True)


def boosted_trees(folder: Path) -> None:
    data = read(folder, transforms.Resize((224, 224)), transforms.CenterCrop(64), transforms.ToTensor())
    for rate in (None, *RATES):
        table = {
            split: (np.stack([x.numpy().ravel() for x, _ in of]), np.array(of.targets)) for split, of in data.items()
        }
        model = xgboost.XGBClassifier(learning_rate=rate).fit(*table["train"])
        print("xgboost", rate, {split: model.score(*part) for split, part in table.items()}, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["networks", "xgboost"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--weights", type=Path)
    given = parser.parse_args()
    if given.what == "networks":
        networks(given.folder, given.size, given.weights)
    else:
        boosted_trees(given.folder)
