"""What a run's result depends on, found by following what its code refers to, so that an edit trains again.

`fingerprint` digests a function with every function, class and constant of this repository that it names, and those
that these name, and so on: their bytecode without docstrings, so that comments, sentences and layout change nothing. Of
other packages it keeps the name; their versions are in the key as a whole.
"""

import contextlib
import dataclasses
import dis
import functools
import hashlib
import importlib.util
import inspect
import pkgutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab.files import ROOT

PLANS = ("budget", "work", "needs")  # of a configuration, see lab/study.py: which runs there are, not what they give


def ours(file: str | None, module: str = "") -> bool:
    """Whether a source file belongs to this repository, or its module to nobody, as what is typed into a notebook."""
    return _inside(file or "") or module == "__main__" or file == "<string>"


@functools.cache
def _inside(file: str) -> bool:
    path = Path(file).resolve()  # the repository may be reached through a link
    return Path(file).is_absolute() and path.is_relative_to(ROOT.resolve()) and "site-packages" not in path.parts


def fingerprint(*things: Any) -> str:
    """A digest of values, functions and classes and of all that these refer to in this repository."""
    digest, seen, left = hashlib.sha256(), {}, list(things)
    while left:
        thing = left.pop(0)
        if id(thing) in seen:
            text, more = f"again {seen[id(thing)][0]}", []
        else:
            if type(thing).__eq__ is object.__eq__:  # equal to itself alone, as functions and classes
                seen[id(thing)] = len(seen), thing  # kept, or another might get its id
            text, more = describe(thing)
        digest.update(f"{text}\0".encode(errors="surrogatepass"))
        left[:0] = more
    return digest.hexdigest()


def describe(thing: Any) -> tuple[str, list]:
    """A text that is the same for the same thing in another process, and the things that it is made of or refers to."""
    if inspect.isfunction(thing):
        return _describe_function(thing)
    if isinstance(thing, type):
        return _describe_class(thing)
    if dataclasses.is_dataclass(thing):
        values = [(field.name, getattr(thing, field.name)) for field in dataclasses.fields(thing)]
        return type(thing).__qualname__, [*type(thing).__bases__, *values, *_members(type(thing), made=True)]
    if isinstance(thing, dict):
        return f"dict {len(thing)}", [x for pair in thing.items() for x in pair]
    if isinstance(thing, (set, frozenset)):
        return f"set {len(thing)}", sorted(thing, key=repr)
    if isinstance(thing, (tuple, list)):
        return f"{type(thing).__name__} {len(thing)}", list(thing)
    if isinstance(thing, functools.partial):
        return "partial", [thing.func, thing.args, thing.keywords]
    if isinstance(thing, types.MethodType):
        return thing.__name__, [thing.__func__, thing.__self__]
    if isinstance(thing, (np.ndarray, torch.Tensor)):
        values = np.asarray(thing)
        return f"array {values.dtype} {values.shape} {hashlib.sha256(values.tobytes()).hexdigest()}", []
    if isinstance(thing, types.ModuleType):
        return thing.__name__, []
    if isinstance(thing, types.BuiltinFunctionType):
        return thing.__name__, [thing.__self__]
    if hasattr(thing, "__wrapped__"):  # a cached function
        return "", [thing.__wrapped__]
    text = repr(thing)
    if " at 0x" not in text or isinstance(thing, str):
        return text, []
    state = getattr(thing, "__dict__", {}) if _of_ours(type(thing)) else {}
    return type(thing).__qualname__, [type(thing), state]


def _describe_function(function: types.FunctionType) -> tuple[str, list]:
    module = function.__globals__.get("__name__", "")  # not __module__: a wrapper has the one of what it wraps
    if not ours(function.__code__.co_filename, module):
        wrapped = [function.__wrapped__] if hasattr(function, "__wrapped__") else []
        return f"{module}.{function.__code__.co_qualname}", wrapped
    cells = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    defaults = [function.__defaults__, function.__kwdefaults__]
    code = "\n".join(map(_text, _codes(function.__code__)))
    return f"{function.__qualname__} {code}", [*defaults, *cells, *_globals(function.__code__, function.__globals__)]


def _describe_class(kind: type) -> tuple[str, list]:
    if not _of_ours(kind):
        return f"{kind.__module__}.{kind.__qualname__}", []
    fields = getattr(kind, "__dataclass_fields__", {}).values()
    defaults = [(field.name, field.default, field.default_factory) for field in fields]
    members = () if issubclass(kind, BaseException) else _members(kind)  # a run that raises gives no numbers
    return kind.__qualname__, [*kind.__bases__, *defaults, *members]


def _of_ours(kind: type) -> bool:
    return ours(getattr(sys.modules.get(kind.__module__), "__file__", None), kind.__module__)


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # of a function that names itself
        return False


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code of a function and of those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _text(code: types.CodeType) -> str:
    """Bytecode, names and constants, without the docstring."""
    constants = [constant for constant in code.co_consts if not isinstance(constant, types.CodeType)]
    flag = getattr(inspect, "CO_HAS_DOCSTRING", 0)  # from Python 3.14 on; before, only comprehensions need not begin so
    if constants and isinstance(constants[0], str) and (code.co_flags & flag or not (flag or code.co_name[0] == "<")):
        constants[0] = None
    sets = [sorted(map(repr, c)) if isinstance(c, frozenset) else repr(c) for c in constants]
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return f"{code.co_name} {parameters} {code.co_code.hex()} {code.co_exceptiontable.hex()} {code.co_names} {sets}"


def _globals(code: types.CodeType, names: dict[str, Any]) -> Iterator[Any]:
    """The values of the global names that the code reads, and of `module.name` where the module is ours."""
    value = None
    for step, name in _steps(code):
        if step in ("LOAD_GLOBAL", "LOAD_NAME"):
            value = names.get(name)
        elif step in ("LOAD_ATTR", "LOAD_METHOD") and inspect.ismodule(value):
            value = getattr(value, name, None) if ours(getattr(value, "__file__", None)) else None
        elif step != "PUSH_NULL":
            value = None
        if value is not None and not inspect.ismodule(value):
            yield value
            value = None
        if step == "IMPORT_NAME":
            yield from _imported(name, {mentioned for one in _codes(code) for mentioned in one.co_names})


@functools.cache
def _steps(code: types.CodeType) -> list[tuple[str, Any]]:
    return [(step.opname, step.argval) for one in _codes(code) for step in dis.get_instructions(one)]


def _imported(name: str, mentioned: set[str]) -> Iterator[Any]:
    """What a function may read from a module of ours that it imports itself: all that it mentions."""
    with contextlib.suppress(ImportError, ValueError):  # the function will hear of it
        spec = importlib.util.find_spec(name.partition(".")[0])
        modules = [importlib.import_module(name)] if spec and ours(spec.origin) else []
        for module in modules:
            inside = {each.name for each in pkgutil.iter_modules(getattr(module, "__path__", []))}
            modules += [importlib.import_module(f"{module.__name__}.{each}") for each in sorted(inside & mentioned)]
            found = [vars(module)[each] for each in sorted(mentioned & vars(module).keys())]
            yield from (value for value in found if not inspect.ismodule(value))


def _members(kind: type, made: bool = False) -> Iterator[Any]:
    """What a class of this repository is made of, but for fields of dataclasses and what these write by themselves.

    made: of an instance that has its values.
    """
    for name, value in vars(kind).items():
        if name in PLANS:
            continue
        if isinstance(value, (staticmethod, classmethod, functools.cached_property, property)):
            value = getattr(value, "__func__", None) or getattr(value, "func", None) or value.fget
        if inspect.isfunction(value):
            file = inspect.unwrap(value).__code__.co_filename
            if ours(file, value.__module__) and file != "<string>" and not (made and name == "__post_init__"):
                yield name, value
        elif not name.startswith("__") and name not in getattr(kind, "__dataclass_fields__", {}):
            yield name, value
