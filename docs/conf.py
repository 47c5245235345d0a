"""How Sphinx makes a site of these pages: ``sphinx-build --fail-on-warning docs build/docs`` (extra ``docs``)."""

project = "Which surrogate solves my ODE system?"
html_title = project
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3  # links to headings, as on a forge
html_theme = "furo"
html_show_copyright = False
exclude_patterns = ["pictures"]
html_static_path = ["_static"]
html_css_files = ["tables.css"]
