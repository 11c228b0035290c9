import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from modeling_crh.data import DataSource, Division
from modeling_crh.training.chosen_recipe import options_of_run
from modeling_crh.training.recipe import DEMO_RECIPE, FEATURES_RECIPE, Recipe

TEXT = """
dataset: fashion_mnist
backbone: org/vit
model: {num_bits: 32, margin: 0.1}
training: {learning_rate: 1.0e-3, num_train_epochs: 4}
augmentation: {flip: 0.5}
seed: 3
"""
RECIPES = sorted(Path(__file__).parents[2].glob("training/recipes/**/*.yaml"))


@pytest.fixture
def write(tmp_path):
    """Write the text or the bytes of a recipe and give its path."""

    def save(content):
        path = tmp_path / "recipe.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return save


def test_a_recipe_is_read_field_by_field(write):
    assert Recipe.load(write(TEXT)) == Recipe(
        dataset="fashion_mnist",
        backbone="org/vit",
        model={"num_bits": 32, "margin": 0.1},
        training={"learning_rate": 0.001, "num_train_epochs": 4},
        augmentation={"flip": 0.5},
        seed=3,
    )


@pytest.mark.parametrize(
    "path", [DEMO_RECIPE, FEATURES_RECIPE, *RECIPES], ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_the_recipes_that_ship_can_be_read_and_come_back_the_same(write, path):
    recipe = Recipe.load(path)
    assert Recipe.load(write(recipe.dump())) == recipe


@pytest.mark.parametrize("learning_rate", [1e-3, 1e-7, 1e22, 0.1, 3.0, 1])
def test_a_dumped_number_is_read_as_that_number(write, learning_rate):
    recipe = Recipe(dataset="shoes", backbone="org/vit", training={"learning_rate": learning_rate})
    loaded = Recipe.load(write(recipe.dump()))
    assert loaded == recipe
    assert type(loaded.training["learning_rate"]) is type(learning_rate)


def test_a_dump_spells_out_every_field_and_every_option_of_the_data_is_one(write):
    dumped = yaml.safe_load(Recipe.load(write(TEXT)).dump())
    assert list(dumped) == [entry.name for entry in dataclasses.fields(Recipe)]
    assert {entry.name for kind in (DataSource, Division) for entry in dataclasses.fields(kind)} <= dumped.keys()


def test_overrides_go_before_the_file_and_into_its_mappings(write):
    path = write(TEXT)
    recipe = Recipe.load(path, seed=9, dataset="shoes", model={"num_bits": 64}, training={"weight_decay": 0.1})
    assert (recipe.seed, recipe.dataset) == (9, "shoes")
    assert recipe.model == {"num_bits": 64, "margin": 0.1}
    assert recipe.training == {"learning_rate": 0.001, "num_train_epochs": 4, "weight_decay": 0.1}
    assert recipe.augmentation == {"flip": 0.5}
    assert Recipe.load(path, augmentation="none").augmentation == "none"
    assert path.read_text() == TEXT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset: [", "`recipe` must be a readable YAML file, but '.*' is not: while parsing"),
        ("model: &a {num_bits: 8}\ntraining: {<<: *a}", "`recipe` must be a readable .* has no merge keys, <<"),
        ("", "`recipe` must hold fields by name, but '.*' does not"),
        ("- dataset", "`recipe` must hold fields by name"),
        ("backbone: org/vit", "`dataset` must be the name of a benchmark or a folder, but is missing"),
        ("{dataset: 3, backbone: org/vit}", "`dataset` must be of type str, but got 3"),
        ("{dataset: shoes, backbone: 3}", r"`backbone` must be of type str \| None, but got 3"),
        ("dataset: shoes", "`backbone` or a `backbone_config` under `model`, but has neither, and no `f"),
        ("{dataset: shoes, model: {backbone_config: {model_type: vit}}}", "`image_processor` or `feature_ex"),
        (b"\xff\xfe\xfa", r"must be a YAML file, but .* is no text in UTF-8: name data by `dataset`"),
    ],
)
def test_what_is_no_recipe_is_an_error(write, text, message):
    with pytest.raises(ValueError, match=message):
        Recipe.load(write(text))


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"readable YAML file, but '.*none\.yaml' is not: .*No such file"):
        Recipe.load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("freeze_backbone: 'no'", "`freeze_backbone` must be of type bool"),
        ("training: oops", "`training` must be of type dict, but got 'oops'."),
        ("training: ", "`training` must be of type dict, but got None"),
        ("model: {3: 4}", "`model` must be of type dict, but got {3: 4}."),
        ("image_processor: 56", "must be of type dict | None, but got 56"),
        ("augmentation: 1", "must be of type str | dict, but got 1"),
        ("seed: true", "`seed` must be "),
        ("seed: -1", "`seed` must be a whole number, 0 or larger, but got -1"),
        ("backbon: org/vit", "`backbon` is no field of a recipe; did you mean `backbone`?"),
        ("zzz: 1", "`zzz` is no field of a recipe; the fields are allow_urls, audio_column"),
        ("model: {backbone_config: {model_type: vit}}", "or a `backbone_config` under `model`, but has both"),
        ("training: {seed: 1}", "`seed` must not stand under `training`"),
        ("training: {output_dir: x}", "`output_dir` must not stand under `training`"),
        ("model: {num_labels: 3}", "`num_labels` must not stand under `model`: labels come from the data."),
        ("model: {num_bit: 3}", "`num_bit` is no field of `model`; did you mean `num_bits`?"),
        ("image_processor: {szie: 3}", "`szie` is no field of `image_processor`; did you mean `size`?"),
        ("image_processor: {image_processor_type: X}", "`image_processor_type` is no field of `image_processor`"),
        ("augmentation: {paddin: 0.1}", "`paddin` is no field of `augmentation`; did you mean `padding`?"),
        ("features_column: clip", "`features_column` must stand alone"),
        ("training: {learning_rate: 1e-3}", "`training.learning_rate` must be a number, but got the text '1e-3'"),
        ("training: {num_train_epochs: '12'}", "`training.num_train_epochs` must be a number, but got the text '12'"),
        ("training: {lr_scheduler_kwargs: {min_lr: 1e-7}}", "`training.lr_scheduler_kwargs.min_lr` must be a number"),
        ("image_processor: {image_mean: [5e-1, 0.5]}", "text '5e-1'; YAML reads 1.0e-3, but not 1e-3"),
        ("{freeze_backbone: true, unfreeze_last: 2}", "`freeze_backbone` and `unfreeze_last` contradict each other"),
        ("{unfreeze_last: 1, lora: {rank: 4}}", "`unfreeze_last` and `lora` contradict each other"),
        ("{method: itq, lora: {rank: 4}}", "`lora` must be left out for itq, which trains nothing."),
        ("lora: {rnak: 2}", "`rnak` is no field of `lora`; did you mean `rank`?"),
        ("lora: {rank: 0}", "`rank` of `lora` must be a whole number, 1 or larger, but got 0."),
        ("lora: {alpha: 0}", "`alpha` of `lora` must be a number above 0, but got 0."),
        ("lora: {dropout: 1}", "`dropout` of `lora` must lie in [0, 1), but got 1."),
        ("lora: {target_modules: query}", "`target_modules` of `lora` must be a list of names, but got 'query'."),
        ("method: cqs", "`method` must be one of crh, csq, orthohash, mds, shc, hashnet, dtsh, greedyhash, sign"),
        ("method: 3", "`method` must be of type str, but got 3."),
        ("{method: orthohash, method_settings: {magrin: 0.1}}", "`magrin` is no field of `method_settings`; did you"),
        ("{method: csq, method_settings: {quantization_weight: 1e-4}}", "`method_settings.quantization_weight` must"),
        ("method_settings: {margin: 0.1}", "`method_settings` must be left out for crh, which has none."),
        ("{method: itq, method_settings: {x: 1}}", "`method_settings` must be left out for itq, which has none."),
        ("{method: csq, model: {codebook_draws: 5}}", "`codebook_draws` must not stand under `model` for csq: it is"),
        ("{method: itq, model: {margin: 0.1}}", "`margin` must not stand under `model` for itq"),
        ("{method: mds, training: {reassignment: none}}", "`reassignment` must not stand under `training` for mds"),
        ("{method: lsh, model: {hash_head: mlp}}", "`hash_head` must be 'linear' for lsh, but got 'mlp'."),
        ("{method: lsh, model: {hash_head_batch_norm: true}}", "`hash_head_batch_norm` must be False for lsh, but got"),
    ],
)
def test_a_field_that_means_nothing_is_an_error(fields, message):
    values = {"dataset": "shoes", "backbone": "org/vit"} | yaml.safe_load(fields)
    with pytest.raises(ValueError, match=re.escape(message)):
        Recipe.from_dict(values)


@pytest.mark.parametrize("field", [{"freeze_backbone": True}, {"unfreeze_last": 1}, {"lora": {"rank": 2}}])
def test_weights_that_are_drawn_at_random_are_not_kept_from_training(field):
    with pytest.raises(ValueError, match=f"`{next(iter(field))}` must be given with a pretrained `backbone` only"):
        Recipe.from_dict({"dataset": "shoes", "model": {"backbone_config": {}}, "image_processor": {}} | field)


@pytest.mark.parametrize(("column", "kept"), [("image", {"image_column": "image"}), ("picture", {}), (None, {})])
def test_a_run_that_chose_the_images_of_a_folder_of_both_kinds_reads_those_of_the_next_one(column, kept, tmp_path):
    recipe = Recipe(dataset="photos", backbone="org/vit", image_column=column)
    (tmp_path / "recipe.yaml").write_text(recipe.dump())
    (tmp_path / "new").mkdir()
    found = options_of_run(str(tmp_path), {"dataset": str(tmp_path / "new")}, columns_only=True)
    assert found == {"skip_bad": False} | kept


def test_an_override_of_what_is_no_mapping_is_an_error():
    with pytest.raises(ValueError, match="`training` must be of type dict, but got 5"):
        Recipe.from_dict({"dataset": "shoes", "backbone": "org/vit", "training": 5}, training={"max_steps": 1})


def test_a_backbone_named_on_the_command_line_takes_the_place_of_the_recipes_own():
    recipe = Recipe.load(DEMO_RECIPE, backbone="org/vit")
    assert (recipe.backbone, recipe.image_processor, recipe.model) == ("org/vit", None, {})


def test_a_method_and_its_settings_stand_in_the_recipe(write):
    recipe = Recipe.load(write("{dataset: shoes, backbone: org/vit, method: hashnet, method_settings: {alpha: 0.1}}"))
    assert (recipe.method, recipe.method_settings) == ("hashnet", {"alpha": 0.1})
    assert Recipe.load(write(recipe.dump())) == recipe
    assert Recipe.load(write(TEXT)).method == "crh"


def test_a_recipe_of_an_older_version_means_what_it_meant(write):
    old = "{dataset: shoes, backbone: org/vit, skip_bad_images: true, label_column: label, validation_fraction: 0.1}"
    recipe = Recipe.load(write(old))
    assert (recipe.skip_bad, recipe.label_column, recipe.validation_fraction) == (True, None, None)
    kept = Recipe.load(write("{dataset: shoes, backbone: org/vit, label_column: label, validation_fraction: 0.1}"))
    assert (kept.label_column, kept.validation_fraction) == ("label", 0.1)


def test_a_method_without_training_has_nothing_to_balance():
    assert Recipe.load(FEATURES_RECIPE, method="csq", balanced=True).balanced
    with pytest.raises(ValueError, match="`balanced` must be left out for itq, which trains nothing"):
        Recipe.load(FEATURES_RECIPE, method="itq", balanced=True)


def test_a_preset_is_crhs_alone_and_has_one_of_two_names(write):
    assert Recipe.load(write(TEXT)).preset == "paper"
    assert Recipe.load(FEATURES_RECIPE).preset == "best"
    assert Recipe.load(FEATURES_RECIPE, method="csq").preset == "paper"
    with pytest.raises(ValueError, match="`preset` must be left out for csq: it is CRH's alone"):
        Recipe.load(FEATURES_RECIPE, method="csq", preset="best")
    with pytest.raises(ValueError, match="`preset` must be 'paper' or 'best', but got 'better'"):
        Recipe.load(FEATURES_RECIPE, preset="better")


def test_another_method_leaves_out_what_the_file_says_of_crh():
    rival = Recipe.load(FEATURES_RECIPE, method="csq")
    assert "reassign_every_epoch_until" not in rival.training
    assert rival.model["hash_head"] == "mlp"
    assert "hash_head" not in Recipe.load(FEATURES_RECIPE, method="itq").model
    assert "reassign_every_epoch_until" in Recipe.load(FEATURES_RECIPE, method="crh").training
    with pytest.raises(ValueError, match="`margin` must not stand under `model` for csq: it is CRH's alone"):
        Recipe.load(FEATURES_RECIPE, method="csq", model={"margin": 0.1})
