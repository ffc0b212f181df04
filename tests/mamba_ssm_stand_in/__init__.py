"""What the mamba_ssm package offers to an adapter, without the package and without a GPU.

Modules call functions of the same names and signatures from the globals of their files, and have
the same switches that send them through fused kernels. The recurrences go token by token.
"""
