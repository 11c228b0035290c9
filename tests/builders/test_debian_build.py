import json
import subprocess
import sys
from collections import Counter

import debian_build
import pyarrow.parquet as pq
import pytest
from debian_build import Package, build_debian, cap_items, distinct_items, draw_queries, keep_frequent, read_packages

from modeling_crh.data import is_multi_label, label_names, load_splits

STANZAS = """\
Package: libchime2
Source: chime (2.0.1-3)
Version: 2.0.1-3+b1
Depends: libc6 (>= 2.34), libasound2 (>= 1.0.16)
Description: bell sounds for programs -- shared library
Tag: role::shared-lib
Section: libs
Filename: pool/main/c/chime/libchime2_2.0.1-3+b1_amd64.deb

Package: chime
Version: 2.0.1-3
Description: rings  a bell on the hour
 The long text, which most indexes leave out.
 .
 Section: this is no field.
Tag: interface::commandline, use::timekeeping, works-with::audio,
 sound::player, use::TODO,
\trole::program
Section: sound
Filename: pool/main/c/chime/chime_2.0.1-3_amd64.deb

Package: untagged
Section: utils
Filename: pool/updates/main/u/untagged/untagged_1_all.deb
Description: sorts pebbles by size
"""
TABLES = [f"{name}/{part}.parquet" for name in ("sections", "tags") for part in ("train", "test")]
ADJECTIVES = ["quick", "tiny", "graphical", "networked", "scriptable", "classic", "modular", "portable"]
SUBJECTS = {
    "sound": ("tone mixer", "works-with::audio", "use::playing"),
    "games": ("chess board", "use::gameplaying", "game::board"),
    "mail": ("letter sorter", "works-with::mail", "use::filtering"),
}


def stanza(name, section, text, *, source=None, tags=(), area="main"):
    lines = [f"Package: {name}", f"Section: {section}", f"Description: {text}"]
    lines += [f"Source: {source}"] * bool(source) + ["Tag: " + ",\n ".join(tags)] * bool(tags)
    return "\n".join([*lines, f"Filename: pool/{area}/{name[0]}/{name}.deb"]) + "\n"


def package(name, *, source=None, section="games", text=None, tags=()):
    return Package(name, source or name, section, text or f"plays {name}", tuple(tags))


def items_of(counts):
    """Items with as many sources of each label as `counts` says."""
    return [(package(f"{label}-{row:03}"), (label,)) for label, total in counts.items() for row in range(total)]


@pytest.fixture
def index_file(tmp_path):
    """24 source packages of three sections, each with a program and a library, and what has to be left out."""
    stanzas = []
    for section, (subject, *tags) in SUBJECTS.items():
        for adjective in ADJECTIVES:
            source = f"{adjective}-{section}"
            stanzas.append(stanza(source, section, f"{adjective} {subject}", tags=[*tags[: 1 + len(adjective) % 2]]))
            text = f"{adjective} {subject} - shared library"
            stanzas.append(stanza(f"lib{source}", "libs", text, source=f"{source} (1.2)", tags=["role::shared-lib"]))
    stanzas.append(stanza("chessboard2", "games", "Quick  chess-board 2", tags=["use::gameplaying"]))
    stanzas.append(stanza("kernel-thing", "kernel", "drives a thing", tags=["admin::kernel"]))
    file = tmp_path / "index.txt"
    file.write_text("\n".join(stanzas), encoding="utf-8")
    return file


@pytest.fixture(autouse=True)
def small_labels(monkeypatch):
    monkeypatch.setattr(debian_build, "MIN_SOURCES", 4)


def test_a_stanza_gives_source_section_short_description_and_sorted_tags():
    libchime, chime, untagged = read_packages(STANZAS)
    text = "bell sounds for programs -- shared library"
    assert libchime == Package("libchime2", "chime", "libs", text, ("role::shared-lib",))
    tags = "interface::commandline role::program sound::player use::TODO use::timekeeping works-with::audio"
    assert chime == Package("chime", "chime", "sound", "rings a bell on the hour", tuple(tags.split()))
    assert untagged == Package("untagged", "untagged", "utils", "sorts pebbles by size", ())


def test_stanzas_that_lack_a_field_transitional_packages_and_other_archive_areas_are_left_out():
    lines = stanza("chime", "sound", "rings a bell").splitlines()
    assert len(read_packages("\n".join(lines))) == 1
    for field in ("Package", "Section", "Description", "Filename"):
        assert read_packages("\n".join(line for line in lines if not line.startswith(field))) == []
    texts = ["Transitional package for chime", "chime (dummy package)", "tests with a crash test dummy"]
    index = "\n".join(stanza(f"p{row}", "sound", text) for row, text in enumerate(texts))
    index += "\n" + stanza("secret", "non-free/sound", "plays a secret format", area="non-free")
    assert [package.name for package in read_packages(index)] == ["p2"]


def test_labels_are_sections_that_tell_a_subject_and_tags_of_the_facets():
    packages = read_packages(STANZAS)
    sections = {package.name: labels for package, labels in debian_build.section_items(packages)}
    assert sections == {"chime": ("sound",), "untagged": ("utils",)}
    tags = {package.name: labels for package, labels in debian_build.tag_items(packages)}
    assert tags == {"chime": ("sound::player", "use::timekeeping", "works-with::audio")}
    odd = package("odd", tags=["user::child", "works-with-format::mp3", "x11::use::theme"])
    assert debian_build.tag_items([odd]) == [(odd, ("works-with-format::mp3",))]


def test_one_package_is_kept_of_a_source_and_its_labels_and_of_texts_that_differ_in_form_alone():
    names = ["a-first", "chess-server", "chess-x", "chess"]
    items = [(package(name, source="chess"), ("games",)) for name in names]
    assert [one.name for one, _ in distinct_items(items)] == ["chess"]
    assert [one.name for one, _ in distinct_items(items[:3])] == ["a-first"]
    assert len(distinct_items([*items, (package("chess-mail", source="chess"), ("mail",))])) == 2
    texts = ["GNU C compiler", "GNU C compiler", "gnu C compiler, 12", "GNU  C compiler (cross)", "GNU-C_compiler"]
    items = [(package(f"gcc{row}", text=text), ("devel",)) for row, text in enumerate(texts)]
    assert [one.name for one, _ in distinct_items(items)] == ["gcc0"]


def test_a_label_of_too_few_sources_is_left_out_and_so_is_a_package_without_another():
    items = [*items_of({"rare": 2, "common": 3}), (package("both"), ("common", "rare"))]
    items.append((package("again", source="both"), ("rare",)))  # a fourth package, of a third source
    kept = dict(keep_frequent(items, 4))
    assert set(kept.values()) == {("common",)}
    assert sorted(one.name for one in kept) == ["both", "common-000", "common-001", "common-002"]


def test_a_label_of_too_many_texts_is_drawn_from():
    items = items_of({"large": 30, "small": 5})
    kept = cap_items(items, 10, seed=0)
    assert Counter(labels[0] for _, labels in kept) == {"large": 10, "small": 5}
    assert [one.name for one, _ in kept] == sorted(one.name for one, _ in kept)
    assert cap_items(items[::-1], 10, seed=0) == kept
    assert cap_items(items, 10, seed=1) != kept
    both = [(package(f"both-{row}"), ("large", "small")) for row in range(4)]  # drawn for any of their labels
    counts = Counter(label for _, labels in cap_items([*items[:10], *both], 4, seed=0) for label in labels)
    assert counts["small"] == 4
    assert 4 <= counts["large"] <= 8


@pytest.mark.parametrize("seed", range(5))
def test_a_tenth_of_the_sources_of_each_label_are_queries_and_each_label_is_on_both_sides(seed):
    counts = {"a": 4, "b": 40, "c": 100}
    items = items_of(counts)
    items += [(package(f"b-{row:03}-mail", source=f"b-{row:03}"), ("b", "c")) for row in range(20)]
    drawn = draw_queries(items, seed=seed)
    sources = {label: {one.source for one, labels in items if label in labels} for label in counts}
    assert len(sources["a"] & drawn) == 1
    assert 4 <= len(sources["b"] & drawn) <= 8
    assert len(sources["c"] & drawn) == 12
    assert drawn == draw_queries(items[::-1], seed=seed)
    items = [*items_of({"common": 10}), (package("x"), ("common", "rare")), (package("y"), ("common", "rare"))]
    assert len(draw_queries(items, seed=seed) & {"x", "y"}) == 1


def test_tables_of_sections_and_tags_load_and_what_they_come_from_is_written_beside_them(index_file, tmp_path):
    out = tmp_path / "out"
    about = build_debian(out, index_file=index_file)
    assert json.loads((out / "about.json").read_text(encoding="utf-8")) == about
    assert (about["num_packages"], about["num_sources"], len(about["index_sha256"])) == (50, 26, 64)
    assert about["sections"]["counts"] == {"games": 8, "mail": 8, "sound": 8}
    sections, tags = (
        load_splits(str(out / name), text_column="text", validation_fraction=0.2).splits
        for name in ("sections", "tags")
    )
    assert label_names(sections["query"]) == ["games", "mail", "sound"]
    assert sections.num_rows == {"train": 17, "validation": 4, "query": 3, "database": 21}
    assert is_multi_label(tags["query"])
    names = "game::board use::filtering use::gameplaying use::playing works-with::audio works-with::mail"
    assert label_names(tags["query"]) == names.split()
    assert tags.num_rows["query"] == about["tags"]["num_query"]
    pairs = [bool({*one} & {*other}) for one in tags["query"]["label"] for other in tags["database"]["label"]]
    assert about["tags"]["relevant_share"] == pytest.approx(sum(pairs) / len(pairs), abs=1e-4)


def test_no_source_package_is_in_both_tables(tmp_path):
    stanzas = []
    for source in (f"{adjective}{letter}" for adjective in ADJECTIVES for letter in "abcd"):
        stanzas.append(stanza(f"{source}-x", "games", f"{source} game", source=source, tags=["use::gameplaying"]))
        stanzas.append(stanza(f"{source}-y", "mail", f"{source} sorter", source=source, tags=["works-with::mail"]))
    (tmp_path / "index").write_text("\n".join(stanzas), encoding="utf-8")
    build_debian(tmp_path / "out", index_file=tmp_path / "index")
    for folder in ("sections", "tags"):
        rows = {part: pq.read_table(tmp_path / "out" / folder / f"{part}.parquet") for part in ("train", "test")}
        train, test = (rows[part]["source"].to_pylist() for part in ("train", "test"))
        assert (len(train), len(test), len({*train} | {*test}), {*train} & {*test}) == (58, 6, 32, set())


def test_the_same_tables_come_out_whatever_the_order_of_the_index_and_others_of_another_seed(index_file, tmp_path):
    turned = tmp_path / "turned"
    turned.write_text("\n\n".join(index_file.read_text(encoding="utf-8").split("\n\n")[::-1]), encoding="utf-8")
    for out, file, seed in (("a", index_file, 0), ("b", index_file, 0), ("c", turned, 0), ("d", index_file, 1)):
        build_debian(tmp_path / out, index_file=file, seed=seed)
    assert (tmp_path / "a" / "about.json").read_bytes() == (tmp_path / "b" / "about.json").read_bytes()
    for table in TABLES:
        written = [(tmp_path / out / table).read_bytes() for out in "abcd"]
        assert written[0] == written[1] == written[2] != written[3]


def test_apt_is_asked_without_a_file(index_file, tmp_path, monkeypatch):
    answers = iter([(0, index_file.read_text(encoding="utf-8"), ""), (0, "", ""), (100, "", "E: broken\n")])
    monkeypatch.setattr(debian_build.shutil, "which", lambda _: "/usr/bin/apt-cache")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, *next(answers)))
    assert build_debian(tmp_path / "out")["num_sources"] == 26
    with pytest.raises(ValueError, match=r"`apt-cache`, whose lists `apt-get update` fetches, must hold .*holds none"):
        build_debian(tmp_path / "other")
    with pytest.raises(ValueError, match="`apt-cache` must print the index, but failed: E: broken"):
        build_debian(tmp_path / "other")
    monkeypatch.setattr(debian_build.shutil, "which", lambda _: None)
    with pytest.raises(ValueError, match="`apt-cache` must be on the PATH"):
        build_debian(tmp_path / "other")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"`index_file` must be a text in UTF-8, but reading .*index failed"),
        (b"Package: caf\xe9\n", r"`index_file` must be a text in UTF-8, but reading .*index failed"),
        (b"name,section\nchime,sound\n", "`index_file` must hold packages of Debian's main, but holds none"),
        (stanza("chime", "sound", "rings").encode(), "must have at least two sections of enough sources, but has 0"),
    ],
)
def test_a_file_that_is_no_index_is_an_error_and_leaves_nothing(tmp_path, content, message):
    if content is not None:
        (tmp_path / "index").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        build_debian(tmp_path / "out", index_file=tmp_path / "index")
    assert {file.name for file in tmp_path.iterdir()} <= {"index"}


def test_an_empty_folder_is_taken_a_full_one_is_not_and_the_command_refuses_in_one_sentence(
    index_file, tmp_path, monkeypatch, capsys
):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(sys, "argv", ["debian_build", "--out", str(tmp_path / "out"), "--index", str(index_file)])
    debian_build.main()
    first, second = capsys.readouterr().out.splitlines()
    assert first == "sections: 3 classes, 21 database and 3 query texts, 33.3% of the pairs relevant."
    assert second.startswith("tags: 6 classes, ")
    with pytest.raises(SystemExit) as stopped:
        debian_build.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("out holds a finished build.")
    with pytest.raises(ValueError, match=r"`out_dir` must be a new or empty folder, but .* holds something else"):
        build_debian(tmp_path, index_file=index_file)
    with pytest.raises(ValueError, match="`seed` must be a whole number, 0 or larger, but got -1"):
        build_debian(tmp_path / "other", index_file=index_file, seed=-1)
