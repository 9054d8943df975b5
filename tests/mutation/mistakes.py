"""The mistakes that are made on purpose: what a tired engineer types, one at a time.

Text is left alone: docstrings, f-strings' literals, sentences, what an exception says, annotations.
A test that holds a sentence to the letter is in the way of whoever improves the sentence.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

COMPARE = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}
TWINS = {"min": "max", "max": "min", "any": "all", "all": "any"}
SAYS = {"failed", "passed", "unknown", "BadInput", "Missing", "print", "Bug"}
PLAIN = (ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Raise, ast.Delete)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Mutant:
    """One mistake in one file: where, what stood there, what stands there now."""

    path: str
    scope: str
    first: int
    last: int
    body: bool  # False: it takes effect when the module is imported
    old: str
    new: str
    source: str
    number: int = 1  # of those with the same words in the same scope

    @property
    def name(self) -> str:
        """How the list of equivalent mutants names it: no line numbers, which move."""
        again = f" #{self.number}" if self.number > 1 else ""
        return f"{self.path} {self.scope}: {self.old} → {self.new}{again}"


def mutants(path: str, source: str) -> list[Mutant]:
    """Every mistake of one file."""
    tree = ast.parse(source)
    made: list[Mutant] = []
    seen: dict[str, int] = {}
    sources = {ast.unparse(tree)}
    for place in _places(tree):
        for old, new, mistaken in _mistakes(tree, place.node, place.parent):
            if mistaken in sources:
                continue
            sources.add(mistaken)
            one = Mutant(path, place.scope, *place.lines, place.body, old, new, mistaken)
            seen[one.name] = seen.get(one.name, 0) + 1
            made.append(replace(one, number=seen[one.name]))
    return made


@dataclass(frozen=True)
class Place:
    """A node that a mistake may be made at."""

    node: ast.AST
    parent: ast.AST | None
    scope: str
    lines: tuple[int, int]
    body: bool


def _places(tree: ast.Module) -> Iterator[Place]:
    def walk(node, parent, scope, lines, body):
        if isinstance(node, ast.stmt):
            lines = _lines(node)
        yield Place(node, parent, scope or "<module>", lines, body)
        inside = f"{scope}.{node.name}" if isinstance(node, SCOPES) and scope else scope
        if isinstance(node, SCOPES) and not scope:
            inside = node.name
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns") or _is_text(node, name):
                continue
            if isinstance(node, ast.Assign) and "__all__" in ast.unparse(node.targets[0]):
                continue
            running = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            here = body or (running and name == "body")
            span = lines
            if running and name == "args" and isinstance(node, ast.stmt):
                span = (node.lineno, node.end_lineno)  # whoever calls it may notice its defaults
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from walk(child, node, inside, span, here)

    yield from walk(tree, None, "", (1, 1), False)


def _lines(node: ast.stmt) -> tuple[int, int]:
    """The lines of a statement; of one with a body, those of its head."""
    bodies = getattr(node, "body", None)
    if not bodies:
        return node.lineno, node.end_lineno or node.lineno
    return node.lineno, max(node.lineno, bodies[0].lineno - 1)


def _is_text(node: ast.AST, field: str) -> bool:
    """Whether a field of a node is for people, or for the type checker, only."""
    if isinstance(node, ast.Raise):
        return True
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return True
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("Literal", "Callable"):
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id in ("cast", "TypeVar"):
            return True
        return node.func.id in SAYS and all(_only_words(arg) for arg in node.args)
    return isinstance(node, ast.FormattedValue) and field == "format_spec"


def _only_words(node: ast.expr) -> bool:
    words = (ast.JoinedStr, ast.Constant, ast.BinOp)
    return isinstance(node, words)


def _mistakes(
    tree: ast.Module, node: ast.AST, parent: ast.AST | None
) -> Iterator[tuple[str, str, str]]:
    old = _short(node)
    for new in _instead(node, parent):
        yield old, _short(new), _with(tree, node, new)


def _with(tree: ast.Module, node: ast.AST, new: ast.AST) -> str:
    """The whole file with `new` where `node` was."""
    memo = {id(node): new}
    return ast.unparse(ast.fix_missing_locations(copy.deepcopy(tree, memo)))


def _short(node: ast.AST) -> str:
    if isinstance(node, ast.If | ast.While):
        return f"{type(node).__name__.lower()} {_short(node.test)}:"  # without its body
    words = " ".join(ast.unparse(ast.fix_missing_locations(node)).split())
    return words if len(words) <= 90 else words[:87] + "..."


def _instead(node: ast.AST, parent: ast.AST | None) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare):
        for at, op in enumerate(node.ops):
            ops = [COMPARE[type(op)]() if i == at else o for i, o in enumerate(node.ops)]
            yield ast.Compare(node.left, ops, node.comparators)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(other, node.values)
        for at in range(len(node.values)):
            left = [value for i, value in enumerate(node.values) if i != at]
            yield left[0] if len(left) == 1 else ast.BoolOp(node.op, left)
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        if not _is_words(node):
            yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
        yield ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)
        yield ast.Pass()
    elif isinstance(node, ast.Constant):
        yield from _constants(node, parent)
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        for value in (True, False):
            if isinstance(node, ast.While) and value:
                continue  # it would only run for ever
            changed = copy.copy(node)
            changed.test = ast.Constant(value)
            yield changed
    elif isinstance(node, ast.comprehension):
        for at in range(len(node.ifs)):
            ifs = [test for i, test in enumerate(node.ifs) if i != at]
            yield ast.comprehension(node.target, node.iter, ifs, node.is_async)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.Slice):
        if node.lower:
            yield ast.Slice(None, node.upper, node.step)
        if node.upper:
            yield ast.Slice(node.lower, None, node.step)
    elif isinstance(node, ast.ExceptHandler) and node.type:
        yield ast.ExceptHandler(ast.Tuple([], ast.Load()), node.name, node.body)
    else:
        yield from _statements(node)


def _constants(node: ast.Constant, parent: ast.AST | None) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(parent, ast.Expr | ast.JoinedStr | ast.FormattedValue):
        return
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        yield ast.Constant(value + 1)
    elif isinstance(value, str) and " " not in value.strip() and "<" not in value:
        yield ast.Constant("XX" + value)
    elif isinstance(value, bytes):
        yield ast.Constant(b"XX" + value)


def _is_words(node: ast.AST) -> bool:
    """Whether something is text, or made of text: `+` and `%` of it are no arithmetic."""
    if isinstance(node, ast.BinOp):
        return _is_words(node.left) or _is_words(node.right)
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    if isinstance(node.func, ast.Name) and node.func.id in TWINS:
        yield ast.Call(ast.Name(TWINS[node.func.id], ast.Load()), node.args, node.keywords)
    for at, keyword in enumerate(node.keywords):
        if keyword.arg:
            left = [k for i, k in enumerate(node.keywords) if i != at]
            yield ast.Call(node.func, node.args, left)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.Expr | ast.Raise | ast.Delete):
        yield ast.Pass()
    elif isinstance(node, ast.Assign):
        if not all(isinstance(target, ast.Name) for target in node.targets):
            yield ast.Pass()
    elif isinstance(node, ast.Return) and node.value and _short(node.value) != "None":
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Break | ast.Continue):
        yield ast.Pass()
