"""Print the lowest versions that setup.py allows, for pip: one requirement a line.

Torch comes at the version of constraints.txt, whose wheel is at hand; of the test tools
those that the common tests and the tests of the heads need.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = {"hypothesis", "matplotlib", "pandas", "pytest"}


def literals():
    """Values of the lists and dictionaries that setup.py begins with."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List | ast.Dict)
    }


def lowest():
    """Requirements with the lower bound as the version."""
    values = literals()
    wanted = [
        *values["INSTALL_REQUIRES"],
        *(r for r in values["EXTRAS_REQUIRE"]["test"] if r.split(">=")[0] in TOOLS),
    ]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    torch = re.search(r"^torch==\S+$", pins, flags=re.MULTILINE).group()
    found = [
        line.replace(">=", "==") for line in wanted if not line.startswith("torch>")
    ]
    return [*found, torch]


if __name__ == "__main__":
    print("\n".join(lowest()))
