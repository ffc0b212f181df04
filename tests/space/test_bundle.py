"""Many modules become one script that needs no server and leaves nothing behind."""

from __future__ import annotations

import pytest

from hf_ess import OutputPathError
from hf_ess.space import bundle


def _modules(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.js").write_text(text)
    return folder


def test_modules_come_before_those_that_import_them(tmp_path):
    folder = _modules(
        tmp_path,
        a='import { two as second, one } from "./b.js";\nwindow.answer = one + second();\n',
        b='import { zero } from "./c.js";\nexport const one = 1 + zero;\n'
        "export function two() {\n  return 2;\n}\n",
        c="export const zero = 0;\nconst hidden = 5;\n",
    )
    text = bundle.script("a.js", folder)
    places = [text.index(f'modules["{name}.js"] = ') for name in "cba"]
    assert places == sorted(places)
    assert 'const { two: second, one } = modules["b.js"];' in text
    assert "return { one, two };" in text
    assert "hidden }" not in text
    assert "import" not in text
    assert "export" not in text


def test_a_script_cannot_end_itself(tmp_path):
    _modules(tmp_path, a='export const end = "</script>";\n')
    assert "</script" not in bundle.script("a.js", tmp_path)


def test_the_style_is_a_module(tmp_path):
    _modules(tmp_path, a='import { STYLE } from "./style.js"; // made\nwindow.style = STYLE;\n')
    (tmp_path / "style.css").write_text('a { content: "b"; }\n')
    text = bundle.script("a.js", tmp_path)
    assert r'const STYLE = "a { content: \"b\"; }\n";' in text
    assert 'const { STYLE } = modules["style.js"];' in text


@pytest.mark.parametrize(
    "text",
    ['import x from "./b.js";\n', "export default 5;\n", 'export { a } from "./b.js";\n'],
)
def test_what_is_written_otherwise_is_refused(tmp_path, text):
    _modules(tmp_path, a=text, b="")
    with pytest.raises(OutputPathError, match="cannot be joined"):
        bundle.script("a.js", tmp_path)


def test_circles_and_missing_modules_are_named(tmp_path):
    _modules(tmp_path, a='import { b } from "./b.js";\n', b='import { a } from "./a.js";\n')
    with pytest.raises(OutputPathError, match=r"a\.js imports b\.js imports a\.js"):
        bundle.script("a.js", tmp_path)
    with pytest.raises(OutputPathError, match=r"none\.js"):
        bundle.script("none.js", tmp_path)
