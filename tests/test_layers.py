"""What may import what: scripts, then helpers.py, then the rooms of lab/ in their order, as its folders show them."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = {"NN_tutorial": set(), "cnn": {"xg"}, "xg": set()}  # with the scripts that they build on
ROOMS = ["errors", "files", "study", "run", "tell", "data", "nets", "draw", "gallery"]  # what is left knows none right


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """The modules of this repository that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports from ."
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name for name in found if name in FILES and FILES[name] != path}


def room(module: str) -> str:
    return module.split(".")[1]


FILES = {module_name(path): path for path in [*ROOT.glob("*.py"), *ROOT.glob("lab/**/*.py")]}
IMPORTS = {name: imported(path) for name, path in FILES.items()}
LAB = [name for name in FILES if name.startswith("lab.")]


def test_every_file_has_its_room_and_no_two_import_each_other():
    assert FILES.keys() - LAB - {"lab"} == {*SCRIPTS, "helpers"}
    assert {room(name) for name in LAB} == set(ROOMS)
    assert len(LAB) > 30
    order = list(TopologicalSorter(IMPORTS).static_order())  # raises where there is a circle
    assert set(order) == FILES.keys()
    assert not any(IMPORTS[name] for name, path in FILES.items() if path.name == "__init__.py")


@pytest.mark.parametrize("module", LAB)
def test_a_module_says_what_it_is_for_and_knows_no_script_and_no_room_above_its_own(module):
    assert re.match(r"[A-Z`].{15,}[.:]", ast.get_docstring(ast.parse(FILES[module].read_text())).splitlines()[0])
    assert IMPORTS[module] <= {*LAB, "lab"}
    above = ROOMS[ROOMS.index(room(module)) + 1 :]
    assert {other for other in IMPORTS[module] if other != "lab" and room(other) in above} == set()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_builds_on_helpers_and_lab_and_is_ready_for_ctrl_c_before_anything_else_is_imported(script):
    assert "helpers" in IMPORTS[script]
    assert IMPORTS[script] & SCRIPTS.keys() == SCRIPTS[script]
    assert IMPORTS["helpers"] <= {*LAB}
    first = re.findall(r"^(?:import|from) .*", FILES[script].read_text(), re.MULTILINE)[0]
    assert first.startswith("import lab.run.interrupt")
