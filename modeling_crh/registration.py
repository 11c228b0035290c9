"""Register the Auto classes and the task "crh-hashing" with transformers, when this module is imported."""

from transformers import AutoConfig, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from modeling_crh import DEFAULT_CHECKPOINT
from modeling_crh.configuration_crh import CRHConfig
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.pipeline_crh import TASK, CRHPipeline

AutoConfig.register(CRHConfig.model_type, CRHConfig)
AutoModel.register(CRHConfig, CRHModel)
CRHConfig.register_for_auto_class()  # type: ignore[no-untyped-call]  # so that a saved model has its code beside it
CRHModel.register_for_auto_class("AutoModel")  # type: ignore[no-untyped-call]
PIPELINE_REGISTRY.register_pipeline(
    TASK, CRHPipeline, pt_model=AutoModel, default={"model": (str(DEFAULT_CHECKPOINT), "main")}, type="multimodal"
)
