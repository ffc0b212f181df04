"""State modulation: whether a model lets its state go where one passage ends and another begins."""

from hf_ess.modulation.dips import Dips
from hf_ess.modulation.measure import measure_modulation
from hf_ess.modulation.result import ModulatedText, Modulation, modulation_table

__all__ = ["Dips", "ModulatedText", "Modulation", "measure_modulation", "modulation_table"]
