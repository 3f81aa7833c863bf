"""What `tests.warm`'s fork server imports, once for all its children.

Nothing is computed here: no thread is started.
"""
# ruff: noqa: F401

import gc

import accelerate
import peft
import sklearn.datasets
import transformers.models.auto.modeling_auto
import transformers.models.llama.modeling_llama

import preceptor.cli
import preceptor.data.loading
import preceptor.evaluate.plots
import preceptor.verbs.distill

gc.freeze()  # a child's collections need not look through all this
