"""Which megatron-core, ModelOpt, Transformer Engine and torch work together, with evidence."""

__version__ = "0.1.0"
