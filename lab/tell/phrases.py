"""The sentences of the reports: numbers in, words out, each with the rule that it rests on as its `rule`.

A threshold stands once, in the constant that both the code and its rule read.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from lab.errors import plural
from lab.study import Result, Rows
from lab.tell import statistics
from lab.tell.statistics import UNCLEAR, Difference, compare


def cite(rows: Rows, *labels: str) -> str:
    """`(rows 1, 3)`: the numbers of these rows in their table."""
    numbers = [str(list(rows).index(label) + 1) for label in dict.fromkeys(labels)]
    return f"(row{'s' if len(numbers) > 1 else ''} {', '.join(numbers)})"


def named(labels: Sequence[str]) -> str:
    """What `statistics.best` returns, in words."""
    first, *level = labels
    others = ", ".join(level) if len(level) < 3 else f"{len(level)} others"
    return f"{first} ({UNCLEAR} to {others})" if level else first


def difference(rows: Rows, a: str, b: str, split: str = "test", metric: str = "accuracy") -> str:
    """The sentence on row b against row a, by the rule of `compare`."""
    word, gap = compare(rows, a, b, split, metric)
    return f"{b} against {a}, {split} {metric.replace('_', ' ')}: {word} ({gap}) {cite(rows, a, b)}."


def selection_bias(rows: Rows, labels: Iterable[str]) -> str:
    """The sentence on what choosing on test would have picked, and by how much its accuracy would have flattered."""
    labels = list(labels)
    honest = statistics.choose(rows, labels)
    taken, gain, by_seed = statistics.selection_bias(rows, labels)
    return (
        f"Choosing on test would have picked {taken}{' too' if taken == honest else ''} and flattered the test "
        f"accuracy by {gain.mean():.4f}; choosing for each seed, by {by_seed.mean():.4f}, at most {by_seed.max():.4f} "
        f"{cite(rows, honest, taken)}."
    )


def chosen(labels: Sequence[str], rows: Rows) -> str:
    """What validation chose, as `statistics.best` gives it, and its test accuracy."""
    test = statistics.show(rows[labels[0]]["test", "accuracy"])
    return f"Chosen on validation: {named(labels)}, test accuracy {test} {cite(rows, *labels)}."


def best_to_worst(first: Sequence[str], last: Sequence[str], test: dict[str, float]) -> str:
    """The headline of a comparison: what `statistics.best` finds at both ends, and test accuracies by label."""
    top, bottom = f"{test[first[0]]:.3f}", f"{test[last[0]]:.3f}"
    if first[0] == last[0]:
        return f"All have the same validation accuracy; test accuracy of {first[0]}: {top}"
    if last[0] in first:
        between = f"{UNCLEAR.capitalize()} between best, {first[0]}, and worst, {last[0]}"
        return f"{between}: test accuracy {top}, {bottom}"
    return f"Best: {named(first)}, test accuracy {top}; worst: {named(last)}, {bottom}"


# ---------------------------------------------------------------------------- curves of the loss

ABOVE_PRIOR = 0.01  # shares
STILL_FALLING = 0.05
UNSTABLE = 0.10
RISEN = 0.05
OVER_FIT, UNDER_FIT = 0.01, 0.02  # accuracies


def diverged(result: Result, prior_loss: float) -> np.ndarray:
    """(seeds,) whether each one diverged; prior_loss: nats, of knowing only the class frequencies."""
    losses = np.concatenate([result["loss_train"], result["loss_validation"]], axis=1)
    curve = result["loss_validation"]
    stuck = (curve[:, -1] > (1 + ABOVE_PRIOR) * prior_loss) & (curve[:, -1] > curve.min(axis=1))
    return ~np.isfinite(losses).all(axis=1) | stuck


diverged.rule = (
    f"diverged: the loss is not finite, or it ends more than {ABOVE_PRIOR:.0%} above the loss of knowing only the "
    "class frequencies and above its own minimum"
)


def course(label: str, result: Result, lost: np.ndarray, rows: Rows) -> str:
    """How a run's validation loss went; lost: (seeds,), what `diverged` says."""
    curve = np.median(result["loss_validation"], axis=0)
    before = max(1, len(curve) // 5)  # the last fifth of the epochs
    falling = 1 - curve[-1] / curve[-1 - before] if len(curve) > before else np.nan
    if lost.any():
        said = f"diverged in {lost.sum()} of {len(lost)} seeds"
    elif falling > STILL_FALLING:
        said = f"is not finished: its loss fell by {falling:.0%} in the last {before} epochs"
    elif curve[-1] > (1 + UNSTABLE) * curve.min():
        said = f"is unstable: it ends {curve[-1] / curve.min():.2f} times above its best epoch"
    else:
        said = "has settled"
    return f"{label} {said} {cite(rows, label)}."


course.rule = (
    f"{diverged.rule};\nnot finished: the median validation loss fell by more than {STILL_FALLING:.0%} in the last "
    f"fifth of the epochs; unstable: it ends more than {UNSTABLE:.0%} above its minimum; settled: none of these"
)


def loss_rises(result: Result) -> bool:
    """Whether the validation loss has risen since its minimum while the training loss fell, by the rule."""
    train, validation = (np.median(result[f"loss_{split}"], axis=0) for split in ("train", "validation"))
    return bool(validation[-1] > (1 + RISEN) * validation.min() and train[-1] < train[validation.argmin()])


loss_rises.rule = (
    f"the validation loss ends more than {RISEN:.0%} above its minimum although the training loss fell since (medians)"
)


def fit(result: Result, neighbour: float) -> str:
    """Over- or under-fit, and the facts behind it after a colon; neighbour: the nearest neighbour's accuracy."""
    train, validation = (result.at(f"accuracy_{split}").mean() for split in ("train", "validation"))
    over = train - validation > OVER_FIT or loss_rises(result)
    under = train < neighbour - UNDER_FIT
    words = {(False, False): "neither over- nor under-fits", (True, False): "over-fits", (False, True): "under-fits"}
    return (
        f"{words.get((bool(over), bool(under)), 'over-fits and under-fits at once')}: train accuracy {train:.4f}, "
        f"validation {validation:.4f}, nearest neighbour {neighbour:.4f}"
    )


fit.rule = (
    f"over-fit: train accuracy more than {OVER_FIT} above validation, or {loss_rises.rule}; "
    f"under-fit: train accuracy more than {UNDER_FIT} below the nearest neighbour's on validation"
)


def sooner(result: Result, other: Result, rows: Rows, label: str, other_label: str) -> list[str]:
    """When a run reaches the median validation loss that another one ends with; nothing if it never does."""
    curves = np.median(result["loss_validation"], axis=0), np.median(other["loss_validation"], axis=0)
    first = curves[0] <= curves[1][-1]
    if not first.any():
        return []
    return [
        f"With batch norm, epoch {first.argmax() + 1} reaches the median validation loss that the net without it "
        f"has after {len(curves[1])} {cite(rows, other_label, label)}."
    ]


def trade_offs(
    rows: Rows, target: float, accurate: Sequence[str], fast: Sequence[str], steady: Sequence[str]
) -> list[str]:
    """What batch sizes, the smallest first, trade; who is best at it as `statistics.best` gives it; target: nats."""
    small, large = next(iter(rows)), list(rows)[-1]
    mean = {key: {label: float(cells[key].mean()) for label, cells in rows.items()} for key in rows[small]}
    epoch, to_target = mean["train", "seconds_per_epoch"], mean["validation", "seconds_to_target"]
    spread, accuracy = mean["train", "batch_loss_std"], mean["validation", "accuracy"]
    slow = max(to_target, key=to_target.get)
    return [
        f"Accuracy: {named(accurate)} has the best validation accuracy, "
        f"{accuracy[accurate[0]]:.4f} {cite(rows, *accurate)}.",
        f"Speed: an epoch of {large} takes 1/{epoch[small] / epoch[large]:.0f} of the time of one of {small} "
        f"{cite(rows, small, large)}.",
        f"Speed: {named(fast)} is the first at validation loss {target:.3f} {cite(rows, *fast)}.",
        f"The last takes {to_target[slow] / to_target[fast[0]]:.1f} times as long: "
        f"{difference(rows, fast[0], slow, 'validation', 'seconds_to_target')}",
        f"Stability: from batch to batch the loss spreads least at {named(steady)}, by {spread[steady[0]]:.3f} nats, "
        f"against {spread[small]:.3f} at {small} {cite(rows, small, *steady)}.",
    ]


trade_offs.rule = (
    "the target is the lowest validation loss that every seed of every batch size reaches; seconds are those of the "
    "stack of all seeds divided by their number, on the machine of this run"
)

# ---------------------------------------------------------------------------- gradients

EVEN_WITHIN = 1000  # times
TOO_LARGE = 100


def flow(gradient: np.ndarray, silent: np.ndarray) -> tuple[str, str]:
    """dead | vanishing | exploding | even, and the facts behind it.

    gradient: (seeds, hidden layers), mean absolute; silent: (seeds, hidden layers), the share of units that are 0 for
    every place.
    """
    first, last = np.median(gradient[:, 0]), np.median(gradient[:, -1])
    start, end = (f"{size:.1e}" if size else "0 (or below 1e-38)" for size in (first, last))
    facts = f"the mean absolute gradient is {start} in layer 0 and {end} in the last hidden layer (median)"
    dead = (silent == 1).sum(axis=1)
    if np.mean(dead > 0) > 0.5:
        return "dead", f"{several(dead)} dead layers by seed, {facts}"
    if not first > last / EVEN_WITHIN:
        return "vanishing", facts
    return "exploding" if first > EVEN_WITHIN * last or first > TOO_LARGE else "even", facts


flow.rule = (
    "after the last epoch: dead where most seeds have a dead layer, one whose units are all 0 for every place, through "
    "which no gradient comes back; else by the mean absolute gradient of the weights, median over seeds: vanishing "
    f"where layer 0 gets less than 1/{EVEN_WITHIN} of the last hidden layer's; exploding where it gets more than "
    f"{EVEN_WITHIN} times that, or more than {TOO_LARGE}; even otherwise"
)


def several(counts: np.ndarray) -> str:
    """`5, 5, 5, 3 and 5`, or the number where all are the same."""
    words = [f"{int(count)}" for count in counts]
    return words[0] if len(set(words)) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def death(label: str, gradient: np.ndarray, silent: np.ndarray, rows: Rows) -> list[str]:
    """The sentences on a deep net; gradient: (seeds, epochs, layers), silent: (seeds, before and after, layers)."""
    row = cite(rows, label)
    start, last = (several((silent[:, epoch] == 1).sum(axis=1)) for epoch in (0, -1))
    word, facts = flow(gradient[:, -1], silent[:, -1])
    zero = (gradient[:, -1] == 0).mean(axis=1)
    return [
        f"Before training it has {start} dead layers by seed, after the last epoch {last} {row}.",
        f"After the last epoch the gradient is {word}: {facts} {row}.",
        f"{zero.mean():.0%} of the hidden layers (from {zero.min():.0%} to {zero.max():.0%} by seed) get exactly 0, "
        f"all that lie before a dead one {row}.",
    ]


def cause(label: str, gradient: np.ndarray, silent: np.ndarray, rows: Rows) -> str:
    """The sentence on a net that differs in one thing; gradient and silent after the last epoch, as in flow."""
    word, facts = flow(gradient, silent)
    start = several(rows[label]["train", "dead_layers_at_start"])
    factor = np.nanmedian(rows[label]["train", "factor_per_layer_at_start"])
    shrinks = f"changes by a factor of {factor:.2f} a layer"
    alive = f"{start} dead layers before training, the spread {shrinks} (median)"
    return f"{label}: {alive}: {word}, {facts} {cite(rows, label)}."


def cause_of_death(label: str, others: Sequence[str], rows: Rows) -> str:
    """The headline: dead layers of the plain net, and the decay of the one that has none."""
    dead = rows[label]["train", "dead_layers"]
    said = f"{several(np.unique(dead))} dead layers a seed".replace(" and ", " or ") if dead.any() else "no dead layer"
    alive = [other for other in others if not rows[other]["train", "dead_layers_at_start"].any()]
    if not alive:
        return said
    factor = np.nanmedian(rows[alive[0]]["train", "factor_per_layer_at_start"])
    return f"{said}; without them ({alive[0]}) the spread still changes by a factor of {factor:.2f} a layer"


def proposed(remedies: Sequence[str], flows: dict[str, tuple[str, str]], rows: Rows) -> str:
    """Which remedies keep the layers alive and the gradient even, from what `flow` says of them."""
    alive = [label for label in remedies if flows[label][0] != "dead"]
    even = [label for label in alive if flows[label][0] == "even"]
    if not alive:
        return f"No remedy leaves a net without dead layers in most seeds {cite(rows, *remedies)}."
    said = f"Against dead layers help {', '.join(alive)} {cite(rows, *alive)}"
    if not even:
        return f"{said}; none of them keeps the gradient even."
    return f"{said}; of these an even gradient, the proposed solutions, have {', '.join(even)} {cite(rows, *even)}."


# ---------------------------------------------------------------------------- closing the gap


def step(rows: Rows, a: str, b: str) -> str:
    """The sentence on one step of a ladder: gain in test accuracy, and what it costs."""
    seconds = [rows[label]["train", "seconds"].mean() for label in (a, b)]
    return f"{difference(rows, a, b)[:-1]}, at {seconds[1] / seconds[0]:.1f} times the training time."


def widths_apart(rows: Rows, kinds: Sequence[str], narrow: str, wide: str) -> str:
    """The sentence on how inputs and width interact: what width gains for each kind of input."""
    gains = {
        kind: (rows[f"{kind} {wide}"]["test", "accuracy"] - rows[f"{kind} {narrow}"]["test", "accuracy"]).mean()
        for kind in kinds
    }
    said = ", ".join(f"{gain:+.4f} from {kind}" for kind, gain in gains.items())
    return (
        f"Width, {narrow} to {wide}, gains {said} {cite(rows, *(f'{k} {w}' for k in kinds for w in (narrow, wide)))}."
    )


def beats(rows: Rows, label: str) -> str:
    """The headline on the chosen network against the nearest neighbour."""
    accuracy, mark = (rows[name]["test", "accuracy"].mean() for name in (label, "nearest neighbour"))
    words = {"higher": "beats", "lower": "stays below"}
    word = words.get(compare(rows, "nearest neighbour", label)[0], "shows no difference to")
    return f"{label} {word} the nearest neighbour: test accuracy {accuracy:.4f} against {mark:.4f}"


def near_borders(distance: np.ndarray, right: np.ndarray, label: str) -> str:
    """Where the errors lie: how near to another country half of them are, and how many of all places.

    distance: (n,), km, to the nearest place of another country; right: (seeds, n) bool.
    """
    if right.all():
        return f"{label} makes no error"
    limit = np.median(np.broadcast_to(distance, right.shape)[~right])
    said = (
        f"Half of the errors of {label} lie within {limit:,.{1 if limit < 10 else 0}f} km of a place of another country"
    )
    return f"{said}, where {np.mean(distance <= limit):.1%} of the places are"


# ---------------------------------------------------------------------------- over examples


def against(others: dict[str, Difference]) -> str:
    """Say which of the others, {name: difference to it}, is worse or better or can't be told apart, and over what."""
    groups: dict[str, list[str]] = {"better than": [], "worse than": [], "no difference shown to": []}
    for other, difference in others.items():
        sign = "better than" if difference.gain.mean() > 0 else "worse than"
        groups[sign if difference.shown else "no difference shown to"].append(f"{other} ({difference})")
    found = "; ".join(f"{words} {', '.join(found)}" for words, found in groups.items() if found)
    return f"{found}; over {' or '.join(dict.fromkeys(gap.over for gap in others.values()))}"


against.rule = f"{statistics.paired.rule};\np by Holm's method for the number of pairs"


def standing(means: dict[str, float], pairs: dict[tuple[str, str], Difference]) -> str:
    """Which one is best and which worst, or that this is not shown, in one line.

    means: test accuracies, the highest first; pairs: {(higher, lower): difference} of all pairs.
    """
    best, *_, worst = means
    if not pairs[best, worst].shown:
        return (
            f"No difference shown between highest and lowest: {best} ({means[best]:.3f}) and {worst} "
            f"({means[worst]:.3f})"
        )

    def end(name: str, alone: str, tied: str) -> str:
        level = tied_with(name, means, pairs)
        said = f"{name} {tied if level else alone}, {means[name]:.3f}"
        return f"{said}, no difference shown to {' and '.join(level)}" if level else said

    return f"{end(best, 'is best on the test photos', 'leads on the test photos')}; {end(worst, 'is worst', 'is last')}"


def tied_with(name: str, names: Iterable[str], pairs: dict[tuple[str, str], Difference]) -> list[str]:
    """Which of the names can't be told from this one."""
    return [other for other in names if other != name and not (pairs.get((name, other)) or pairs[other, name]).shown]


def best_and_worst(
    number: dict[str, int],
    ranked: Sequence[str],
    pairs: dict[tuple[str, str], Difference],
    gains: dict[str, np.ndarray],
) -> list[str]:
    """Best, worst, all pairs, and how much choosing learning rates on test would have flattered.

    number: {name: its row}, followed by the rows of the pairs; ranked: the highest first; gains: {name: (seeds,)}.
    """
    said = []
    for word, name in (("Best", ranked[0]), ("Worst", ranked[-1])):
        others = [other for other in ranked if other != name]
        gaps = {o: pairs[name, o] if (name, o) in pairs else -pairs[o, name] for o in others}
        doubt = f" So no single {word.lower()} one is shown." if tied_with(name, ranked, pairs) else ""
        found = against({f"{other}, row {number[other]}": gap for other, gap in gaps.items()})
        said.append(f"{word} by test accuracy: {name} (row {number[name]}): {found}.{doubt}")
    shown = sum(difference.shown for difference in pairs.values())
    first, last = len(number) + 1, len(number) + len(pairs)
    said.append(f"A difference is shown for {shown} of all {len(pairs)} pairs (rows {first} to {last}).")
    flattered = ", ".join(f"{name} by {gain.mean():.3f} (row {number[name]})" for name, gain in gains.items())
    return [*said, f"Choosing the learning rate on the test photos would have flattered {flattered}."]


CRIES_WOLF = 0.001  # a control is read in every study: with p < 0.05 one of 20 sound ones would raise an alarm


def control(accuracy: np.ndarray, row: int, chance: float = 0.5) -> str:
    """Say whether the test accuracies of a control on shuffled labels, one per shuffle, are at chance."""
    mean, half = statistics.interval(accuracy)
    gap = statistics.over_seeds(accuracy - chance)
    at_chance = gap.p >= CRIES_WOLF or mean < chance
    return (
        f"Control (row {row}): trained on shuffled labels, the learning rate chosen on validation too, the same probe "
        f"{'stays at chance' if at_chance else 'does not stay at chance, which puts the other rows in doubt'}: test "
        f"accuracy {mean:.3f} [{mean - half:.3f}, {mean + half:.3f}] over {len(accuracy)} shuffles."
    )


control.rule = (
    f"at chance: over the shuffles not above the share of the larger class with p < {CRIES_WOLF} (Student's t), as a "
    "control that is read in every study should rarely raise a false alarm"
)


def over_fits(label: str, rows: Rows, photos: int) -> str:
    """The sentence on XGBoost's default settings; photos: those of validation."""
    train, validation, test = (rows[label][s, "accuracy"][0] for s in ("train", "validation", "test"))
    over = "it over-fits, " if train > statistics.wilson(validation, photos)[1] else ""
    number = list(rows).index(label) + 1
    return (
        f"Default settings (row {number}): test accuracy {test:.3f}; {over}train is {train - validation:+.3f} above "
        "validation."
    )


over_fits.rule = "over-fits: train accuracy above validation's interval"


def above_chance(label: str, rows: Rows, y: np.ndarray) -> str:
    """The sentence on what validation chose; y: labels of the test photos."""
    accuracy, number = rows[label]["test", "accuracy"][0], list(rows).index(label) + 1
    low, high = statistics.wilson(accuracy, len(y))
    chance = statistics.chance(y)
    where = "above" if low > chance else "below" if high < chance else "not distinguishable from"
    return (
        f"Row {number}, which validation chooses, is at test accuracy {accuracy:.3f} {where} chance, {chance:.3g} "
        f"(95% interval {low:.3f} to {high:.3f})."
    )


above_chance.rule = "chance: the share of the larger class"


# ---------------------------------------------------------------------------- learning rates

FITS_TRAIN = 0.75  # accuracy


def rate_name(rate: float | None, without: str = "none") -> str:
    """`lr 0.001`; where there is no learning rate, what stands for it."""
    return without if rate is None else f"lr {rate:g}"


def chosen_rate(name: str, right: dict[str, np.ndarray], rows: Rows, names: dict[str, str]) -> list[str]:
    """What choosing the learning rate did to a baseline: the chosen one against the others, validation against test.

    right: {label: (seeds, n) bool, which test photos it gets right}; names: {label: its learning rate in words}.
    """
    best, number = statistics.choose(rows), {label: i for i, label in enumerate(rows, 1)}
    others = {label: statistics.paired(right[best], right[label]) for label in rows if label != best}
    found = {f"{names[label]}, row {number[label]}": gap for label, gap in statistics.holm(others).items()}
    accuracy = rows[best]["validation", "accuracy"].mean()
    top = f"{name}: validation chooses {names[best]} (row {number[best]}) with accuracy {accuracy:.3f}."
    taken, gain, _ = statistics.selection_bias(rows)
    same = "the same" if taken == best else f"{names[taken]} (row {number[taken]})"
    return [
        f"{top} On the test photos: {against(found)}.",
        f"{name}: choosing the learning rate on the test photos would have taken {same} and flattered the test "
        f"accuracy by {gain.mean():.3f}.",
    ]


chosen_rate.rule = "learning rate by mean validation accuracy, ties by validation loss"


def rates(name: str, rows: Rows, rate: dict[str, float], y: np.ndarray) -> str:
    """How learning rates end on train and validation; rate: {label: its rate}; y: labels of the validation photos."""
    best, photos = statistics.choose(rows), len(y)
    training, validation = (
        {label: cells[split, "accuracy"].mean() for label, cells in rows.items()} for split in ("train", "validation")
    )
    number = {label: i for i, label in enumerate(rows, 1)}
    if statistics.wilson(validation[best], photos)[0] <= statistics.chance(y):
        return (
            f"{name}: no learning rate takes validation accuracy above chance; the highest is "
            f"{validation[best]:.3f} of {photos} photos at {rate_name(rate[best])} (row {number[best]}), the highest "
            f"train accuracy {max(training.values()):.3f}."
        )
    said = []
    for side, labels in (
        ("lower", [label for label in rows if rate[label] < rate[best]]),
        ("higher", [label for label in rows if rate[label] > rate[best]]),
    ):
        if labels:
            worst = min(labels, key=validation.get)
            learnt = "fits the train photos" if training[worst] > FITS_TRAIN else "doesn't even fit the train photos"
            said.append(
                f"{side} ones go down to {validation[worst]:.3f} ({rate_name(rate[worst])}, row {number[worst]}, "
                f"which {learnt}: {training[worst]:.3f})"
            )
        else:
            said.append(f"none {side} was tried")
    top = f"validation accuracy is highest, {validation[best]:.3f}, at {rate_name(rate[best])} (row {number[best]})"
    return f"{name}: {top}; {'; '.join(said)}."


def begins_to_see(name: str, by: dict[int, str], rows: Rows, y: np.ndarray) -> str:
    """From how many epochs on a baseline is above chance; by: {epochs: label of its row}; y: labels of test photos."""
    means = {epochs: rows[label]["test", "accuracy"].mean() for epochs, label in by.items()}
    seeing = [epochs for epochs, mean in means.items() if statistics.wilson(mean, len(y))[0] > statistics.chance(y)]
    course = ", ".join(f"{mean:.3f} after {epochs}" for epochs, mean in means.items())
    since = f"is above chance from {plural(seeing[0], 'epoch')} on" if seeing else "never leaves chance"
    return f"{name} {since}: test accuracy {course} {cite(rows, *by.values())}."


begins_to_see.rule = "above chance: Wilson's interval of the test accuracy above the share of the larger class"


def more_epochs(name: str, by: dict[int, str], rows: Rows, right: dict[str, np.ndarray]) -> str:
    """What a baseline gains with more epochs, and whether it over-fits; right: {label: (seeds, n)}, test photos."""
    chosen = statistics.choose({label: rows[label] for label in by.values()})
    first, last = (by[epochs] for epochs in (min(by), max(by)))
    epochs = next(epochs for epochs, label in by.items() if label == chosen)
    loss = {label: rows[label]["validation", "loss"].mean() for label in by.values()}
    lowest = min(loss, key=loss.get)
    train, validation = (rows[last][split, "accuracy"].mean() for split in ("train", "validation"))
    over = "over-fits" if lowest != last and train > validation else "doesn't over-fit yet"
    said = f"{name}: validation chooses {plural(epochs, 'epoch')} {cite(rows, chosen)}."
    if chosen != first:
        said += f" Against {plural(min(by), 'epoch')}: {statistics.paired(right[chosen], right[first])}."
    return (
        f"{said} With {max(by)} it {over}: train accuracy {train:.3f}, validation loss {loss[last]:.3f}, the lowest "
        f"{loss[lowest]:.3f} {cite(rows, lowest)}."
    )


more_epochs.rule = "over-fits: train accuracy above validation's while the validation loss was lower after fewer epochs"

rates.rule = f"chance: the share of the larger class; fits the train photos: accuracy there above {FITS_TRAIN}"
