"""
The request path of a worker, stage by stage. `plane.DataPlane` builds it and runs its loop in the lane's thread.

1. `lane` hands over every call that is ready.
2. `intake` decodes a call (`oip.decode`) → `stages.Received`; `resolve` and `route` choose the arm, `run_plan` checks the
   inputs → `stages.Routed`. A request for a version that is not loaded yet may wait in `on_demand`.
3. `dispatch` forms batches (`batch`) and takes a lease for each (`lease`) → `stages.Batch`. Short models run at once;
   a slow one has a queue and a thread of its own (`overload`).
4. `pipeline` takes the batch through the rest: `run` joins the inputs and runs the model → `stages.Outputs`;
5. `answer` splits the outputs and encodes the responses (`oip.encode`) → `stages.Answers`; the lane sends them, and the
   lease ends.
6. After the callers have their answers, `account` counts, records and traces, and `shadow` copies requests to a shadow.

`refusals` is the only place that answers a request with an error. Loading versions is `gateway.versions`; nothing here
imports control, and nothing here knows error codes or metrics formats.
"""
