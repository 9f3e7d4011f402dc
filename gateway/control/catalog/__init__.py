"""
Everything that control does about models apart from their traffic.

Here: uploads and registration of versions, serving layouts on disk, the memory budget, loading on demand with its
eviction, and shared memory regions. Not here: changes of routes (`changes`), the desired state (`desired`), and the
registry's own rules and storage (package `registry`).
"""
