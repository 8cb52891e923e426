"""The auxiliary model: the law of the statistic given a prefix, over the bins that the compiler derived.

Three forms behind one interface (``protocol.py``): a small head on the anchor's hidden states (``head.py``), a small
transformer of its own (``transformer.py``), and a low-rank change of the anchor whose log-ratio to it is the potential
(``adapter.py``).
"""

from constraintlang_runtime.auxiliary.adapter import AdapterAuxiliary
from constraintlang_runtime.auxiliary.fit import FitReport, fit
from constraintlang_runtime.auxiliary.head import AuxiliaryHead
from constraintlang_runtime.auxiliary.make import from_record, make_auxiliary
from constraintlang_runtime.auxiliary.protocol import AuxiliaryModel
from constraintlang_runtime.auxiliary.samples import AuxiliaryData, heldout_sequences, site_inputs
from constraintlang_runtime.auxiliary.transformer import TransformerAuxiliary

__all__ = [
    "AdapterAuxiliary",
    "AuxiliaryData",
    "AuxiliaryHead",
    "AuxiliaryModel",
    "FitReport",
    "TransformerAuxiliary",
    "fit",
    "from_record",
    "heldout_sequences",
    "make_auxiliary",
    "site_inputs",
]
