"""Feature pages as Neuronpedia reads them: the batch files that SAEDashboard makes of a dictionary.

    files = neuronpedia.batches(features, source, logits_histogram, text)      {"batch-0.json": {...}, ...}

README.md says what becomes of what. `check` says whether a file has the layout.
"""

from third_party.neuronpedia.batches import Source, batches
from third_party.neuronpedia.layout import check

__all__ = ["Source", "batches", "check"]
