"""State modulation: whether a model lets its state go where one passage ends and another begins.

What is measured lies in `hf_ess.modulation.measure`, which needs torch; results do not.
"""

from hf_ess.modulation.dips import Dips
from hf_ess.modulation.result import ModulatedText, Modulation, modulation_table

__all__ = ["Dips", "ModulatedText", "Modulation", "modulation_table"]
