"""A bare page that mounts the view, as any page may: served on localhost, without Gradio."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hf_ess.space import bundle

PAGE = """<!doctype html><meta charset="utf-8"><title>view</title>
<meta name="viewport" content="width=device-width"><style>body { margin: 0 16px }</style>
<body><div id="host"></div><script>window.before = new Set(Object.keys(window));</script>
<script src="/view.js"></script></body>"""

MOUNT = """([first, second, state]) => {
  window.told = [];
  window.files = {};
  window.asked = [];
  window.page = hfEss.mount(document.querySelector("#host"), {
    cell: (layer, position, key) => {
      asked.push([layer, position, key]);
      return askPython(layer, position, key);
    },
    state: (state) => told.push(state),
    download: async (name, blob) => {
      files[name] = { type: blob.type, size: blob.size, text: await blob.text() };
    },
  });
  if (second) page.showPair(first, second);
  else page.show(first);
  if (state) page.setState(state);
}"""
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        script = self.path == "/view.js"
        body = bundle.script() if script else PAGE
        kind = "text/javascript" if script else "text/html"
        self.send_response(200 if self.path != "/favicon.ico" else 204)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.end_headers()
        if self.path != "/favicon.ico":
            self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@contextmanager
def served() -> Iterator[str]:
    """The address of the page while the context lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def settle(page):
    """Waits until the view has drawn what it was told."""
    page.evaluate(TWO_FRAMES)


def show(page, *made, state=None):
    """Mounts the view in an opened page and shows one made view, or two."""
    cells = {each.view["key"]: each.cell for each in made}
    page.expose_function("askPython", lambda layer, position, key: cells[key](layer, position))
    views = [each.view for each in made] + [None]
    page.evaluate(MOUNT, [views[0], views[1], state])
    settle(page)


def number(page, name):
    """What a number of the head says, with all its digits."""
    return float(page.locator(f'[data-number="{name}"]').get_attribute("data-value"))


def rows_of(page, figure):
    """The table of numbers of a figure, opened if need be: texts, or exact values."""
    details = page.locator(f".hfess-figure-{figure} details")
    if details.get_attribute("open") is None:
        details.locator("summary").click()
    details.locator("table").wait_for()
    return details.locator("tbody").evaluate(
        "(body) => [...body.rows].map((row) => "
        "[...row.cells].map((cell) => cell.dataset.value ?? cell.textContent))"
    )


def downloaded(page, name):
    """Presses the button for a file and returns what the page handed out."""
    page.locator(f'[data-download="{name}"]').click()
    page.wait_for_function(
        "(name) => Object.keys(files).some((key) => key.endsWith(name))", arg=name
    )
    known = page.evaluate("files")
    (full,) = [key for key in known if key.endswith(name)]
    assert set(full) <= set("abcdefghijklmnopqrstuvwxyz.-"), full  # what any file system takes
    return known[full]


def csv_rows(page, name):
    lines = downloaded(page, name)["text"].splitlines()
    return [line.split(",") for line in lines]
