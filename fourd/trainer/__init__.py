"""The one loop: pretraining, probing, finetuning and distillation all go through `fit`."""

from fourd.trainer.config import FREE_TO_CHANGE, RunConfig
from fourd.trainer.finish import finished
from fourd.trainer.loop import fit
from fourd.trainer.stopping import REQUEUE, Requeue

__all__ = ["FREE_TO_CHANGE", "REQUEUE", "Requeue", "RunConfig", "finished", "fit"]
