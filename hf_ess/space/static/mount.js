// window.hfEss.mount(element, callbacks) -> {show, showPair, setState, getState, destroy}

import { createPair } from "./compare.js";
import { decode } from "./decode.js";
import { element } from "./dom.js";
import { saveFile } from "./export.js";
import { createSingle } from "./single.js";
import { DEFAULTS, cleaned, createStore, debounced } from "./state.js";
import { STYLE } from "./style.js";
import { followTheme, readTheme } from "./theme.js";
import { createTip } from "./tip.js";

const PAUSE = 200; // ms without a change before the link is told
const NOTHING = { p: null, order: null };
let mounted = 0;

// In a shadow tree of its own, so that neither page's style reaches the other's.
function createRoot(parent) {
  const host = element("div", { class: "hfess-host" });
  const tree = host.attachShadow({ mode: "open" });
  const root = element("div", { class: "hfess-root" });
  tree.append(element("style", {}, STYLE), root);
  parent.append(host);
  return { host, root };
}

function keyMoves(env) {
  return (event, model, side) => {
    const last = (model?.data.positions.length ?? 0) - 1;
    if (last < 0) return false;
    const chosen = model.data.indexOf.get(model.state.position);
    const from = env.cursor.get().p ?? chosen ?? -1;
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last }[event.key];
    if (to !== undefined) env.hover({ p: Math.min(last, Math.max(0, to)), order: null }, side);
    else if (event.key === "Enter" && from >= 0) env.pick(
      { position: model.data.positions[from] },
      side,
    );
    else return false;
    event.preventDefault();
    return true;
  };
}

// Asking for a width makes the browser lay out everything that has just changed; a width changes
// only with that of the whole view.
function rememberedWidths() {
  let known = new WeakMap();
  return {
    widthOf(node) {
      if (!known.get(node)) known.set(node, node.clientWidth);
      return known.get(node);
    },
    forgetWidths() {
      known = new WeakMap();
    },
  };
}

function createEnvironment(root, callbacks) {
  mounted += 1;
  const state = createStore({ ...DEFAULTS });
  const save = callbacks.download ?? saveFile;
  const tell = debounced((value) => callbacks.state?.(value), PAUSE);
  let theme = null;
  const env = {
    ...rememberedWidths(),
    id: `hfess-${mounted}`,
    callbacks,
    state,
    cursor: createStore({ ...NOTHING, side: 0 }),
    tip: createTip(root),
    fileStem: "",
    download: (name, blob) => save(`${env.fileStem}${name}`, blob),
    theme: () => (theme ??= readTheme(root)),
    forgetTheme: () => (theme = null),
    change(patch) {
      if (state.set(patch)) tell(state.get());
    },
    hover: (place, side = 0) => env.cursor.set({ ...place, side }),
    pick: (place, side = 0) => env.change({ ...place, side }),
    stop: tell.cancel,
  };
  env.moveAlong = keyMoves(env);
  return env;
}

// What any file system takes.
function plainName(title) {
  const words = String(title ?? "").replace(/[^\p{L}\p{N}.]+/gu, "-");
  return words.replace(/^[-.]+|[-.]+$/g, "") || "view";
}

export function mount(parent, callbacks = {}) {
  const { host, root } = createRoot(parent);
  const env = createEnvironment(root, callbacks);
  let view = null;
  let frame = 0;
  let shownBefore = false;

  function render() {
    frame = 0;
    view?.update(env.state.get());
    view?.point(env.cursor.get());
  }
  function schedule() {
    if (!frame) frame = requestAnimationFrame(render);
  }
  const stopTheme = followTheme(host, root, () => {
    env.forgetTheme();
    schedule();
  });
  env.state.subscribe(schedule);
  env.cursor.subscribe((cursor) => view?.point(cursor));
  let width = 0; // heights follow from what is drawn
  const observer = new ResizeObserver(([entry]) => {
    if (entry.contentRect.width === width) return;
    width = entry.contentRect.width;
    env.forgetWidths();
    schedule();
  });
  observer.observe(root);

  function put(views, create, mode) {
    env.fileStem = views.map((each) => `${plainName(each?.title)}-`).join("");
    env.stop(); // what was about to be told is about another view
    view?.element.remove();
    root.querySelector(".hfess-failure")?.remove();
    view = null;
    env.cursor.set({ ...NOTHING, side: 0 });
    // A layer that was chosen in another report says nothing about this one.
    if (shownBefore) env.state.set({ layer: null, position: null, side: 0 });
    shownBefore = true;
    try {
      view = create(...views.map(decode));
    } catch (error) {
      root.prepend(element("p", { class: "hfess-failure", role: "alert" }, error.message));
      return;
    }
    root.prepend(view.element);
    env.state.set({ mode });
    render();
  }

  return {
    show: (shown) => put([shown], (data) => createSingle(env, data), "single"),
    showPair: (...pair) => put(pair, (...data) => createPair(env, ...data), "compare"),
    setState: (patch) => {
      env.state.set(cleaned(patch));
    },
    getState: () => env.state.get(),
    destroy() {
      cancelAnimationFrame(frame);
      env.stop();
      observer.disconnect();
      stopTheme();
      view = null;
      host.remove();
    },
  };
}

window.hfEss = { mount };
