# SPDX-License-Identifier: GPL-2.0
"""Documents as HTML, by docutils alone: python3 docs.py FOLDER OUT

A page that another one names, as ``users.rst``, becomes a link to it, as the kernel's own
documentation does. `toctree` is understood as Sphinx means it. Every warning is an error.
"""

import os
import re
import shutil
import sys

from docutils import core, nodes
from docutils.parsers.rst import Directive, directives
from docutils.utils import SystemMessage
from docutils.transforms import Transform, parts
from docutils.readers import standalone

# The page that has the others, and how many sections a page has before it gets a table of them.
FIRST = "index"
MANY = 4


def title(path):
    """The title of a page: the first line with a line of signs below it."""
    lines = open(path, encoding="utf-8").read().split("\n")
    for text, below in zip(lines, lines[1:]):
        if text and below == "=" * len(below) and len(below) >= len(text) > 1 and text[0] != "=":
            return text.strip()
    raise SystemExit(f"{path}: there is no title")


class Toctree(Directive):
    """Titles of pages, each a link; a page that is not there is an error."""

    has_content = True
    option_spec = {"maxdepth": directives.nonnegative_int, "caption": directives.unchanged}

    def run(self):
        found = nodes.bullet_list()
        for name in filter(None, map(str.strip, self.content)):
            path = os.path.join(FOLDER, name + ".rst")
            if not os.path.exists(path):
                raise self.error(f"toctree names {name}, and there is no {path}")
            LISTED.add(name)
            text = title(path)
            link = nodes.reference(text, text, refuri=name + ".html")
            found += nodes.list_item("", nodes.paragraph("", "", link))
        return [found]


class Links(Transform):
    """Makes links of the names of pages, and puts a way back and a table of sections on a page."""

    default_priority = 400

    def apply(self):
        here = os.path.splitext(os.path.basename(self.document["source"]))[0]
        for literal in list(self.document.findall(nodes.literal)):
            named = re.fullmatch(r"(?:Documentation/)?([\w-]+)\.rst", literal.astext())
            if not named or named[1] == here or isinstance(literal.parent, nodes.reference):
                continue
            if named[1] not in PAGES:
                self.document.reporter.warning(f"there is no page {named[0]}", base_node=literal)
                continue
            uri = named[1] + ".html"
            literal.replace_self(nodes.reference("", PAGES[named[1]], refuri=uri))
        for image in self.document.findall(nodes.image):
            if not os.path.exists(os.path.join(FOLDER, image["uri"])):
                self.document.reporter.warning(f"there is no {image['uri']}", base_node=image)
        if here == FIRST:
            return
        sections = [n for n in self.document.children if isinstance(n, nodes.section)]
        at = next((i for i, n in enumerate(self.document.children)
                   if isinstance(n, (nodes.paragraph, nodes.section))), 0)
        if len(sections) >= MANY:
            contents = nodes.topic(classes=["contents"], ids=["contents"], names=["contents"])
            contents += nodes.title("", "On this page")
            pending = nodes.pending(parts.Contents, {"depth": 1, "local": None})
            contents += pending
            self.document.insert(at, contents)
            self.document.note_pending(pending)
        back = nodes.reference("", "All documents", refuri=FIRST + ".html")
        self.document.insert(at, nodes.paragraph("", "", back))


class Reader(standalone.Reader):
    """docutils' own, with links."""

    def get_transforms(self):
        return super().get_transforms() + [Links]


def main():
    settings = {
        "halt_level": 2,
        "report_level": 2,
        # Colours would take another package, and a warning where it is missing.
        "syntax_highlight": "none",
        "input_encoding": "utf-8",
        "embed_stylesheet": True,
    }
    directives.register_directive("toctree", Toctree)
    for name in sorted(PAGES, key=lambda name: (name != FIRST, name)):
        source = os.path.join(FOLDER, name + ".rst")
        out = os.path.join(OUT, name + ".html")
        try:
            core.publish_file(source_path=source, destination_path=out, reader=Reader(),
                              writer_name="html5", settings_overrides=settings)
        except SystemMessage:
            raise SystemExit(1)  # It has been printed.
    lost = sorted(set(PAGES) - LISTED - {FIRST})
    if lost:
        raise SystemExit(f"{FIRST}.rst does not list: {', '.join(lost)}")
    pictures = os.path.join(FOLDER, "pictures")
    if os.path.isdir(pictures):
        shutil.copytree(pictures, os.path.join(OUT, "pictures"), dirs_exist_ok=True)


FOLDER, OUT = sys.argv[1:3]
LISTED = set()
PAGES = {name[:-4]: title(os.path.join(FOLDER, name))
         for name in sorted(os.listdir(FOLDER)) if name.endswith(".rst")}
if __name__ == "__main__":
    main()
