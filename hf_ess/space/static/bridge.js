// Joins Gradio's element to the view. Gradio calls this text as the body of a function of
// element, trigger, props, server, upload and watch, once, when the element is there.
// The value is text: {"views": [one, or two to compare], "state": what a link asks for, or null}.

const host = element.querySelector("[data-hfess-host]");
const DEFAULTS = {
  metric: "entropy", threshold: 0.001, scale: "linear", colour: "total", layer: null, position: null, side: 0,
};
const HUB = "https://huggingface.co";
let page = null;
let keys = [];

// What the address says besides the view stays: Gradio keeps its own words there, and others.
function remember(state) {
  const query = new URLSearchParams(window.location.search);
  for (const name of ["view", "with", ...Object.keys(DEFAULTS)]) query.delete(name);
  if (keys.length && keys.every(Boolean)) {
    query.set("view", keys[0]);
    if (keys.length > 1) query.set("with", keys[1]);
    for (const [name, usual] of Object.entries(DEFAULTS)) {
      const value = state?.[name] ?? usual;
      if (value !== usual) query.set(name, value);
    }
  }
  const words = query.toString();
  const address = window.location.pathname + (words ? `?${words}` : "") + window.location.hash;
  window.history.replaceState(window.history.state, "", address);
  // In a Space this page is a frame of the Hub's, whose address people copy.
  if (window.parent !== window) window.parent.postMessage({ queryString: words }, HUB);
}

async function cell(layer, position, key = keys[0]) {
  const answer = await server.cell({ key, layer, position });
  if (answer.error) throw new Error(answer.error);
  return answer;
}

// On a phone the view lies far below what was pressed.
function bringIntoSight() {
  if (host.getBoundingClientRect().top < 0.6 * window.innerHeight) return;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  host.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
}

function show() {
  if (!props.value) {
    page?.destroy();
    page = null;
    return;
  }
  const { views, state } = JSON.parse(props.value);
  keys = views.map((view) => view.key);
  page ??= window.hfEss.mount(host, { cell, state: remember });
  if (views.length > 1) page.showPair(...views);
  else page.show(views[0]);
  if (state) page.setState(state);
  remember(page.getState());
  requestAnimationFrame(bringIntoSight);
}

watch("value", show);
show();
