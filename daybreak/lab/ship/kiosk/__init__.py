"""Kiosk: every registered model on one screen, from its types. It knows models; it knows no system.

`fields` plans a screen without drawing it, `shown` turns answers into HTML, `story` asks every version the same,
`pages` hands out a model's own page, `feedback` brings home what visitors agree to give, `screen` draws with Gradio.
"""
