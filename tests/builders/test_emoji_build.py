import json
import sys

import emoji_build
import emoji_make_sample
import numpy as np
import pytest
from builders.npm_packages import write_package
from datasets import Dataset
from emoji_build import build_emoji, draw_queries, main
from emoji_make_sample import make_emoji_sample
from emoji_packages import VENDORS

from modeling_crh.data import load_benchmark
from modeling_crh.data.benchmarks.official_files import encode_png
from modeling_crh.data.benchmarks.small_images import emoji_features, load_emoji
from modeling_crh.data.columns import class_levels, label_names, label_tensor

EMOJI = {
    "😀": ("grinning face", "Smileys & Emotion", "face-smiling"),
    "👋": ("waving hand", "People & Body", "hand-fingers-open"),
    "🐱": ("cat face", "Animals & Nature", "animal-mammal"),
    "🐈": ("cat", "Animals & Nature", "animal-mammal"),
    "🦉": ("owl", "Animals & Nature", "animal-bird"),
    "🏁": ("chequered flag", "Flags", "flag"),
}
OLDER = ["emojione-v1", "fxemoji"]  # these two have no owl


def body_of(vendor, name):
    color = 1 + list(VENDORS).index(vendor) + 16 * [entry[0] for entry in EMOJI.values()].index(name)
    return f'<rect width="10" height="10" fill="#{color:06x}"/>'


def write_vendor(folder, vendor, bodies):
    info = {"name": vendor.title(), "author": {"name": "A"}, "license": {"spdx": "MIT"}, "samples": []}
    icons = {name.replace(" ", "-"): {"body": body} for name, body in bodies.items()}
    if vendor == "fxemoji":
        icons = {{"cat": "catside", "cat-face": "cat"}.get(name, name): icon for name, icon in icons.items()}
    files = {"icons.json": {"icons": icons, "width": 16, "height": 16}, "info.json": info, "chars.json": {}}
    write_package(folder, f"@iconify-json/{vendor}", files)


@pytest.fixture
def packages(tmp_path):
    """All packages in small: six emoji, one of them a flag; drawings are squares of a color each."""
    folder = tmp_path / "packages"
    folder.mkdir()
    listed, rows = {"🫩": {"name": "too new", "slug": "too_new", "group": "Smileys & Emotion"}}, []
    for character, (name, group, subgroup) in EMOJI.items():
        listed[character] = {"name": name, "slug": name.replace(" ", "_"), "group": group}
        names = {"unified": f"{ord(character):04X}", "name": name.upper(), "short_names": []}
        rows.append(names | {"subcategory": subgroup})
    write_package(folder, "unicode-emoji-json", {"data-by-emoji.json": listed})
    write_package(folder, "emoji-datasource", {"emoji.json": rows})
    for vendor in VENDORS:
        names = [name for name, _, _ in EMOJI.values() if name != "owl" or vendor not in OLDER]
        write_vendor(folder, vendor, {name: body_of(vendor, name) for name in names})
    return folder


def test_two_drawings_of_each_class_are_queries_and_the_others_the_database(packages, tmp_path):
    about = build_emoji(tmp_path / "out", packages_dir=packages)
    build_emoji(tmp_path / "again", packages_dir=packages)
    for name in ("database.parquet", "query.parquet", "about.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert (about["num_classes"], about["num_database"], about["num_query"]) == (5, 43, 10)
    splits = load_benchmark("emoji", tmp_path / "out", validation_fraction=0.2)
    assert splits.num_rows == {"train": 34, "validation": 9, "query": 10, "database": 43}
    assert label_names(splits["query"]) == ["grinning_face", "waving_hand", "cat_face", "cat", "owl"]
    assert label_tensor(splits["query"]).bincount().tolist() == [2] * 5
    assert label_tensor(splits["database"]).bincount().tolist() == [9, 9, 9, 9, 7]

    levels, features = class_levels(splits["database"]), splits["database"].features
    ids = {level: features[level].str2int(names) for level, names in levels.items()}
    assert ids == {"group": [0, 1, 2, 2, 2], "subgroup": [0, 1, 2, 2, 3]}
    assert features["group"].names == ["Smileys & Emotion", "People & Body", "Animals & Nature"]

    assert json.loads((tmp_path / "out" / "about.json").read_text(encoding="utf-8")) == about
    assert {"license": {"spdx": "MIT"}, "num_images": 5}.items() <= about["vendors"]["noto"].items()
    assert about["vendors"]["fxemoji"]["num_matched"] == 4
    assert about["packages"]["@iconify-json/noto"] == VENDORS["noto"]

    for dataset in load_emoji(tmp_path / "out"):
        for row in dataset:
            vendor = dataset.features["vendor"].int2str(row["vendor"])
            assert row["image"].size == (96, 96)
            assert "#{:02x}{:02x}{:02x}".format(*row["image"].getpixel((5, 5))) in body_of(vendor, row["name"])


def test_a_drawing_of_several_emoji_is_left_out_of_all_and_a_repeated_one_kept_once(packages, tmp_path):
    bodies = {name: body_of("noto", name) for name, _, _ in EMOJI.values()}
    write_vendor(packages, "noto", bodies | {"cat": bodies["owl"], "cat face": body_of("twemoji", "cat face")})
    vendors = build_emoji(tmp_path / "out", packages_dir=packages)["vendors"]
    assert (vendors["noto"]["num_matched"], vendors["noto"]["num_images"]) == (5, 3)
    assert vendors["twemoji"]["num_images"] == 4


def test_a_class_of_three_drawings_is_left_out_and_one_of_four_is_kept(packages, tmp_path):
    for vendor in list(VENDORS)[4:]:
        write_vendor(packages, vendor, {name: body_of(vendor, name) for name in ("cat", "waving hand")})
    write_vendor(packages, "noto", {name: body_of("noto", name) for name in ("cat", "owl")})
    about = build_emoji(tmp_path / "out", packages_dir=packages)
    assert (about["left_out"], about["num_classes"]) == (["grinning_face", "cat_face"], 3)


def test_the_queries_of_a_seed_never_change():
    labels = np.repeat(np.arange(4), 5)
    assert np.flatnonzero(draw_queries(labels, seed=0)).tolist() == [2, 4, 6, 9, 10, 12, 17, 18]
    assert np.flatnonzero(draw_queries(labels, seed=1)).tolist() != [2, 4, 6, 9, 10, 12, 17, 18]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_build_that_is_stopped_leaves_nothing(packages, tmp_path, monkeypatch, error):
    def stop(*_, **__):
        raise error

    monkeypatch.setattr(emoji_build, "render_icon", stop)
    with pytest.raises(error):
        build_emoji(tmp_path / "new" / "out", packages_dir=packages)
    assert list((tmp_path / "new").iterdir()) == []


def test_an_empty_folder_is_taken_and_what_is_there_is_refused_and_not_touched(packages, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(sys, "argv", ["emoji_build", "--out", str(out), "--packages", str(packages)])
    main()
    assert capsys.readouterr().out == "5 classes, 43 database and 10 query images.\n"
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("holds a finished build.")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    for folder in (tmp_path, out / "about.json"):
        with pytest.raises(ValueError, match=r"`out_dir` must be a new or empty folder, but .* holds something else"):
            build_emoji(folder, packages_dir=packages)
    with pytest.raises(ValueError, match="`seed` must be 0 or larger, but got -1"):
        build_emoji(tmp_path / "other", packages_dir=packages, seed=-1)


LICENCES = {"noto": "Apache-2.0", "openmoji": "CC-BY-SA-4.0", "twemoji": "CC-BY-4.0", "fluent": "MIT"}
SMALL = {"num_subgroups": 2, "classes_per_subgroup": 2, "min_drawings": 3}


@pytest.fixture
def build(tmp_path):
    """Eight classes in four subgroups of two, by four vendors; the first class lacks one, so its subgroup is small."""
    folder = tmp_path / "build"
    folder.mkdir()
    rows = [(label, vendor) for label in range(8) for vendor in range(4) if (label, vendor) != (0, 0)]
    labels = [label for label, _ in rows]
    pictures = [encode_png(np.full((96, 96, 3), (*row, 7), dtype=np.uint8)) for row in rows]
    columns = {"image": pictures, "label": labels, "vendor": [vendor for _, vendor in rows]}
    columns |= {"group": [label // 4 for label in labels], "subgroup": [label // 2 for label in labels]}
    columns |= {"name": [f"name {label}" for label in labels]}
    features = emoji_features(list("abcdefgh"), list(LICENCES), ["G", "H"], list("pqrs"))
    dataset = Dataset.from_dict(columns, features=features)
    is_query = np.arange(len(dataset)) % 4 > 1
    dataset.select(np.flatnonzero(~is_query)).to_parquet(folder / "database.parquet")
    dataset.select(np.flatnonzero(is_query)).to_parquet(folder / "query.parquet")
    about = {"vendors": {vendor: {"license": {"spdx": licence}} for vendor, licence in LICENCES.items()}}
    (folder / "about.json").write_text(json.dumps(about))
    return folder


def test_whole_subgroups_are_drawn_without_the_vendors_that_ask_to_share_alike(build, tmp_path):
    for out in ("out", "again"):
        make_emoji_sample(build, tmp_path / out, **SMALL)
    for name in ("database.parquet", "query.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    database, query = load_emoji(tmp_path / "out")
    assert database.features["vendor"].names == ["noto", "twemoji", "fluent"]
    assert label_tensor(query).bincount().tolist() == [2] * 4
    assert label_tensor(database).bincount().tolist() == [1] * 4
    one, same, other, too = class_levels(database)["subgroup"]
    assert one == same != other == too
    assert "p" not in database.features["subgroup"].names
    for dataset in (database, query):
        for row in dataset:
            label = "abcdefgh".index(dataset.features["label"].int2str(row["label"]))
            vendor = list(LICENCES).index(dataset.features["vendor"].int2str(row["vendor"]))
            assert row["image"].getpixel((50, 50)) == (label, vendor, 7)
            assert row["image"].format == "WEBP"
            assert row["name"] == f"name {label}"


def test_too_few_subgroups_end_the_command_with_one_sentence(build, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["emoji_make_sample", str(build), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped:
        emoji_make_sample.main()
    assert stopped.value.code == 2
    assert "`build_dir` must have 40 subgroups of 5 classes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
