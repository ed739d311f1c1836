"""What a run's result depends on, found by following what its code refers to, so that an edit trains again.

`fingerprint` digests a function with every function, class and constant of this repository that it names, and those
that these name, and so on: their bytecode without docstrings, so that comments, sentences and layout change nothing. Of
other packages it keeps the name; their versions are in the key as a whole.
"""

import dataclasses
import dis
import functools
import hashlib
import importlib
import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]


def ours(file: str | None, module: str = "") -> bool:
    """Whether a source file belongs to this repository, or its module to nobody, as what is typed into a notebook."""
    path = Path(file or "/")
    inside = path.is_relative_to(ROOT) and "site-packages" not in path.parts
    return inside or module == "__main__" or file == "<string>"


def fingerprint(*things: Any) -> str:
    """A digest of values, functions and classes and of all that these refer to in this repository."""
    digest, seen, left = hashlib.sha256(), set(), list(things)
    while left:
        thing = left.pop(0)
        if id(thing) in seen:
            continue
        if isinstance(thing, (types.FunctionType, type)):  # others may share an id when they are gone
            seen.add(id(thing))
        text, more = describe(thing)
        digest.update(f"{text}\0".encode(errors="surrogatepass"))
        left[:0] = more
    return digest.hexdigest()


def describe(thing: Any) -> tuple[str, list]:
    """A text that is the same for the same thing in another process, and the things that it is made of or refers to."""
    if inspect.isfunction(thing):
        thing = inspect.unwrap(thing)
        if not ours(thing.__code__.co_filename, thing.__module__):
            return f"{thing.__module__}.{thing.__qualname__}", []
        cells = [cell.cell_contents for cell in thing.__closure__ or () if _filled(cell)]
        defaults = [thing.__defaults__, thing.__kwdefaults__]
        code = "\n".join(_texts(thing.__code__))
        return f"{thing.__qualname__} {code}", [*defaults, *cells, *_globals(thing.__code__, thing.__globals__)]
    if isinstance(thing, type):
        if not ours(getattr(sys.modules.get(thing.__module__), "__file__", None), thing.__module__):
            return f"{thing.__module__}.{thing.__qualname__}", []
        return thing.__qualname__, [*thing.__bases__, *_members(thing)]
    if dataclasses.is_dataclass(thing):
        return type(thing).__qualname__, [(f.name, getattr(thing, f.name)) for f in dataclasses.fields(thing)]
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
    if isinstance(thing, (types.ModuleType, types.BuiltinFunctionType)):
        return f"{thing.__name__}", []
    if hasattr(thing, "__wrapped__"):  # a cached function
        return "", [thing.__wrapped__]
    text = repr(thing)
    return (text, []) if " at 0x" not in text else (type(thing).__qualname__, [type(thing)])


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # of a function that names itself
        return False


def _texts(code: types.CodeType) -> Iterator[str]:
    """Bytecode, names and constants of a function and those inside it, without docstrings."""
    constants = list(code.co_consts)
    if constants and isinstance(constants[0], str) and not code.co_name.startswith("<"):
        constants[0] = None  # the docstring
    inner = [constant for constant in constants if isinstance(constant, types.CodeType)]
    sets = [sorted(map(repr, c)) if isinstance(c, frozenset) else repr(c) for c in constants if c not in inner]
    yield f"{code.co_name} {code.co_code.hex()} {code.co_names} {sets}"
    for one in inner:
        yield from _texts(one)


def _globals(code: types.CodeType, names: dict[str, Any]) -> Iterator[Any]:
    """The values of the global names that the code reads, and of `module.name` where the module is ours."""
    value = None
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            value = names.get(step.argval)
        elif step.opname == "IMPORT_NAME":  # inside the function
            value = importlib.import_module(step.argval) if step.argval else None
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM") and inspect.ismodule(value):
            value = getattr(value, step.argval, None) if ours(getattr(value, "__file__", None)) else None
        elif step.opname not in ("STORE_FAST", "PUSH_NULL", "RESUME"):
            value = None
        if value is not None and not inspect.ismodule(value):
            yield value
            value = None
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals(constant, names)


def _members(kind: type) -> Iterator[Any]:
    """What a class of this repository is made of, but for what dataclasses write by themselves."""
    for field in getattr(kind, "__dataclass_fields__", {}).values():
        yield field.name, field.default, field.default_factory
    for name, value in vars(kind).items():
        if isinstance(value, (staticmethod, classmethod, functools.cached_property, property)):
            value = getattr(value, "__func__", None) or getattr(value, "func", None) or value.fget
        if inspect.isfunction(value):
            file = inspect.unwrap(value).__code__.co_filename
            if ours(file, value.__module__) and file != "<string>":
                yield name, value
        elif not name.startswith("__"):
            yield name, value
