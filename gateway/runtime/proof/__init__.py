"""
The proof that the rows of a batch are independent, so that requests of different callers may share a run.

Proved means: for every number of rows, a row of the outputs is a function of the same row of the inputs alone. `onnx_graph`
turns the ONNX file into a plain graph, `observation` runs it with every intermediate tensor as an output, and `walk` follows
the rows through the graph with one small pure rule per operator. An operator without a rule is not proved. `witness` tries
to contradict the result with real runs. Here lives nothing that decides whether a deployment batches.
"""
