"""Reading what a report wrote: pages as elements and text."""

import re
from html.parser import HTMLParser


class Reader(HTMLParser):
    """Collects a page's elements, and its text."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.elements, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def every(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def read(path):
    reader = Reader()
    reader.feed(path.read_text())
    reader.text = re.sub(r"\s+", " ", "".join(reader.text))
    return reader


def pages(site):
    found = sorted(site.rglob("*.html"))
    assert found
    return found


def everything(site):
    return {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()}
