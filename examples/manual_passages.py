#!/usr/bin/env python3
"""Cut the HTML manual of PostgreSQL into passages.

    manual_passages.py HTML_FOLDER > passages.csv

Writes CSV rows (page, section, body): the running text of one section, in pieces of
40 to 100 words that end at the end of a sentence.  Program listings, tables of contents,
navigation and indexes are left out.  Uses the standard library only.
"""
import csv
import html.parser
import pathlib
import re
import sys

MIN_WORDS, MAX_WORDS, MAX_LETTERS = 40, 100, 650
HEADINGS = {"h1", "h2", "h3", "h4"}
PARAGRAPHS = {"p", "dd", "dt", "td", "li", "div", "pre"}
SKIPPED_CLASSES = ("navheader", "navfooter", "toc", "index", "footnotes", "programlisting", "screen", "synopsis")
SKIPPED_PAGES = ("bookindex", "biblio", "release", "errcodes-appendix", "acronyms", "sql-keywords", "features")
ADMONITIONS = ("note", "tip", "caution", "warning", "important")
GENERIC = {"Description", "Parameters", "Notes", "Examples", "Options", "Usage", "Outputs", "Author", "Example",
           "Environment", "Exit Status", "Caveats", "Limitations", "Functions", "Overview", "Introduction",
           "Compatibility", "Arguments", "Return Value", "Diagnostics", "See Also"}
VOID = {"br", "hr", "img", "meta", "link", "input", "col"}


class Page(html.parser.HTMLParser):
    """Collects (section title, paragraph) pairs of one page."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.paragraphs = []
        self.section = self.title = ""
        self.text = []
        self.heading = None
        self.skipping = []  # open tags since the outermost skipped one
        self.in_paragraph = 0

    def flush(self):
        body = re.sub(r"\s+", " ", "".join(self.text)).strip()
        self.text = []
        if body:
            self.paragraphs.append((self.section, body))

    def handle_starttag(self, tag, attrs):
        if tag in VOID:
            return
        classes = dict(attrs).get("class") or ""
        if self.skipping or tag in ("head", "sup", "table") or any(c in classes.split() for c in SKIPPED_CLASSES):
            self.skipping.append(tag)
            return
        if tag in HEADINGS:
            self.flush()
            self.heading = []
        elif tag in PARAGRAPHS:
            self.flush()

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if self.skipping:
            self.skipping.pop()
            return
        if tag in HEADINGS and self.heading is not None:
            title = re.sub(r"\s+", " ", "".join(self.heading)).strip()
            title = re.sub(r"^(Chapter |Appendix |Part )?[0-9A-Z]+(\.[0-9]+)*\.\s*", "", title)
            self.heading = None
            if title.lower() not in ADMONITIONS:
                self.title = self.title or title
                self.section = f"{self.title}: {title}" if title in GENERIC and title != self.title else title
        elif tag in PARAGRAPHS:
            self.flush()

    def handle_data(self, data):
        if self.skipping:
            return
        (self.text if self.heading is None else self.heading).append(data)


def sentences(body):
    """Sentences of a paragraph; longer ones are cut at MAX_WORDS words."""
    for sentence in re.split(r"(?<=[.:;?!])\s+", body):
        words = sentence.split()
        for i in range(0, len(words), MAX_WORDS):
            yield words[i:i + MAX_WORDS]


def passages(paragraphs):
    """Join the sentences of one section into pieces of MIN_WORDS to MAX_WORDS words."""
    section, piece = None, []
    for title, body in paragraphs + [(None, "")]:
        for words in sentences(body) if body else [[]]:
            longer = " ".join(piece + words)
            if piece and (title != section or len(piece) + len(words) > MAX_WORDS or len(longer) > MAX_LETTERS):
                if len(piece) >= MIN_WORDS:
                    yield section, " ".join(piece)
                piece = []
            section = title
            piece += words


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = csv.writer(sys.stdout, lineterminator="\n")
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.html")):
        if path.stem.startswith(SKIPPED_PAGES):
            continue
        page = Page()
        page.feed(path.read_text(encoding="utf-8", errors="replace"))
        page.close()
        page.flush()
        for section, body in passages(page.paragraphs):
            if section:
                out.writerow((path.stem, section, body))


if __name__ == "__main__":
    main()
