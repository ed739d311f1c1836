"""What may import what: scripts, then helpers.py, then lab/, whose modules lie on three floors."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = {"NN_tutorial": set(), "cnn": {"xg"}, "xg": set()}  # with the scripts that they build on
FLOORS = [
    "errors files results statistics stopping tables places layouts pictures cues likeness photos stack keys backbones "
    "progress resuming",
    "verdicts charts html live maps pages cluster processes runs recording",
    "gallery commands comparison",
    "reporting",
]
FLOOR = {f"lab.{name}": number for number, names in enumerate(FLOORS) for name in names.split()}
OURS = {path.stem: path for path in ROOT.glob("*.py")}
LAB = {f"lab.{path.stem}": path for path in (ROOT / "lab").glob("*.py") if path.stem != "__init__"}


def imported(name: str, path: Path) -> set[str]:
    """The modules of this repository that a file imports, anywhere in it; not itself."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports from ."
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return (found & {*OURS, *LAB}) - {name}


IMPORTS = {name: imported(name, path) for name, path in {**OURS, **LAB}.items()}


def test_every_file_has_its_place_and_there_is_no_circle():
    assert OURS.keys() == {*SCRIPTS, "helpers"}
    assert LAB.keys() == FLOOR.keys()
    assert set() < IMPORTS["helpers"] <= LAB.keys()
    order = list(TopologicalSorter(IMPORTS).static_order())  # raises where there is a circle
    assert len(order) == len(IMPORTS)


@pytest.mark.parametrize("module", LAB)
def test_a_module_of_lab_knows_no_script_and_nothing_above_it(module):
    assert IMPORTS[module] <= LAB.keys()
    assert {other for other in IMPORTS[module] if FLOOR[other] > FLOOR[module]} == set()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_builds_on_helpers_and_lab_and_is_ready_for_ctrl_c_before_anything_else_is_imported(script):
    assert "helpers" in IMPORTS[script]
    assert IMPORTS[script] & SCRIPTS.keys() == SCRIPTS[script]
    assert re.findall(r"^(?:import|from) .*", OURS[script].read_text(), re.MULTILINE)[0].startswith(
        "import lab.run.interrupt"
    )
