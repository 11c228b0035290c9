"""LoRA and partial fine-tuning: what is trained, what is saved, and that codes are the same bits everywhere."""

import re
from functools import partial

import pytest
import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, get_peft_model
from tiny_inputs import checkpoint_activations, inputs_of
from tiny_runs import CONVNEXT, DINOV2, RESNET, VIT, check_resuming, same_state, tiny_trainer
from transformers import CLIPVisionConfig, Qwen3Config, ViTConfig, ViTModel

from modeling_crh import CRHConfig, CRHModel
from modeling_crh.encoding.adapters import ADAPTER_FILE, adapted_layers, adapters_of, merged_copy
from modeling_crh.encoding.loading import load_model
from modeling_crh.training.fine_tuning import LoraSettings, add_lora, find_blocks, unfreeze_last

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
QWEN3 = Qwen3Config(**TINY, num_key_value_heads=1, head_dim=4, vocab_size=9)
DEEP = VIT | {"num_hidden_layers": 3}
HEAD = {"hash_head": "mlp", "hash_head_hidden_size": 8}
EVERY_EPOCH = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}


def whole(model):
    return get_peft_model(model, LoraConfig(target_modules=["q_proj", "value"], modules_to_save=["hash_head"]))


def backbone_alone(model):
    config = LoraConfig(target_modules=["q_proj", "v_proj", "query", "value"], use_dora=True)
    model.backbone = get_peft_model(model.backbone, config)
    return model


def injected(model):
    get_peft_model(model.backbone, LoraConfig(target_modules="all-linear", r=2, rank_pattern={"fc1": 4}, bias="all"))
    model._hf_peft_config_loaded = True  # as `add_adapter` of transformers marks a model
    return model


def ours(model):
    return add_lora(model, LoraSettings(rank=4, dropout=0.1))


def last_block(model):
    return unfreeze_last(model, 1)


FORMS = [whole, backbone_alone, injected, ours]


@pytest.fixture
def lora_trainer(tmp_path):
    """Make a trainer of a tiny pretrained ViT with an MLP head, adapted in one of the forms."""
    torch.manual_seed(0)
    ViTModel(ViTConfig(**DEEP), add_pooling_layer=False).save_pretrained(tmp_path / "vit")

    def make(folder, adapt, **settings):
        def adapted():
            torch.manual_seed(1)
            return adapt(CRHModel.from_backbone(str(tmp_path / "vit"), num_labels=5, num_bits=16, **HEAD))

        return tiny_trainer(tmp_path / folder, VIT, size=50, model_init=adapted, **settings)

    return make


def pixels():
    return torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("adapt", FORMS)
def test_a_lora_run_that_was_interrupted_and_resumed_ends_the_same_bit_for_bit(adapt, lora_trainer, tmp_path):
    check_resuming(partial(lora_trainer, adapt=adapt), tmp_path, save_strategy="steps", save_steps=2)  # of 4 an epoch


@pytest.mark.parametrize("adapt", FORMS)
def test_lora_and_the_head_alone_are_trained_and_the_best_is_loaded_and_saved_merged(adapt, lora_trainer, tmp_path):
    trainer = lora_trainer("run", adapt, learning_rate=3e-2, **EVERY_EPOCH)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    moved = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    assert all(re.search(r"assignment|lora_|hash_head|bias", name) for name in moved)
    assert {name for name, value in trainer.model.named_parameters() if value.requires_grad} <= moved
    assert any("running_mean" in name for name in moved)  # the batch norm of the head
    figures = [entry["eval_map"] for entry in trainer.state.log_history if "eval_map" in entry]
    assert trainer.evaluate()["eval_map"] == max(figures)
    merged = merged_copy(trainer.model.train(False))
    torch.testing.assert_close(merged(pixels()).hash_logits, trainer.model(pixels()).hash_logits, atol=1e-4, rtol=1e-4)
    trainer.save_model(str(tmp_path / "saved"))
    saved = CRHModel.from_pretrained(tmp_path / "saved")
    assert same_state(saved, merged)
    assert same_state(load_model(trainer.state.best_model_checkpoint), merged)
    assert not adapters_of(saved)
    assert torch.equal(saved.assignment, trainer.model.assignment)
    checkpoint = {path.name for path in (tmp_path / "run").glob("checkpoint-*/*")}
    assert ADAPTER_FILE in checkpoint
    assert "model.safetensors" not in checkpoint


def test_an_adapter_of_a_trained_model_names_that_model_as_its_base(lora_trainer, tmp_path):
    lora_trainer("first", lambda model: model, num_train_epochs=1).save_model(str(tmp_path / "trained"))
    torch.manual_seed(0)
    model = ours(CRHModel.from_pretrained(tmp_path / "trained"))
    trainer = tiny_trainer(tmp_path / "run", VIT, size=50, model_init=lambda: model, save_strategy="epoch")
    trainer.train()
    assert same_state(load_model(tmp_path / "run" / "checkpoint-12"), merged_copy(trainer.model))


def test_an_adapter_is_not_put_on_other_frozen_weights_or_other_layers(lora_trainer, tmp_path):
    lora_trainer("run", ours, save_strategy="epoch").train()
    with pytest.raises(ValueError, match=r"`model` must have the trained weights of .* but differs in \['backbone"):
        lora_trainer("run", whole).train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match=r"`resume_from_checkpoint` must fit the model, but .* has LoRA and it none"):
        lora_trainer("run", lambda model: model).train(resume_from_checkpoint=True)
    torch.manual_seed(3)
    ViTModel(ViTConfig(**DEEP), add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    with pytest.raises(ValueError, match=r"`model` must have the frozen weights that .* was trained with, but has oth"):
        lora_trainer("run", ours).train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match=r"`checkpoint` must be a CRH model's .*`model` must have the frozen weights"):
        load_model(tmp_path / "run" / "checkpoint-12")


def test_an_adapter_of_random_weights_can_be_resumed_from_but_not_loaded(tmp_path):
    torch.manual_seed(0)
    model = ours(CRHModel(CRHConfig(backbone_config=VIT, num_labels=5, num_bits=16)))
    tiny_trainer(tmp_path, VIT, model_init=lambda: model, save_strategy="epoch", num_train_epochs=1, size=16).train()
    with pytest.raises(ValueError, match="has a base without a name, and can only be resumed from"):
        load_model(tmp_path / "checkpoint-1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (LoraConfig(target_modules=["query"]), "give the LoraConfig `modules_to_save=['hash_head']`."),
        (LoraConfig(target_modules=["query", "hash_head"]), "['hash_head']` and `exclude_modules=['hash_head']`."),
        (IA3Config(target_modules=["query"], feedforward_modules=[]), "but has `default` of type IA3"),
        (PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=2), "`default` of type PREFIX_TUNING."),
    ],
)
def test_an_adapter_that_could_not_be_trained_and_merged_is_refused(settings, message, tiny_model, tmp_path):
    model = tiny_model("bert")
    if isinstance(settings, PrefixTuningConfig):
        model.backbone = get_peft_model(model.backbone, settings)
    else:
        model = get_peft_model(model, settings)
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny_trainer(tmp_path, model_init=lambda: model)


def test_the_blocks_of_a_backbone_are_found_and_the_last_of_them_trained(tiny_model):
    model = unfreeze_last(tiny_model("vit"), 1).train()
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    layer = r"(layers|encoder\.layer)"  # as versions of transformers name it
    expected = rf"hash_head|backbone\.({layer}\.1\.|layernorm\.)"
    assert trained == {name for name, _ in model.named_parameters() if re.match(expected, name)}
    training = {name for name, module in model.named_modules() if module.training}
    assert {"backbone.layernorm", "hash_head"} <= training
    assert training.isdisjoint({"backbone", "backbone.embeddings"})
    assert not any(re.search(rf"{layer}\.0$", name) for name in training)
    assert not any(module.training for module in model.eval().modules())


@pytest.mark.parametrize(
    ("backbone", "count"), [(DEEP, 3), (DINOV2 | {"num_hidden_layers": 2}, 2), (RESNET, 2), (CONVNEXT, 2)]
)
def test_every_kind_of_backbone_is_a_chain_of_blocks(backbone, count):
    model = CRHModel(CRHConfig(backbone_config=backbone, num_labels=5, num_bits=16))
    assert len(find_blocks(model.backbone)) == count
    with pytest.raises(ValueError, match=rf"`unfreeze_last` must be from 1 to {count}, .* but got {count + 1}"):
        unfreeze_last(model, count + 1)
    before = unfreeze_last(model, 1).num_parameters(only_trainable=True)
    assert before < unfreeze_last(model, count).num_parameters(only_trainable=True) < model.num_parameters()


def test_learning_rates_fall_by_depth_and_the_head_has_its_own(tmp_path):
    trainer = tiny_trainer(tmp_path, DEEP, learning_rate=1.0, layer_decay=0.5, head_learning_rate=3.0, weight_decay=0.1)
    groups, model = trainer.create_optimizer().param_groups, trainer.model
    rates = {value: (group["lr"], group["weight_decay"]) for group in groups for value in group["params"]}
    assert rates.keys() == set(model.parameters())
    assert rates[model.backbone.embeddings.cls_token] == (0.5**4, 0.1)
    for block, rate in zip(find_blocks(model.backbone), (0.5**3, 0.5**2, 0.5), strict=True):
        assert {rates[value] for value in block.parameters()} == {(rate, 0.1), (rate, 0.0)}  # biases and norms have 0
    assert rates[model.backbone.layernorm.weight] == (1.0, 0.0)
    assert rates[model.hash_head.weight] == (3.0, 0.1)


@pytest.mark.parametrize(
    ("backbone", "prepare", "message"),
    [
        ("vit", CRHModel.freeze_backbone, "must be left out .* but ViTModel has no weight that is trained"),
        ("vit", ours, "must be left out .* but ViTModel has LoRA"),
        (None, lambda model: model, "needs a backbone, but this"),
    ],
)
def test_layer_decay_without_trained_blocks_is_refused(backbone, prepare, message, tiny_model, tmp_path):
    with pytest.raises(ValueError, match=f"`layer_decay` {message}"):
        tiny_trainer(tmp_path, VIT, model_init=lambda: prepare(tiny_model(backbone)), layer_decay=0.75)


@pytest.mark.parametrize("prepare", [ours, last_block])
def test_reentrant_checkpointing_which_would_train_nothing_is_refused(prepare, tiny_model, tmp_path):
    settings = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
    tiny_trainer(tmp_path, VIT, model_init=lambda: tiny_model("vit"), **settings)
    with pytest.raises(ValueError, match=r"`use_reentrant` of .* must be False for a backbone with frozen weights"):
        tiny_trainer(tmp_path, VIT, model_init=lambda: prepare(tiny_model("vit")), **settings)


@pytest.mark.parametrize(
    "config",
    [QWEN3, CLIPVisionConfig(**TINY, image_size=32), "bert", "dinov2", "vit"],
)
def test_lora_finds_queries_and_values_by_itself(config, tiny_model):
    model = add_lora(tiny_model(config), LoraSettings(rank=2))
    found = {name.rpartition(".")[2] for name in adapted_layers(model)}
    assert found in ({"q_proj", "v_proj"}, {"query", "value"})
    assert all(layer.scaling == {"default": 2.0} for layer in adapted_layers(model).values())


def test_convolutions_are_adapted_when_they_are_named(tiny_model):
    with pytest.raises(ValueError, match=r"ResNetModel has none that .* are named convolution\. `unfreeze_la"):
        add_lora(tiny_model("resnet"), LoraSettings())
    model = add_lora(tiny_model("resnet"), LoraSettings(target_modules=["convolution"]))
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(merged_copy(model)(images).hash_logits, model(images).hash_logits)


@pytest.mark.parametrize("prepare", [lambda model: model, ours, whole, last_block])
@pytest.mark.parametrize("backbone", ["vit", "bert"])
def test_gradient_checkpointing_changes_no_gradient(prepare, backbone, tiny_model):
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = prepare(tiny_model(backbone)).train()
        if checkpointing:
            checkpoint_activations(model.get_base_model() if prepare is whole else model)
        torch.manual_seed(0)
        model(**inputs_of(backbone), labels=torch.tensor([0, 1, 2])).loss.backward()
        gradients.append({name: value.grad for name, value in model.named_parameters() if value.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(value, gradients[1][name]) for name, value in gradients[0].items())


@pytest.mark.parametrize(
    ("backbone", "message"),
    [("resnet", "^ResNetModel "), (None, "`gradient_checkpointing` needs a backbone, but this")],
)
def test_a_backbone_without_gradient_checkpointing_is_named(backbone, message, tiny_model):
    with pytest.raises(ValueError, match=message):
        checkpoint_activations(tiny_model(backbone))


def test_a_model_with_unmerged_lora_weights_is_not_saved_as_a_plain_one(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="must go through `merge_adapter` or be saved by `save_adapter`"):
        ours(tiny_model("vit")).save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
