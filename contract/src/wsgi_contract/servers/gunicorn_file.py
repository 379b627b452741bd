"""What a gunicorn config file says, as far as it can be known without running it.

In: its text. Out: `ConfigFile`. Rule: it is parsed, never executed. A name that is bound to a literal by its last
plain assignment is known; a name that may be bound in any other way (a loop, an import, a walrus, `exec`) is computed:
in force, but unknown to us. Nothing is guessed.
"""

import ast
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import add, floordiv, mod, mul, sub
from typing import Final

from wsgi_contract.servers.gunicorn_values import ArgumentsError, from_literal
from wsgi_contract.settings import SettingName, Value

FILE_NAMES: Final[Mapping[str, SettingName]] = {
    "workers": "workers",
    "threads": "threads",
    "timeout": "timeout_s",
    "graceful_timeout": "graceful_timeout_s",
    "keepalive": "keepalive_s",
    "worker_connections": "worker_connections",
    "worker_class": "worker_class",
    "max_requests": "max_requests",
    "max_requests_jitter": "max_requests_jitter",
    "backlog": "backlog",
    "preload_app": "preload_app",
}

_ANYTHING: Final = "*"
_REACHES_ANYTHING: Final = frozenset({"exec", "eval", "globals", "locals", "vars"})
_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_FOLDED: Final[Mapping[type[ast.operator], Callable[[int, int], int]]] = {
    ast.Add: add, ast.Sub: sub, ast.Mult: mul, ast.FloorDiv: floordiv, ast.Mod: mod,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """What can be read from a config file without executing it.

    Attributes:
        settings: literals assigned at the top level.
        computed: names bound to something that only running the file would tell.
    """

    settings: tuple[tuple[SettingName, Value], ...] = ()
    computed: tuple[SettingName, ...] = ()


def parse_config_file(source: str) -> ConfigFile:
    """Read a gunicorn config file's literal assignments.

    >>> parse_config_file("import os; timeout = 60 * 2; workers = os.cpu_count()")
    ConfigFile(settings=(('timeout_s', 120),), computed=('workers',))

    Raises:
        ArgumentsError: not Python, or a value that gunicorn would refuse.
    """
    try:
        found = _run_through(_parsed(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, ArgumentsError):
            raise
        raise ArgumentsError(f"the config file is not Python: {error}") from None
    settings = {name: from_literal(name, value) for name, value in found.items() if value is not None}
    return ConfigFile(
        settings=tuple(settings.items()), computed=tuple(sorted(name for name in found if name not in settings))
    )


def _parsed(source: str) -> ast.Module:
    # What Python would warn of in the owner's file is the owner's business, and no line for our log.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _run_through(module: ast.Module) -> dict[SettingName, Value | None]:
    """Each name that may be bound at the end of the file; None where the value is not known."""
    found: dict[SettingName, Value | None] = {}
    for statement in module.body:
        plain = _plainly_assigned(statement)
        others = set(_bound(statement)) - set(plain)
        found |= dict.fromkeys(_settings_among(others))
        found |= {FILE_NAMES[name]: value for name, value in plain.items() if name in FILE_NAMES}
    return found | dict.fromkeys(_settings_among(set(_bound_when_called(module))))


def _settings_among(names: set[str]) -> list[SettingName]:
    return [setting for name, setting in FILE_NAMES.items() if name in names or _ANYTHING in names]


def _plainly_assigned(statement: ast.stmt) -> dict[str, Value | None]:
    """`a = 1`, `a = b = 1` and `a: int = 1`; anything else assigns in a way that is not read here."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    if not targets or not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
        return {}
    value = _literal(statement.value)
    return {target.id: value for target in targets if isinstance(target, ast.Name)}


def _bound(node: ast.AST) -> Iterator[str]:
    """Every name that the node may bind in the module, `*` for any."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.alias():
            yield (node.asname or node.name).partition(".")[0]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case ast.Call(func=ast.Name(id=name)) if name in _REACHES_ANYTHING:
            yield _ANYTHING
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
            return
        case ast.Lambda():
            return
    # A comprehension's own variable stays inside it.
    children = (node.iter, *node.ifs) if isinstance(node, ast.comprehension) else ast.iter_child_nodes(node)
    for child in children:
        yield from _bound(child)


def _bound_when_called(module: ast.Module) -> Iterator[str]:
    """What functions may bind in the module, whenever they are called."""
    for scope in (node for node in ast.walk(module) if isinstance(node, _SCOPES)):
        for node in ast.walk(scope):
            if isinstance(node, ast.Global):
                yield from node.names
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _REACHES_ANYTHING:
                yield _ANYTHING


def _literal(node: ast.expr) -> Value | None:
    """A literal's value, `60 * 2` included; None for anything else."""
    if isinstance(node, ast.BinOp):
        return _folded(node)
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, (int, float, str, bool)) else None


def _folded(node: ast.BinOp) -> int | None:
    left, right, fold = _literal(node.left), _literal(node.right), _FOLDED.get(type(node.op))
    if fold is None or not isinstance(left, int) or not isinstance(right, int):
        return None
    # Larger numbers are no settings, and multiplying them on and on would eat memory.
    if max(abs(left), abs(right)) > 1 << 31 or (right == 0 and fold in (floordiv, mod)):
        return None
    return fold(left, right)
