"""Meta-learners behind preprocessing steps."""

from ._meta_pipeline import MetaPipeline, make_meta_pipeline

__all__ = ["MetaPipeline", "make_meta_pipeline"]
