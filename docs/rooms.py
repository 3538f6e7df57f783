"""Draws the rooms of the package and who calls whom, from the imports as they are.

``python docs/rooms.py FILE`` draws them; the build of the documentation does so, too. The tests
read the imports with the same functions.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import sparsemed

ROOT = Path(sparsemed.__file__).parent
BLUE, GREY = "#0072B2", "#BBBBBB"

TO_THE_RIGHT = ("kernels", "parameters", "progress", "printable")
"""Rooms whose arrows would run behind others, were they further left."""


def read_modules() -> dict[str, ast.Module]:
    """Return the syntax tree of each module, by its name within the package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if len(parts) > 1 and parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the full name of what is imported anywhere in a module, whatever the form."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole path"
            yield from (f"{node.module}.{each.name}" for each in node.names)


def own_imports(tree: ast.AST, modules: dict[str, ast.Module]) -> Iterator[str]:
    """Yield the modules of the package that a module imports."""
    for name in imports(tree):
        package, _, within = name.partition(".")
        if package != "sparsemed":
            continue
        while within and within not in modules:  # a name within a module
            within = within.rpartition(".")[0]
        yield within or "__init__"


def room_of(module: str) -> str:
    """Return the folder of a module, or itself if it is in none."""
    return module.partition(".")[0]


def read_calls(modules: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Return for each room the others that it imports from."""
    calls: dict[str, set[str]] = {room_of(name): set() for name in modules}
    for name, tree in modules.items():
        room = room_of(name)
        calls[room] |= {room_of(other) for other in own_imports(tree, modules)} - {room}
    return calls


def floors_of(calls: dict[str, set[str]]) -> dict[str, int]:
    """Return on which floor each room is: one above the highest that it imports from."""
    floors: dict[str, int] = {}
    ahead = dict(calls)
    while ahead:
        free = {room for room, others in ahead.items() if others <= set(floors)}
        assert free, f"these rooms call each other: {sorted(ahead)}"
        for room in free:
            floors[room] = max((floors[other] + 1 for other in ahead.pop(room)), default=0)
    return floors


def draw_rooms() -> Figure:
    """Draw the rooms on their floors, with an arrow from each to those it imports from.

    The arrow is grey where another room on the way imports that one, too.
    """
    modules = read_modules()
    calls = read_calls(modules)
    for small in ("version", "__main__"):  # nothing to learn from these
        calls.pop(small)
    calls = {room: others & set(calls) for room, others in calls.items()}
    floors = floors_of(calls)
    sizes = {room: sum(room_of(name) == room for name in modules) for room in calls}
    rows: dict[int, list[str]] = {}
    for room in sorted(calls, key=lambda room: (room in TO_THE_RIGHT, -sizes[room], room)):
        rows.setdefault(floors[room], []).append(room)
    place = {}
    for floor, rooms in rows.items():
        for number, room in enumerate(rooms):
            place[room] = ((number + 0.5) / len(rooms), floor)

    figure = Figure(figsize=(7.5, 0.85 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(-0.5, len(rows) - 0.4))
    axes.set_axis_off()
    for room, others in calls.items():
        for other in others:
            (x, y), (to_x, to_y) = place[room], place[other]
            is_direct = not any(other in calls[between] for between in others)
            look = {"lw": 1.2, "color": BLUE} if is_direct else {"lw": 0.5, "color": GREY}
            axes.annotate(
                "",
                (to_x, to_y + 0.22),
                (x, y - 0.22),
                zorder=1,
                arrowprops={"arrowstyle": "-|>", "alpha": 1 if is_direct else 0.6, **look},
            )
    for room, (x, y) in place.items():
        width = min(0.17, 0.95 / len(rows[floors[room]]))
        axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - 0.2),
                width,
                0.4,
                boxstyle="round,pad=0,rounding_size=0.02",
                mutation_aspect=5,
                facecolor="white",
                edgecolor="black",
                zorder=2,
            )
        )
        is_folder = (ROOT / room).is_dir()
        name = {"__init__": "sparsemed"}.get(room, room + ("/" if is_folder else ""))
        axes.text(x, y + 0.06, name, ha="center", va="center", fontsize=9, zorder=3)
        count = f"{sizes[room]} modules" if is_folder else "1 module"
        axes.text(x, y - 0.11, count, ha="center", va="center", fontsize=6.5, zorder=3)
    return figure


if __name__ == "__main__":
    draw_rooms().savefig(sys.argv[1], dpi=190)
