"""
A model in a child process of its own, behind the session protocol: if the model ends its process, no other model is in it.

`isolated_session` is the parent's side, `child_run` the child's main module. They talk over a socket pair in the words of
`orders_to_child`, and tensors lie in memory that both map (`tensor_area`). `child_process` starts and ends the child. Nothing
here decides which model is isolated.
"""
