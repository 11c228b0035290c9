"""Files that a search writes: what they may replace, and where they may lie."""

import pytest

from modeling_crh.search.results import check_replaced


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("html", "<title>Search results | my shop</title>mine"),
        ("html", "<title>Search results</title>mine"),
        ("out", "id,label,path,distance,price\n1,2,3,4,5\n"),
        ("out", "group,id,label,path,mine\n"),
        ("out", "\n"),
    ],
)
def test_a_file_that_resembles_an_older_one_is_not_replaced(name, content, tmp_path):
    (tmp_path / "mine").write_text(content)
    with pytest.raises(ValueError, match=f"`{name}` must be a new file, or an older .*, but .*mine' is another file"):
        check_replaced(name, tmp_path / "mine")


@pytest.mark.parametrize("place", [".", "no/file"])
@pytest.mark.parametrize("name", ["html", "out"])
def test_a_folder_or_a_file_in_none_is_refused_before_the_search(name, place, tmp_path):
    with pytest.raises(ValueError, match=f"`{name}` must be a file in a folder that exists, but got"):
        check_replaced(name, tmp_path / place)
