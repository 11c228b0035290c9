"""Queries and what they found as one HTML page that asks for no other file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from modeling_crh.checks import check_path
from modeling_crh.page_templates import page_templates
from modeling_crh.search.code_index import CodeIndex
from modeling_crh.search.results import Result
from modeling_crh.search.thumbnails import Thumbnail, make_thumbnail, thumbnail_within
from modeling_crh.whole_file import whole_file

_TEMPLATES = (Path(__file__).parent / "templates", Path(__file__).parents[1] / "report" / "templates")


def write_page(
    path: str | Path, index: CodeIndex, results: Sequence[Result], *, image_root: str | Path | None = None
) -> Counter[str]:
    """Write the page, which takes its place once it is whole.

    Args:
        path: Where to; a file that is there is replaced.
        index: What was searched.
        results: What was found.
        image_root: Folder of the images of the database. Without one their paths are text.

    Returns:
        How many pictures of the database are not in the page, by their fault.

    Raises:
        ValueError: If `image_root` is no folder.
    """
    target = check_path("html", path)
    root = None if image_root is None else check_path("image_root", image_root)
    if root is not None and not root.is_dir():
        raise ValueError(f"`image_root` must be a folder, but got {str(image_root)!r}.")
    pictures = {} if root is None else _pictures(root, results)
    page = _render(index, results, pictures)
    with whole_file(target) as partial:
        partial.write_bytes(page.encode("utf-8", "replace"))  # a path may hold half a surrogate pair
    return Counter(picture.fault for picture in pictures.values() if picture.fault)


def _pictures(root: Path, results: Sequence[Result]) -> dict[str, Thumbnail]:
    paths = {hit.path for result in results for hit in result.hits if hit.path is not None}
    return {path: thumbnail_within(root, path) for path in sorted(paths)}


def _render(index: CodeIndex, results: Sequence[Result], pictures: dict[str, Thumbnail]) -> str:
    environment = page_templates(*_TEMPLATES)
    queries = [None if result.image is None else make_thumbnail(result.image) for result in results]
    return environment.get_template("results.html").render(
        index=index, results=results, queries=queries, pictures=pictures
    )
