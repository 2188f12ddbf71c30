"""Random calls of all public functions, compared with the references, for as long as one likes.

`python -m bench endure` runs ``python -m tests.support.endurance.run`` in a process of its own, and
watches that. `draws` draws arguments, `elements`, `wholes`, `batches` and `objects` have the calls,
and `events` what happens to the process meanwhile.
"""
