"""What the site has beside docs/: the pages of results, and links to files that are no pages."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")  # pages that lie above docs/
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```$|^(?: {4}|\t)[^\n]*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def on_files(files, config):
    """Add pages and figures of results/, and the pages at the top."""
    results = ROOT / "results"
    extra = [path for kind in ("md", "svg") for path in results.rglob(f"*.{kind}")]
    for path in [*extra, *(ROOT / name for name in TOP)]:
        place = path.relative_to(ROOT).as_posix()
        place = f"project/{place}" if place in TOP else place
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Have links lead to pages of the site; of what is none its name is shown."""
    place = page.file.src_uri
    source = Path(page.file.abs_src_path)

    def led(found):
        target, _, anchor = found["target"].partition("#")
        if "://" in target or not target:
            return found[0]
        path = (source.parent / target).resolve()
        uri = _uri(path)
        if uri is None or files.get_file_from_path(uri) is None:
            return found["text"]
        up = "../" * place.count("/")
        return f"{found['image']}[{found['text']}]({up}{uri}{'#' if anchor else ''}{anchor})"

    parts = FENCE.split(markdown)  # code, at the odd places, stays
    return "".join(each if n % 2 else LINK.sub(led, each) for n, each in enumerate(parts))


def _uri(path):
    """Return where the site has a file of the project; None where it lies outside."""
    if not path.is_relative_to(ROOT):
        return None
    place = path.relative_to(ROOT).as_posix()
    if place in TOP:
        return f"project/{place}"
    return place.removeprefix("docs/") if place.startswith(("docs/", "results/")) else None
