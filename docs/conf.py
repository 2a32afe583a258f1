"""The documentation site: ``make docs`` writes the pages of the functions, then builds this folder."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes

import actlab

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "actlab"
author = "The actlab developers"
copyright = author
version = release = actlab.__version__

extensions = [
    "mathml",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "_ext", "functions/_*", "tutorial/*.py", "**/.ipynb_checkpoints"]

myst_enable_extensions = ["colon_fence", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # a notebook is shown as it was run

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
maximum_signature_line_length = 88
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "actlab"
html_static_path = ["_static", str(Path(actlab.__file__).parent / "report/html/assets/sorting.js")]
html_css_files = ["site.css"]
html_js_files = [("sortable.js", {"defer": "defer"}), ("sorting.js", {"defer": "defer"})]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # it would fetch pages, which a browser does not from a disk
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

nitpicky = True
# What other libraries document, and types that are names within a file.
nitpick_ignore_regex = [
    ("py:.*", r"(?!actlab\b).*"),
    ("py:.*", r"actlab(\.\w+)*\._.*"),
    ("py:class", r"actlab\.spec\.resolution\.ResolvedActivation"),  # internal; NeuralNet also accepts one
    ("py:class", r"actlab\.stats\.posterior\.WrappedSummary"),  # internal: a summary with another posterior
    ("py:class", r"actlab\.models\.places\.Places"),  # internal: a tuple that find_activations returns
]


FACES = (
    "actlab",
    *(f"actlab.{module.name}" for module in pkgutil.iter_modules(actlab.__path__) if module.ispkg),
    "actlab.report.plots",
)


def _public(app: Any, env: Any, node: nodes.Element, content: nodes.Node) -> nodes.Node | None:
    """Resolve a reference to a defining module by the public name that is documented."""
    module, _, name = str(node.get("reftarget", "")).rpartition(".")
    for face in FACES:
        public = getattr(importlib.import_module(face), name, None)
        if public is not None and (face == module or getattr(public, "__module__", None) == module):
            domain = env.get_domain("py")
            for documented in (f"actlab.{name}", f"{face}.{name}"):
                found = domain.resolve_xref(
                    env, node["refdoc"], app.builder, "obj", documented, node, content
                )
                if found is not None:
                    return found
    return None


def setup(app: Any) -> None:
    """Connect the hook."""
    app.connect("missing-reference", _public)
