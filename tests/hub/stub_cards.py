"""What a stub Hub thinks of the metadata of a card."""

from __future__ import annotations

import re

import yaml

FRONT_MATTER = re.compile(
    r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE
)
NO_METADATA = "empty or missing yaml metadata in repo card"
TEXTS = ("license", "pipeline_tag", "library_name", "license_name", "license_link")
TEXT_LISTS = ("tags", "language", "datasets", "metrics", "base_model")
# Keys in each entry of a model-index and whether they are required.
RESULT_KEYS = {"task": ("type",), "dataset": ("type", "name")}
METRIC_KEYS = ("type", "value")


class _CoreLoader(yaml.SafeLoader):
    """YAML 1.2 as the Hub reads it: `no` is a text, and no key comes twice."""

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="duplicated mapping key", problem_mark=key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return node


_CoreLoader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def card_data(text):
    """Metadata of a card as the Hub understands it; None where it cannot."""
    errors, _, data = examine(text)
    return None if errors else data


def examine(text, repo_type="model"):
    """Errors, warnings and metadata of a card."""
    found = FRONT_MATTER.match(text)
    if found is None or not found[1].strip():
        return [], [NO_METADATA], {}
    try:
        data = yaml.load(found[1], _CoreLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" ({mark.line + 1}:{mark.column + 1})" if mark else ""
        return [f"YAML Metadata Error: {getattr(error, 'problem', error)}{where}"], [], None
    if data is None:
        return [], [NO_METADATA], {}
    if not isinstance(data, dict):
        return ["YAML Metadata Error: the metadata is no mapping"], [], None
    return [*_wrong_types(data), *_wrong_index(data.get("model-index"), repo_type)], [], data


def _wrong_types(data):
    for key in TEXTS:
        if not isinstance(data.get(key, ""), str):
            yield f'"{key}" must be a string'
    for key in TEXT_LISTS:
        given = data.get(key, [])
        listed = [given] if isinstance(given, str) else given
        if not isinstance(listed, list):
            yield f'"{key}" must be an array'
        else:
            for number, each in enumerate(listed):
                if not isinstance(each, str):
                    yield f'"{key}[{number}]" must be a string'


def _wrong_index(index, repo_type):
    if index is None or repo_type != "model":
        return
    if not isinstance(index, list):
        yield '"model-index" must be an array'
        return
    for number, entry in enumerate(index):
        where = f"model-index[{number}]"
        yield from _missing(entry, where, ("name", "results"))
        results = entry.get("results") if isinstance(entry, dict) else None
        if results is not None and not isinstance(results, list):
            yield f'"{where}.results" must be an array'
            continue
        for position, result in enumerate(results or []):
            yield from _wrong_result(result, f"{where}.results[{position}]")


def _wrong_result(result, where):
    yield from _missing(result, where, (*RESULT_KEYS, "metrics"))
    if not isinstance(result, dict):
        return
    for part, keys in RESULT_KEYS.items():
        if part in result:
            yield from _missing(result[part], f"{where}.{part}", keys)
    metrics = result.get("metrics", [])
    if not isinstance(metrics, list):
        yield f'"{where}.metrics" must be an array'
        return
    for number, metric in enumerate(metrics):
        yield from _missing(metric, f"{where}.metrics[{number}]", METRIC_KEYS)


def _missing(given, where, keys):
    if not isinstance(given, dict):
        yield f'"{where}" must be of type object'
        return
    for key in keys:
        if given.get(key) is None:
            yield f'"{where}.{key}" is required'
