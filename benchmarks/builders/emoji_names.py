"""Match the icons of a vendor to emoji: by code points where a set states them, by name where it does not."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from emoji_packages import IconSet, read_json

VARIATION_SELECTOR = "\ufe0f"

Names = list[dict[str, str]]
"""Dictionaries from a bare name to code points, the most trusted first."""

EXCEPTIONS: dict[str, dict[str, str | None]] = {
    "emojione-v1": {"window": None},
    "fxemoji": {
        "americasglobe": "🌎",
        "asiaaustraliaglobe": "🌏",
        "bow": "🎀",
        "bunny": "🐰",
        "bunnyside": "🐇",
        "cat": "🐱",
        "catside": "🐈",
        "cellphone": "📱",
        "construct": "👷",
        "construction": "🏗",
        "constructionsign": "🚧",
        "couple": "💑",
        "couplekiss": "💏",
        "darksunglasses": "🕶",
        "dog": "🐶",
        "dogside": "🐕",
        "dragonhead": "🐲",
        "dragonside": "🐉",
        "europeafricaglobe": "🌍",
        "evergreen": "🌲",
        "flexbicep": "💪",
        "gma": "👵",
        "gpa": "👴",
        "halo": "😇",
        "hampster": "🐹",
        "handup": "🙋",
        "heartarrow": "💘",
        "heartgreen": "💚",
        "heartpurple": "💜",
        "heartribbon": "💝",
        "heartyellow": "💛",
        "heels": "👠",
        "high5": "🙌",
        "keyboard": None,
        "kiss": None,
        "leopardside": "🐆",
        "loudlycrying": "😭",
        "mansshirt": "👕",
        "medicalmask": "😷",
        "mensrunner": "👟",
        "mensshoe": "👞",
        "monkeyhear": "🙉",
        "monkeysee": "🙈",
        "monkeyspeak": "🙊",
        "mouse": "🐭",
        "mouseside": "🐁",
        "nogesture": "🙅",
        "okgesture": "🙆",
        "pig": "🐷",
        "pigside": "🐖",
        "poo": "💩",
        "present": "🎁",
        "screamfear": "😱",
        "snowmountains": "🏔",
        "spurtingwhale": "🐳",
        "squaredup": "🆙",
        "sunglasses": "😎",
        "sunrays": "☀",
        "tiger": "🐯",
        "tigerside": "🐅",
        "turban": "👳",
        "umbrella": "🌂",
        "up": None,
        "waitress": "💁",
        "wave": "🌊",
        "whale": "🐋",
        "window": None,
        "winking": "😉",
    },
}
"""Vendor and icon to the emoji that the drawing shows, or None for none, where names mislead; checked by eye."""


@dataclass(frozen=True)
class Emoji:
    """One class.

    Args:
        code_points: Code points such as `1f44b-200d-2642`, without variation selectors.
        name: Name in Unicode CLDR, such as "waving hand".
        slug: Unique name for programs, such as "waving_hand".
        group: Group of Unicode, such as "People & Body".
        subgroup: Subgroup of Unicode, such as "hand-fingers-open".
        unicode_name: Name of the character, which older sets give to the icon too.
        short_names: Names in chat programs.
    """

    code_points: str
    name: str
    slug: str
    group: str
    subgroup: str
    unicode_name: str
    short_names: tuple[str, ...]


@dataclass(frozen=True)
class Drawing:
    """An icon of a set, perhaps with left and right swapped."""

    icon: str
    mirrored: bool = False


def read_emoji(folder: Path) -> list[Emoji]:
    """All emoji without skin tones and without the group "Flags", in Unicode's order.

    An emoji that is too new for `emoji-datasource`, and so has no subgroup, is passed over.

    Args:
        folder: Folder of the downloaded packages.

    Raises:
        ValueError: If a package is missing or damaged.
    """
    rows = read_json(folder, "emoji-datasource", "emoji.json")
    details = {_plain(row["unified"]): row for row in rows}
    listed = read_json(folder, "unicode-emoji-json", "data-by-emoji.json")
    found = []
    for character, entry in listed.items():
        row = details.get(code_points(character))
        if entry["group"] != "Flags" and row is not None:
            found.append(
                Emoji(
                    code_points=code_points(character),
                    name=entry["name"],
                    slug=entry["slug"],
                    group=entry["group"],
                    subgroup=row["subcategory"],
                    unicode_name=row["name"] or "",
                    short_names=tuple(row["short_names"]),
                )
            )
    return found


def code_points(character: str) -> str:
    """Code points of an emoji, in hexadecimal, without variation selectors.

    Example:
        >>> code_points("1️⃣")
        '0031-20e3'
    """
    return "-".join(f"{ord(part):04x}" for part in character if part != VARIATION_SELECTOR)


def known_names(emoji: list[Emoji], icon_sets: Iterable[IconSet]) -> Names:
    """Collect the names of each emoji; a name of several emoji is left out of its dictionary.

    Args:
        emoji: All classes.
        icon_sets: Sets that state code points lend their names to those that do not.

    Returns:
        Names of CLDR, of the icon sets, of Unicode's characters and of chat programs, in this order.
    """
    wanted = {one.code_points for one in emoji}
    lent = [
        (name, _plain(key))
        for icon_set in icon_sets
        for key, icon in icon_set.characters.items()
        for name in [icon, *(alias for alias, entry in icon_set.aliases.items() if entry == {"parent": icon})]
    ]
    return [
        _unambiguous((one.name, one.code_points) for one in emoji),
        {name: key for name, key in _unambiguous(lent).items() if key in wanted},
        _unambiguous((one.unicode_name, one.code_points) for one in emoji),
        _unambiguous((name, one.code_points) for one in emoji for name in one.short_names),
    ]


def match_icons(icon_set: IconSet, emoji: list[Emoji], names: Names) -> dict[str, Drawing]:
    """Find the drawing of each emoji; no drawing is taken for two, and a drawing's own name goes before its aliases.

    Args:
        icon_set: Icon set of the vendor.
        emoji: All classes.
        names: From `known_names`.

    Returns:
        Code points to a drawing, for the emoji that this vendor has drawn.
    """
    wanted = {one.code_points for one in emoji}
    ruled = EXCEPTIONS.get(icon_set.vendor, {})
    matched: dict[str, Drawing] = {}
    taken = {Drawing(icon) for icon in ruled if icon in icon_set.icons}
    for icon, character in ruled.items():
        if character is not None and icon in icon_set.icons:
            matched[code_points(character)] = Drawing(icon)
    for key, drawing in _candidates(icon_set, names):
        if key in wanted and key not in matched and drawing not in taken:
            matched[key] = drawing
            taken.add(drawing)
    return {key: drawing for key, drawing in matched.items() if key in wanted}


def _candidates(icon_set: IconSet, names: Names) -> Iterator[tuple[str, Drawing]]:
    """Code points and drawings that may belong together, the most certain first."""
    for key, icon in icon_set.characters.items():
        if icon in icon_set.icons:
            yield _plain(key), Drawing(icon)
    own = {icon: Drawing(icon) for icon in icon_set.icons}
    aliases = {
        name: Drawing(entry["parent"], mirrored=bool(entry.get("hFlip")))
        for name, entry in icon_set.aliases.items()
        if entry.keys() <= {"parent", "hFlip"}
    }
    claimed = set()
    for drawings in (own, aliases):
        for dictionary in names:
            for name, drawing in drawings.items():
                meant = dictionary.get(_bare(name))
                if meant is not None and drawing not in claimed:
                    claimed.add(drawing)
                    yield meant, drawing


def _unambiguous(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found = defaultdict(set)
    for name, key in pairs:
        found[_bare(name)].add(key)
    return {name: next(iter(keys)) for name, keys in found.items() if name and len(keys) == 1}


def _bare(name: str) -> str:
    """Letters and digits alone, so that spelling and hyphens of a set do not matter."""
    return re.sub("[^a-z0-9]", "", unicodedata.normalize("NFKD", name).lower())


def _plain(key: str) -> str:
    """Code points as the packages write them, in our form."""
    return "-".join(part.zfill(4) for part in key.lower().split("-") if part != "fe0f")
