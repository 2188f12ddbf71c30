"""An interpreter of sm_90 machine code (SASS), for tests and instruction counts without a GPU.

`disassembly` reads what nvdisasm prints; `integer`, `bits`, `floating`, `packed` and `movement`
define the instructions; `interpreter` runs whole grids at once in NumPy; `launcher` plugs it into
the CUDA driver in the place of a GPU.

It proves bits, and counts instructions. It does not model time, the order of memory accesses of
different threads, or the errors of the hardware's approximate functions (MUFU), which it rounds
correctly; `approximation_error` shifts those by some units in the last place.
"""
