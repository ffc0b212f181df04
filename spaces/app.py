"""The Space: everything it does is in `hf_ess.space`, which `hf-ess serve` starts as well."""

from hf_ess.space.app import launch_space

launch_space()
