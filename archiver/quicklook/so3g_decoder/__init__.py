"""The decoder of quick look: a process that turns Scan frames into numbers, with so3g.

so3g carries a build of spt3g of its own, which can't be loaded beside ours in one process. So this folder is run by
its path as a program, by an interpreter that has so3g, where g3-recorder may not be installed (`__main__.py`): its
modules import nothing else of g3-recorder, and each other by relative imports. wire.py has the protocol.
"""
