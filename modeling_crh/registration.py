"""What `import modeling_crh` tells transformers: the Auto classes and the task "crh-hashing"."""

from transformers import AutoConfig, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from modeling_crh.checkpoints import FASHION_MNIST_64
from modeling_crh.configuration_crh import CRHConfig
from modeling_crh.modeling_crh import CRHModel
from modeling_crh.pipeline_crh import TASK, CRHPipeline


def register() -> None:
    """Make the classes known to transformers, for loading; and for saving, so that their code goes with a model."""
    AutoConfig.register(CRHConfig.model_type, CRHConfig)
    AutoModel.register(CRHConfig, CRHModel)
    CRHConfig.register_for_auto_class()  # type: ignore[no-untyped-call]
    CRHModel.register_for_auto_class("AutoModel")  # type: ignore[no-untyped-call]
    PIPELINE_REGISTRY.register_pipeline(
        TASK, CRHPipeline, pt_model=AutoModel, default={"model": (str(FASHION_MNIST_64), "main")}, type="multimodal"
    )
