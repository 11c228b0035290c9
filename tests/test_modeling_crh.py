import pytest
import torch
import torch.nn.functional as F
from tiny_inputs import IMAGE_BACKBONES, checkpoint_activations, in_dtype, inputs_of

from modeling_crh import CRHConfig, CRHModel
from modeling_crh.codebook import draw_centers
from modeling_crh.losses import crh_loss


def test_a_linear_head_is_worked_by_hand(tiny_model):
    model, features = tiny_model(None, num_bits=8), torch.tensor([[3.0, -2.0, 0.0, 0.5]])
    with torch.no_grad():
        model.hash_head.weight.copy_(torch.eye(8, 4))
        model.hash_head.bias.copy_(torch.tensor([0.0, 0, 0, 0, 1, -1, 2, -2]))
    assert model(features=features).hash_logits.tolist() == [[3, -2, 0, 0.5, 1, -1, 2, -2]]
    assert model.encode(features=features).tolist() == [[1, -1, 1, 1, 1, -1, 1, -1]]


def test_a_fresh_model_holds_the_centers_of_its_seed(tiny_model):
    model = tiny_model(None, codebook_seed=3)
    codebook, assignment = draw_centers(*model.config.codebook_shape, 3, seed=3)
    assert torch.equal(model.codebook, codebook)
    assert torch.equal(model.assignment, assignment)
    for label in range(3):  # Eq. 8
        words = [codebook[head, assignment[head, label]] for head in range(model.config.num_heads)]
        assert torch.equal(model.centers[label], torch.cat(words))


@pytest.mark.parametrize("name", [None, "bert", *IMAGE_BACKBONES])
def test_the_weights_of_the_hash_head_have_the_width_of_the_config(tiny_model, name):
    weight = tiny_model(name, num_bits=128, initializer_range=0.5).hash_head.weight
    assert weight.std().item() == pytest.approx(0.5, rel=0.1)


POOLED = {
    "features": lambda outputs: outputs,
    "cls": lambda outputs: outputs.last_hidden_state[:, 0],
    "tokens": lambda outputs: outputs.last_hidden_state.mean(1),
    "places": lambda outputs: outputs.last_hidden_state.mean((2, 3)),
    "pooler": lambda outputs: outputs.pooler_output.flatten(1),
}


@pytest.mark.parametrize(
    ("name", "pooling", "by_hand"),
    [
        *((None, None, "features"), ("vit", None, "cls"), ("bert", None, "tokens"), ("dinov2", None, "cls")),
        *(("resnet", None, "places"), ("convnext", None, "pooler"), ("vit", "mean", "tokens"), ("vit", "cls", "cls")),
        *(("dinov2", "mean", "tokens"), ("dinov2", "pooler", "pooler"), ("bert", "cls", "cls")),
        *(("resnet", "mean", "places"), ("convnext", "mean", "places")),
    ],
)
def test_the_hash_logits_are_those_of_head_and_pooled_backbone_called_by_hand(tiny_model, name, pooling, by_hand):
    model, inputs = tiny_model(name, pooling=pooling), inputs_of(name)
    outputs = inputs["features"] if name is None else model.backbone(**inputs)
    expected = F.linear(POOLED[by_hand](outputs), model.hash_head.weight, model.hash_head.bias)
    hash_logits = model(**inputs).hash_logits
    torch.testing.assert_close(hash_logits, expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(model.encode(**inputs), torch.where(hash_logits >= 0, 1, -1).to(torch.int8))


@pytest.mark.parametrize(
    ("name", "labels", "fields"),
    [
        (None, [2, 0, 1], {}),
        ("vit", [2, 0, 1], {"quantization_weight": 0.3}),
        ("bert", [2, 0, 1], {"scale": 4, "margin": 0.1}),
        (None, [[1.0, 1, 0], [0, 0, 0], [0, 1, 1]], {"problem_type": "multi_label_classification"}),
    ],
)
def test_there_is_a_loss_only_with_labels(tiny_model, name, labels, fields):
    model, labels = tiny_model(name, **fields), torch.tensor(labels)
    plain = model(**inputs_of(name))
    assert plain.loss is None
    output = model(**inputs_of(name), labels=labels)
    weight = fields.get("quantization_weight", 0.1 if labels.ndim == 1 else 0)  # no quantization of several labels
    settings = {"scale": model.config.scale, "margin": model.config.margin, "quantization_weight": weight}
    assert torch.equal(output.loss, crh_loss(plain.hash_logits, labels, model.centers, **settings))
    loss, hash_logits = model(**inputs_of(name), labels=labels, return_dict=False)
    assert torch.equal(loss, output.loss)
    assert torch.equal(hash_logits, plain.hash_logits)
    assert len(model(**inputs_of(name), return_dict=False)) == 1


def test_hidden_states_and_attentions_are_the_backbones(tiny_model):
    model = tiny_model("vit")
    model.set_attn_implementation("eager")
    output = model(**inputs_of("vit"), output_hidden_states=True, output_attentions=True)
    assert (len(output.hidden_states), len(output.attentions)) == (3, 2)
    assert model(**inputs_of("vit")).hidden_states is None


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_a_frozen_backbone_stands_still_while_the_head_learns(tiny_model, tiny_backbone, name):
    backbone = tiny_backbone(name)
    if name == "vit":
        backbone.hidden_dropout_prob = 0.5
    model = tiny_model(backbone).freeze_backbone().train()
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    inputs, labels = inputs_of(name), torch.tensor([0, 1, 2])
    assert torch.equal(model(**inputs).hash_logits, model(**inputs).hash_logits)  # no dropout
    head = model.hash_head.weight.detach().clone()
    model(**inputs, labels=labels).loss.backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert not torch.equal(model.hash_head.weight, head)
    assert all(torch.equal(value, before[key]) for key, value in model.backbone.state_dict().items())
    assert model.training
    assert model.hash_head.training
    assert not model.backbone.training


def test_a_backbone_that_is_not_frozen_learns(tiny_model):
    model = tiny_model("resnet").train()
    statistics = model.backbone.embedder.embedder.normalization.running_mean.clone()
    model(**inputs_of("resnet"), labels=torch.tensor([0, 1, 2])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not torch.equal(model.backbone.embedder.embedder.normalization.running_mean, statistics)


def test_gradient_checkpointing_changes_no_gradient(tiny_model):
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model("vit").train()
        if checkpointing:
            checkpoint_activations(model)
        model(**inputs_of("vit"), labels=torch.tensor([0, 1, 2])).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("name", "main_input"),
    [(None, "features"), ("bert", "input_ids"), *((name, "pixel_values") for name in IMAGE_BACKBONES)],
)
def test_a_missing_input_is_an_error_that_names_it(tiny_model, name, main_input):
    model = tiny_model(name)
    assert model.main_input_name == main_input
    with pytest.raises(ValueError, match=f"This model reads `{main_input}`, but got nothing"):
        model()
    with pytest.raises(ValueError, match=rf"This model reads `{main_input}`, but got \['token_type_ids'\]"):
        model(token_type_ids=torch.ones(1, 1))


ONE = torch.ones(1, 4)
PIXELS = torch.ones(1, 3, 16, 16)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda make: make(None)(features=ONE, labels=torch.tensor([3])), "from 0 to C-1=2, but got 3"),
        (lambda make: make(None)(features=[[0.0] * 4]), r"`features` must be a torch\.Tensor, but got list"),
        (lambda make: make(None)(features=ONE.long()), r"`features` must be floating point, .* torch\.int64"),
        (lambda make: make(None)(features=torch.ones(1, 3)), r"`features` must be \(N, 4\), but got shape \(1, 3\)"),
        (lambda make: make("vit")(PIXELS.byte()), r"`pixel_values` must be floating point, .* torch\.uint8"),
        (lambda make: make("vit")(PIXELS.numpy()), r"`pixel_values` must be a torch\.Tensor, but got ndarray"),
        (lambda make: make("bert")(input_ids=ONE), r"`input_ids` must be whole numbers, .* torch\.float32"),
        (lambda make: make("bert")(input_ids=[[1]]), "`input_ids` must be a .* but got list; .* takes texts"),
        (lambda make: make("vit").encode(["a.png"]), r'list; `pipeline\("crh-hashing", .* takes images and paths'),
        (lambda make: make(None)(features=ONE, labels=[0]), r"`labels` must be a torch\.Tensor"),
        (lambda make: make(None).freeze_backbone(), "`freeze_backbone` needs a backbone"),
        (lambda make: make("vit", pooling="pooler")(PIXELS), "`pooling` must be 'cls', 'mean' or 'last' for vit"),
    ],
)
def test_what_the_model_cannot_do_is_an_error(tiny_model, call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny_model)


@pytest.mark.parametrize("name", [None, *IMAGE_BACKBONES])
@pytest.mark.parametrize("given_dtype", [torch.float64, torch.float16])
def test_inputs_of_any_precision_are_those_in_the_precision_of_the_weights(tiny_model, name, given_dtype):
    model, given = tiny_model(name), in_dtype(inputs_of(name), given_dtype)
    assert torch.equal(model(**given).hash_logits, model(**in_dtype(given, torch.float32)).hash_logits)


@pytest.mark.parametrize("hash_head", ["linear", "mlp"])
def test_a_head_over_features_learns_to_put_every_class_on_its_center(tiny_model, hash_head):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(10)
    features = torch.eye(4)[labels] + 0.05 * torch.randn(30, 4, generator=generator)
    model = tiny_model(None, hash_head=hash_head, hash_head_hidden_size=16).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        model(features=features, labels=labels).loss.backward()
        optimizer.step()
    codes = model.eval().encode(features=features)
    distances = (codes[:, None] != model.centers[None]).sum(-1)
    assert torch.equal(distances.argmin(1), labels)


MLP = "0.weight 0.bias 1.weight 1.bias 4.weight"


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, "weight bias"),
        ({"hash_head_batch_norm": True}, "0.weight 1.weight 1.bias"),
        ({"hash_head": "mlp"}, f"{MLP} 4.bias"),
        ({"hash_head": "mlp", "hash_head_batch_norm": True}, f"{MLP} 5.weight 5.bias"),
    ],
)
def test_the_weights_of_a_head_keep_the_names_that_checkpoints_have(tiny_model, fields, names):
    assert [name for name, _ in tiny_model(None, **fields).hash_head.named_parameters()] == names.split()


@pytest.mark.parametrize("hash_head", ["linear", "mlp"])
def test_a_batch_norm_of_the_outputs_is_worked_by_hand_and_saved_with_its_statistics(tiny_model, hash_head, tmp_path):
    model = tiny_model(None, hash_head=hash_head, hash_head_batch_norm=True).train()
    features = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    before = model.hash_head[:-1](features)
    expected = (before - before.mean(0)) / (before.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(model(features=features).hash_logits, expected, atol=1e-4, rtol=1e-3)
    model.eval().save_pretrained(tmp_path)
    loaded = CRHModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.hash_head[-1].running_mean, model.hash_head[-1].running_mean)
    assert torch.equal(loaded(features=features).hash_logits, model(features=features).hash_logits)


def test_a_config_saved_before_there_was_a_batch_norm_has_none(tiny_model):
    values = tiny_model(None).config.to_dict()
    del values["hash_head_batch_norm"]
    assert not CRHConfig.from_dict(values).hash_head_batch_norm
