"""Preceptor: a toolkit for knowledge distillation.

Everything public stands here, flat, and is imported when it is first asked for: `import preceptor`
alone imports neither torch nor transformers. A name stands in two tables, one for the interpreter
and one for type checkers and editors; a test holds them equal.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "DataError": "preceptor.errors",
    "Failure": "preceptor.errors",
    "MemoryFailure": "preceptor.errors",
    "ModelError": "preceptor.errors",
    "NeedsError": "preceptor.errors",
    "NonFiniteError": "preceptor.errors",
    "PreceptorError": "preceptor.errors",
    "RecipeError": "preceptor.errors",
    "StorageError": "preceptor.errors",
    "TeacherFailure": "preceptor.errors",
    "UserError": "preceptor.errors",
    "ServerFailure": "preceptor.errors",
    "ServerRefusal": "preceptor.errors",
    "Batch": "preceptor.types",
    "Context": "preceptor.types",
    "Dense": "preceptor.types",
    "Head": "preceptor.types",
    "Mixture": "preceptor.types",
    "Needs": "preceptor.types",
    "Outputs": "preceptor.types",
    "Progress": "preceptor.types",
    "Signal": "preceptor.types",
    "Term": "preceptor.types",
    "Projected": "preceptor.types",
    "TopK": "preceptor.types",
    "Sampled": "preceptor.types",
    "TappedModel": "preceptor.models.tapped",
    "load": "preceptor.models.load",
    "load_model": "preceptor.models.load",
    "save_model": "preceptor.models.save",
    "generate": "preceptor.models.generate",
    "Sampling": "preceptor.models.sampling",
    "ImageSource": "preceptor.data.image_source",
    "load_images": "preceptor.data.loading",
    "read_rows": "preceptor.data.reading",
    "Row": "preceptor.data.rows",
    "Rendering": "preceptor.data.chat",
    "load_tokenizer": "preceptor.data.tokenizers",
    "TextSet": "preceptor.data.text",
    "TextSource": "preceptor.data.text_source",
    "TextStream": "preceptor.data.text_stream",
    "Objective": "preceptor.objectives.base",
    "Sum": "preceptor.objectives.base",
    "Weighted": "preceptor.objectives.base",
    "Auto": "preceptor.objectives.schedules",
    "Ramp": "preceptor.objectives.schedules",
    "AdaptiveKL": "preceptor.objectives.adaptive_kl",
    "AttentionMaps": "preceptor.objectives.attention_maps",
    "AttentionTransfer": "preceptor.objectives.attention_transfer",
    "BYOT": "preceptor.objectives.byot",
    "ByteChunks": "preceptor.objectives.byte_chunks",
    "CATKD": "preceptor.objectives.cat_kd",
    "CE": "preceptor.objectives.ce",
    "CrossEntropy": "preceptor.objectives.ce:CE",
    "CRD": "preceptor.objectives.crd",
    "DIST": "preceptor.objectives.dist",
    "DistiLLM2": "preceptor.objectives.distillm2",
    "DKD": "preceptor.objectives.dkd",
    "DML": "preceptor.objectives.dml",
    "EmbeddingDistillation": "preceptor.objectives.embedding_distillation",
    "EmbeddingPull": "preceptor.objectives.embedding_pull",
    "FeatureStatistics": "preceptor.objectives.feature_statistics",
    "FitNets": "preceptor.objectives.fitnets",
    "FitNetsOneStage": "preceptor.objectives.fitnets_onestage",
    "FSP": "preceptor.objectives.fsp",
    "GKD": "preceptor.objectives.gkd",
    "GroupedKD": "preceptor.objectives.grouped_kd",
    "HiddenStates": "preceptor.objectives.hidden_states",
    "Hierarchy": "preceptor.objectives.hierarchy",
    "KD": "preceptor.objectives.kd",
    "LabelSmoothing": "preceptor.objectives.label_smoothing",
    "LogitRegression": "preceptor.objectives.logit_regression",
    "LogitStandardization": "preceptor.objectives.logit_standardization",
    "MiniLM": "preceptor.objectives.minilm",
    "MiniLLM": "preceptor.objectives.minillm",
    "NKD": "preceptor.objectives.nkd",
    "NTXent": "preceptor.objectives.nt_xent",
    "ReverseKL": "preceptor.objectives.reverse_kl",
    "ReviewKD": "preceptor.objectives.reviewkd",
    "RKD": "preceptor.objectives.rkd",
    "SimKD": "preceptor.objectives.simkd",
    "SkewKL": "preceptor.objectives.skew_kl",
    "SkewReverseKL": "preceptor.objectives.skew_reverse_kl",
    "SP": "preceptor.objectives.sp",
    "TAID": "preceptor.objectives.taid",
    "TotalVariation": "preceptor.objectives.total_variation",
    "ULD": "preceptor.objectives.uld",
    "Teacher": "preceptor.teachers.base",
    "Cached": "preceptor.teachers.cached",
    "check_teacher": "preceptor.teachers.contract",
    "EMA": "preceptor.teachers.ema",
    "Ensemble": "preceptor.teachers.ensemble",
    "Live": "preceptor.teachers.live",
    "Nobody": "preceptor.teachers.nobody",
    "PastPredictions": "preceptor.teachers.past_predictions",
    "Peers": "preceptor.teachers.peers",
    "Snapshots": "preceptor.teachers.snapshots",
    "AdapterBase": "preceptor.teachers.adapter_base",
    "CachedEmbeddings": "preceptor.teachers.cached_embeddings",
    "CachedTokens": "preceptor.teachers.tokens.cached",
    "Routed": "preceptor.teachers.routed",
    "Served": "preceptor.teachers.served",
    "TokenStore": "preceptor.teachers.tokens.store",
    "write_tokens": "preceptor.teachers.tokens.capture",
    "AdaptiveRollouts": "preceptor.synthesis.adaptive",
    "Local": "preceptor.synthesis.writers",
    "Pairs": "preceptor.synthesis.pairs",
    "PolicyRollouts": "preceptor.synthesis.policy",
    "Rollouts": "preceptor.synthesis.rollouts",
    "fit": "preceptor.train.fit",
    "OptimizerPlan": "preceptor.train.plan",
    "Plan": "preceptor.train.plan",
    "SchedulePlan": "preceptor.train.plan",
    "DistillationTrainer": "preceptor.train.trainer",
    "check_objective": "preceptor.testing",
    "load_recipe": "preceptor.recipe.load",
    "recipe_text": "preceptor.recipe.load",
    "Checkpoint": "preceptor.recipe.schema",
    "Control": "preceptor.recipe.schema",
    "Data": "preceptor.recipe.schema",
    "FactoryModel": "preceptor.recipe.models",
    "ZooModel": "preceptor.recipe.models",
    "CausalModel": "preceptor.recipe.models",
    "LiveTeacher": "preceptor.recipe.teachers",
    "Recipe": "preceptor.recipe.schema",
    "check": "preceptor.verbs.check",
    "distill": "preceptor.verbs.distill",
    "rank": "preceptor.verbs.rank",
    "report": "preceptor.verbs.report",
    "Seeds": "preceptor.recipe.schema",
    "Splits": "preceptor.recipe.schema",
    "Stage": "preceptor.recipe.schema",
    "Student": "preceptor.recipe.schema",
    "Tune": "preceptor.recipe.schema",
    "TextData": "preceptor.recipe.data",
}
"""Each public name's module; after a colon, its name there where that is another."""

if TYPE_CHECKING:
    from preceptor.data.chat import Rendering as Rendering
    from preceptor.data.image_source import ImageSource as ImageSource
    from preceptor.data.loading import load_images as load_images
    from preceptor.data.reading import read_rows as read_rows
    from preceptor.data.rows import Row as Row
    from preceptor.data.text import TextSet as TextSet
    from preceptor.data.text_source import TextSource as TextSource
    from preceptor.data.text_stream import TextStream as TextStream
    from preceptor.data.tokenizers import load_tokenizer as load_tokenizer
    from preceptor.errors import DataError as DataError
    from preceptor.errors import Failure as Failure
    from preceptor.errors import MemoryFailure as MemoryFailure
    from preceptor.errors import ModelError as ModelError
    from preceptor.errors import NeedsError as NeedsError
    from preceptor.errors import NonFiniteError as NonFiniteError
    from preceptor.errors import PreceptorError as PreceptorError
    from preceptor.errors import RecipeError as RecipeError
    from preceptor.errors import ServerFailure as ServerFailure
    from preceptor.errors import ServerRefusal as ServerRefusal
    from preceptor.errors import StorageError as StorageError
    from preceptor.errors import TeacherFailure as TeacherFailure
    from preceptor.errors import UserError as UserError
    from preceptor.models.generate import generate as generate
    from preceptor.models.load import load as load
    from preceptor.models.load import load_model as load_model
    from preceptor.models.sampling import Sampling as Sampling
    from preceptor.models.save import save_model as save_model
    from preceptor.models.tapped import TappedModel as TappedModel
    from preceptor.objectives.adaptive_kl import AdaptiveKL as AdaptiveKL
    from preceptor.objectives.attention_maps import AttentionMaps as AttentionMaps
    from preceptor.objectives.attention_transfer import AttentionTransfer as AttentionTransfer
    from preceptor.objectives.base import Objective as Objective
    from preceptor.objectives.base import Sum as Sum
    from preceptor.objectives.base import Weighted as Weighted
    from preceptor.objectives.byot import BYOT as BYOT
    from preceptor.objectives.byte_chunks import ByteChunks as ByteChunks
    from preceptor.objectives.cat_kd import CATKD as CATKD
    from preceptor.objectives.ce import CE as CE
    from preceptor.objectives.crd import CRD as CRD
    from preceptor.objectives.dist import DIST as DIST
    from preceptor.objectives.distillm2 import DistiLLM2 as DistiLLM2
    from preceptor.objectives.dkd import DKD as DKD
    from preceptor.objectives.dml import DML as DML
    from preceptor.objectives.embedding_distillation import (
        EmbeddingDistillation as EmbeddingDistillation,
    )
    from preceptor.objectives.embedding_pull import EmbeddingPull as EmbeddingPull
    from preceptor.objectives.feature_statistics import FeatureStatistics as FeatureStatistics
    from preceptor.objectives.fitnets import FitNets as FitNets
    from preceptor.objectives.fitnets_onestage import FitNetsOneStage as FitNetsOneStage
    from preceptor.objectives.fsp import FSP as FSP
    from preceptor.objectives.gkd import GKD as GKD
    from preceptor.objectives.grouped_kd import GroupedKD as GroupedKD
    from preceptor.objectives.hidden_states import HiddenStates as HiddenStates
    from preceptor.objectives.hierarchy import Hierarchy as Hierarchy
    from preceptor.objectives.kd import KD as KD
    from preceptor.objectives.label_smoothing import LabelSmoothing as LabelSmoothing
    from preceptor.objectives.logit_regression import LogitRegression as LogitRegression
    from preceptor.objectives.logit_standardization import (
        LogitStandardization as LogitStandardization,
    )
    from preceptor.objectives.minillm import MiniLLM as MiniLLM
    from preceptor.objectives.minilm import MiniLM as MiniLM
    from preceptor.objectives.nkd import NKD as NKD
    from preceptor.objectives.nt_xent import NTXent as NTXent
    from preceptor.objectives.reverse_kl import ReverseKL as ReverseKL
    from preceptor.objectives.reviewkd import ReviewKD as ReviewKD
    from preceptor.objectives.rkd import RKD as RKD
    from preceptor.objectives.schedules import Auto as Auto
    from preceptor.objectives.schedules import Ramp as Ramp
    from preceptor.objectives.simkd import SimKD as SimKD
    from preceptor.objectives.skew_kl import SkewKL as SkewKL
    from preceptor.objectives.skew_reverse_kl import SkewReverseKL as SkewReverseKL
    from preceptor.objectives.sp import SP as SP
    from preceptor.objectives.taid import TAID as TAID
    from preceptor.objectives.total_variation import TotalVariation as TotalVariation
    from preceptor.objectives.uld import ULD as ULD
    from preceptor.recipe.data import TextData as TextData
    from preceptor.recipe.load import load_recipe as load_recipe
    from preceptor.recipe.load import recipe_text as recipe_text
    from preceptor.recipe.models import CausalModel as CausalModel
    from preceptor.recipe.models import FactoryModel as FactoryModel
    from preceptor.recipe.models import ZooModel as ZooModel
    from preceptor.recipe.schema import Checkpoint as Checkpoint
    from preceptor.recipe.schema import Control as Control
    from preceptor.recipe.schema import Data as Data
    from preceptor.recipe.schema import Recipe as Recipe
    from preceptor.recipe.schema import Seeds as Seeds
    from preceptor.recipe.schema import Splits as Splits
    from preceptor.recipe.schema import Stage as Stage
    from preceptor.recipe.schema import Student as Student
    from preceptor.recipe.schema import Tune as Tune
    from preceptor.recipe.teachers import LiveTeacher as LiveTeacher
    from preceptor.synthesis.adaptive import AdaptiveRollouts as AdaptiveRollouts
    from preceptor.synthesis.pairs import Pairs as Pairs
    from preceptor.synthesis.policy import PolicyRollouts as PolicyRollouts
    from preceptor.synthesis.rollouts import Rollouts as Rollouts
    from preceptor.synthesis.writers import Local as Local
    from preceptor.teachers.adapter_base import AdapterBase as AdapterBase
    from preceptor.teachers.base import Teacher as Teacher
    from preceptor.teachers.cached import Cached as Cached
    from preceptor.teachers.cached_embeddings import CachedEmbeddings as CachedEmbeddings
    from preceptor.teachers.contract import check_teacher as check_teacher
    from preceptor.teachers.ema import EMA as EMA
    from preceptor.teachers.ensemble import Ensemble as Ensemble
    from preceptor.teachers.live import Live as Live
    from preceptor.teachers.nobody import Nobody as Nobody
    from preceptor.teachers.past_predictions import PastPredictions as PastPredictions
    from preceptor.teachers.peers import Peers as Peers
    from preceptor.teachers.routed import Routed as Routed
    from preceptor.teachers.served import Served as Served
    from preceptor.teachers.snapshots import Snapshots as Snapshots
    from preceptor.teachers.tokens.cached import CachedTokens as CachedTokens
    from preceptor.teachers.tokens.capture import write_tokens as write_tokens
    from preceptor.teachers.tokens.store import TokenStore as TokenStore
    from preceptor.testing import check_objective as check_objective
    from preceptor.train.fit import fit as fit
    from preceptor.train.plan import OptimizerPlan as OptimizerPlan
    from preceptor.train.plan import Plan as Plan
    from preceptor.train.plan import SchedulePlan as SchedulePlan
    from preceptor.train.trainer import DistillationTrainer as DistillationTrainer
    from preceptor.types import Batch as Batch
    from preceptor.types import Context as Context
    from preceptor.types import Dense as Dense
    from preceptor.types import Head as Head
    from preceptor.types import Mixture as Mixture
    from preceptor.types import Needs as Needs
    from preceptor.types import Outputs as Outputs
    from preceptor.types import Progress as Progress
    from preceptor.types import Projected as Projected
    from preceptor.types import Sampled as Sampled
    from preceptor.types import Signal as Signal
    from preceptor.types import Term as Term
    from preceptor.types import TopK as TopK
    from preceptor.verbs.check import check as check
    from preceptor.verbs.distill import distill as distill
    from preceptor.verbs.rank import rank as rank
    from preceptor.verbs.report import report as report

    CrossEntropy = CE

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


if not TYPE_CHECKING:  # where types are checked, a name that is not in the table is a mistake

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'preceptor' has no attribute {name!r}")
        module, _, original = _HOMES[name].partition(":")
        value = getattr(import_module(module), original or name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
