"""The version of a function: a hash over all the code that can change what it returns.

It reads sources and follows imports within the function's own package; it imports nothing and runs nothing.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from daybreak.errors import UserError

LAKE = __name__.rpartition(".")[0]
STARTED = time.time()
"""When this process loaded this file. Code that is edited later is not the code that runs here."""


@cache
def version_of(function: Callable[..., Any]) -> str:
    """16 hex digits over a function's name, code, the code it imports, packages and Python.

    The code is that of its module and, transitively, of every module of the same top-level package that those import,
    anywhere in their text except under `if TYPE_CHECKING`; the lake's own is left out. Where a file changed after this
    process started, its text says nothing about what runs here: the version is then this process's own. Raises
    `UserError` for what has no name in a module.
    """
    name = getattr(function, "__qualname__", "")
    module = sys.modules.get(getattr(function, "__module__", ""))
    if not name or module is None or getattr(module, name, None) is not function:
        raise UserError(f"{name or function!r} is not a function at the top of a module, so that it has no version")
    # A spawned worker knows the main module by another name.
    known = "__main__" if module.__name__ == "__mp_main__" else module.__name__
    hasher = hashlib.sha256(f"{known}:{name}\0{platform.python_version()}\0".encode())
    sources, packages = _closure(known, (inspect.getsourcefile(function) or "") if known == "__main__" else "")
    for module_name in sorted(sources):
        path = sources[module_name]
        source = path.read_bytes()
        hasher.update(f"{module_name}\0{len(source)}\0".encode() + source)
        if path.stat().st_mtime > STARTED:
            hasher.update(f"{path} changed under {os.getpid()} of {STARTED}".encode())
    for package in sorted(packages):
        hasher.update(f"{package}=={_distribution(package)}\0".encode())
    return hasher.hexdigest()[:16]


def _closure(name: str, file: str) -> tuple[dict[str, Path], set[str]]:
    """The files of a module and of all that it imports of its own package; the other packages' names."""
    top = name.partition(".")[0]
    sources: dict[str, Path] = {}
    packages: set[str] = set()
    waiting, seen = [(name, True)], set()
    while waiting:
        entry = waiting.pop()
        module, whole = entry
        # The lake hands over items and bytes; it computes nothing of what a function returns.
        if entry in seen or (module, True) in seen or f"{module}.".startswith(f"{LAKE}."):
            continue
        seen.add(entry)
        path = Path(file) if module == name and file else _origin(module)
        if path is None:
            continue
        # A module that is no Python source (a compiled one) counts by its bytes.
        sources[module] = path
        # Importing a module runs its packages' files, but calls none of their functions.
        waiting += [(module.rsplit(".", n)[0], False) for n in range(1, module.count(".") + 1)]
        if path.suffix != ".py":
            continue
        for imported in _imports(path.read_bytes(), module, path.name == "__init__.py", whole):
            if imported.partition(".")[0] == top:
                waiting.append((imported, True))
            elif (other := imported.partition(".")[0]) not in sys.stdlib_module_names:
                packages.add(other)
    return sources, packages


def _imports(source: bytes, module: str, package: bool, whole: bool) -> Iterator[str]:
    """The absolute names of what a source imports, submodules named by `from a import b` too.

    `whole` looks into functions as well; without it only what runs when the module is imported counts.
    """
    for node in _walk(ast.parse(source), whole):
        if isinstance(node, ast.Import):
            # `import a.b` gives a hold of `a` too.
            for alias in node.names:
                yield from (alias.name.rsplit(".", n)[0] for n in range(alias.name.count(".") + 1))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + (1 if package else 0)]
                base = ".".join([*parts, base] if base else parts)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _walk(node: ast.AST, whole: bool) -> Iterator[ast.AST]:
    if not whole and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for other in node.orelse:
            yield from _walk(other, whole)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, whole)


def _origin(module: str) -> Path | None:
    """The file of a module, found without importing it where it is not imported yet; None where it is none."""
    loaded = sys.modules.get(module)
    spec = getattr(loaded, "__spec__", None)
    if spec is None:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, AttributeError, ValueError):
            return None
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        return None
    return Path(spec.origin)


@cache
def _distribution(package: str) -> str:
    """The version of the distribution that brings a top-level package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        owners = importlib.metadata.packages_distributions().get(package, [])
        return ",".join(f"{owner}-{importlib.metadata.version(owner)}" for owner in sorted(set(owners)))
