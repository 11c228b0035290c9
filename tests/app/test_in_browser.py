"""The page in a real browser: what a person does, and sees."""

import pytest

from modeling_crh.app.search_page import build_page
from modeling_crh.app.server import serving
from modeling_crh.encoding import Encoder
from modeling_crh.search import HammingIndex

pytestmark = pytest.mark.slow

FILE = "input[type=file]"
PASTE = """async bytes => navigator.clipboard.write(
    [new ClipboardItem({"image/png": new Blob([new Uint8Array(bytes)], {type: "image/png"})})])"""
DROP = """bytes => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""
NO_IMAGE = "This file is no image that can be read: it must be PNG, JPEG, WebP, GIF, AVIF or BMP."
TOO_LARGE = "An image may have 10 MB at most, but this file has more."
expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=20_000)


def distances(page):
    return [int(text.split()[0]) for text in page.locator(".distance").all_inner_texts()]


def positions(page):
    return [int(tile.get_attribute("data-position")) for tile in page.locator(".crh-hits button").all()]


def code_shown(page):
    return page.locator("[data-code]").get_attribute("data-code")


def choose(page, number=0):
    """Click on an image of the database, wait for what lies nearest, and give its position."""
    tile = page.locator(".crh-gallery button").nth(number)
    tile.click()
    expect(page.locator(".crh-hits button")).to_have_count(12)
    return int(tile.get_attribute("data-position"))


def show(page, count):
    number = page.get_by_label("number input for Images to show")
    number.fill(str(count))
    number.press("Enter")
    expect(page.locator(".crh-hits button")).to_have_count(count)


@pytest.fixture
def expected(index):
    """Distances and positions of what is nearest to an item."""

    def nearest(position, k=12, logits=None):
        _, found, near = index.find(index.packed[[position]], k, rerank_logits=logits)
        return near[0].tolist(), found[0].tolist()

    return nearest


def test_a_click_on_an_image_of_the_database_shows_what_lies_nearest(visit, index, expected):
    page = visit()
    expect(page.get_by_role("heading", name="No search yet")).to_be_visible()
    position = choose(page, 4)
    expect(page.locator(".crh-found h2")).to_have_text("The 12 nearest of 60")
    assert (distances(page), positions(page)) == expected(position)
    assert code_shown(page) == index.packed[position].tobytes().hex()
    expect(page.get_by_text("code from the index")).to_be_visible()
    expect(page.locator(".crh-hits em")).to_have_count(expected(position)[1].count(position))
    marked = page.locator(".crh-hits li").last.locator("svg")
    assert marked.get_attribute("aria-label").startswith(f"{distances(page)[-1] or 'No'} bit")
    expect(page.locator(".crh-hits img")).to_have_count(12)
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0 && image.alt)")


def test_a_result_becomes_the_query_by_keyboard_alone(visit, expected):
    page = visit()
    page.locator(".crh-gallery button").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".crh-hits button")).to_have_count(12)
    page.get_by_label("Images to show").first.focus()
    for _ in range(40):
        if page.evaluate("document.activeElement.closest('.crh-hits') !== null"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    chosen = positions(page)[1]
    page.keyboard.press("Enter")
    expect(page.locator("[data-code]")).to_contain_text(f"{chosen:02d}.png")
    assert positions(page) == expected(chosen)[1]
    expect(page.locator("[data-code]")).to_be_focused()


def test_an_image_of_ones_own_is_encoded(visit, index, expected, image_root, checkpoint):
    page = visit()
    page.locator(FILE).set_input_files(image_root / "07.png")
    expect(page.get_by_role("heading", name="Your image")).to_be_visible()
    assert code_shown(page) == index.packed[7].tobytes().hex()
    logits = Encoder.load(checkpoint).hash_logits([image_root / "07.png"])
    assert (distances(page), positions(page)) == expected(7, logits=logits)
    expect(page.locator(".legend")).to_contain_text("Ordered by the hash logits of the query.")
    expect(page.locator(".times")).to_contain_text("encoded in")
    expect(page.locator(".times")).to_contain_text("searched in")
    expect(page.locator(".crh-hits em")).to_have_count(0)


def test_sliders_say_how_many_and_how_far(visit, expected):
    page = visit()
    position = choose(page)
    show(page, 60)
    everything = expected(position, 60)[0]
    radius = everything[25]
    slider = page.get_by_label("range slider for Radius, in bits")
    slider.fill(str(radius))
    within = [distance for distance in everything if distance <= radius]
    expect(page.locator(".crh-found h2")).to_have_text(f"All {len(within)} within {radius} bits")
    assert distances(page) == within
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator(".crh-found h2")).to_have_text(f"All {everything.count(0)} within 0 bits")


@pytest.mark.parametrize(("size", "sentence"), [(5, NO_IMAGE), (0, NO_IMAGE), (10_000_001, TOO_LARGE)])
def test_a_file_that_is_no_image_gets_a_sentence_and_the_answer_stays(visit, size, sentence, tmp_path):
    file = tmp_path / "query.png"
    with file.open("wb") as opened:
        opened.truncate(size)
    page = visit()
    choose(page)
    before = code_shown(page)
    page.locator(FILE).set_input_files(file)
    expect(page.get_by_role("alert")).to_have_text(sentence)
    assert code_shown(page) == before
    page.locator(".crh-gallery button").nth(1).click()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_two_people_at_once_see_their_own_answers(visit, expected):
    people = {5: visit(), 7: visit()}
    chosen = {count: (choose(page, count), code_shown(page)) for count, page in people.items()}
    for count, page in people.items():
        show(page, count)
    for count, page in people.items():
        position, code = chosen[count]
        assert (positions(page), code_shown(page)) == (expected(position, count)[1], code)


@pytest.mark.parametrize("way", ["pasted", "dropped"])
def test_an_image_can_be_pasted_or_dropped(visit, index, image_root, way):
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.evaluate(PASTE if way == "pasted" else DROP, list((image_root / "11.png").read_bytes()))
    if way == "pasted":
        page.locator("h1").click()
        page.keyboard.press("Control+V")
    expect(page.get_by_role("heading", name="Your image")).to_be_visible()
    assert code_shown(page) == index.packed[11].tobytes().hex()


def test_other_images_of_the_database_can_be_shown(visit):
    page = visit()

    def shown():
        return [tile.get_attribute("data-position") for tile in page.locator(".crh-gallery button").all()]

    before = shown()
    page.get_by_role("button", name="Show others").click()
    # One tile may be drawn again at its place; all twelve are not.
    page.wait_for_function(
        """before => {
            const tiles = [...document.querySelectorAll(".crh-gallery button")];
            return tiles.length === 12 && tiles.map(tile => tile.dataset.position).join() !== before.join();
        }""",
        arg=before,
    )
    assert len(set(shown())) == 12


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(visit, width):
    page = visit(viewport={"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    choose(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.locator("[data-code]")).to_be_in_viewport()


def test_without_pictures_and_with_hostile_labels_it_is_text(visit, index, checkpoint, tmp_path):
    evil = ["<img src=x onerror=document.title='taken'>${document.title='taken'}{{title}}"] * 60
    ids = [f"<b>{number}</b>" for number in range(60)]
    HammingIndex(index.packed, ids, labels=evil, model=checkpoint).save(tmp_path / "index")
    with serving(build_page(tmp_path / "index", checkpoint)) as address:
        page = visit(address)
        page.locator(".crh-gallery button").first.click()
        expect(page.locator(".crh-hits .plain")).to_have_count(12)
        expect(page.locator("[data-code]")).to_have_text(f"{evil[0]}, item <b>0</b>")
        expect(page.locator("#crh-answer img, #crh-ask img")).to_have_count(0)
        assert page.title() == "Search by binary codes"
        page.context.close()
