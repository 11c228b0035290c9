"""Imports point one way: from the commands down to the files that travel with a model, without a cycle."""

import ast
from pathlib import Path

import modeling_crh

PACKAGE = Path(modeling_crh.__file__).parent
LAYERS = [
    {""},  # the files that travel with a model
    {"runtime"},
    {"data"},
    {"encoding", "metrics"},
    {"training", "search", "hub"},
    {"report", "app", "export", "demo"},
    {"cli"},
]
UPWARD = {  # in a `try`: a model that travels has neither
    ("modeling_crh.modeling_crh", "modeling_crh.hub.push"),
    ("modeling_crh.modeling_crh", "modeling_crh.encoding.adapters"),
}


def module_name(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imported_by(name, path):
    """Modules of the package that a module imports, at its top or inside of a function."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {other for other in names if other in MODULES and other != name}
    return found


GRAPH = {name: imported_by(name, path) for name, path in MODULES.items()}


def layer(name):
    parts = name.split(".")
    is_package = MODULES[name].name == "__init__.py"
    room = parts[1] if len(parts) > 2 or (len(parts) == 2 and is_package) else ""
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


def test_no_module_imports_itself_by_way_of_others():
    remaining = {name: others - {"modeling_crh"} for name, others in GRAPH.items()}
    while free := {name for name, others in remaining.items() if not others & remaining.keys()}:
        remaining = {name: others for name, others in remaining.items() if name not in free}
    assert not remaining, f"These modules import each other in circles: {sorted(remaining)}"


def test_no_module_imports_from_a_room_above_its_own():
    upward = {
        (name, other)
        for name, others in GRAPH.items()
        for other in others
        if name != "modeling_crh" and layer(other) > layer(name)
    }
    assert upward <= UPWARD
