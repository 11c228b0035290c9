import numpy as np
import pytest
from emoji_packages import IconSet
from emoji_render import check_svg, render_icon

SIZES = {"left": 0, "top": 0, "width": 16, "height": 16}


def render(body, *, mirrored=False, **sizes):
    icon_set = IconSet("noto", {}, {"icon": {"body": body, **sizes}}, {}, {}, SIZES)
    return np.asarray(render_icon(icon_set, "icon", mirrored=mirrored))


def test_a_drawing_is_laid_on_white_at_96_pixels():
    pixels = render('<rect width="8" height="16" fill="#f00"/>')
    assert pixels.shape == (96, 96, 3)
    assert (pixels[:, :48] == [255, 0, 0]).all()
    assert (pixels[:, 48:] == 255).all()


def test_a_drawing_without_a_color_is_black():
    assert (render('<rect width="16" height="16" fill="currentColor"/>') == 0).all()


def test_a_mirrored_drawing_has_left_and_right_swapped():
    body = '<path fill="#0a0" d="M0 0h8v4h-6v12h-2z"/>'
    assert np.array_equal(render(body, mirrored=True), render(body)[:, ::-1])


def test_the_size_of_an_icon_goes_before_that_of_its_set_and_what_is_not_square_is_centered():
    pixels = render('<rect x="2" y="4" width="32" height="16"/>', left=2, top=4, width=32, height=16)
    assert (pixels[24:72] == 0).all()
    assert (pixels[:24] == 255).all()
    assert (pixels[72:] == 255).all()


@pytest.mark.parametrize("width", [0, -1, "16", float("nan"), float("inf")])
def test_a_size_that_is_none_is_an_error(width):
    with pytest.raises(ValueError, match="The drawing 'icon' of noto must have a positive size"):
        render("<g/>", width=width)


def svg(body):
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"<svg {names}>{body}</svg>"


@pytest.mark.parametrize(
    "body",
    [
        '<path fill="url(#a)" d="M0 0h1"/>',
        "<path fill=\"url('#a')\" d='M0 0h1'/>",
        '<use href="#a"/>',
        '<use xlink:href="#a"/>',
        '<g style="filter:url(#a)"/>',
    ],
)
def test_references_within_the_file_are_allowed(body):
    check_svg(svg(body))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('<image href="/etc/passwd"/>', "shapes, gradients and filters only, but has .*image"),
        ("<script>1</script>", "but has .*script"),
        ("<style>@import 'x'</style>", "but has .*style"),
        ("<text>a</text>", "but has .*text"),
        ("<foreignObject/>", "but has .*foreignObject"),
        ('<g><g xmlns="http://www.w3.org/1999/xhtml"/></g>', "but has .*xhtml"),
        ('<use href="http://a/b.svg#c"/>', "only to parts of itself, but has href="),
        ('<use href=" #a"/>', "only to parts of itself"),
        ('<use xlink:href="data:image/svg+xml,x"/>', "only to parts of itself, but has .*href="),
        ('<path fill="URL( /a.svg#b)"/>', "only to parts of itself, but has fill="),
        ('<path style="fill:url(&quot;file:///a#b&quot;)"/>', "only to parts of itself, but has style="),
        ('<path style="fill:u\\72l(a)"/>', "only to parts of itself, but has style="),
        ('<!DOCTYPE a [<!ENTITY b "c">]>', "must be one element, but has a declaration"),
        ("<?a b?>", "must be one element, but has a declaration"),
        ("</svg><svg>", "must be XML, but is not"),
        ("<g>", "must be XML, but is not"),
        ("<g>" * 64 + "</g>" * 64, "must nest at most 64 elements"),
        (" " * 2**20, "at most 1048576 characters"),
    ],
)
def test_what_could_reach_out_or_take_for_ever_is_refused(body, message):
    with pytest.raises(ValueError, match=message):
        check_svg(svg(body))
    with pytest.raises(ValueError, match=f"The drawing 'icon' of noto cannot be used: .*{message}"):
        render(body)


def test_a_drawing_that_repeats_itself_without_end_is_refused():
    groups = "".join(f'<g id="a{level}">{f"""<use href="#a{level - 1}"/>""" * 10}</g>' for level in range(1, 12))
    with pytest.raises(ValueError, match="The drawing 'icon' of noto cannot be used"):
        render(f'<defs><g id="a0"><rect width="1" height="1"/></g>{groups}</defs><use href="#a11"/>')
