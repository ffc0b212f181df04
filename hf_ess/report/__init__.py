"""Reports: labelled arrays, averages, tables, plots, and their form on disk.

Importing this package needs numpy and safetensors only, so that a report can be read on a
machine without models.
"""

from hf_ess.report.files import check_writable
from hf_ess.report.layer import LayerESS
from hf_ess.report.records import SampleInfo, UnsupportedLayer
from hf_ess.report.report import ESSReport

__all__ = ["ESSReport", "LayerESS", "SampleInfo", "UnsupportedLayer", "check_writable"]
