"""The house (DESIGN section 6): imports go down the floors, and heavy libraries stay where they belong."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from aftertune.errors import MODEL_PACKAGES

SRC = Path(__file__).parents[1] / "src" / "aftertune"
FLOORS = (
    ("_version", "errors", "foreign_text", "processor"),
    ("records", "seeds"),
    ("stats",),
    ("study",),
    ("store", "sources"),
    ("engines", "data"),
    ("tuning", "tasks", "judges", "formats"),
    ("stages", "analysis"),
    ("report", "executors"),
    ("pipeline",),
    ("commands",),
    ("results",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
HEAVY = set(MODEL_PACKAGES)


def files() -> Iterator[tuple[Path, list[str], ast.Module]]:
    """Every file but the package's own door, with the parts of its name below the package."""
    for path in sorted(SRC.rglob("*.py")):
        if path != SRC / "__init__.py":
            yield path, list(path.relative_to(SRC).with_suffix("").parts), ast.parse(path.read_text("utf-8"))


def imported(nodes: Iterator[ast.AST]) -> Iterator[list[str]]:
    """The dotted names that some statements import; every import of the project is absolute."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            yield from ([*str(node.module).split("."), alias.name] for alias in node.names)


def at_module_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements that run on import: not those in functions or under `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def test_every_room_stands_on_a_floor():
    assert {parts[0] for _, parts, _ in files()} <= set(FLOOR)


def test_imports_go_down():
    wrong = [
        f"{path.relative_to(SRC)} imports {'.'.join(name)}"
        for path, parts, tree in files()
        for name in imported(ast.walk(tree))
        if name[0] == "aftertune" and name[1] in FLOOR and name[1] != parts[0]
        if FLOOR[name[1]] >= FLOOR[parts[0]]
    ]
    assert wrong == []


def test_nothing_imports_from_the_package_root():
    wrong = [
        f"{path.relative_to(SRC)} imports {'.'.join(name)}"
        for path, _, tree in files()
        for name in imported(ast.walk(tree))
        if name[0] == "aftertune" and (len(name) == 1 or name[1] not in FLOOR)
    ]
    assert wrong == []


def test_stages_meet_in_files_alone():
    wrong = [
        f"{path.relative_to(SRC)} imports {'.'.join(name)}"
        for path, parts, tree in files()
        for name in imported(ast.walk(tree))
        if parts[0] == "stages" and name[:2] == ["aftertune", "stages"] and name[2:3] != parts[1:2]
    ]
    assert wrong == []


def test_heavy_libraries_are_imported_by_engines_and_tuning_alone():
    wrong = [
        f"{path.relative_to(SRC)} imports {name[0]}"
        for path, parts, tree in files()
        for name in imported(at_module_level(tree))
        if name[0] in HEAVY and parts[0] not in ("engines", "tuning")
    ]
    assert wrong == []


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('loaded', *sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("loaded ")[2].split())


def test_the_package_and_its_help_load_nothing_heavy():
    heavy = HEAVY | {"polars", "scipy", "pydantic"}
    assert heavy & loaded_by("import aftertune") == set()
    assert (
        heavy
        & loaded_by(
            "import sys\nfrom aftertune.cli import main\nsys.argv = ['aftertune', '--help']\n"
            "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code"
        )
        == set()
    )


def test_what_reads_results_loads_no_model_library():
    code = (
        "import aftertune.pipeline, aftertune.judges, aftertune.tasks, aftertune.data, aftertune.cli\n"
        "from aftertune.commands import audit, calibrate, compare, export, gate, import_logs, plan, status"
    )
    assert HEAVY & loaded_by(code) == set()
