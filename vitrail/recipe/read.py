"""From a recipe's name or path and overrides to a checked `Recipe`. No torch, no pictures: only the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from vitrail.errors import RecipeError, nearest
from vitrail.formats.yaml import Node, read, scalar
from vitrail.models.catalog import VARIANTS
from vitrail.models.configs import FAMILIES, ModelConfig, family_of
from vitrail.pictures.policy import Policy
from vitrail.recipe.build import FAILED, Builder
from vitrail.recipe.contradictions import cross_problems
from vitrail.recipe.precision import in_plain_values
from vitrail.recipe.ranges import RANGES
from vitrail.recipe.schema import FORMAT, KEYS, PAIRS, PARTS, Recipe
from vitrail.training.configs import CrossEntropy
from vitrail.training.optimizer_configs import AdamW

LIMIT = 1 << 20
EVALUATE = "/evaluate/"  # the folders of recipes that train nothing
# what others call a field of a network -> what it is called here
CALLED = {
    "abs_pos": "absolute_positions",
    "abs_pos_emb": "absolute_positions",
    "rel_pos_bias": "block_bias",
    "shared_rel_pos_bias": "shared_bias",
    "layer_scale_init_value": "layer_scale_init",
    "drop_path_rate": "drop_path",
    "num_classes": "classes",
    "img_size": "image_size",
    "in_chans": "channels",
    "pool_pad": "pool_padding",
    "nonlinearity": "gelu",
}
# part -> the name of the one that it is where the recipe says nothing
DEFAULTS: dict[str, str] = {
    item.name: item.default.name for item in fields(Recipe) if isinstance(item.default, (CrossEntropy, AdamW))
}


def recipe_names() -> tuple[str, ...]:
    """The shipped recipes, as `train` and `show` take them."""
    return tuple(sorted(name for name in _shipped() if EVALUATE not in name))


def evaluation_names() -> tuple[str, ...]:
    """The shipped evaluation recipes, as `evaluate` takes them."""
    return tuple(sorted(name for name in _shipped() if EVALUATE in name))


def _shipped() -> dict[str, Path]:
    root = Path(str(resources.files("vitrail"))) / "recipes"
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in root.rglob("*.yaml")}


def recipe_path(name: str) -> Path:
    """The file of a recipe: an existing path wins over a shipped name. RecipeError V102 otherwise."""
    if Path(name).is_file():
        return Path(name)
    shipped = _shipped()
    if name in shipped:
        return shipped[name]
    raise RecipeError(
        "V102",
        f"no recipe `{name}`, neither a file nor a shipped one",
        hint=nearest(name, shipped) or "see `vitrail show recipes`",
    )


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe with `dotted.key=value` overrides, checked whole: RecipeError V101 lists every problem at once.

    >>> load_recipe("digits/cct_2_3x2_32", ["train.seed=3"]).train.seed
    3
    """
    path = recipe_path(str(name))
    try:
        text = path.read_bytes()[: LIMIT + 1].decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError("V103", f"`{path}` cannot be read as text: {error}", hint="save it as UTF-8") from error
    title = str(name) if str(name) in _shipped() and not Path(name).is_file() else path.stem
    return parse_recipe(text, str(path), overrides, name=title)


def parse_recipe(text: str, where: str, overrides: Sequence[str] = (), *, name: str = "recipe") -> Recipe:
    """As `load_recipe`, from text; `where` stands in messages. name: of a recipe that does not name itself."""
    root = read(text, where)
    if not isinstance(root.value, dict):
        raise RecipeError("V103", f"`{where}` is no mapping of keys to values", hint="see `vitrail show recipes`")
    for override in overrides:
        root = _overridden(root, override)
    builder = Builder(RANGES)
    root, words = in_plain_values(builder, root)
    recipe = _build(builder, root)
    builder.origins |= words
    if recipe is not None:
        builder.problems += [(_line(root, key), key, what) for key, what in _crossing(recipe, builder)]
    if builder.problems or recipe is None:
        raise problems_of(builder, where)
    return replace(recipe, name=recipe.name or name, origins=builder.origins)


def _crossing(recipe: Recipe, builder: Builder) -> list[tuple[str, str]]:
    return cross_problems(replace(recipe, origins=builder.origins))


def problems_of(builder: Builder, where: str) -> RecipeError:
    """The error that lists what a builder has noted."""
    problems = sorted(set(builder.problems))
    lines = [f"{f'line {line}' if line else 'override'}: {key} {what}" for line, key, what in problems]
    count = f"{len(lines)} problem{'s' if len(lines) > 1 else ''}"
    place = f"in `{where}`" if any(line for line, _, _ in problems) else f"in what is set on top of `{where}`"
    return RecipeError("V101", f"{count} {place}", evidence=lines, hint="`vitrail show RECIPE` prints a whole one")


def _build(builder: Builder, root: Node) -> Recipe | None:
    assert isinstance(root.value, dict)
    for key, node in root.value.items():
        if key not in KEYS:
            builder.note(node, key, f"no such key; {nearest(key, KEYS)}".rstrip("; "))
    hints: dict[str, Any] = PARTS
    built: dict[str, Any] = {}
    defaults = {item.name: item for item in fields(Recipe)}
    for key, kind in hints.items():
        if key in root.value:
            built[key] = builder.value(kind, root.value[key], key)
        else:
            built[key] = builder.absent(defaults[key], root, key)
    model = _model(builder, root)
    if model is None:
        return None
    built.update(model)
    version = builder.value(str, root.value["format"], "format") if "format" in root.value else FORMAT
    if version is not FAILED and str(version).split(".")[0] != FORMAT.split(".")[0]:
        builder.note(root.value["format"], "format", f"is `{version}`, this vitrail reads {FORMAT}")
    built["name"] = builder.value(str, root.value["name"], "name") if "name" in root.value else ""
    return None if FAILED in built.values() else Recipe(**built)


def _model(builder: Builder, root: Node) -> dict[str, Any] | None:
    """variant, config and policy: the variant's, with what the recipe sets."""
    assert isinstance(root.value, dict)
    node = root.value.get("model")
    if node is not None and not isinstance(node.value, dict):
        builder.note(node, "model", f"must be a mapping, not `{node.value}`: write model.variant=NAME")
        return None
    if node is None or not isinstance(node.value, dict) or "variant" not in node.value:
        builder.note(node or root, "model.variant", "is missing: a recipe names the variant it trains")
        return None
    name = node.value["variant"].value
    if not isinstance(name, str) or name not in VARIANTS:
        builder.note(
            node.value["variant"],
            "model.variant",
            f"`{name}` is no variant; {nearest(str(name), VARIANTS) or '`vitrail show models` lists them'}",
        )
        return None
    row = VARIANTS[name]
    given = {key: child for key, child in node.value.items() if key != "variant"}
    mine = {key: child for key, child in given.items() if not _of_others(builder, row.config, key, child)}
    settings = Node(mine, node.line)
    builder.origins["model.variant"] = "command line" if node.value["variant"].line == 0 else "recipe"
    config = builder.part(type(row.config), settings, "model", defaults=row.config)
    if config is FAILED:
        return None
    for problem in config.problems():
        builder.note(node, "model", problem)
    standard = replace(row.policy, size=config.image_size)
    policy = builder.part(Policy, root.value.get("policy", Node({}, root.line)), "policy", defaults=standard)
    if policy is FAILED:
        return None
    for problem in policy.problems():
        builder.note(root.value.get("policy"), "policy", problem)
    return {"variant": name, "config": config, "policy": policy, "classes_given": "classes" in node.value}


def _of_others(builder: Builder, config: ModelConfig, key: str, child: Node) -> bool:
    """Whether a setting of `model` is another family's, or goes by another name here; it is noted then."""
    ours = CALLED.get(key, key)
    owners = [name for name, kind in FAMILIES.items() if ours in {item.name for item in fields(kind)}]
    called = "" if ours == key else f"; it is called `{ours}` here"
    if not owners or (family_of(config) in owners and not called):
        return False
    whose = "" if family_of(config) in owners else f"; it is of {' and '.join(owners)}, this is a {family_of(config)}"
    builder.note(child, f"model.{key}", f"no such key{called}{whose}")
    return True


def _overridden(root: Node, override: str) -> Node:
    key, equals, text = override.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(
            "V101", f"`{override}` is no override", hint="write `dotted.key=value`, such as `train.seed=1`"
        )
    for one, other in PAIRS:
        if key.strip() in (one, other):
            root = _without(root, (other if key.strip() == one else one).split("."))
    default = DEFAULTS.get(keys[0])
    if len(keys) > 1 and default is not None and isinstance(root.value, dict) and keys[0] not in root.value:
        root = _set(root, [keys[0], "name"], _given(default))  # of the default one, the rest of which is not said
    return _set(root, keys, _given(scalar(text)))


def overridden(root: Node, key: str, text: str, *, parse: bool = False) -> Node:
    """The tree with one value of the command line: a text as it is, or read as YAML."""
    return _set(root, key.split("."), _given(scalar(text) if parse else text))


def _given(value: object) -> Node:
    """A value of the command line as a node: line 0 marks where it came from."""
    if isinstance(value, dict):
        return Node({key: _given(inner) for key, inner in value.items()}, 0)
    if isinstance(value, list):
        return Node([_given(inner) for inner in value], 0)
    assert value is None or isinstance(value, (bool, int, float, str))
    return Node(value, 0)


def _set(node: Node, keys: Sequence[str], value: Node) -> Node:
    inside = dict(node.value) if isinstance(node.value, dict) else {}
    if len(keys) == 1:
        inside[keys[0]] = value
    else:
        inside[keys[0]] = _set(inside.get(keys[0], Node({}, 0)), keys[1:], value)
    return Node(inside, node.line)


def _without(node: Node, keys: Sequence[str]) -> Node:
    if not isinstance(node.value, dict) or keys[0] not in node.value:
        return node
    inside = dict(node.value)
    if len(keys) == 1:
        del inside[keys[0]]
    else:
        inside[keys[0]] = _without(inside[keys[0]], keys[1:])
    return Node(inside, node.line)


def _line(root: Node, key: str) -> int:
    """The line of the nearest node on the way to `key`."""
    node = root
    for part in key.split("."):
        if not isinstance(node.value, dict) or part not in node.value:
            break
        node = node.value[part]
    return node.line if node is not root else 1
