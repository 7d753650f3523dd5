"""The house's rules: who may import whom, how long a file may be, how it opens, and papers that match the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "daybreak").rglob("*.py"))
LONGEST = 500
"""Lines; about 400 is the aim, a file that needs more is two things."""

MAY = {
    "cli": ("cli", "lab", "media", "errors", ""),
    "lab": ("lab", "media", "errors", ""),
    "systems": ("lab", "nn", "media", "errors", ""),
    "nn": ("nn",),
    "media": ("media", "errors"),
    "errors": (),
    "": ("lab", "errors", ""),
    "demo": ("cli", "lab", "media", "errors", ""),
    "__main__": ("cli",),
}
"""Room -> the rooms it may import; "" is the package itself. A system may also import itself."""


def room(name: str) -> str:
    """The room of a module: "daybreak.lab.run" -> "lab"."""
    return [*name.split("."), ""][1]


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and module of every import of daybreak in a file, also those inside functions and in strings."""
    name = module(path)
    known = {module(file) for file in FILES}
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            target = f"{base}{node.module or ''}".rstrip(".")
            inner = [f"{target}.{alias.name}" for alias in node.names]
            found += [(node.lineno, name if name in known else target) for name in inner]
        elif isinstance(node, ast.Constant) and (named := re.fullmatch(r"(daybreak(?:\.\w+)+):\w+", str(node.value))):
            found.append((node.lineno, named[1]))
    return [(line, target) for line, target in found if target.split(".")[0] == "daybreak"]


def forbidden(path: Path) -> list[str]:
    """The imports of a file that the house forbids."""
    name = module(path)
    here = room(name)
    wrong = []
    for line, target in imports(path):
        there = room(target)
        own_system = here == "systems" and target.split(".")[2:3] == name.split(".")[2:3]
        composes = name.startswith("daybreak.systems.character") and target.endswith(".model")
        if there not in MAY[here] and not own_system and not composes:
            wrong.append(f"{path.relative_to(ROOT)}:{line}: {here or 'daybreak'} may not import {target}")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_the_rooms_below_it(path):
    assert forbidden(path) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("daybreak/lab/x.py", "from daybreak.systems.music import net"),
        ("daybreak/lab/x.py", "def f():\n    import daybreak.cli.show"),
        ("daybreak/lab/x.py", "system = 'daybreak.systems.music.model:Music'"),
        ("daybreak/lab/x.py", "from .. import systems"),
        ("daybreak/media/x.py", "from daybreak.lab.home import Lab"),
        ("daybreak/nn/x.py", "from daybreak.lab import recipe"),
        ("daybreak/systems/music/x.py", "from daybreak.systems.speech import model"),
        ("daybreak/systems/music/x.py", "from daybreak.cli import show"),
    ],
)
def test_the_rule_sees_what_it_forbids(tmp_path, monkeypatch, path, line):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(line)
    others = [tmp_path / name for name in ("daybreak/systems/__init__.py", "daybreak/systems/speech/model.py")]
    monkeypatch.setattr(sys.modules[__name__], "FILES", [file, *others])
    assert len(forbidden(file)) == 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_opens_with_what_it_is_and_stays_short(path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "a file opens with a paragraph: what it is for, what it knows"
    assert text.count("\n") <= LONGEST


def test_listing_and_help_import_no_system_and_nothing_heavy():
    program = (
        "import sys, daybreak\n"
        "from daybreak.cli import main\n"
        "main(['--help']); main(['systems'])\n"
        "heavy = {'torch', 'optuna', 'apprise', 'jinja2', 'symusic', 'soundfile'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_is_unpickled_or_evaluated():
    """By name, over every file: what reads a lake, a checkpoint or a request has no way to run it."""
    banned = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = {a.name.split(".")[0] for a in node.names} if isinstance(node, ast.Import) else set()
            if isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]}
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load"), f"{path}:{node.lineno} calls {called}"
            assert not names & banned, f"{path}:{node.lineno} imports {names & banned}"


def test_contributing_shows_the_example_as_it_is():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    shown = re.findall(r"^`([\w./]+)`[^\n]*\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    example = ROOT / "examples" / "thirdparty"
    assert [name for name, _ in shown] == [
        "pyproject.toml", *(f"daybreak_sines/{name}.py" for name in ("__init__", "data", "model", "recipe")),
    ]  # fmt: skip
    for name, block in shown:
        assert block == (example / name).read_text(), (
            f"CONTRIBUTING.md shows another {name} than examples/thirdparty has"
        )


ROOMS = sorted((ROOT / "daybreak").rglob("*.md"))


def test_every_link_of_the_papers_leads_somewhere():
    for paper in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")), *ROOMS]:
        prose = re.sub(r"^```.*?^```$", "", paper.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
            if not re.match(r"\w+:", target):
                assert (paper.parent / target).exists(), f"{paper.relative_to(ROOT)} links to {target}"


def test_the_pages_name_commands_that_exist():
    """Every `daybreak WORD` in the docs is a command or a system."""
    from daybreak.cli import COMMANDS
    from daybreak.lab.system import systems

    for paper in [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), *ROOMS]:
        words = re.findall(r"(?:^ {4}|`|^\$ )daybreak ([a-z]\w*)", paper.read_text(), re.MULTILINE)
        unknown = set(words) - {*COMMANDS, *systems(), "sines", "verify", "export", "serve", "kiosk", "standing"}
        assert not unknown, f"{paper.name}: {unknown}"
