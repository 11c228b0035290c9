import sys

import pytest
from builders.npm_packages import write_package
from emoji_words import main, read_words

from modeling_crh import CRHConfig, CRHModel

SLUGS = {"🐱": "cat_face", "🐶": "dog_face", "🦉": "owl"}
KEYWORDS = {"🐱": ["cat_face", "animal", "Meow", "red\xa0 cat"], "🐶": ["dog_face", "animal", "animal"], "🦉": ["owl"]}


@pytest.fixture
def packages(tmp_path):
    listed = {character: {"slug": slug} for character, slug in SLUGS.items()}
    write_package(tmp_path, "unicode-emoji-json", {"data-by-emoji.json": listed})
    write_package(tmp_path, "emojilib", {"dist/emoji-en-US.json": KEYWORDS | {"🐭": ["mouse"]}})
    return tmp_path


def test_a_word_has_the_labels_of_all_emoji_that_it_belongs_to(packages):
    words, names = read_words(packages, ["dog_face", "cat_face"])
    assert words == {
        "dog face": ["dog_face"],
        "animal": ["dog_face", "cat_face"],
        "cat face": ["cat_face"],
        "meow": ["cat_face"],
        "red cat": ["cat_face"],
    }
    assert names == {"dog face", "cat face"}


def test_a_class_that_is_no_emoji_is_refused(packages):
    with pytest.raises(ValueError, match="`classes` must be slugs of emoji with words, but 'sofa' is none"):
        read_words(packages, ["owl", "sofa"])


def test_the_command_writes_a_table_of_the_classes_of_a_model(packages, tmp_path, monkeypatch, capsys):
    names = {0: "owl", 1: "dog_face"}
    config = CRHConfig(backbone_config=None, num_features=2, num_bits=8, id2label=names)
    CRHModel(config).save_pretrained(tmp_path / "m")
    arguments = ["--model", tmp_path / "m", "--packages", packages, "--out", tmp_path / "words.csv"]
    monkeypatch.setattr(sys, "argv", ["emoji_words", *map(str, arguments)])
    main()
    assert capsys.readouterr().out == "3 words, 2 of them names, of 2 emoji.\n"
    rows = (tmp_path / "words.csv").read_text(encoding="utf-8").splitlines()
    assert rows == ["text,label,is_name", "owl,owl,1", "dog face,dog_face,1", "animal,dog_face,0"]
