"""Recipes from YAML: by name or path, with `--set a.b=c`, and every mistake told in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from unitcorpus.errors import UnitcorpusError, nearest
from unitcorpus.recipe.models import Recipe
from unitcorpus.recipe.section import Section

S = TypeVar("S", bound=Section)
PLAIN = re.compile(r"null|true|false|[-+]?(\d{1,30}(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?")


MAX_BYTES = 1 << 20
"""Of a recipe: no one writes a longer one."""

MAX_DEPTH = 30


class _Loader(yaml.SafeLoader):
    """Plain data, not deeply nested, and without aliases: ten lines of them can stand for more than
    a memory holds. A key that stands twice in a mapping is refused: YAML would keep the last."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.check_event(yaml.AliasEvent) or self.depth > MAX_DEPTH:
            problem = (
                "it is nested too deeply" if self.depth > MAX_DEPTH else "aliases are not read"
            )
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, problem, mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key '{key.value}' stands there twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def recipe_folder() -> Path:
    """The shipped recipes: inside the wheel, or beside the package in a source checkout."""
    packaged = Path(str(files("unitcorpus"))) / "recipes"
    return packaged if packaged.is_dir() else packaged.parents[1] / "recipes"


def list_recipes(model: type[Section] = Recipe) -> list[str]:
    """Names of the shipped recipes that are a `model`, e.g. `demo/stinystories`."""
    return [name for name, path in _shipped().items() if model.recognises(read_yaml(path))]


def _shipped() -> dict[str, Path]:
    """Every shipped recipe, of whatever model, by its name."""
    folder = recipe_folder()
    paths = sorted(folder.rglob("*.yaml"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a corpus, by its shipped name or the path of a YAML file."""
    return load_section(Recipe, name, overrides)


def load_section(model: type[S], name: str, overrides: Sequence[str] = ()) -> S:
    """The recipe `name` as a `model`, with `a.b=c` overrides applied.

    Raises UnitcorpusError for an unknown name, bad YAML, an unknown key or a value out of range.
    """
    path = find_recipe(name, model)
    data = read_yaml(path)
    for override in overrides:
        _apply(data, override)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UnitcorpusError(f"recipe {name}: {_explain(error.errors(), model)}") from None


def find_recipe(name: str, model: type[Section]) -> Path:
    """The file of a recipe, by its shipped name or path. Raises UnitcorpusError."""
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UnitcorpusError(f"there is no recipe file {name}")
        return path
    shipped = _shipped()
    if name in shipped:
        return shipped[name]
    known = list_recipes(model)
    raise UnitcorpusError(
        f"there is no recipe '{name}'{nearest(name, known)}; shipped: {', '.join(known)}; "
        "or give the path of a .yaml file"
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """What a recipe's file says. Raises UnitcorpusError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnitcorpusError(f"recipe {path.name} has more than {MAX_BYTES:,} bytes")
        data = yaml.load(path.read_text("utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UnitcorpusError(f"cannot read the recipe {path.name}: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise UnitcorpusError(f"recipe {path.name}{at}: {problem}") from None
    except (ValueError, RecursionError) as error:
        raise UnitcorpusError(f"recipe {path.name} holds an impossible value: {error}") from None
    if not isinstance(data, dict):
        raise UnitcorpusError(f"recipe {path.name} holds no keys")
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    """Sets one `a.b=value` in place; the value is read as YAML, so `[a, b]` and `null` work."""
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise UnitcorpusError(
            f"--set wants key=value, such as shards.samples=500; got '{override}'"
        )
    value = _value(text.strip(), override)
    node = data
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise UnitcorpusError(f"--set {override}: '{part}' is a value, not a section")
        node = child
    node[parts[-1]] = value


def _value(text: str, override: str) -> Any:
    """The value of an override: null, true, false, a number, YAML in brackets or quotes; anything
    else is the text as it stands, so that paths may hold what YAML would take apart."""
    if not text:
        raise UnitcorpusError(f"--set {override}: there is no value; give null to unset a key")
    if text[0] not in "[{'\"" and not PLAIN.fullmatch(text):
        return text
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UnitcorpusError(f"--set {override}: the value is not valid YAML") from None


def _explain(errors: Iterable[ErrorDetails], model: type[BaseModel]) -> str:
    """The first mistake in words, and how many more there are."""
    found = list(errors)
    first = found[0]
    place, section = _resolve(model, first["loc"])
    if first["type"] == "extra_forbidden":
        known = list(section.model_fields) if section else []
        name = str(first["loc"][-1])
        text = f"unknown key '{place}'{nearest(name, known)}; known here: {', '.join(known)}"
    elif first["type"] == "missing":
        text = f"'{place}' is missing"
    elif first["type"] == "union_tag_invalid":
        context = first["ctx"]
        tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        key = f"{place}.{context['discriminator'].strip(chr(39))}"
        close = nearest(context["tag"], tags)
        text = f"'{key}' cannot be '{context['tag']}'{close}; known: {', '.join(tags)}"
    else:
        message = first["msg"].removeprefix("Value error, ")
        value = first.get("input")
        shown = f" (got {value!r})" if isinstance(value, str | int | float | bool) else ""
        where = f"'{place}': " if place else ""
        text = f"{where}{message[0].lower()}{message[1:]}{shown}"
    more = len(found) - 1
    return text + (f" (and {more} more)" if more else "")


def _resolve(
    model: type[BaseModel], loc: tuple[int | str, ...]
) -> tuple[str, type[BaseModel] | None]:
    """The dotted place of a pydantic location without its union tags, and the section it is in."""
    section: type[BaseModel] | None = model
    candidates: list[type[BaseModel]] = []
    parts: list[str] = []
    named = False
    for item in loc:
        if named:  # the key of a mapping of sections
            parts.append(str(item))
            named = False
            continue
        tagged = next((c for c in candidates if item in _tags(c)), None)
        if tagged is not None:
            section, candidates = tagged, []
            continue
        parts.append(str(item))
        field = section.model_fields.get(str(item)) if section else None
        candidates = _models(field.annotation) if field else []
        named = field is not None and get_origin(field.annotation) is dict
        if len(candidates) == 1 and item != loc[-1]:
            section, candidates = candidates[0], []
    return ".".join(parts), section


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The section classes inside an annotation, through unions and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for argument in get_args(annotation) for m in _models(argument)]


def _tags(section: type[BaseModel]) -> tuple[Any, ...]:
    """The values that select a section in a union: of its `kind`, `engine`, `extractor` or
    `measure`."""
    for key in ("kind", "engine", "extractor", "measure"):
        if key in section.model_fields:
            return get_args(section.model_fields[key].annotation)
    return ()
