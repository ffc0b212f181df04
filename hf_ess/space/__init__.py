"""The instrument behind the page: what may be measured, measuring it, keeping it, showing it.

Only the modules that build the page import gradio; the others serve it, the API and the tests.
"""
