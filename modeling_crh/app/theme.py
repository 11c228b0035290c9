"""Colours and fonts of the page: those of the machine that shows it, from nowhere else."""

from typing import Any

import gradio as gr

_FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

_COLORS = {
    "body_background_fill": ("#f7f6f3", "#141312"),
    "body_text_color": ("#1c1b19", "#edece8"),
    "body_text_color_subdued": ("#5f5d57", "#a9a79f"),
    "background_fill_primary": ("#ffffff", "#1e1d1b"),
    "background_fill_secondary": ("#f7f6f3", "#141312"),
    "block_background_fill": ("transparent", "transparent"),
    "block_title_text_color": ("#1c1b19", "#edece8"),
    "button_secondary_border_color": ("#d6d3cb", "#4a4743"),
    "button_secondary_border_color_hover": ("#5f5d57", "#a9a79f"),
    "block_label_text_color": ("#1c1b19", "#edece8"),
    "border_color_primary": ("#e4e2dc", "#3a3834"),
    "slider_color": ("#2566c8", "#78acff"),
    "input_background_fill": ("#ffffff", "#1e1d1b"),
    "button_secondary_background_fill": ("#ffffff", "#1e1d1b"),
    "button_secondary_background_fill_hover": ("#efede8", "#2a2826"),
    "button_secondary_text_color": ("#1c1b19", "#edece8"),
}  # by day and by night


def page_theme() -> Any:
    """Gradio's plainest theme in the colours of the reports."""
    theme = gr.themes.Base(font=_FONT, font_mono=_MONO, text_size=gr.themes.sizes.text_md)
    pairs = {name: day for name, (day, _) in _COLORS.items()} | {
        f"{name}_dark": night for name, (_, night) in _COLORS.items()
    }
    flat = {"block_border_width": "0px", "block_shadow": "none", "block_padding": "0px", "button_border_width": "1px"}
    return theme.set(**pairs, **flat, color_accent="#2566c8")
