"""Forms for issues follow the rules of GitHub's issue forms, and ask for what a report needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from house.markdown_pages import ROOT
from jsonschema import Draft202012Validator

GITHUB = ROOT / ".github"
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))

TEXT = {"type": "string", "minLength": 1}
ATTRIBUTES_OF = {
    "markdown": (["value"], {"value": TEXT}),
    "textarea": (
        ["label"],
        dict.fromkeys(["label", "description", "placeholder", "value", "render"], TEXT),
    ),
    "input": (["label"], dict.fromkeys(["label", "description", "placeholder", "value"], TEXT)),
}


def _element(kind: str) -> dict[str, Any]:
    required, properties = ATTRIBUTES_OF[kind]
    attributes = {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }
    own = {"type": {"const": kind}, "attributes": attributes}
    if kind != "markdown":
        own["id"] = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
        own["validations"] = {
            "type": "object",
            "properties": {"required": {"type": "boolean"}},
            "additionalProperties": False,
        }
    return {
        "type": "object",
        "required": ["type", "attributes"],
        "properties": own,
        "additionalProperties": False,
    }


SCHEMA = {
    "type": "object",
    "required": ["name", "description", "body"],
    "properties": {
        "name": TEXT,
        "description": {**TEXT, "maxLength": 200},
        "title": TEXT,
        "labels": {"type": "array", "items": TEXT, "uniqueItems": True},
        "body": {
            "type": "array",
            "minItems": 1,
            "items": {"oneOf": [_element(kind) for kind in ATTRIBUTES_OF]},
            "contains": {"properties": {"type": {"not": {"const": "markdown"}}}},
        },
    },
    "additionalProperties": False,
}


def problems_of(form: Any) -> list[str]:
    """Why GitHub would refuse a form."""
    found = [error.json_path for error in Draft202012Validator(SCHEMA).iter_errors(form)]
    body = form.get("body", []) if not found else []
    asked = [element for element in body if element["type"] != "markdown"]
    for names in (
        [element["id"] for element in asked if "id" in element],
        [element["attributes"]["label"] for element in asked],
    ):
        found += [f"twice: {name}" for name in set(names) if names.count(name) > 1]
    return found


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_is_valid_and_asks_for_the_environment(path):
    form = read(path)
    assert problems_of(form) == []
    required = [
        element["attributes"]["label"]
        for element in form["body"]
        if element.get("validations", {}).get("required")
    ]
    assert any("`hf-ess env`" in label for label in required)


def test_names_of_forms_differ():
    names = [read(path)["name"] for path in FORMS]
    assert len(FORMS) >= 2
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ([], "$.body"),
        ([{"type": "markdown", "attributes": {"value": "only words"}}], "$.body"),
        ([{"type": "textarea", "attributes": {"render": "text"}}], "$.body[0]"),
        ([{"type": "input", "attributes": {"label": "a", "render": "text"}}], "$.body[0]"),
        ([{"type": "input", "id": "a b", "attributes": {"label": "a"}}], "$.body[0]"),
        ([{"type": "input", "id": "a", "attributes": {"label": a}} for a in "bc"], "twice: a"),
        ([{"type": "slider", "attributes": {"label": "a"}}], "$.body[0]"),
    ],
)
def test_what_github_would_refuse_is_found(body, where):
    assert where in problems_of({"name": "n", "description": "d", "body": body})


def test_the_pull_request_template_names_files_that_exist():
    text = (GITHUB / "PULL_REQUEST_TEMPLATE.md").read_text(encoding="utf-8")
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"):
        assert name in text
        assert (ROOT / name).is_file()
