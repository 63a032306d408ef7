"""What MkDocs doesn't do by itself: pages from outside of docs/, the mathematics from docstrings,
and that nothing is fetched from elsewhere."""

import inspect
import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "AGENTS.md": "agents.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "examples.md",
    "plugins/llflow/weights/tiny.md": "weights/tiny.md",
    "plugins/llflow/weights/tiny440.md": "weights/tiny440.md",
}
"""Where files that aren't in docs/ are on the site: pages, the pictures of results, examples."""
for picture in (ROOT / "benchmarks/results").rglob("*.png"):
    OUTSIDE[str(picture.relative_to(ROOT))] = str(picture.relative_to(ROOT / "benchmarks"))
for example in (ROOT / "examples").rglob("*.py"):
    OUTSIDE[str(example.relative_to(ROOT))] = str(example.relative_to(ROOT))
WITHIN = {place: path for path, place in OUTSIDE.items()}


def on_files(files, config):
    for path, place in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown, page, config, files):
    if "<!-- mathematics -->" in markdown:
        markdown = markdown.replace("<!-- mathematics -->", mathematics())
    here = page.file.src_uri
    source = WITHIN.get(here, f"docs/{here}")

    def relinked(match):
        bang, text, target, anchor = match.groups("")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        goal = OUTSIDE.get(path, path.removeprefix("docs/"))
        if path in OUTSIDE or (path.startswith("docs/") and (ROOT / path).is_file()):
            return f"{bang}[{text}]({posixpath.relpath(goal, posixpath.dirname(here))}{anchor})"
        # A file that is no page has no place on the site; one that isn't there is MkDocs' to say.
        return match[0] if bang or not (ROOT / path).exists() else text

    link = r"(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)"
    return re.sub(link, relinked, markdown)


def mathematics():
    """Formula and source of every layer and map, as their docstrings have them."""
    import flowkit.density
    import flowkit.elementwise
    import flowkit.layers

    rooms = {"Layers": flowkit.layers, "Maps of one number": flowkit.elementwise}
    lines = []
    for title, room in rooms.items():
        lines.append(f"## {title}")
        page = room.__name__.rpartition(".")[2]
        for name in room.__all__:
            thing = getattr(room, name)
            if inspect.isclass(thing):
                lines.append(f"### [{name}](api/{page}.md#{room.__name__}.{name})")
                lines += prose(inspect.getdoc(thing) or "")
    return "\n\n".join(lines)


def prose(docstring):
    """The paragraphs that are neither a section, such as Args, nor an example."""
    paragraphs = re.split(r"\n\s*\n", docstring)
    section = re.compile(r"(Args|Raises|Returns)\b.*:$", re.MULTILINE)
    return [text for text in paragraphs if not section.match(text) and not text.startswith(">>>")]


def on_post_build(config):
    """Refuse scripts, styles, fonts and pictures from elsewhere."""
    resource = re.compile(r'<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)="(https?:[^"]*)"')
    for page in Path(config.site_dir).rglob("*.html"):
        for url in resource.findall(page.read_text()):
            raise PluginError(f"{page}: expected nothing from elsewhere, got {url}")
