"""How Gradio's elements look: quiet, in the colours of the view, with the reader's own fonts."""

from __future__ import annotations

from typing import Any

import gradio as gr

# Nothing is asked of other servers.
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONOSPACED = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
# As in style.css: light, dark.
SURFACE = ("#ffffff", "#0f1318")
RAISED = ("#ffffff", "#1a2027")
INK = ("#1b1f24", "#e7eaee")
MUTED = ("#59636e", "#9ba6b2")
LINE = ("#d5dae0", "#333c47")
FAINT = ("#f1f4f7", "#1a2028")
DATA = ("#1f6fb2", "#6fb1e4")
ON_DATA = ("#ffffff", "#0f1318")

_COLOURS = {
    "body_background_fill": SURFACE,
    "body_text_color": INK,
    "body_text_color_subdued": MUTED,
    "background_fill_primary": SURFACE,
    "background_fill_secondary": FAINT,
    "border_color_primary": LINE,
    "border_color_accent": DATA,
    "color_accent_soft": FAINT,
    "link_text_color": DATA,
    "link_text_color_hover": DATA,
    "link_text_color_visited": DATA,
    "block_background_fill": SURFACE,
    "block_label_text_color": INK,
    "block_title_text_color": INK,
    "block_info_text_color": MUTED,
    "input_background_fill": RAISED,
    "input_border_color": LINE,
    "input_border_color_focus": DATA,
    "input_placeholder_color": MUTED,
    "checkbox_background_color": RAISED,
    "checkbox_background_color_selected": DATA,
    "checkbox_border_color": MUTED,
    "checkbox_border_color_selected": DATA,
    "checkbox_border_color_focus": DATA,
    "checkbox_label_background_fill": SURFACE,
    "checkbox_label_background_fill_hover": FAINT,
    "checkbox_label_background_fill_selected": FAINT,
    "checkbox_label_border_color": LINE,
    "checkbox_label_text_color": INK,
    "checkbox_label_text_color_selected": INK,
    "button_primary_background_fill": DATA,
    "button_primary_background_fill_hover": DATA,
    "button_primary_border_color": DATA,
    "button_primary_text_color": ON_DATA,
    "button_primary_text_color_hover": ON_DATA,
    "button_secondary_background_fill": RAISED,
    "button_secondary_background_fill_hover": FAINT,
    "button_secondary_border_color": LINE,
    "button_secondary_text_color": INK,
    "button_secondary_text_color_hover": INK,
}
_SIZES = {
    "block_border_width": "0px",
    "block_padding": "0px",
    "block_shadow": "none",
    "block_title_text_weight": "600",
    "block_title_text_size": "*text_md",
    "input_border_width": "1px",
    "input_shadow": "none",
    "checkbox_label_border_width": "1px",
    "checkbox_label_padding": "4px 10px",
    "checkbox_label_shadow": "none",
    "checkbox_shadow": "none",
    "button_border_width": "1px",
    "button_large_text_weight": "600",
    "layout_gap": "16px",
    "form_gap_width": "16px",
}


def theme() -> Any:
    """The theme of the page."""
    colours: dict[str, str] = {}
    for name, (light, dark) in _COLOURS.items():
        colours |= {name: light, f"{name}_dark": dark}
    # These have a dark value of their own.
    both = {f"{name}_dark": value for name, value in _SIZES.items() if "border_width" in name}
    plain = gr.themes.Base(font=FONT, font_mono=MONOSPACED, radius_size="sm", text_size="md")
    return plain.set(**colours, **_SIZES, **both)
