"""The documentation: `make docs` builds it with Sphinx, runs the tutorials and stops at the first
warning."""

import os
import sys
from functools import partialmethod
from importlib import metadata
from pathlib import Path

from nbclient import NotebookClient
from sphinx.util.docutils import SphinxDirective

import metadyn

project = "ndx-metadyn"
author = "ndx-metadyn developers"
release = metadata.version("ndx-metadyn")
html_title = f"{project} {release}"
html_theme = "furo"
html_show_copyright = False

extensions = [
    "myst_nb",  # Markdown pages; the cells of tutorials are run
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # docval writes docstrings in Google's style
    "sphinx_copybutton",
    "sphinxcontrib.typer",  # the commands' own help
]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
default_role = "code"  # of `words` in docstrings

autoclass_content = "both"  # docval describes arguments in __init__
napoleon_numpy_docstring = (
    False  # it takes what our sections say behind the colon for a type: see as_fields
)
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes and units are in the words

# What a kernel's commands inherit: this environment's `metadyn`; output as for a file, without
# colours and bars, and with lines as wide as the page.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ.update(TTY_COMPATIBLE="0", NO_COLOR="1", COLUMNS="88")
# %%bash hands its output over in pieces of 100 bytes, which are one text again with this
NotebookClient.__init__ = partialmethod(NotebookClient.__init__, coalesce_streams=True)
nb_execution_mode = "force"  # no page shows what an older version printed
nb_execution_in_temp = True  # each tutorial in a folder of its own
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_render_markdown_format = "gfm"  # tables that a cell prints

FIELDS = {"Parameters": ":param {}:", "Returns": ":returns: {}:", "Raises": ":raises {}:"}


def as_fields(app, what, name, obj, options, lines):
    """The sections of our docstrings, whose lines are `name : what it is`, as Sphinx's fields."""
    field, told = None, []
    for line in lines:
        if line in FIELDS:
            field = FIELDS[line]
        elif line and set(line) == {"-"}:
            told.append("")
        elif field and " : " in line and not line.startswith(" "):
            item, _, text = line.partition(" : ")
            told.append(f"{field.format(item)} {text}")
        else:
            told.append(line)
    lines[:] = told


class Verbs(SphinxDirective):
    """`.. verbs::` documents each verb of the package, in the order of its table."""

    def run(self):
        return self.parse_text_to_nodes(
            "\n\n".join(f".. autofunction:: metadyn.{verb}" for verb in metadyn.VERBS)
        )


def setup(app):
    app.add_directive("verbs", Verbs)
    app.connect("autodoc-process-docstring", as_fields)
