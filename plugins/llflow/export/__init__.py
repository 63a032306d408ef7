"""The enhancement for programs without Python: a graph of it, and files that hold one."""
