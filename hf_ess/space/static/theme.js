// Colours are written once, in style.css; drawings and files for download read them from there.

const NAMES = ["surface", "ink", "muted", "line", "faint", "data", "second", "warn", "hatch"];

export function readTheme(root) {
  const style = getComputedStyle(root);
  const theme = { font: style.fontFamily };
  for (const name of NAMES) theme[name] = style.getPropertyValue(`--hfess-${name}`).trim();
  return theme;
}

function isDark(host, preference) {
  if (host.closest(".dark")) return true;
  // Gradio says what it is by the class alone; the reader's system has been asked by Gradio.
  const decided = host.closest(".light, gradio-app, .gradio-container");
  return !decided && preference.matches;
}

// Sets data-theme on the root now and whenever it changes; returns how to stop.
export function followTheme(host, root, onChange) {
  const preference = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const name = isDark(host, preference) ? "dark" : "light";
    if (root.dataset.theme === name) return;
    root.dataset.theme = name;
    onChange();
  };
  const observer = new MutationObserver(apply);
  for (let node = host; node; node = node.parentElement) {
    observer.observe(node, { attributes: true, attributeFilter: ["class"] });
  }
  preference.addEventListener("change", apply);
  apply();
  return () => {
    observer.disconnect();
    preference.removeEventListener("change", apply);
  };
}
