"""Types in signatures as the source writes them: what Python makes of them is long, and hides their names."""

import ast
import inspect
import pathlib
import re
import textwrap
from typing import Any

import funcnet as fn

EXPLAINED = ("ArrayLike", "Tree", *fn.__all__)  # names that stay; what others stand for is written in their place


def meanings() -> dict[str, str]:
    """What the names of types in funcnet's modules stand for."""
    found = {}
    for path in pathlib.Path(fn.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
                name = ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0])
                if re.fullmatch("[A-Z]+[a-z][A-Za-z]*", name) and name not in EXPLAINED:
                    found[name] = ast.unparse(node.value)
    return found


MEANINGS = meanings()


class Text:
    """An annotation that prints as the source has it, public names as pdoc makes links of them."""

    def __init__(self, node: ast.expr) -> None:
        self.text = self.replaced(ast.unparse(node))

    def __repr__(self) -> str:
        return self.text

    def replaced(self, text: str) -> str:
        def of(name: re.Match[str]) -> str:
            if name[0] in MEANINGS:
                return self.replaced(MEANINGS[name[0]])
            return f"funcnet.{name[0]}" if name[0] in fn.__all__ else name[0]

        return re.sub(r"(?<![.\w'])[A-Z]\w+", of, text)


def write(value: Any) -> None:
    """Put such texts into a function, or into a class's fields and functions."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    if isinstance(node, ast.ClassDef):
        fields = {part.target.id: Text(part.annotation) for part in node.body if isinstance(part, ast.AnnAssign)}
        for owner in (value, value.__init__, value.__new__):
            if hasattr(owner, "__annotations__"):
                owner.__annotations__ = {**owner.__annotations__, **fields}
        for part in node.body:
            if isinstance(part, ast.FunctionDef) and inspect.isfunction(member := vars(value)[part.name]):
                write(member)
    else:
        every = [*node.args.posonlyargs, *node.args.args, node.args.vararg, *node.args.kwonlyargs, node.args.kwarg]
        written = {part.arg: Text(part.annotation) for part in every if part and part.annotation}
        inspect.unwrap(value).__annotations__ = written | ({"return": Text(node.returns)} if node.returns else {})
