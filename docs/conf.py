"""The documentation's site: `nox -s docs`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import mcore_compat

project = "mcore-compat"
author = "The mcore-compat authors"
version = release = mcore_compat.__version__

extensions = ["myst_parser", "repository_links", "generated_reference", "transcripts"]
exclude_patterns = ["_pages"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # generated pages begin sections below their own title

html_theme = "furo"
html_title = "mcore-compat"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#2f6f3e", "color-brand-content": "#1f5c8a"},
    "dark_css_variables": {"color-brand-primary": "#8fce9b", "color-brand-content": "#7db8e0"},
}

# Foreign links are tried by `nox -s docs -- --foreign` alone.
linkcheck_ignore = [r"\.\./"]  # what is published beside the pages: site_links.py
linkcheck_timeout = 20
linkcheck_anchors = False
