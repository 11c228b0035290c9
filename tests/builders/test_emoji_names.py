import pytest
from emoji_names import EXCEPTIONS, Drawing, Emoji, code_points, known_names, match_icons
from emoji_packages import IconSet


def emoji_of(character, name, *, unicode_name="", short_names=()):
    slug = name.replace(" ", "_")
    return Emoji(code_points(character), name, slug, "Animals", "animal", unicode_name, tuple(short_names))


def set_of(icons, *, vendor="noto", aliases=None, characters=None):
    bodies = {name: {"body": "<g/>"} for name in icons}
    return IconSet(vendor, {}, bodies, aliases or {}, characters or {}, {})


CAT, CAT_FACE = "1f408", "1f431"
EMOJI = [
    emoji_of("🐈", "cat", unicode_name="CAT"),
    emoji_of("🐱", "cat face", unicode_name="CAT FACE", short_names=["cat", "puss"]),
    emoji_of("👉", "backhand index pointing right", unicode_name="WHITE RIGHT POINTING BACKHAND INDEX"),
]


def match(icon_set, *others):
    return match_icons(icon_set, EMOJI, known_names(EMOJI, [icon_set, *others]))


@pytest.mark.parametrize(
    ("character", "expected"),
    [("😀", "1f600"), ("❤️", "2764"), ("#️⃣", "0023-20e3"), ("👩‍🚀", "1f469-200d-1f680")],
)
def test_code_points_have_four_digits_or_more_and_no_variation_selectors(character, expected):
    assert code_points(character) == expected


def test_code_points_that_a_set_states_go_before_names():
    assert match(set_of(["cat"], characters={CAT_FACE: "cat"})) == {CAT_FACE: Drawing("cat")}


def test_names_match_whatever_their_spelling():
    assert match(set_of(["Cat-Face"])) == {CAT_FACE: Drawing("Cat-Face")}


def test_a_name_is_that_of_cldr_before_it_is_a_short_name():
    assert match(set_of(["cat"])) == {CAT: Drawing("cat")}
    assert match(set_of(["puss"])) == {CAT_FACE: Drawing("puss")}


def test_a_drawing_is_taken_for_one_emoji_only():
    assert match(set_of(["cat", "catface"])) == {CAT: Drawing("cat"), CAT_FACE: Drawing("catface")}
    assert match(set_of(["cat"], aliases={"cat-face": {"parent": "cat"}})) == {CAT: Drawing("cat")}


def test_an_alias_names_a_drawing_whose_own_name_is_unknown():
    assert match(set_of(["kitten"], aliases={"cat-face": {"parent": "kitten"}})) == {CAT_FACE: Drawing("kitten")}


def test_a_mirrored_alias_is_a_drawing_of_its_own():
    icon_set = set_of(
        ["pointing-left"], aliases={"backhand-index-pointing-right": {"parent": "pointing-left", "hFlip": True}}
    )
    assert match(icon_set) == {"1f449": Drawing("pointing-left", mirrored=True)}


def test_an_alias_that_is_turned_is_passed_over():
    assert match(set_of(["kitten"], aliases={"cat": {"parent": "kitten", "rotate": 1}})) == {}


def test_a_set_with_code_points_lends_its_names():
    lender = set_of(["tabby"], characters={CAT: "tabby"}, aliases={"mouser": {"parent": "tabby"}})
    assert match(set_of(["mouser"]), lender) == {CAT: Drawing("mouser")}


def test_a_name_that_two_emoji_share_matches_neither():
    emoji = [emoji_of("🐈", "a", unicode_name="PET"), emoji_of("🐕", "b", unicode_name="PET")]
    icon_set = set_of(["pet"])
    assert match_icons(icon_set, emoji, known_names(emoji, [icon_set])) == {}


def test_exceptions_go_before_all_names():
    assert EXCEPTIONS["fxemoji"]["cat"] == "🐱"
    assert match(set_of(["cat", "catside"], vendor="fxemoji")) == {CAT_FACE: Drawing("cat"), CAT: Drawing("catside")}


def test_an_exception_may_rule_a_drawing_out():
    emoji = [emoji_of("🪟", "window")]
    names = known_names(emoji, [])
    assert match_icons(set_of(["window"], vendor="fxemoji"), emoji, names) == {}
    assert match_icons(set_of(["window"]), emoji, names) == {"1fa9f": Drawing("window")}
