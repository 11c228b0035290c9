import dataclasses

import numpy as np
import torch
from fuzz.damage import BUDGET, UNEXPECTED, end_of
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from modeling_crh import CRHConfig
from modeling_crh.losses import crh_loss

FIELDS = [entry.name for entry in dataclasses.fields(CRHConfig) if entry.name in CRHConfig.__annotations__]
LABELLING = ["id2label", "label2id", "num_labels", "problem_type"]
NUMBERS = st.integers(-1000, 1000) | st.integers(10**8, 10**13) | st.integers(-9, 99).map(lambda number: 8 * number)


@settings(BUDGET, max_examples=300)
@given(st.dictionaries(st.sampled_from(FIELDS + LABELLING), UNEXPECTED | NUMBERS, max_size=3))
def test_a_config_of_unexpected_values_is_made_or_refused(changes):
    fields = {"backbone_config": None, "num_features": 4, "num_labels": 3} | changes
    try:
        config = end_of(CRHConfig, **fields)
    except StrictDataclassError as error:
        assert "ield '" in str(error)  # noqa: PT017 - either error is one that a user is meant to see
        return
    assert config is None or config.num_heads * config.head_dim == config.num_bits


@settings(BUDGET, max_examples=300)
@given(
    arrays(
        st.sampled_from(["int8", "uint8", "int32", "int64", "float32", "bool"]),
        array_shapes(min_dims=0, max_dims=3, max_side=4),
        elements={"allow_nan": True},
    )
    | arrays("int64", st.just((3,)), elements=st.integers(-2, 4))
)
def test_labels_of_any_kind_have_a_finite_loss_or_are_refused(values):
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32))
    centers = torch.ones(4, 8, dtype=torch.int8)
    loss = end_of(crh_loss, logits, torch.from_numpy(values), centers, scale=2.0)
    assert loss is None or loss.isfinite()
