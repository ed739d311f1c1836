"""Headlines, and words that several sections share: numbers in, words out, with the rule they rest on as their `rule`.

A threshold stands once, in the constant that both the code and its rule read.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from lab.study import Cells, Condition, Result, Rows
from lab.tell import statistics
from lab.tell.statistics import UNCLEAR, Difference, choose, wilson

# ---------------------------------------------------------------------------- headlines


def named(labels: Sequence[str]) -> str:
    """The first of some labels and that no difference to the others is shown."""
    first, *level = labels
    others = ", ".join(level) if len(level) < 3 else f"{len(level)} others"
    return f"{first} ({UNCLEAR} to {others})" if level else first


def best(report) -> str:
    """The headline of a lab.gallery.report.Report that holds its rows against the best."""
    return f"Best: {named(report.level)}, test accuracy {report.of(report.reference):.3f}"


def best_to_worst(report) -> str:
    """The same with the worst, where it differs."""
    first, worst = report.reference, choose(report.rows, [x for x in report.rows if x not in report.beside], sign=-1)
    top, bottom = (f"{report.of(label):.3f}" for label in (first, worst))
    if first == worst:
        return f"All have the same validation accuracy; test accuracy of {first}: {top}"
    if worst in report.level:
        return f"{UNCLEAR.capitalize()} between best, {first}, and worst, {worst}: test accuracy {top}, {bottom}"
    return f"{best(report)}; worst: {worst}, {bottom}"


def scored(name: str, cells: Cells, n: int) -> str:
    """The test accuracy of a row and its interval over n examples."""
    mean, low, high = statistics.accuracy_on_test(cells, n)
    return f"{name}: test accuracy {mean:.3f} [{low:.3f}, {high:.3f}]"


# ---------------------------------------------------------------------------- curves of the loss

UNBOUNDED = 10  # times
NEAR_PRIOR = 0.04  # shares
STILL_FALLING = 0.05
UNSTABLE = 0.10
RISEN = 0.05


def diverged(result: Result, prior_loss: float) -> np.ndarray:
    """(seeds,) whether the loss of each one is lost; prior_loss: nats, of knowing only the class frequencies."""
    losses = np.stack([result["loss_train"], result["loss_validation"]])  # (2, S, E)
    lost = ~np.isfinite(losses).all(axis=2) | (losses[:, :, -1] > UNBOUNDED * prior_loss)
    return lost.any(axis=0)


def collapsed(result: Result, prior_loss: float) -> np.ndarray:
    """(seeds,) whether each one ends at the class frequencies: it came to that loss and no further, or fell back."""
    curve = result["loss_validation"]
    reached = (curve <= (1 + NEAR_PRIOR) * prior_loss).any(axis=1)
    return reached & (curve[:, -1] >= (1 - NEAR_PRIOR) * prior_loss) & ~diverged(result, prior_loss)


def course(result: Result, prior_loss: float) -> str:
    """How a run's validation loss went: diverged | collapsed | unstable | not finished | settled."""
    for lost in (diverged, collapsed):
        if lost(result, prior_loss).mean() > 0.5:
            return lost.__name__
    curve = np.median(result["loss_validation"], axis=0)
    fifth = max(1, len(curve) // 5)
    if curve[-1] > (1 + UNSTABLE) * curve.min() and not over_fits(result["loss_train"], result["loss_validation"]):
        return "unstable"
    fell = len(curve) > fifth and curve[-1] < (1 - STILL_FALLING) * curve[-1 - fifth]
    return "not finished" if fell else "settled"


diverged.rule = (
    f"diverged: a loss is not finite, or ends at more than {UNBOUNDED} times that of knowing only how frequent the "
    "classes are"
)
collapsed.rule = (
    "collapsed: it learnt no more than how frequent the classes are: the validation loss came within "
    f"{NEAR_PRIOR:.0%} of that of knowing only this, and ends no more than {NEAR_PRIOR:.0%} below it"
)
course.rule = (
    f"{diverged.rule};\n{collapsed.rule};\na run diverged or collapsed if most of its seeds did; by the median "
    f"validation loss it is unstable where that ends more than {UNSTABLE:.0%} above its minimum, though not by "
    f"over-fitting, else not finished where it fell by more than {STILL_FALLING:.0%} in the last fifth of the epochs, "
    "else settled"
)


def over_fits(train: np.ndarray, validation: np.ndarray) -> Condition:
    """Whether the validation loss rises while the training loss falls.

    Losses (n,) or (seeds, n): curves over epochs or rounds, or the ends of trainings of n lengths, the shortest first.
    """
    train, validation = (np.median(np.atleast_2d(losses), axis=0) for losses in (train, validation))
    lowest = validation.argmin()
    since = f"training loss {train[lowest]:.3g} there, {train[-1]:.3g} at the end"
    return Condition(
        validation[-1] > (1 + RISEN) * validation[lowest] and train[-1] < train[lowest],
        f"validation loss {validation[lowest]:.3g} at its lowest, {validation[-1]:.3g} at the end; {since}",
    )


over_fits.rule = (
    f"over-fits: the validation loss ends more than {RISEN:.0%} above its lowest although the training loss fell since "
    "(medians)"
)


def under_fits(train_accuracy: float, reference_accuracy: float, n: int) -> Condition:
    """Whether less of the train examples is right than a reference gets of n validation examples it never saw."""
    low, high = wilson(reference_accuracy, n)
    reference = f"the reference's {reference_accuracy:.4f} [{low:.4f}, {high:.4f}] on validation"
    word = "below" if train_accuracy < low else "not below"
    return Condition(train_accuracy < low, f"train accuracy {train_accuracy:.4f}, {word} {reference}")


under_fits.rule = (
    "under-fits: right on a smaller share of the examples it was trained on than the nearest neighbour is on "
    "validation examples: below Wilson's 95% interval of that accuracy"
)


def fit(result: Result, reference_accuracy: float, n: int) -> str:
    """over-fits | under-fits | over-fits and under-fits | neither over- nor under-fits; see under_fits."""
    found = {
        "over-fits": over_fits(result["loss_train"], result["loss_validation"]),
        "under-fits": under_fits(result.at("accuracy_train").mean(), reference_accuracy, n),
    }
    return " and ".join(word for word, holds in found.items() if holds) or "neither over- nor under-fits"


fit.rule = f"{over_fits.rule};\n{under_fits.rule}"

# ---------------------------------------------------------------------------- gradients

EVEN_WITHIN = 1000  # times
TOO_LARGE = 100


def dead_layers(silent: np.ndarray) -> np.ndarray:
    """How many layers each seed has whose units are all 0 for every place; silent: (seeds, layers), their share."""
    return (silent == 1).sum(axis=1)


def flow(gradient: np.ndarray, silent: np.ndarray) -> str:
    """dead | vanishing | exploding | even; gradient: (seeds, layers), mean absolute; silent: as in dead_layers."""
    first, last = np.median(gradient[:, 0]), np.median(gradient[:, -1])
    if np.mean(dead_layers(silent) > 0) > 0.5:
        return "dead"
    if not first > last / EVEN_WITHIN:
        return "vanishing"
    return "exploding" if first > EVEN_WITHIN * last or first > TOO_LARGE else "even"


flow.rule = (
    "after the last epoch: dead where most seeds have a dead layer, one whose units are all 0 for every place, through "
    "which no gradient comes back; else by the mean absolute gradient of the weights, median over seeds: vanishing "
    f"where layer 0 gets less than 1/{EVEN_WITHIN} of the last hidden layer's; exploding where it gets more than "
    f"{EVEN_WITHIN} times that, or more than {TOO_LARGE}; even otherwise"
)


def stopped_by_dead(gradient: np.ndarray, silent: np.ndarray) -> Condition:
    """Whether in every seed just the layers up to its last dead one, and the one this feeds, have a gradient of 0."""
    dead, layers = silent == 1, np.arange(gradient.shape[1])
    last = np.where(dead, layers, -2).max(axis=1)
    holds = dead.any(axis=1).all() and ((gradient == 0) == (layers <= last[:, None] + 1)).all()
    zeros = several((gradient == 0).sum(axis=1))
    return Condition(
        holds, f"dead layers by seed: {several(dead_layers(silent))}; layers with a gradient of 0: {zeros}"
    )


def several(counts: Iterable[float]) -> str:
    """`5, 5, 5, 3 and 5`, or the number where all are the same."""
    words = [f"{int(count)}" for count in counts]
    return words[0] if len(set(words)) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# ---------------------------------------------------------------------------- baselines


def standing(means: dict[str, float], pairs: dict[tuple[str, str], Difference]) -> str:
    """Which one is best and which worst, or that this is not shown, in one line.

    means: test accuracies, the highest first; pairs: {(higher, lower): difference} of all pairs.
    """
    best, *_, worst = means
    if not pairs[best, worst].shown:
        ends = f"{best} ({means[best]:.3f}) and {worst} ({means[worst]:.3f})"
        return f"No difference shown between highest and lowest: {ends}"

    def end(name: str, alone: str, tied: str) -> str:
        level = tied_with(name, means, pairs)
        said = f"{name} {tied if level else alone}, {means[name]:.3f}"
        return f"{said}, {UNCLEAR} to {' and '.join(level)}" if level else said

    return f"{end(best, 'is best on the test photos', 'leads on the test photos')}; {end(worst, 'is worst', 'is last')}"


def tied_with(name: str, names: Iterable[str], pairs: dict[tuple[str, str], Difference]) -> list[str]:
    """Which of the names can't be told from this one."""
    return [other for other in names if other != name and not (pairs.get((name, other)) or pairs[other, name]).shown]


CRIES_WOLF = 0.001  # a control is read in every study: with p < 0.05 one of 20 sound ones would raise an alarm


def control(accuracy: np.ndarray, chance: float) -> Condition:
    """Whether the test accuracies (shuffles,) of a probe that was trained on shuffled labels are at chance."""
    mean, half = statistics.interval(accuracy)
    at_chance = statistics.over_seeds(accuracy - chance).p >= CRIES_WOLF or mean < chance
    return Condition(
        at_chance,
        "Control: trained on shuffled labels, the learning rate chosen on validation too, the same probe "
        f"{'stays at chance' if at_chance else 'does not stay at chance, which puts the other rows in doubt'}: test "
        f"accuracy {mean:.3f} [{mean - half:.3f}, {mean + half:.3f}] over {len(accuracy)} shuffles.",
    )


control.rule = (
    f"at chance: over the shuffles not above the share of the larger class with p < {CRIES_WOLF} (Student's t), as a "
    "control that is read in every study should rarely raise a false alarm"
)


def above_chance(accuracy: float, n: int, chance: float, name: str = "test accuracy") -> Condition:
    """Whether an accuracy over n examples is shown to be above chance."""
    low, high = wilson(accuracy, n)
    where = "above" if low > chance else "below" if high < chance else "not distinguishable from"
    return Condition(low > chance, f"{name} {accuracy:.3f} [{low:.3f}, {high:.3f}], {where} chance, {chance:.3g}")


above_chance.rule = "above chance: Wilson's 95% interval of the accuracy is above the share of the larger class"


def begins_to_see(accuracies: dict[int, float], n: int, chance: float) -> int | None:
    """From how many epochs on every accuracy over n examples is above chance; accuracies: {epochs: accuracy}."""
    since = None
    for epochs in sorted(accuracies, reverse=True):
        if not above_chance(accuracies[epochs], n, chance):
            break
        since = epochs
    return since


begins_to_see.rule = f"{above_chance.rule};\nfrom some epochs on: after these and all larger numbers of epochs"

# ---------------------------------------------------------------------------- learning rates


def rate_name(rate: float | None, without: str = "none") -> str:
    """`lr 0.001`; where there is no learning rate, what stands for it."""
    return without if rate is None else f"lr {rate:g}"


def rates(name: str, rows: Rows, rate: dict[str, float], y: dict[str, np.ndarray]) -> str:
    """How learning rates end on validation and train; rate: {label: its rate}; y: labels of each split."""
    best = choose(rows)
    train, validation = ({x: cells[s, "accuracy"].mean() for x, cells in rows.items()} for s in ("train", "validation"))
    photos, chance = len(y["validation"]), statistics.chance(y["validation"])
    if not above_chance(validation[best], photos, chance):
        return (
            f"{name}: no learning rate takes validation accuracy above chance; the highest is {validation[best]:.3f} "
            f"of {photos} photos at {rate_name(rate[best])}, the highest train accuracy {max(train.values()):.3f}."
        )
    low, high = wilson(train[best], len(y["train"]))

    def side(word: str, labels: list[str]) -> str:
        if not labels:
            return f"none {word} was tried"
        worst = min(labels, key=validation.get)
        fits = "fits fewer of" if train[worst] < low else "fits more of" if train[worst] > high else "fits as many of"
        end = f"{validation[worst]:.3f} ({rate_name(rate[worst])}, which {fits} the train photos: {train[worst]:.3f})"
        return f"{word} ones go down to {end}"

    sides = {"lower": [x for x in rows if rate[x] < rate[best]], "higher": [x for x in rows if rate[x] > rate[best]]}
    top = f"{validation[best]:.3f}, at {rate_name(rate[best])} (train: {train[best]:.3f})"
    ends = "; ".join(side(word, labels) for word, labels in sides.items())
    return f"{name}: validation accuracy is highest, {top}; {ends}."


rates.rule = (
    f"{above_chance.rule};\nfits more or fewer of the train photos: a train accuracy outside Wilson's 95% interval of "
    "that of the chosen learning rate"
)
